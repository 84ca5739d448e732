"""Runs on named devices against one on a single device; settings that do not fit."""

import contextlib

import numpy as np
import pytest

import finetune
from alexnet import LAYERS
from inputs.lists import Datasets, ImageList
from runtime.tf1 import op_determinism, tf
from tests.helpers import one_error_line, run_main
from tests.training.cluster_runs import assert_same_run
from training.devices import Devices
from training.graph import build_training_graph
from training.setup import make_setup


@pytest.mark.slow
@pytest.mark.cpu
@pytest.mark.parametrize('names', [['CPU:0'], ['CPU:0', 'CPU:1']])
def test_named_devices_give_what_one_gives(run_flags, one_device, run_dir, names):
    finetune.main([*run_flags, '--devices', *names, '--run_dir', str(run_dir)])
    assert_same_run(run_dir, one_device)


@pytest.mark.parametrize('flags, message', [
    (['--devices', 'GPU:99'], 'devices GPU:99: here are'),
    (['--devices', 'CPU:0', 'CPU:0'], 'name each once'),
    (['--devices', 'CPU:0', 'CPU:1', '--batch_size', '1'],
     'batch_size 1 is less than the 2 devices'),
    (['--devices', 'CPU:0', '--precision', 'tensorfloat32', '--train_file', 'missing.txt'],
     'precision tensorfloat32: it needs a GPU'),  # it is told before the lists are read
    (['--peer_timeout', '0'], 'peer_timeout 0.0 is not a number, above 0')])
def test_settings_that_do_not_fit_are_one_line(flags, message, run_flags, run_dir, capsys):
    status, _, errors = run_main(
        finetune.main, [*run_flags, *flags, '--run_dir', run_dir], capsys)
    assert status == 2 and message in one_error_line(errors)
    assert not run_dir.exists()


@pytest.mark.parametrize('names, num_replicas, num_cpus', [
    (('CPU:0',), 1, 1), (('CPU:3',), 1, 4), (('CPU:0', 'CPU:2'), 2, 3)])
def test_sessions_have_the_named_devices(names, num_replicas, num_cpus):
    devices = Devices(names, num_threads=3)
    assert devices.num_replicas == num_replicas and devices.workers.size == 1
    config = devices.config()
    assert config.device_count['CPU'] == num_cpus and config.intra_op_parallelism_threads == 3
    assert config.device_count['GPU'] == 0  # beside a GPU, none of its memory is taken


@pytest.mark.parametrize('names, deterministic', [(None, True), (None, False), (('CPU:0',), True)])
def test_on_gpus_operations_are_deterministic_until_the_run_ends(names, deterministic):
    """TensorFlow itself shows it: a random operation without a seed is an error."""
    is_expected = deterministic and not names and tf.config.list_physical_devices('GPU')
    is_error = pytest.raises(RuntimeError, match='require a seed')
    with tf.Graph().as_default():
        with Devices(names, deterministic=deterministic):
            with is_error if is_expected else contextlib.nullcontext():
                tf.random_uniform([])
        tf.random_uniform([])


def test_a_deterministic_graph_can_be_built():
    """TensorFlow refuses to, if a random operation has no seed but its own."""
    settings = finetune.Settings(train_layers=LAYERS, skip_layers=LAYERS)
    images = ImageList('list', ['a', 'b'], np.int32([0, 1]), np.int32([1, 2]))
    setup = make_setup(settings, Datasets(images, images, ['a', 'b']), None)
    with op_determinism(True), tf.Graph().as_default():
        build_training_graph(setup, Devices())
