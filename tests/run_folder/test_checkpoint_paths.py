"""Paths that name a checkpoint of a run. The text files `best` and `last` are read by the shell."""

import os
import subprocess

import pytest

from run_folder.trained_run import read_run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('name', ['best', 'last'])
def test_a_text_file_names_its_checkpoint(finished_run, name, monkeypatch):
    folder = finished_run / 'checkpoints'
    done = subprocess.run(['cat', folder / name], capture_output=True, text=True, check=True)
    expected = str(folder / done.stdout.strip())
    assert read_run(str(folder / name)).checkpoints == (expected, str(folder / 'frozen'))
    assert read_run(str(finished_run), name).checkpoints[0] == expected
    monkeypatch.chdir(folder)
    assert read_run(name).checkpoints[0] == expected
    with pytest.raises(ValueError, match='is a checkpoint already: leave out --checkpoint 2'):
        read_run(name, '2')


@pytest.mark.parametrize('path', ['checkpoints', 'checkpoints/', 'checkpoints/.', '.'])
def test_the_folder_of_checkpoints_means_its_run(finished_run, path):
    run = read_run(os.path.join(finished_run, path), 'last')
    assert [os.path.basename(name) for name in run.checkpoints] == ['last-2', 'frozen']
    assert all(os.path.samefile(os.path.dirname(name), finished_run / 'checkpoints')
               for name in run.checkpoints)


@pytest.mark.parametrize('content', [
    '../../other/best-1', '/etc/passwd', 'last-1', '', 'best-1\nbest-2'])
def test_a_text_file_cannot_lead_elsewhere(run_copy, content):
    (run_copy / 'checkpoints' / 'best').write_text(content)
    with pytest.raises(ValueError, match='the file checkpoints/best says'):
        read_run(str(run_copy / 'checkpoints' / 'best'))


def test_a_text_file_that_is_missing_is_named(run_copy):
    (run_copy / 'checkpoints' / 'last').unlink()
    with pytest.raises(ValueError, match='it has no checkpoint "last": none is written yet'):
        read_run(str(run_copy / 'checkpoints' / 'last'))
