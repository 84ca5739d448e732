import os
import tempfile

import pytest

from runtime.tf1 import tf
from training.devices import Devices
from training.strategy import (
    all_reduce_sum,
    build_broadcast,
    choose_communication,
    for_each_replica,
    make_strategy,
    share_a_host,
)
from training.workers import SingleWorker


@pytest.fixture(scope='module')
def strategy():
    """The strategy of two CPU devices."""
    return Devices(('CPU:0', 'CPU:1')).strategy


def test_no_function_of_a_replica_is_written_to_a_file(strategy, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    with tf.Graph().as_default():
        for_each_replica(strategy, lambda: tf.zeros([]))
    assert os.listdir(tmp_path) == []


def test_a_sum_has_one_part_per_replica(strategy):
    with tf.Graph().as_default():
        total = all_reduce_sum(strategy, lambda replica: tf.constant([1.0, 10.0 ** replica]))
        with tf.Session(config=Devices(('CPU:0', 'CPU:1')).config()) as session:
            assert session.run(total).tolist() == [2, 11]


@pytest.mark.parametrize('names', [(), ('CPU:0',)])
def test_one_device_needs_no_strategy(names):
    if not names and len(tf.config.list_physical_devices('GPU')) > 1:
        pytest.skip('all GPUs share each batch')
    assert make_strategy(None, names) is None


@pytest.mark.parametrize('names, message', [
    (('GPU:99',), 'here are'), (('CPU:0', 'CPU:0'), 'name each once'), (('CPU:x',), 'here are')])
def test_wrong_names_of_devices_are_errors(names, message):
    with pytest.raises(ValueError, match=f'devices {" ".join(names)}: .*{message}'):
        make_strategy(None, names)


def test_devices_of_a_cluster_cannot_be_named():
    with pytest.raises(ValueError, match='devices are for a single machine'):
        make_strategy('any cluster', ('CPU:0',))


@pytest.mark.parametrize('addresses, is_shared', [
    (['a:1', 'b:1'], False), (['a:1', 'a:2'], True), (['[::1]:1', '[fe::2]:1'], False),
    (['localhost:1', '127.0.0.1:2'], True), (['a:1', 'b:1', 'a:2'], True)])
def test_workers_of_one_host_are_found(addresses, is_shared):
    """They may share a GPU, which NCCL refuses."""
    assert share_a_host(addresses) == is_shared


@pytest.mark.parametrize('gpus, addresses, name', [
    (['GPU:0'], ['a:1', 'b:1'], 'NCCL'), (['GPU:0'], ['a:1', 'a:2'], 'RING'),
    ([], ['a:1', 'b:1'], 'RING')])
def test_workers_sum_by_nccl_if_each_has_its_own_gpus(gpus, addresses, name):
    kinds = tf.distribute.experimental.CollectiveCommunication
    assert choose_communication(gpus, addresses) == kinds[name]


def test_memory_grows_before_a_strategy_counts_gpus(monkeypatch):
    """TensorFlow allows it no later. Two GPUs are pretended."""
    calls = []
    monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: ['one', 'two'])
    monkeypatch.setattr(tf.config.experimental, 'set_memory_growth',
                        lambda gpu, is_on: calls.append((gpu, is_on)))
    monkeypatch.setattr(tf.distribute, 'MirroredStrategy', calls.append)
    make_strategy(None, ())
    assert calls == [('one', True), ('two', True), ['GPU:0', 'GPU:1']]


def test_a_single_worker_broadcasts_nothing(strategy):
    assert build_broadcast(strategy, SingleWorker()) == []
