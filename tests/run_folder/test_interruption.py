"""Runs that are killed, stopped or starved, and resumed, against an undisturbed one.

Weights and numbers are compared bit for bit.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys

import pytest

import finetune
from run_folder.checkpoints import Checkpoints
from tests.helpers import (
    ROOT,
    at_batch,
    kill_and_compare,
    one_error_line,
    outcome,
    read_checkpoint_name,
    run_main,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('default_signals')]
# finetune.py with a training step that does not end.
ENDLESS_STEP = '''
import sys, time; sys.path.insert(0, sys.argv.pop(1))
import finetune
def train_epoch(*arguments):
    print("here", flush=True)
    time.sleep(1e6)
finetune.train_epoch = train_epoch
finetune.main(sys.argv[1:])
'''


def run_until_batch(number, action, flags, capsys):
    """Run finetune.py with an action after a batch; return (exit status, standard error)."""
    with pytest.MonkeyPatch.context() as patch:
        at_batch(number, action, patch)
        status, _, shown = run_main(finetune.main, flags, capsys)
    return status, shown


@pytest.mark.parametrize('number, batch, last', [
    (signal.SIGINT, 2, 'last-0-2'), (signal.SIGTERM, 8, 'last-1-3'),
    (signal.SIGTERM, 10, 'last-1-4')])
def test_a_signal_ends_the_step_saves_and_the_run_resumes(
        resumable_flags, undisturbed, run_dir, capsys, number, batch, last):
    """Batch 5 of each epoch is its validation."""
    status, shown = run_until_batch(
        batch, lambda: os.kill(os.getpid(), number), [*resumable_flags, '--run_dir', run_dir],
        capsys)
    assert status == 128 + number and f'--resume {run_dir}' in one_error_line(shown)
    assert read_checkpoint_name(run_dir, 'last') == last
    status, out, _ = run_main(finetune.main, ['--resume', run_dir], capsys)
    assert status == 0 and out.splitlines()[-1].endswith(f' in {run_dir}')
    assert outcome(run_dir) == outcome(undisturbed)


def test_a_second_signal_ends_the_process_at_once(resumable_flags, run_dir):
    """The first is deferred by a step that does not end."""
    process = subprocess.Popen(
        [sys.executable, '-c', ENDLESS_STEP, ROOT, *resumable_flags, '--run_dir', run_dir],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while process.stdout.readline() != 'here\n':
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT  # a shell says 130


def test_killed_at_random_moments_it_is_the_undisturbed_run(resumable_flags, run_dir, tmp_path):
    """Killed 5 times by SIGKILL; benchmarks/killed_run.py does it 30 times."""
    happened, ended = kill_and_compare(
        str(tmp_path), [*resumable_flags, '--num_epochs', '100'], kills=5)
    assert len(happened) == 5 and ended >= 1


@contextlib.contextmanager
def limited_files():
    """Yield a function that limits files to 40 kB until the block ends.

    That is less than a checkpoint of fc8 or an event file, and more than metrics.csv.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(
        resumable_flags, undisturbed, run_dir, capsys, monkeypatch):
    """The disk is full after epoch 2, whose checkpoint was written."""
    monkeypatch.setattr(Checkpoints, 'SECONDS_BETWEEN_EPOCHS', 0)
    with limited_files() as fill_disk:
        status, shown = run_until_batch(
            11, fill_disk, [*resumable_flags, '--run_dir', run_dir], capsys)
    assert status == 2 and 'File too large' in one_error_line(shown)
    names = os.listdir(f'{run_dir}/checkpoints')
    assert {name.split('.')[0] for name in names if name.startswith('last')} == {'last', 'last-2'}
    assert not any('part' in name or 'temp' in name for name in names + os.listdir(run_dir))
    assert run_main(finetune.main, ['--resume', run_dir], capsys)[0] == 0
    assert outcome(run_dir) == outcome(undisturbed)


def test_images_that_vanish_are_named_and_the_run_is_saved(
        resumable_flags, resumable_lists, run_dir, tmp_path, capsys):
    """Of images that are decoded in each epoch; once they are back, the run resumes."""
    flags = [*resumable_flags, '--cache_features', 'off']
    finetune.main([*flags, '--run_dir', str(tmp_path / 'whole')])
    capsys.readouterr()
    images, away = f'{resumable_lists}/train', f'{resumable_lists}/away'
    try:
        status, shown = run_until_batch(
            7, lambda: os.rename(images, away), [*flags, '--run_dir', run_dir], capsys)
    finally:
        os.rename(away, images)
    assert status == 2 and '.png: No such file' in one_error_line(shown)
    # The images of the second epoch were read ahead of the step.
    assert read_checkpoint_name(run_dir, 'last') == 'last-2'
    assert run_main(finetune.main, ['--resume', run_dir], capsys)[0] == 0
    assert outcome(run_dir) == outcome(tmp_path / 'whole')


def test_an_exploding_run_stays_finite_and_resumes_smaller(
        resumable_flags, run_dir, capsys, monkeypatch):
    monkeypatch.setattr(Checkpoints, 'SECONDS_BETWEEN_EPOCHS', 0)
    flags = [*resumable_flags, '--run_dir', run_dir, '--num_epochs', '1']
    assert run_main(finetune.main, flags, capsys)[0] == 0
    status, _, shown = run_main(
        finetune.main, ['--resume', run_dir, '--num_epochs', '3', '--learning_rate', '1e38'],
        capsys)
    assert status == 3 and 'learning_rate 1e+38' in shown
    assert f'--resume {run_dir} --learning_rate 1e+37' in shown
    assert read_checkpoint_name(run_dir, 'last') == 'last-1'
    status, out, _ = run_main(
        finetune.main, ['--resume', run_dir, '--learning_rate', '0.001'], capsys)
    assert status == 0 and '3/3' in out
