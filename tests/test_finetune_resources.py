"""What a run takes of memory and disk."""

import gc
import os
import threading

import pytest

import finetune
from finetune import Settings
from run_folder.checkpoints import Checkpoints
from tests.helpers import write_list

pytestmark = pytest.mark.slow


def test_fc8_alone_takes_little_more_than_the_network_once(undisturbed, all_weights_file):
    """1.2 times the weights, and in each checkpoint fc8 for 3 classes with Adam's slots."""
    size = sum(path.stat().st_size for path in undisturbed.rglob('*') if path.is_file())
    checkpoints, slots, float32_bytes = 2, 3, 4
    trained = checkpoints * slots * float32_bytes * 4097 * 3
    assert size < 1.2 * os.path.getsize(all_weights_file) + trained


def process_state():
    """Return (memory in kB, open files, threads) of this process."""
    with open('/proc/self/status') as file:
        status = dict(line.split(':', 1) for line in file)
    memory = int(status['VmRSS'].split()[0])
    return memory, len(os.listdir('/proc/self/fd')), threading.active_count()


@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='reads /proc')
def test_nothing_grows_over_2000_steps(
        resumable_lists, all_weights_file, run_dir, tmp_path, monkeypatch):
    """From the 500th batch to the last.

    The graph is finalized before the loop: one operation more would be an error.
    """
    states, after_step = [], Checkpoints.after_step

    def noted(*arguments):
        after_step(*arguments)
        gc.collect(0)
        states.append(process_state())
    monkeypatch.setattr(Checkpoints, 'after_step', noted)
    long_list = write_list(resumable_lists / 'long.txt',
                           [f'train/{n % 12:02d}.png {n % 3}' for n in range(250)])
    finetune.finetune(Settings(
        train_file=long_list, val_file=str(resumable_lists / 'val.txt'),
        weights_path=all_weights_file, train_layers=('fc8',), batch_size=1, num_epochs=10,
        cache_dir=str(tmp_path / 'cache'), run_dir=run_dir))
    memory, files, threads = zip(*states[499:2500], strict=True)
    assert len(memory) == 2001 and memory[-1] - memory[0] < 20_000
    assert set(files[-100:]) <= set(files[:260]) and max(threads) <= max(threads[:260])
