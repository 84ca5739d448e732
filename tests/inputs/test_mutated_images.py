import subprocess
import sys

import numpy as np

from tests.helpers import ROOT
from tests.image_files import CASES, encoded, exif, photo
from tests.raw_images import tiff

FUZZ = r'''
import glob, sys
import numpy as np
from inputs.images import check_image, load_image
folder, seed = sys.argv[1:]
random, read, path = np.random.RandomState(int(seed)), 0, f'{folder}/fuzz{seed}'
originals = [open(name, 'rb').read() for name in sorted(glob.glob(f'{folder}/seed-*'))]
words = [b'\xff\xff\xff\xff', bytes(4), b'\x7f\xff\xff\xff', b'\1\0\0\0']
for trial in range(1100):
    content = bytearray(originals[trial % len(originals)])
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
            content[at:at + 4] = words[random.randint(4)]
    with open(path, 'wb') as file:
        file.write(content)
    for check in (check_image, load_image):
        try:
            image = check(path)
        except ValueError as error:
            assert path in str(error) and '\n' not in str(error)
            continue
        if image is not None:
            assert image.shape == (227, 227, 3) and image.dtype == np.float32
            assert np.isfinite(image).all()
            read += 1
print(read)
'''


def test_mutated_images_are_read_or_refused(tmp_path):
    """2,200 files of all kinds with random changes; in processes, so that a crash is seen."""
    pixels = np.asarray(photo())
    kinds = {**CASES, 'planes': tiff(np.uint16(pixels) * 257, planes=True),
             'L*a*b*': tiff(pixels, t262=8), 'gray and alpha': tiff(pixels[:, :, :2], t338=2),
             'EXIF PNG': encoded(photo(), 'PNG', exif=exif(6)),
             'EXIF WebP': encoded(photo(), 'WEBP', exif=exif(6))}
    for number, kind in enumerate(sorted(kinds)):
        (tmp_path / f'seed-{number:02d}').write_bytes(kinds[kind])
    children = [subprocess.Popen([sys.executable, '-c', FUZZ, tmp_path, str(seed)], cwd=ROOT,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for seed in (1, 2)]
    for child in children:
        shown, errors = child.communicate(timeout=100)
        assert child.returncode == 0 and 'Traceback' not in errors, errors[-3000:]
        assert 'libpng' not in errors and 'UserWarning' not in errors
        assert 100 < int(shown) < 1000
