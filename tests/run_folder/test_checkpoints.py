import itertools
import json
import os
import resource

import numpy as np
import pytest

from run_folder.checkpoints import Checkpoints, Progress, read_progress
from runtime.tf1 import tf
from tests.helpers import read_checkpoint

BEST = (1, 2, 4)  # epochs that were the best so far


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def train(folder, seconds_between=-1, epochs=5, after_step=lambda checkpoints, session: None):
    """Go on with a run of 2 steps an epoch, of a variable that counts them; yields the checkpoints after each epoch."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        frozen = tf.get_variable('frozen', initializer=1.0)
        trained = tf.get_variable('trained', initializer=0.0)
        slot = tf.get_variable('slot', initializer=0.0)
        step = tf.group(trained.assign_add(1), slot.assign_add(10))
        checkpoints = Checkpoints([frozen], [trained])
        checkpoints.SECONDS_BETWEEN = seconds_between
        graph.finalize()
        progress = read_progress(str(folder))
        if progress:
            best = max((epoch for epoch in BEST if epoch <= progress.epochs), default=None)
            checkpoints.restore(session, str(folder), progress, best and {'epoch': best})
            steps = 2 * progress.epochs + progress.steps
            assert session.run([frozen, trained, slot]) == [1, steps, 10 * steps] and progress.correct == progress.steps
            if best:
                session.run(checkpoints.load_best_op)
                assert session.run(trained) == 2 * best
                checkpoints.restore_last(session)
                assert session.run(trained) == steps
        else:
            session.run([variable.initializer for variable in (frozen, trained, slot)])
        checkpoints.begin(session, str(folder), progress)
        for epoch in range(checkpoints.progress.epochs + 1, epochs + 1):
            while checkpoints.progress.steps < 2:
                session.run(step)
                checkpoints.progress.steps += 1
                checkpoints.progress.correct += 1
                after_step(checkpoints, session)
            checkpoints.progress = Progress(epoch)
            checkpoints.after_epoch(session, is_best=epoch in BEST, is_final=epoch == epochs)
            yield folder / 'checkpoints'


def assert_whole(folder, epochs=5):
    best, last = f'best-{max(epoch for epoch in BEST if epoch <= epochs)}', f'last-{epochs}'
    assert {name.split('.data')[0] for name in os.listdir(folder)} == {
        'last', 'best', 'frozen', 'frozen.index', best, f'{best}.index', last, f'{last}.index', f'{last}.json'}
    assert read_checkpoint(folder, 'best') == {'trained': 2 * int(best[5:])}
    assert read_checkpoint(folder, 'last') == {'trained': 2 * epochs, 'slot': 20 * epochs}
    assert tf.train.load_checkpoint(str(folder / 'frozen')).get_variable_to_shape_map() == {'frozen': []}


@pytest.mark.parametrize('seconds_between', [-1, 1000])
def test_last_and_best_stay_and_nothing_else(tmp_path, seconds_between):
    assert_whole(list(train(tmp_path, seconds_between))[-1])


def test_long_epochs_are_all_written_short_ones_wait(tmp_path):
    written = [(folder / 'last').exists() and read_checkpoint(folder, 'last')['trained'] for folder in train(tmp_path / 'a')]
    assert written == [2, 4, 6, 8, 10]
    written = [(folder / 'last').exists() for folder in train(tmp_path / 'b', 1000)]
    assert written == [False] * 4 + [True]


def test_epochs_longer_than_ten_minutes_are_written_on_the_way(tmp_path):
    names = []

    def after_step(checkpoints, session):
        if checkpoints.progress.steps == 1:
            checkpoints.written_at -= 601
        checkpoints.after_step(session)
        names.append((tmp_path / 'checkpoints' / 'last').read_text().strip())
    assert_whole(list(train(tmp_path, 1000, after_step=after_step))[-1])
    assert names == [f'last-{epoch}-1' for epoch in range(5) for _ in range(2)]


def within_epochs(checkpoints, session):
    """Save after the first step of each epoch."""
    if checkpoints.progress.steps == 1:
        checkpoints.save(session)


def killed(folder, kill_at, monkeypatch):
    """Train until the call number `kill_at` that changes a file; from it on, no file is changed. Say whether it came."""
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
            list(train(folder, epochs=2, after_step=within_epochs))
        except Killed:
            return True
    return False


def test_killed_between_any_two_changes_of_files_it_goes_on(tmp_path, monkeypatch):
    """Where it goes on, `train` looks at every value; at the end, files and values are those of the undisturbed run."""
    kill_at = 0
    while killed(tmp_path / str(kill_at), kill_at, monkeypatch):
        list(train(tmp_path / str(kill_at), epochs=2, after_step=within_epochs))
        assert_whole(tmp_path / str(kill_at) / 'checkpoints', epochs=2)
        kill_at += 1
    assert kill_at > 25


def test_killed_again_and_again_it_gets_to_the_end(tmp_path, monkeypatch):
    random, kills = np.random.default_rng(0), 0
    while killed(tmp_path, random.integers(0, 20), monkeypatch):
        kills += 1
    assert kills > 2
    assert_whole(tmp_path / 'checkpoints', epochs=2)


def test_values_that_are_not_finite_are_not_written(tmp_path):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        trained = tf.get_variable('trained', initializer=float('nan'))
        checkpoints = Checkpoints([], [trained])
        graph.finalize()
        session.run(trained.initializer)
        checkpoints.begin(session, str(tmp_path / 'nan'), None)
        checkpoints.progress = Progress(1, 5)
        with pytest.raises(FloatingPointError, match='after step 5 of epoch 2'):
            checkpoints.save(session)
    assert os.listdir(tmp_path / 'nan' / 'checkpoints') == []


def test_on_a_full_disk_nothing_half_written_stays(tmp_path):
    """Files can not grow beyond 10 bytes: less than a checkpoint."""
    run = train(tmp_path)
    folder = next(run)
    before, limits = sorted(os.listdir(folder)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(tf.errors.OpError, match='File too large'):
            next(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(os.listdir(folder)) == before and read_checkpoint(folder, 'last') == {'trained': 2, 'slot': 20}


@pytest.mark.parametrize('content', ['', '[]', '{"epochs": 3}', '{"epochs": "5"}', 'x', '{"epochs": 5, "steps": -1}'])
def test_a_broken_checkpoint_is_named(tmp_path, content):
    list(train(tmp_path))
    (tmp_path / 'checkpoints' / 'last-5.json').write_text(content)
    with pytest.raises(ValueError, match='its last checkpoint is broken'):
        read_progress(str(tmp_path))


def test_a_missing_or_cut_checkpoint_is_named(tmp_path):
    [data] = [path for path in list(train(tmp_path))[-1].iterdir() if path.name.startswith('best-4.data')]
    data.write_bytes(b'')
    with pytest.raises(ValueError, match='best-4 is missing or broken: Read less bytes'):
        list(train(tmp_path))


def test_progress_is_kept_exactly(tmp_path):
    """Sums of floats have 17 digits that count; the file is what json writes by itself."""
    run = train(tmp_path, 1000, epochs=2)
    next(run)
    (tmp_path / 'checkpoints' / 'last').write_text('last-1-7\n')
    progress = Progress(1, 7, 0.1 + 0.2, 12, 1 / 3, 1e-4 / 3)
    (tmp_path / 'checkpoints' / 'last-1-7.json').write_text(json.dumps(vars(progress)))
    assert read_progress(str(tmp_path)) == progress
