"""Heatmaps of pictures whose answer is known: one shape in a corner of a plain ground."""

import os
import shutil

import cv2
import numpy as np
import pytest

import finetune
from reports.heatmaps import Heatmaps, scale_up
from run_folder.trained_run import read_run, rebuild_network
from runtime.tf1 import open_session, tf
from sample.draw import SHAPES, outline
from tests.helpers import ROOT
from weight_files.find import STARTER_WEIGHTS

SIZE = 227


@pytest.fixture(scope='module')
def sample_run(tmp_path_factory):
    """The folder of a run on the sample, from the starter weights."""
    folder = tmp_path_factory.mktemp('sample')
    finetune.finetune(finetune.Settings(
        train_file=os.path.join(ROOT, 'train.txt'), val_file=os.path.join(ROOT, 'val.txt'),
        weights_path=os.path.join(ROOT, STARTER_WEIGHTS), run_dir=str(folder / 'run'),
        cache_dir=str(folder / 'cache')))
    yield folder / 'run'
    shutil.rmtree(folder)


def draw_in_corner(shape, right, low, random):
    """Return (uint8 BGR image, bounding box (left, top, right, bottom) of the shape in it)."""
    radius, angle = random.uniform(0.17, 0.25) * SIZE, random.uniform(0, 2 * np.pi)
    rotation = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    centre = np.where([right, low], SIZE - 1.5 * radius, 1.5 * radius)
    corners = outline(shape) @ rotation * radius + centre
    ground, colour = random.uniform(40, 215, 3), random.uniform(0, 255, 3)
    while np.abs(colour - ground).max() < 90:
        colour = random.uniform(0, 255, 3)
    image = np.full((SIZE, SIZE, 3), ground)
    cv2.fillPoly(image, [np.round(corners * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, 4)
    image = np.clip(image + random.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    return image, (*np.floor(corners.min(0)).astype(int), *np.ceil(corners.max(0)).astype(int))


def share_on_shape(heatmap, box):
    """Return the fraction of strong heat, half of the maximum or more, within the bounding box."""
    heat = scale_up(heatmap, SIZE, SIZE)
    heat = np.where(heat >= 0.5, heat, 0)
    left, top, right, bottom = np.clip(box, 0, SIZE)
    return heat[top:bottom, left:right].sum() / heat.sum()


@pytest.mark.slow
def test_most_of_the_strong_heat_lies_on_the_shape(sample_run):
    """For at least 9 of 10 pictures; the boxes take a quarter of a picture."""
    random, run = np.random.default_rng(0), read_run(str(sample_run))
    pictures = [draw_in_corner(SHAPES[n % 5], n // 5 % 2, n // 10 % 2, random) for n in range(60)]
    images = np.array([image for image, _ in pictures]) - run.image_mean
    with tf.Graph().as_default(), open_session() as session:
        x = tf.placeholder(tf.float32, [None, SIZE, SIZE, 3])
        model, restore = rebuild_network(run, x)
        heatmaps = Heatmaps(model)
        restore(session)
        predicted = session.run(model.fc8, {x: images}).argmax(1)
        maps = heatmaps.compute(session, 'x', images, predicted)
    shares = np.array([share_on_shape(heatmap, box)
                       for heatmap, (_, box) in zip(maps, pictures, strict=True)])
    chance = np.mean([(box[2] - box[0]) * (box[3] - box[1]) / SIZE**2 for _, box in pictures])
    assert chance < 0.3 and (predicted == np.arange(60) % 5).mean() > 0.9
    assert (shares > 0.5).mean() >= 0.9 and np.median(shares) > 0.75
