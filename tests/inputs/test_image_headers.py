import os

import numpy as np
import pytest
from PIL import Image

from inputs.image_headers import MAX_PIXELS
from inputs.images import check_image, load_image
from tests.helpers import png_file
from tests.image_files import CASES, encoded, exif, loaded, photo, too_large

FLOAT_TIFF = encoded(Image.new('F', (9, 9)), 'TIFF')


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'GIF', 'BMP', 'TIFF', 'WebP'])
def test_too_many_pixels_are_refused_by_the_header(tmp_path, kind):
    (tmp_path / 'a').write_bytes(png_file(50000, 50000) if kind == 'PNG' else too_large(kind))
    for read in (load_image, check_image):
        reason = f'a: 50000 x 50000 pixels; from 1 to {MAX_PIXELS:,} are read'
        with pytest.raises(ValueError, match=reason):
            read(str(tmp_path / 'a'))


@pytest.mark.parametrize('make, reason', [
    (lambda path: None, 'No such file'), (lambda path: path.mkdir(), 'not a file'),
    (os.mkfifo, 'not a file'), (lambda path: path.write_text('text'), 'not a JPEG, PNG'),
    (lambda path: path.write_bytes(b'RIFF1234WAVE'), 'not a JPEG, PNG'),
    (lambda path: path.write_bytes(b''), 'the file is empty'),
    (lambda path: path.write_bytes(png_file(0, 9)), '0 x 9 pixels'),
    (lambda path: path.write_bytes(FLOAT_TIFF), 'cannot decode this TIFF')])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, make, reason):
    make(tmp_path / 'a.jpg')
    for read in (load_image, check_image):
        with pytest.raises(ValueError, match=f'a.jpg: .*{reason}') as error:
            read(str(tmp_path / 'a.jpg'))
        assert '\n' not in str(error.value)


def test_a_missing_file_whose_name_is_not_utf_8_has_a_hint(tmp_path):
    reason = r'No such file or directory \(its name is not UTF-8: is the list\?\)'
    with pytest.raises(ValueError, match=reason):
        check_image(f'{tmp_path}/K\udce4fer.jpg')


@pytest.mark.filterwarnings('ignore:Truncated File Read')  # pytest undoes the filter of decoders
@pytest.mark.parametrize('case', CASES)
def test_a_file_that_is_cut_off_is_broken(tmp_path, case):
    """Anywhere, also within the last bytes; the check before training finds it, too."""
    content = CASES[case]
    for end in (20, len(content) // 3, len(content) * 9 // 10, len(content) - 1):
        (tmp_path / 'a').write_bytes(content[:end])
        for read in (load_image, check_image):
            with pytest.raises(ValueError):
                read(str(tmp_path / 'a'))
    (tmp_path / 'a').write_bytes(content)
    check_image(str(tmp_path / 'a'))


def test_bytes_after_the_end_of_a_jpeg_are_fine(tmp_path):
    content = CASES['progressive JPEG']
    expected = loaded(tmp_path / 'a', content)
    for more in (b'\0', b'a video of a motion photo' * 1000, content[:2000]):
        np.testing.assert_array_equal(loaded(tmp_path / 'a', content + more), expected)


def test_a_jpeg_inside_a_segment_is_not_the_end(tmp_path):
    thumbnail = exif(1)
    thumbnail[0x927c] = CASES['JPEG'][:30000]
    content = encoded(photo(), 'JPEG', exif=thumbnail)
    with pytest.raises(ValueError, match='cut off'):
        loaded(tmp_path / 'a', content[:-2000])


def test_a_changed_byte_of_a_png_is_broken(tmp_path):
    content = bytearray(CASES['PNG'])
    content[len(content) // 2] ^= 1
    (tmp_path / 'a').write_bytes(content)
    with pytest.raises(ValueError, match='checksum'):
        check_image(str(tmp_path / 'a'))
