import json
import os
import re

import pytest

import finetune
from tests.helpers import run_main
from tests.training.cluster_runs import PEER_LOST, start_workers, wait_for_exit, worker_command
from training.cluster import read_cluster


def tf_config(jobs, job='worker', index=0):
    """Return the text of a TF_CONFIG."""
    return json.dumps({'cluster': jobs, 'task': {'type': job, 'index': index}})


@pytest.mark.parametrize('text, message', [
    ('nonsense', 'Expecting value'), ('[]', 'list'),
    (tf_config({'ps': ['a:1'], 'worker': ['b:1']}), 'no others'),
    (tf_config({'worker': ['a', 'b:1']}), 'host:port'),
    (tf_config({'worker': ['a:1', 'a:1']}), 'of its own'),
    (tf_config({'worker': ['a:1', 'b:1']}, index=2), 'no worker 2'),
    (tf_config({'worker': ['a:1', 'b:1']}, index=True), 'no worker True'),
    (tf_config({'worker': ['a:1', 'b:1']}, job='chief'), 'no chief 0'),
    (tf_config({'worker': 7}), 'int')])
def test_a_wrong_tf_config_is_one_line(
        text, message, run_flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('TF_CONFIG', text)
    flags = [*run_flags, '--run_dir', tmp_path / 'run']
    status, _, errors = run_main(finetune.main, flags, capsys)
    assert status == 2 and errors.startswith('error: TF_CONFIG ') and errors.count('\n') == 1
    assert message in errors and not os.path.exists(tmp_path / 'run')


@pytest.mark.parametrize('job, index, rank', [('chief', 0, 0), ('worker', 0, 1), ('worker', 1, 2)])
def test_ranks_count_the_chief_first(job, index, rank):
    cluster = read_cluster(tf_config({'chief': ['a:1'], 'worker': ['b:1', 'c:2']}, job, index))
    assert (cluster.rank, cluster.size) == (rank, 3)
    assert cluster.addresses == ['a:1', 'b:1', 'c:2']


def test_worker_0_is_the_chief_of_a_cluster_without_one():
    cluster = read_cluster(tf_config({'worker': ['b:1', 'c:2']}))
    assert (cluster.rank, cluster.size) == (0, 2)


@pytest.mark.parametrize('text', [tf_config({'worker': ['a:1']}), '', None])
def test_a_single_process_is_no_cluster(text):
    assert read_cluster(text) is None


@pytest.mark.slow
def test_a_worker_whose_chief_never_comes_ends_in_one_line(run_flags):
    command = worker_command({}, [*run_flags, '--peer_timeout', 2])
    [(status, _, errors)] = wait_for_exit(start_workers(['true', command])[1:])
    assert status == 75 and re.fullmatch(PEER_LOST, errors), errors
    assert 'has not answered for 2 s' in errors
