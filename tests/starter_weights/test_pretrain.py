import csv
import os

import cv2
import numpy as np
import pytest

from alexnet import IMAGE_SIZE, AlexNet
from inputs.images import IMAGENET_MEAN
from runtime.tf1 import assign_values, tf
from starter_weights import network, outlines, pretrain, procedural
from tests.helpers import CONV_SHAPES, ROOT, run_main
from weight_files.reader import read_file, read_weights

SMALL = pretrain.Settings(steps=6, batch_size=4, size=100, learning_rate=0.3, num_textures=18, precision='float32')
STARTER = os.path.join(ROOT, 'starter_weights', 'starter_weights.npy')
SHOWN = ('conv1', 'pool2', 'conv3', 'conv5', 'pool5')


@pytest.fixture(scope='module')
def bank():
    return procedural.make_bank(SMALL.num_textures)


@pytest.fixture(scope='module')
def pictures(bank):
    random = np.random.default_rng(0)
    return np.stack([procedural.draw(bank, random, IMAGE_SIZE)[0] for _ in range(4)])


def activations(layers, pictures):
    """Return {output: values} of AlexNet's own graph with these conv layers."""
    with tf.Graph().as_default(), tf.Session() as session:
        network = AlexNet(tf.constant(pictures - IMAGENET_MEAN), 1.0, 2, ())
        for layer, values in layers.items():
            assign_values(session, network.variables[layer], values)
        return session.run({name: network.outputs[name] for name in SHOWN})


def test_folded_weights_give_the_activations_of_the_pretraining_network(bank, pictures):
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
            inputs, network, train_op, figures = pretrain.build(SMALL, (64, 18, 18))
            averaged = pretrain.PretrainingNetwork(tf.constant(pictures - IMAGENET_MEAN), training=False)
        session.run(tf.global_variables_initializer())
        pretrain.train(SMALL, session, inputs, train_op, figures, bank, lambda rows: None)
        layers = pretrain.folded_layers(session, network)
        scale, mean, variance = session.run(averaged.moments['conv3'])
        expected = session.run({name: averaged.outputs[name] for name in SHOWN})
    assert all(np.ptp(values) > 0.003 for values in (scale, mean, variance))  # there is something to fold
    for name, values in activations(layers, pictures).items():
        assert np.abs(values - expected[name]).max() < 1e-3 * np.abs(expected[name]).max()


def test_conv5_is_scaled_to_a_norm_and_nothing_else_changes(pictures):
    layers = read_weights(STARTER)
    scaled = network.scaled_to_norm(layers, pictures, 123.0)
    before, after = activations(layers, pictures)['pool5'], activations(scaled, pictures)['pool5']
    assert np.sqrt((after ** 2).sum((1, 2, 3))).mean() == pytest.approx(123, rel=1e-4)
    ratio = after.sum() / before.sum()
    assert np.abs(after - ratio * before).max() < 1e-4 * after.max()
    assert all(scaled[layer] is layers[layer] for layer in ('conv1', 'conv2', 'conv3', 'conv4'))


def test_the_starter_weights_are_small_whole_and_of_the_size_that_fc6_expects(pictures):
    stored, _ = read_file(STARTER)
    assert os.path.getsize(STARTER) < 5_000_000
    assert {layer: weights.shape for layer, (weights, _) in stored.items()} == CONV_SHAPES
    assert {array.dtype.name for pair in stored.values() for array in pair} == {'float16'}
    public = np.load(STARTER, allow_pickle=True).item()  # our own file
    assert all((public[layer][0] == weights).all() for layer, (weights, _) in stored.items())
    pool5 = activations(read_weights(STARTER), pictures)['pool5']
    assert 700 < np.sqrt((pool5 ** 2).sum((1, 2, 3))).mean() < 1400  # of 4 pictures; 1000 of those it was scaled by


def test_the_command_writes_weights_and_log(tmp_path, capsys):
    status, _, _ = run_main(pretrain.main, [
        '--steps', 2, '--batch_size', 2, '--size', 90, '--num_textures', 1, '--precision', 'float32',
        '--output', tmp_path / 'w.npy', '--log', tmp_path / 'log.csv'], capsys)
    layers = read_weights(tmp_path / 'w.npy')
    assert status == 0 and {layer: weights.shape for layer, (weights, _) in layers.items()} == CONV_SHAPES
    [row] = csv.DictReader(open(tmp_path / 'log.csv'))
    assert row['step'] == '2' and 0 <= float(row['shape_accuracy']) <= 1 and float(row['loss']) > 0


@pytest.mark.parametrize('flag, value', [('--steps', 0), ('--batch_size', 1), ('--size', 89), ('--num_textures', 0)])
def test_settings_that_can_not_work_end_in_one_line(tmp_path, capsys, flag, value):
    status, _, shown = run_main(pretrain.main, [flag, value, '--output', tmp_path / 'w.npy'], capsys)
    assert status == 2 and flag[2:] in shown and shown.count('\n') == 1 and not os.listdir(tmp_path)


def test_pictures_follow_from_seed_and_step_alone(bank):
    first, again, other = (pretrain.draw_batch(bank, SMALL, step) for step in (1, 1, 2))
    assert all((one == two).all() for one, two in zip(first, again)) and (first[0] != other[0]).any()
    pictures, classes, numbers = first
    assert pictures.shape == (4, 100, 100, 3) and pictures.dtype == np.uint8
    assert classes.shape == (4, 3) and numbers.shape == (4, procedural.NUM_NUMBERS)


def test_no_shape_is_one_of_the_samples_five():
    """Two shapes of the same area and place share at most 0.95 of what both cover, however one of them is turned."""
    from sample.draw import SHAPES, outline

    def cover(contours, degrees=0):
        contours = [np.float32(contour) for contour in contours]
        area = cv2.contourArea(contours[0]) - sum(cv2.contourArea(hole) for hole in contours[1:])
        moments = cv2.moments(contours[0])
        centre = np.array([moments['m10'], moments['m01']]) / moments['m00']
        matrix = cv2.getRotationMatrix2D((0, 0), degrees, 30 / np.sqrt(area))[:, :2]
        points = [np.int32(np.round(16 * ((contour - centre) @ matrix + 50))) for contour in contours]
        return cv2.fillPoly(np.zeros((100, 100), np.uint8), points, 1, cv2.LINE_8, 4) > 0
    theirs = [cover([outline(shape)]) for shape in SHAPES]
    ours = [cover(shape, degrees) for shape in outlines.make_shapes() for degrees in range(0, 360, 5)]
    assert len(ours) == 64 * 72 and len(theirs) == 5
    assert max((one & other).sum() / (one | other).sum() for one in ours for other in theirs) < 0.95


def test_textures_differ(bank):
    textures = np.stack(bank.textures)
    assert textures.shape == (18, 384, 384) and textures.dtype == np.uint8 and (textures.std((1, 2)) > 20).all()
    assert len({texture.tobytes() for texture in bank.textures}) == 18


def test_numbers_say_what_is_in_the_picture(bank):
    """The ground's own mean, in NumPy, is near the colour that goes with a plain picture."""
    random, errors = np.random.default_rng(0), []
    for _ in range(60):
        picture, (shape, ground, _), numbers = procedural.draw(bank, random, 100)
        if shape == ground == procedural.NONE:
            errors.append(np.abs(np.median(picture, (0, 1)) - 64 * (np.array(numbers[:3]) + 2)).max())
    assert len(errors) > 1 and np.median(errors) < 60
