"""A TF_CONFIG of a single process is none; TensorFlow's own resolver is the measure."""

import json

import pytest

from runtime.tf1 import tf
from training.cluster import read_cluster
from training.devices import Devices


def tf_config(jobs, job=None, index=0):
    """Return the text of a TF_CONFIG."""
    task = {'task': {'type': job, 'index': index}} if job else {}
    return json.dumps({'cluster': jobs, **task})


SINGLE = [
    '{}', '{"cluster": {}}', '{"task": {"type": "worker", "index": 0}}',
    '{"environment": "cloud"}', tf_config({'master': ['a:1']}, 'master'),
    tf_config({'chief': ['a:1']}, 'chief'), tf_config({'worker': ['a:1']}, 'worker'),
    tf_config({'worker': ['a:1']}), tf_config({'evaluator': ['a:1']}, 'evaluator'),
    tf_config({'worker': {'0': 'a:1'}}, 'worker', '0')]
SEVERAL = [
    tf_config({'worker': ['a:1', 'b:1']}, 'worker', 1),
    tf_config({'worker': ['a:1', 'b:1']}, 'worker', '1'),
    tf_config({'worker': {'0': 'a:1', '1': 'b:1'}}, 'worker', 1),
    tf_config({'chief': ['a:1'], 'worker': ['b:1']}, 'worker', 0)]


def address_of_tensorflow(text, monkeypatch):
    """Return the address of this process by TensorFlow's resolver, '' for a single process."""
    monkeypatch.setenv('TF_CONFIG', text)
    return tf.distribute.cluster_resolver.TFConfigClusterResolver().master()


@pytest.mark.parametrize('text', SINGLE)
def test_a_single_process_is_the_one_of_tensorflow(text, monkeypatch):
    assert address_of_tensorflow(text, monkeypatch) == '' and read_cluster(text) is None


@pytest.mark.parametrize('text', SEVERAL)
def test_an_address_is_the_one_of_tensorflow(text, monkeypatch):
    cluster = read_cluster(text)
    assert cluster.addresses[cluster.rank] == address_of_tensorflow(text, monkeypatch) == 'b:1'
    assert (cluster.rank, cluster.size, cluster.index) == (
        1, 2, 0 if 'chief' in cluster.jobs else 1)


@pytest.mark.parametrize('text', [
    ' ', '\n', '{"cluster": null}', tf_config({'worker': []}, 'worker'),
    tf_config({'chief': ['a:1'], 'worker': []}, 'chief')])
def test_what_names_no_other_process_is_single_too(text):
    assert read_cluster(text) is None


@pytest.mark.parametrize('text', ['{}', SINGLE[4], SINGLE[8]])
def test_devices_work_as_without_a_cluster(text, monkeypatch):
    monkeypatch.setenv('TF_CONFIG', text)
    with Devices(('CPU:0', 'CPU:1')) as devices:
        assert (devices.num_replicas, devices.workers.size) == (2, 1)
    with Devices() as devices, tf.Graph().as_default(), devices.open_session() as session:
        assert session.run(tf.constant(3)) == 3


@pytest.mark.parametrize('text', [
    '[]', '"x"', '7', 'null', tf_config({'worker': ['a:1', 'b:1']}), tf_config({'worker': 'a:1'}),
    tf_config({'worker': ['a:1', 'b:1']}, 'worker', 'x'), '{"cluster": [], "task": 1, "x"',
    tf_config({'master': ['a:1'], 'worker': ['b:1']}, 'master'), tf_config({'worker': [None]}),
    tf_config({'worker': {'x': 'a:1'}}, 'worker')])
def test_what_cannot_be_read_is_one_line(text):
    with pytest.raises(ValueError, match='TF_CONFIG cannot be read: ') as caught:
        read_cluster(text)
    assert '\n' not in str(caught.value)
