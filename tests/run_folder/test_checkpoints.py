import itertools
import os
import resource

import numpy as np
import pytest

from run_folder.checkpoint_files import Progress, read_progress
from run_folder.checkpoints import Checkpoints
from runtime.tf1 import tf
from tests.helpers import read_checkpoint

BEST = (1, 2, 4)  # epochs that were the best so far


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def save_nothing(checkpoints, session, progress):
    """Do nothing after a step."""


def save_first_steps(checkpoints, session, progress):
    """Save after the first step of each epoch."""
    if progress.steps == 1:
        checkpoints.save(session, progress)


def train(folder, seconds_between=-1, epochs=5, after_step=save_nothing):
    """Start or resume a run of 2 steps per epoch, of a variable that counts them.

    Yields the folder of the checkpoints after each epoch.
    """
    with tf.Graph().as_default() as graph, tf.Session() as session:
        variables = [tf.get_variable(name, initializer=value) for name, value in
                     (('frozen', 1.0), ('trained', 0.0), ('slot', 0.0))]
        frozen, trained, slot = variables
        step = tf.group(trained.assign_add(1), slot.assign_add(10))
        checkpoints = Checkpoints([frozen], [trained])
        checkpoints.SECONDS_BETWEEN_EPOCHS = seconds_between
        graph.finalize()
        progress = read_progress(str(folder)) or Progress()
        if progress.has_begun:
            resume(session, checkpoints, folder, progress, variables)
        else:
            session.run([variable.initializer for variable in variables])
        checkpoints.begin(session, str(folder), progress)
        while progress.epochs < epochs:
            while progress.steps < 2:
                session.run(step)
                progress.add_step(0.5, 1, 0.1)
                after_step(checkpoints, session, progress)
            progress.finish_epoch()
            checkpoints.after_epoch(session, progress, is_best=progress.epochs in BEST,
                                    is_final=progress.epochs == epochs)
            yield folder / 'checkpoints'


def resume(session, checkpoints, folder, progress, variables):
    """Restore the run of `train`, and check every value of the last and the best checkpoint."""
    best = max((epoch for epoch in BEST if epoch <= progress.epochs), default=None)
    checkpoints.restore(session, str(folder), progress, best and {'epoch': best})
    steps = 2 * progress.epochs + progress.steps
    assert session.run(variables) == [1, steps, 10 * steps]
    assert (progress.correct, progress.loss_sum) == (progress.steps, 0.5 * progress.steps)
    if best:
        checkpoints.load_best(session)
        assert session.run(variables) == [1, 2 * best, 10 * steps]
        checkpoints.restore_last(session, progress)
        assert session.run(variables) == [1, steps, 10 * steps]


def assert_whole(folder, epochs=5):
    """Check names and values of the checkpoints that a run of so many epochs leaves."""
    best, last = f'best-{max(epoch for epoch in BEST if epoch <= epochs)}', f'last-{epochs}'
    assert {name.split('.data')[0] for name in os.listdir(folder)} == {
        'last', 'best', 'frozen', 'frozen.index', best, f'{best}.index',
        last, f'{last}.index', f'{last}.json'}
    assert read_checkpoint(folder, 'best') == {'trained': 2 * int(best[5:])}
    assert read_checkpoint(folder, 'last') == {'trained': 2 * epochs, 'slot': 20 * epochs}
    frozen = tf.train.load_checkpoint(str(folder / 'frozen'))
    assert frozen.get_variable_to_shape_map() == {'frozen': []}


@pytest.mark.parametrize('seconds_between', [-1, 1000])
def test_last_and_best_stay_and_nothing_else(tmp_path, seconds_between):
    assert_whole(list(train(tmp_path, seconds_between))[-1])


def test_long_epochs_are_all_written_short_ones_wait(tmp_path):
    written = [read_checkpoint(folder, 'last')['trained'] for folder in train(tmp_path / 'a')]
    assert written == [2, 4, 6, 8, 10]
    written = [(folder / 'last').exists() for folder in train(tmp_path / 'b', 1000)]
    assert written == [False] * 4 + [True]


def test_epochs_longer_than_ten_minutes_are_written_midway(tmp_path):
    names = []

    def after_step(checkpoints, session, progress):
        if progress.steps == 1:
            checkpoints.written_at -= 601
        checkpoints.after_step(session, progress)
        names.append((tmp_path / 'checkpoints' / 'last').read_text().strip())
    assert_whole(list(train(tmp_path, 1000, after_step=after_step))[-1])
    assert names == [f'last-{epoch}-1' for epoch in range(5) for _ in range(2)]


def kill(folder, kill_at, monkeypatch):
    """Train until the call number `kill_at` that changes a file; from it on, no file is changed.

    Returns whether that call came before the end of the run.
    """
    calls = itertools.count()

    def guarded(function):
        def call(*arguments, **options):
            if next(calls) >= kill_at:
                raise Killed
            return function(*arguments, **options)
        return call
    with monkeypatch.context() as patch:
        for owner, name in ((os, 'replace'), (os, 'remove'), (tf.train.Saver, 'save')):
            patch.setattr(owner, name, guarded(getattr(owner, name)))
        try:
            list(train(folder, epochs=2, after_step=save_first_steps))
        except Killed:
            return True
    return False


@pytest.mark.slow
def test_killed_between_any_two_changes_of_files_it_resumes(tmp_path, monkeypatch):
    """`resume` checks every value; at the end, files and values are the undisturbed run's."""
    kill_at = 0
    while kill(tmp_path / str(kill_at), kill_at, monkeypatch):
        list(train(tmp_path / str(kill_at), epochs=2, after_step=save_first_steps))
        assert_whole(tmp_path / str(kill_at) / 'checkpoints', epochs=2)
        kill_at += 1
    assert kill_at > 25


def test_killed_again_and_again_it_gets_to_the_end(tmp_path, monkeypatch):
    random, kills = np.random.default_rng(0), 0
    while kill(tmp_path, random.integers(0, 20), monkeypatch):
        kills += 1
    assert kills > 2
    assert_whole(tmp_path / 'checkpoints', epochs=2)


def test_values_that_are_not_finite_are_not_written(tmp_path):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        trained = tf.get_variable('trained', initializer=float('nan'))
        checkpoints = Checkpoints([], [trained])
        graph.finalize()
        session.run(trained.initializer)
        checkpoints.begin(session, str(tmp_path / 'nan'), Progress())
        with pytest.raises(FloatingPointError, match='after step 5 of epoch 2'):
            checkpoints.save(session, Progress(1, 5))
    assert os.listdir(tmp_path / 'nan' / 'checkpoints') == []


def test_on_a_full_disk_nothing_half_written_stays(tmp_path):
    """Files cannot grow beyond 10 bytes: less than a checkpoint."""
    run = train(tmp_path)
    folder = next(run)
    before, limits = sorted(os.listdir(folder)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(tf.errors.OpError, match='File too large'):
            next(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(os.listdir(folder)) == before
    assert read_checkpoint(folder, 'last') == {'trained': 2, 'slot': 20}


def test_a_missing_or_cut_checkpoint_is_named(tmp_path):
    folder = list(train(tmp_path))[-1]
    [data] = folder.glob('best-4.data*')
    data.write_bytes(b'')
    with pytest.raises(ValueError, match='best-4 is missing or broken: Read less bytes'):
        list(train(tmp_path))
    for path in folder.glob('frozen.*'):
        path.unlink()
    with pytest.raises(ValueError, match='frozen is missing or broken'):
        list(train(tmp_path))
