import os

import pytest

from weight_files.find import STARTER_WEIGHTS, find_weights, is_starter
from weight_files.reader import read_weights


def test_a_setting_means_none_a_path_or_the_public_file(tmp_path):
    beside = tmp_path / 'bvlc_alexnet.npy'
    beside.write_bytes(b'')
    assert find_weights('none', str(tmp_path)) is None
    assert find_weights('auto', str(tmp_path)) == str(beside)
    assert find_weights(str(beside), 'elsewhere') == str(beside)
    with pytest.raises(ValueError, match='bvlc_alexnet.npy is not a weight file: it is empty'):
        read_weights(str(beside))


def test_paths_without_a_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match='missing.npy: no such file'):
        find_weights('missing.npy', str(tmp_path))
    with pytest.raises(ValueError, match='this is no file'):
        find_weights(str(tmp_path), str(tmp_path))


@pytest.mark.parametrize('path, expected', [
    (STARTER_WEIGHTS, True),
    ('/another/copy/starter_weights/starter_weights.npy', True),
    ('/an/older/project/sample/starter_weights.npy', True),  # as run folders of before name it
    (os.path.join('starter_weights', 'other.npy'), False),
    ('bvlc_alexnet.npy', False),
    (None, False)])
def test_starter_weights_are_known_by_the_name_of_the_file(path, expected):
    assert is_starter(path) == expected
