import csv
import os

import numpy as np
import pytest

from alexnet import IMAGE_SIZE, AlexNet
from inputs.images import IMAGENET_MEAN
from runtime.tf1 import assign_values, open_session, tf
from starter_weights import network, pretrain, procedural
from tests.helpers import CONV_SHAPES, ROOT, run_main
from weight_files.find import STARTER_WEIGHTS
from weight_files.reader import read_file, read_weights

pytestmark = pytest.mark.slow

SMALL = pretrain.Settings(steps=6, batch_size=4, size=100, learning_rate=0.3, num_textures=18,
                          precision='float32')
STARTER = os.path.join(ROOT, STARTER_WEIGHTS)
COMPARED = ('conv1', 'pool2', 'conv3', 'conv5', 'pool5')


@pytest.fixture(scope='module')
def bank():
    return procedural.make_bank(SMALL.num_textures)


@pytest.fixture(scope='module')
def images(bank):
    random = np.random.default_rng(0)
    return np.stack([procedural.draw(bank, random, IMAGE_SIZE)[0] for _ in range(4)])


def activations(layers, images):
    """Return {output: values} of AlexNet's own graph with these conv layers."""
    with tf.Graph().as_default(), open_session() as session:
        model = AlexNet(tf.constant(images - IMAGENET_MEAN), 1.0, 2, ())
        for layer, values in layers.items():
            assign_values(session, model.variables[layer], values)
        return session.run({name: model.outputs[name] for name in COMPARED})


def test_folded_weights_give_the_activations_of_pretraining(bank, images):
    with tf.Graph().as_default(), open_session() as session:
        with tf.variable_scope('', reuse=tf.AUTO_REUSE):
            graph = pretrain.build(SMALL, (64, 18, 18))
            x = tf.constant(images - IMAGENET_MEAN)
            averaged = network.PretrainingNetwork(x, training=False)
        session.run(tf.global_variables_initializer())
        pretrain.train(SMALL, session, graph, bank, lambda rows: None)
        layers = network.folded_layers(session, graph.network)
        moments = session.run(averaged.moments['conv3'])
        expected = session.run({name: averaged.outputs[name] for name in COMPARED})
    assert all(np.ptp(values) > 0.003 for values in moments)  # there is something to fold
    for name, values in activations(layers, images).items():
        assert np.abs(values - expected[name]).max() < 1e-3 * np.abs(expected[name]).max()


def test_conv5_is_scaled_to_a_norm_and_nothing_else_changes(images):
    layers = read_weights(STARTER)
    scaled = network.scaled_to_norm(layers, images, 123.0)
    before, after = activations(layers, images)['pool5'], activations(scaled, images)['pool5']
    assert np.sqrt((after ** 2).sum((1, 2, 3))).mean() == pytest.approx(123, rel=1e-4)
    ratio = after.sum() / before.sum()
    assert np.abs(after - ratio * before).max() < 1e-4 * after.max()
    assert all(scaled[layer] is layers[layer] for layer in ('conv1', 'conv2', 'conv3', 'conv4'))


def test_the_starter_weights_are_small_and_of_the_norm_for_fc6(images):
    stored = read_file(STARTER)
    assert os.path.getsize(STARTER) < 5_000_000
    assert {layer: weights.shape for layer, (weights, _) in stored.items()} == CONV_SHAPES
    assert {array.dtype.name for pair in stored.values() for array in pair} == {'float16'}
    by_numpy = np.load(STARTER, allow_pickle=True).item()  # our own file
    assert all((by_numpy[layer][0] == weights).all() for layer, (weights, _) in stored.items())
    pool5 = activations(read_weights(STARTER), images)['pool5']
    # 1000 over the images by which they were scaled; these are 4 others.
    assert 700 < np.sqrt((pool5 ** 2).sum((1, 2, 3))).mean() < 1400


def test_first_filters_of_conv1_have_norm_1():
    filters = network.wave_filters()
    assert filters.shape == CONV_SHAPES['conv1']
    np.testing.assert_allclose((filters ** 2).sum((0, 1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize('pretext, column', [
    ('drawing', 'shape_accuracy'), ('pairs', 'pair_accuracy')])
def test_the_command_writes_weights_and_log(tmp_path, capsys, pretext, column):
    status, _, _ = run_main(pretrain.main, [
        '--steps', 2, '--batch_size', 2, '--size', 90, '--num_textures', 1,
        '--precision', 'float32', '--pretext', pretext,
        '--output', tmp_path / 'w.npy', '--log', tmp_path / 'log.csv'], capsys)
    layers = read_weights(tmp_path / 'w.npy')
    assert status == 0
    assert {layer: weights.shape for layer, (weights, _) in layers.items()} == CONV_SHAPES
    with open(tmp_path / 'log.csv') as file:
        [row] = csv.DictReader(file)
    assert row['step'] == '2' and 0 <= float(row[column]) <= 1 and float(row['loss']) > 0


@pytest.mark.parametrize('flag, value', [
    ('--steps', 0), ('--batch_size', 1), ('--size', 89), ('--num_textures', 0), ('--seed', -1),
    ('--learning_rate', 0)])
def test_settings_that_cannot_work_end_in_one_line(tmp_path, capsys, flag, value):
    arguments = [flag, value, '--output', tmp_path / 'w.npy']
    status, _, shown = run_main(pretrain.main, arguments, capsys)
    assert status == 2 and flag[2:] in shown and shown.count('\n') == 1
    assert not os.listdir(tmp_path)


def test_images_follow_from_seed_and_step_alone(bank):
    first, again, other = (pretrain.draw_batch(bank, SMALL, step) for step in (1, 1, 2))
    assert all((one == two).all() for one, two in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()
    images, classes, numbers = first
    assert images.shape == (4, 100, 100, 3) and images.dtype == np.uint8
    assert classes.shape == (4, 3) and numbers.shape == (4, procedural.NUM_NUMBERS)
