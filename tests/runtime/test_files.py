import os

import pytest

from runtime.files import new_file


def test_a_new_file_is_there_whole_or_not_at_all(tmp_path):
    with new_file(str(tmp_path / 'a.txt')) as file:
        file.write('whole')
        assert not (tmp_path / 'a.txt').exists()
    with pytest.raises(ZeroDivisionError), new_file(str(tmp_path / 'b.txt')) as file:
        file.write('half')
        1 / 0
    with pytest.raises(ValueError, match='a.txt exists already'), new_file(str(tmp_path / 'a.txt')):
        pass
    assert os.listdir(tmp_path) == ['a.txt'] and (tmp_path / 'a.txt').read_text() == 'whole'
    for path in (tmp_path / 'gone' / 'c.txt', tmp_path / 'a.txt' / 'c.txt'):
        with pytest.raises(OSError) as error, new_file(str(path)):
            pass
        assert error.value.filename == str(path)
