"""Locks of folders; the shell's flock holds them, and errno values stand for file systems."""

import errno
import fcntl
import os
import signal
import subprocess
import time

import pytest

from run_folder.folder import LOCK, RunFolder
from runtime.locks import FolderLock
from training.feature_store import FeatureStore

SETTINGS = {'num_classes': 2, 'image_mean': [104.0, 117.0, 124.0], 'precision': 'float32'}
WITHOUT = [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK]


def fail_with(number, monkeypatch):
    """Let flock answer as a file system does that has none, or another trouble."""
    def flock(*arguments):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(fcntl, 'flock', flock)


@pytest.fixture
def run_dir(tmp_path):
    """The folder of a run, with its lock file."""
    with RunFolder(str(tmp_path / 'run')) as folder:
        folder.write(SETTINGS, ['ant', 'bee'])
    return folder.path


def test_the_lock_is_the_one_of_the_shell(tmp_path):
    path = str(tmp_path / 'lock')
    holder = subprocess.Popen(['flock', path, '-c', 'echo held; sleep 60'], text=True,
                              stdout=subprocess.PIPE, start_new_session=True)
    assert holder.stdout.readline() == 'held\n'
    lock, start = FolderLock(path), time.monotonic()
    assert not lock.acquire() and not lock.acquire(0.3)
    assert 0.3 < time.monotonic() - start < 5
    os.killpg(holder.pid, signal.SIGKILL)
    holder.wait()
    assert lock.acquire(5)
    assert subprocess.run(['flock', '--nonblock', path, 'true']).returncode == 1
    lock.release()
    assert subprocess.run(['flock', '--nonblock', path, 'true']).returncode == 0


@pytest.mark.parametrize('number', WITHOUT)
def test_a_run_without_flock_works_with_one_line(number, run_dir, monkeypatch, capsys):
    fail_with(number, monkeypatch)
    for _ in range(2):  # a copied run has the file, too
        with RunFolder(run_dir, must_exist=True) as folder:
            assert folder.settings['num_classes'] == 2
        errors = capsys.readouterr().err
        assert errors.count('\n') == 1 and f'{run_dir} has no locks' in errors
        assert os.path.getsize(os.path.join(run_dir, LOCK)) == 0


@pytest.mark.parametrize('number', WITHOUT)
def test_a_copied_cache_without_flock_waits_for_nobody(number, tmp_path, monkeypatch, capsys):
    (tmp_path / 'lock').touch()
    fail_with(number, monkeypatch)
    start = time.monotonic()
    with FeatureStore(str(tmp_path), 3) as store:
        assert store.count == 0
    assert time.monotonic() - start < 1
    assert f'{tmp_path} has no locks' in capsys.readouterr().err


@pytest.mark.parametrize('number', [errno.EIO, errno.EPERM, errno.EBADF])
def test_other_errors_name_the_folder(number, run_dir, monkeypatch):
    fail_with(number, monkeypatch)
    with pytest.raises(OSError) as caught, RunFolder(run_dir):
        pass
    assert caught.value.errno == number and caught.value.filename == os.path.join(run_dir, LOCK)


@pytest.mark.parametrize('make', [os.mkdir, lambda path: os.symlink('elsewhere', path)])
def test_a_lock_that_is_no_file_is_named(make, tmp_path):
    make(tmp_path / 'lock')
    with pytest.raises(OSError) as caught:
        FolderLock(str(tmp_path / 'lock')).acquire()
    assert caught.value.filename == str(tmp_path / 'lock')
    assert not (tmp_path / 'elsewhere').exists()


def test_a_system_without_fcntl_has_no_locks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('runtime.locks.fcntl', None)
    assert FolderLock(str(tmp_path / 'lock')).acquire()
    assert f'{tmp_path} has no locks' in capsys.readouterr().err


def test_waiting_leaves_no_descriptors_open(tmp_path):
    first, second = (FolderLock(str(tmp_path / 'lock')) for _ in range(2))
    assert first.acquire()
    before = len(os.listdir('/proc/self/fd'))
    assert not any(second.acquire() for _ in range(20))
    assert len(os.listdir('/proc/self/fd')) == before
    first.release()
    first.release()
    assert second.acquire()
    second.release()
