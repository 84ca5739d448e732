"""Workers that are killed or hang, and their runs resumed, against one on a single device."""

import os
import re
import signal

import pytest

import finetune
from tests.helpers import at_batch, run_main
from tests.training.cluster_runs import (
    PEER_LOST,
    assert_same_run,
    assert_success,
    run_workers,
    start_workers,
    wait_for_exit,
    without_warnings,
    worker_command,
)

pytestmark = [pytest.mark.slow, pytest.mark.cpu]
KILLED = r'bash: line 1: +\d+ Killed .*\n'  # the shell's report of a SIGKILL


def restart_loop(command):
    """Return the shell command of README's loop, which starts a worker again after a loss."""
    return f'while {command}; s=$?; [ $s = 75 ] || [ $s = 137 ]; do sleep 1; done; exit $s'


def test_killed_workers_are_restarted_by_a_loop(run_flags, one_device, run_dir, tmp_path):
    """Worker 1 dies in epoch 2, then the chief in epoch 5; the next chief recalls the best one."""
    commands, files = [], [tmp_path / 'killed 0', tmp_path / 'killed 1']
    for batch, file in zip((16, 7), files, strict=True):
        options = {'at': {batch: signal.SIGKILL}, 'once': str(file)}
        commands.append(restart_loop(
            worker_command(options, [*run_flags, '--run_dir', run_dir])))
    results = run_workers(*commands)
    assert_success(results)
    assert all(file.exists() for file in files)
    for _, _, errors in results:
        others = re.sub(KILLED, '', re.sub(PEER_LOST, '', without_warnings(errors), count=1))
        assert re.search(PEER_LOST, errors) and not others, errors
    assert_same_run(run_dir, one_device)


def hang_worker(flags, once):
    """Run two workers, of which the second hangs in epoch 2; return the chief's result."""
    hangs = {'at': {7: signal.SIGSTOP}, 'once': once}
    processes = start_workers([worker_command({}, [*flags, '--peer_timeout', 15]),
                               f'exec {worker_command(hangs, flags)}'])
    try:
        [result] = wait_for_exit(processes[:1])
        assert processes[1].poll() is None
    finally:
        os.killpg(processes[1].pid, signal.SIGKILL)
        processes[1].communicate()
    return result


def test_a_run_goes_from_two_workers_to_one_to_two(
        run_flags, one_device, run_dir, tmp_path, capsys, monkeypatch):
    """A worker that hangs ends the first part, SIGTERM the second."""
    flags = [*run_flags, '--run_dir', run_dir]
    status, _, errors = hang_worker(flags, str(tmp_path / 'stopped'))
    assert status == 75 and re.fullmatch(PEER_LOST, without_warnings(errors)), errors
    assert 'not answered for 15 s' in errors
    assert (run_dir / 'checkpoints' / 'last').read_text().startswith('last-1-')
    with monkeypatch.context() as patch:
        at_batch(15, lambda: os.kill(os.getpid(), signal.SIGTERM), patch)
        assert run_main(finetune.main, flags, capsys)[0] == 143
    command = worker_command({}, flags)
    assert_success(run_workers(command, command))
    assert_same_run(run_dir, one_device)
