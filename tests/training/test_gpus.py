"""What is promised of GPUs; no other test needs one."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import finetune
from runtime.tf1 import find_gpus, open_session, session_config, tf
from tests.helpers import ROOT, one_error_line, outcome, read_csv, run_main
from tests.training.cluster_runs import assert_success, run_workers, worker_command
from training.devices import Devices

pytestmark = pytest.mark.gpu


def relative_error(precision):
    """Return the error of a product of random matrices, relative to its largest value by NumPy."""
    random = np.random.default_rng(0)
    left, right = (random.standard_normal((500, 500)).astype(np.float32) for _ in range(2))
    with tf.Graph().as_default(), open_session(precision) as session:
        fed = tf.placeholder(tf.float32), tf.placeholder(tf.float32)  # constants would be folded
        got = session.run(tf.matmul(*fed), dict(zip(fed, (left, right), strict=True)))
    expected = left.astype(np.float64) @ right
    return np.abs(got - expected).max() / np.abs(expected).max()


def test_float32_has_all_bits():
    assert relative_error('float32') < 1e-6


def test_tensorfloat32_has_fewer_bits():
    """A product of 10 bits is wrong by up to 2 ** -11 per factor."""
    if max(find_gpus()) < (8, 0):
        pytest.skip('needs a GPU of compute capability 8.0 or more')
    try:
        assert 1e-5 < relative_error('tensorfloat32') < 1e-3
    finally:
        session_config()  # switches it off in this process


def test_sessions_see_the_devices_that_are_named():
    for names, kinds in ((('CPU:0',), {'CPU'}), (('GPU:0',), {'CPU', 'GPU'})):
        with tf.Graph().as_default(), Devices(names).open_session() as session:
            assert {device.device_type for device in session.list_devices()} == kinds


def test_bfloat16_is_one_line(run_flags, run_dir, capsys):
    flags = [*run_flags, '--precision', 'bfloat16', '--run_dir', run_dir]
    status, _, errors = run_main(finetune.main, flags, capsys)
    assert status == 2 and 'precision bfloat16' in one_error_line(errors)
    assert not run_dir.exists()


@pytest.mark.slow
def test_two_runs_are_equal_bit_for_bit(run_flags, tmp_path):
    """In processes and caches of their own; conv1 is trained, so that gradients pass all layers."""
    runs = [tmp_path / name / 'run' for name in ('one', 'two')]
    for run in runs:
        subprocess.run([sys.executable, 'finetune.py', *run_flags, '--train_layers', 'conv1', 'fc8',
                        '--optimizer', 'sgd', '--dropout_rate', '0.5', '--learning_rate', '1e-5',
                        '--num_epochs', '2', '--cache_dir', run.parent / 'cache',
                        '--run_dir', run], cwd=ROOT, check=True, capture_output=True)
    assert outcome(runs[0]) == outcome(runs[1])
    for run in runs:
        shutil.rmtree(run / 'checkpoints')


@pytest.mark.slow
def test_two_workers_share_a_gpu(run_flags, run_dir, tmp_path, monkeypatch):
    """Neither takes all of its memory, and they do not use NCCL; losses are those of one device."""
    monkeypatch.delenv('TF_FORCE_GPU_ALLOW_GROWTH')
    finetune.main([*run_flags, '--cache_dir', str(tmp_path / 'a'), '--run_dir',
                   str(tmp_path / 'one')])
    command = worker_command({}, [*run_flags, '--cache_dir', tmp_path / 'b', '--run_dir', run_dir])
    assert_success(run_workers(command, command))
    one, two = (read_csv(folder / 'metrics.csv') for folder in (tmp_path / 'one', run_dir))
    for expected, row in zip(one, two, strict=True):
        assert float(row['val_loss']) == pytest.approx(float(expected['val_loss']), rel=1e-3)
    shutil.rmtree(tmp_path / 'one' / 'checkpoints')
