"""Two workers, as processes on this machine, against one."""

import json
import os
import re
import shutil

import pytest

import finetune
from tests.helpers import run_main, write_list
from tests.training.cluster_runs import (
    assert_same_run,
    assert_success,
    run_workers,
    worker_command,
)
from training.workers import SingleWorker

pytestmark = pytest.mark.cpu
DIFFERS = 'worker 1 differs from the chief: '


def test_a_single_worker_has_the_members_of_a_group():
    worker = SingleWorker()
    assert (worker.rank, worker.size) == (0, 1) and worker.all_gather_object('ü') == ['ü']
    with worker.barrier():
        assert worker.broadcast(lambda: {'of': 0}) == {'of': 0}
    with pytest.raises(ValueError, match='invalid literal'):
        worker.broadcast(lambda: int('x'))


@pytest.mark.slow
def test_what_workers_tell_each_other():
    """Long texts, a wait beyond the timeout, a value and an error of the chief, settings."""
    command = worker_command({'talk': True}, [200])
    results = run_workers(command, command)
    assert_success(results)
    for rank, (_, output, _) in enumerate(results):
        heard = json.loads(output)
        assert heard['gathered'] == [[100_000, True, 0, None], [200_000, True, 1, None]]
        assert heard['broadcast'] == {'of': 0}
        prefix = 'the chief says: ' if rank else ''
        assert heard['failure'].startswith(f'{prefix}invalid literal')
        assert heard['agreement'].startswith(f'{DIFFERS}seed 1, not 0. ')


@pytest.mark.slow
@pytest.mark.parametrize('devices', [1, 2])
def test_two_workers_give_what_one_device_gives(run_flags, one_device, run_dir, tmp_path, devices):
    """Worker 1 has no weight file, and writes no run folder. devices: of each worker."""
    others = ['--run_dir', tmp_path / 'other', '--weights_path', 'nowhere.npy']
    chief, other = run_workers(
        worker_command({'devices': devices}, [*run_flags, '--run_dir', run_dir]),
        worker_command({'devices': devices}, [*run_flags, *others]))
    assert_success([chief, other])
    assert not os.path.exists(tmp_path / 'other') and f' in {run_dir}' in other[1]
    assert chief[1].splitlines()[-1] == other[1].splitlines()[-1]
    assert_same_run(run_dir, one_device)


@pytest.mark.slow
def test_a_worker_without_any_image(run_flags, run_dir, tmp_path, capsys):
    """One image for training, one for validation, of 3 classes; both belong to the chief."""
    folder = os.path.dirname(run_flags[1])
    list_file = write_list(tmp_path / 'one.txt', [f'{folder}/pictures/07.png 1'])
    flags = [*run_flags, '--train_file', list_file, '--val_file', list_file,
             '--num_classes', 3, '--num_epochs', 30]
    assert run_main(finetune.main, [*flags, '--run_dir', tmp_path / 'one'], capsys)[0] == 0
    command = worker_command({}, [*flags, '--run_dir', run_dir])
    assert_success(run_workers(command, command))
    assert_same_run(run_dir, tmp_path / 'one')
    shutil.rmtree(tmp_path / 'one' / 'checkpoints')


@pytest.fixture
def other_lists(run_flags, tmp_path):
    """A folder with a shorter training list, and a validation list two of whose images are missing.

    These are at positions 3 and 2: one is in the shard of each of two workers.
    """
    with open(run_flags[1]) as train, open(run_flags[3]) as val:
        write_list(tmp_path / 'train.txt', train.read().splitlines()[1:])
        write_list(tmp_path / 'val.txt', val.read().splitlines())
    shutil.copytree(f'{os.path.dirname(run_flags[1])}/pictures', tmp_path / 'pictures')
    for name in ('03.png', '10.png'):
        os.remove(tmp_path / 'pictures' / name)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize('flag, value, chief_message, other_message', [
    ('--train_file', 'train.txt', *[rf'{DIFFERS}the training list 12 images \(\w+\), not 13 '] * 2),
    ('--learning_rate', '0.5', *[rf'{DIFFERS}learning_rate 0\.5, not '] * 2),
    ('--val_file', 'val.txt', r'val\.txt:4: .*03\.png: broken or missing on worker 1',
     r'val\.txt:4: .*03\.png: No such file')])
def test_a_worker_that_differs_ends_all(
        run_flags, other_lists, flag, value, chief_message, other_message):
    """The lists may lie elsewhere; only images of its own shard must not be missing on a worker."""
    if flag.endswith('_file'):
        value = other_lists / value
    results = run_workers(worker_command({}, run_flags),
                          worker_command({}, [*run_flags, flag, value]))
    for (status, _, errors), message in zip(results, (chief_message, other_message), strict=True):
        assert status == 2 and re.search(message, errors), errors
        assert 'Traceback' not in errors and '10.png' not in errors, errors
