import json
import os

import pytest

from run_folder.checkpoint_files import CheckpointFolder, Progress, read_progress


@pytest.fixture
def folder(tmp_path):
    """A CheckpointFolder with the files of some checkpoints; `last` names last-5."""
    folder = CheckpointFolder(str(tmp_path))
    folder.make()
    for name in ('frozen', 'last-4-17', 'last-5', 'best-3', 'best-30', 'best-4'):
        for ending in ('index', 'data-00000-of-00001'):
            (tmp_path / 'checkpoints' / f'{name}.{ending}').touch()
    folder.write_progress(Progress(5))
    folder.point_at('last-5')
    return folder


def names(folder):
    """Return the files of a CheckpointFolder without those of checkpoints' data."""
    return {name for name in os.listdir(folder.folder) if '.data' not in name}


def test_published_checkpoints_stay_and_all_others_go(folder):
    folder.publish('last-5', 3)
    assert names(folder) == {'frozen.index', 'last', 'last-5.index', 'last-5.json',
                             'best', 'best-3.index'}
    with open(folder.path('best')) as file:
        assert file.read() == 'best-3\n'


def test_before_the_first_epoch_there_is_no_best(folder):
    folder.publish('last-4-17', None)
    assert names(folder) == {'frozen.index', 'last', 'last-4-17.index'}


def test_a_deleted_checkpoint_takes_no_other_with_it(folder):
    with open(f'{folder.path("best-3")}.data-00000-of-00001_temp', 'w'):
        pass
    folder.delete_checkpoint('best-3')
    assert not [name for name in os.listdir(folder.folder) if name.startswith('best-3.')]
    assert {'best-30.index', 'best-4.index', 'last-5.index'} <= names(folder)


def test_without_a_checkpoint_there_is_no_progress(tmp_path):
    assert read_progress(str(tmp_path)) is None


@pytest.mark.parametrize('content', [
    '', '[]', '{"epochs": 3}', '{"epochs": "5"}', 'x', '{"epochs": 5, "steps": -1}'])
def test_a_broken_checkpoint_is_named(folder, tmp_path, content):
    assert read_progress(str(tmp_path)) == Progress(5)
    (tmp_path / 'checkpoints' / 'last-5.json').write_text(content)
    with pytest.raises(ValueError, match='its last checkpoint is broken'):
        read_progress(str(tmp_path))


def test_progress_is_kept_exactly(folder, tmp_path):
    """Sums of floats have 17 digits that count; the file is what json writes by itself."""
    progress = Progress(1, 7, 0.1 + 0.2, 12, 1 / 3, 1e-4 / 3)
    folder.write_progress(progress)
    folder.point_at('last-1-7')
    assert read_progress(str(tmp_path)) == progress
    with open(folder.path('last-1-7.json')) as file:
        assert json.load(file) == vars(progress)


def test_steps_add_up_until_the_epoch_is_finished():
    progress = Progress(2)
    assert not Progress().has_begun and progress.has_begun and Progress(0, 1).has_begun
    progress.add_step(1.5, 3, 0.2)
    progress.add_step(0.5, 1, 0.4)
    assert progress == Progress(2, 2, 2.0, 4, 0.4) and progress.name == 'last-2-2'
    progress.finish_epoch()
    assert progress == Progress(3) and progress.name == 'last-3'
