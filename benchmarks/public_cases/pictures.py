"""Cases of picture files."""

import json
import shutil

import numpy as np
from PIL import Image

from benchmarks.public_cases.trial import photo


def bmp_without_alpha(trial):
    """BMP of 32 bits whose fourth byte is unused."""
    pixels = photo(trial)
    rows = np.zeros((300, 400, 4), np.uint8)
    rows[..., :3] = pixels[::-1, :, ::-1]
    header = b'BM' + np.array([54 + rows.nbytes, 0, 54, 40, 400, 300], '<u4').tobytes()
    header += np.array([1, 32], '<u2').tobytes()
    header += np.array([0, rows.nbytes, 0, 0, 0, 0], '<u4').tobytes()
    return trial.same_answer(trial.write('x.bmp', header + rows.tobytes()), pixels)


def tiff_with_infrared(trial):
    """TIFF with a fourth band that is not alpha."""
    pixels = photo(trial)
    bands = np.dstack([pixels, np.full((300, 400), 60, np.uint8)])
    trial.write('x.tif', tiff_bytes(bands, {338: 0}))
    return trial.same_answer(trial.path('x.tif'), pixels)


def tiff_of_16_bits(trial):
    """TIFF of 16 bits with separate planes; with white as 0."""
    pixels = photo(trial)
    trial.write('planes.tif', tiff_bytes(np.uint16(pixels) * 257, {284: 2}))
    gray = np.array(Image.fromarray(pixels).convert('L'))
    trial.write('white0.tif', tiff_bytes(65535 - np.uint16(gray)[..., None] * 257, {262: 0}))
    return (trial.same_answer(trial.path('planes.tif'), pixels)
            and trial.same_answer(trial.path('white0.tif'), np.dstack([gray] * 3)))


def tiff_bytes(pixels, changed):
    """Return an uncompressed TIFF file of pixels, [height, width, bands] (TIFF 6.0, section 2)."""
    height, width, bands = pixels.shape
    planes = changed.get(284) == 2
    data = (pixels.transpose(2, 0, 1) if planes else pixels).astype(pixels.dtype.newbyteorder('<'))
    tags = {256: width, 257: height, 258: [8 * pixels.itemsize] * bands, 259: 1,
            262: 2 if bands > 2 else 1, 273: 0, 277: bands, 278: height, 279: 0, 284: 1, **changed}
    size = data.nbytes // bands if planes else data.nbytes
    count = bands if planes else 1
    start, extra, entries = 8, data.tobytes(), []
    tags[273] = [start + n * size for n in range(count)]
    tags[279] = [size] * count
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        kind = 'u4' if tag in (273, 279) else 'u2'
        content = np.array(values, f'<{kind}').tobytes()
        if len(content) > 4:
            offset = start + len(extra)
            extra += content
            content = np.uint32(offset).astype('<u4').tobytes()
        entries.append(np.array([tag, 4 if kind == 'u4' else 3], '<u2').tobytes()
                       + np.array([len(values)], '<u4').tobytes() + content.ljust(4, b'\0'))
    directory = np.array([len(entries)], '<u2').tobytes() + b''.join(entries) + bytes(4)
    return b'II*\0' + np.array([start + len(extra)], '<u4').tobytes() + extra + directory


def png_with_broken_profile(trial):
    """PNG with a broken colour profile: no lines of libpng."""
    Image.fromarray(photo(trial)).save(trial.path('x.png'), icc_profile=b'broken profile' * 20)
    status, out, errors = trial.predict('x.png')
    return status == 0 and 'libpng' not in errors and 'iCCP' not in errors


def exported_transparency(trial):
    """The exported signature `encoded` lays transparency on white."""
    pixels = photo(trial)
    alpha = np.uint8(255 * (np.indices((300, 400)).sum(0) % 200 > 100))
    Image.fromarray(np.dstack([pixels, alpha])).save(trial.path('alpha.png'))
    shutil.rmtree(trial.path('model30'), ignore_errors=True)
    trial.run('export.py', trial.trained(), '--saved_model', 'model30')
    code = ('import json, tensorflow as tf\nmodel = tf.saved_model.load("model30")\n'
            'content = open("alpha.png", "rb").read()\n'
            'got = model.signatures["encoded"](image_bytes=tf.constant([content]))\n'
            'names = [name.decode() for name in got["class_names"].numpy()[0]]\n'
            'print(json.dumps(dict(zip(names, got["probabilities"].numpy()[0].tolist()))))')
    _, out, _ = trial.run('-c', code)
    wanted = trial.probabilities(trial.path('alpha.png'))
    got = json.loads(out.splitlines()[-1])
    return max(abs(got[name] - wanted[name]) for name in wanted) < 0.005


CASES = {
    14: bmp_without_alpha, 15: tiff_with_infrared, 16: tiff_of_16_bits, 
    17: png_with_broken_profile, 30: exported_transparency}
