import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from inputs import checks
from inputs.checks import find_broken
from inputs.images import check_image, load_image
from inputs.lists import read_list
from tests.helpers import ROOT, write_list


@pytest.fixture
def photos(tmp_path):
    """List of four JPEG files: 0 and 3 are whole, 1 is cut off, 2 is missing."""
    content = cv2.imencode('.jpg', np.random.RandomState(0).randint(0, 256, (60, 70, 3)).astype(np.uint8))[1].tobytes()
    for n, size in ((0, None), (1, 1000), (3, None)):
        (tmp_path / f'{n}.jpg').write_bytes(content[:size])
    return read_list(write_list(tmp_path / 'list.txt', [f'{n}.jpg 0' for n in range(4)]))


def seen(photos, check, folder, monkeypatch):
    """Return (what find_broken returns, names of the files that it looked at)."""
    looked = []
    real = checks.prefetch_images

    def prefetch_images(paths, *rest):
        looked.extend(os.path.basename(path) for path in paths)
        return real(paths, *rest)
    with monkeypatch.context() as patch:
        patch.setattr(checks, 'prefetch_images', prefetch_images)
        return find_broken([photos, photos], check, str(folder)), looked


@pytest.mark.parametrize('check', [check_image, load_image])
def test_broken_files_are_found_and_whole_ones_remembered(photos, tmp_path, monkeypatch, check):
    names = [f'{n}.jpg' for n in range(4)]
    broken, looked = seen(photos, check, tmp_path / 'cache', monkeypatch)
    assert list(broken) == photos.paths[1:3] and looked == names
    assert 'cut off' in broken[photos.paths[1]] and 'No such file' in broken[photos.paths[2]]
    assert seen(photos, check, tmp_path / 'cache', monkeypatch) == (broken, names[1:3])
    content = (tmp_path / '0.jpg').read_bytes()
    (tmp_path / '0.jpg').write_bytes(b'')  # a change
    (tmp_path / '1.jpg').write_bytes(content)
    broken, looked = seen(photos, check, tmp_path / 'cache', monkeypatch)
    assert list(broken) == [photos.paths[0], photos.paths[2]] and looked == names[:3]


@pytest.mark.parametrize('harm', [lambda path: path.write_bytes(b'any other bytes' * 99), lambda path: os.truncate(path, 5),
                                  lambda path: (path.unlink(), path.mkdir()), lambda path: path.unlink()])
def test_a_harmed_memory_is_looked_through_again(photos, tmp_path, monkeypatch, harm):
    broken, _ = seen(photos, check_image, tmp_path / 'cache', monkeypatch)
    memory, = (tmp_path / 'cache').iterdir()
    harm(memory)
    assert seen(photos, check_image, tmp_path / 'cache', monkeypatch) == (broken, [f'{n}.jpg' for n in range(4)])


def test_a_folder_that_can_not_be_written_is_no_error(photos, tmp_path):
    (tmp_path / 'cache').write_text('a file')
    assert len(find_broken([photos], check_image, str(tmp_path / 'cache'))) == 2


def test_what_was_seen_before_an_interruption_is_remembered(photos, tmp_path, monkeypatch):
    def interrupted(images, count):
        for _, image in zip(range(3), images):
            yield image
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        find_broken([photos], check_image, str(tmp_path / 'cache'), progress=interrupted)
    assert '0.jpg' not in seen(photos, check_image, tmp_path / 'cache', monkeypatch)[1]


FUZZ = r'''
import glob, os, sys
import numpy as np
from inputs.images import check_image, load_image
random, read, path = np.random.RandomState(int(sys.argv[2])), 0, sys.argv[1] + '/fuzz' + sys.argv[2]
seeds = [open(name, 'rb').read() for name in sorted(glob.glob(sys.argv[1] + '/seed-*'))]
for trial in range(1100):
    content = bytearray(seeds[trial % len(seeds)])
    for _ in range(random.randint(1, 5)):
        at = random.randint(random.choice([64, len(content)]))  # often in the header
        kind, size = random.randint(4), random.randint(1, 9)
        if kind == 0:
            content[at:at + size] = random.bytes(size)
        elif kind == 1:
            content[at:at] = random.bytes(size)
        elif kind == 2:
            del content[at:at + random.choice([size, 500])]
        else:
            content[at:at + 4] = [b'\xff\xff\xff\xff', bytes(4), b'\x7f\xff\xff\xff', b'\1\0\0\0'][random.randint(4)]
    with open(path, 'wb') as file:
        file.write(content)
    for check in (check_image, load_image):
        try:
            image = check(path)
        except ValueError as error:
            assert path in str(error) and '\n' not in str(error)
            continue
        if image is not None:
            assert image.shape == (227, 227, 3) and image.dtype == np.float32 and np.isfinite(image).all()
            read += 1
print(read)
'''


def test_mutated_images_are_read_or_refused(tmp_path):
    """2,200 files of all kinds with random changes, in two processes, so that a crash of a decoder is seen."""
    from tests.inputs.test_images import CASES, PALETTE, encoded, exif, photo
    kinds = {**CASES, 'GIF': encoded(PALETTE, 'GIF'), 'EXIF PNG': encoded(photo(), 'PNG', exif=exif(6)),
             'EXIF WebP': encoded(photo(), 'WEBP', exif=exif(6))}
    for number, kind in enumerate(sorted(kinds)):
        (tmp_path / f'seed-{number:02d}').write_bytes(kinds[kind])
    children = [subprocess.Popen([sys.executable, '-c', FUZZ, tmp_path, str(seed)], cwd=ROOT, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True) for seed in (1, 2)]
    for child in children:
        shown, errors = child.communicate(timeout=100)
        assert child.returncode == 0 and 'Traceback' not in errors, (child.returncode, errors[-3000:])
        assert 100 < int(shown) < 1000
