import os

import pytest

from runtime.files import new_file, printable


def test_a_new_file_is_there_whole_or_not_at_all(tmp_path):
    with new_file(str(tmp_path / 'a.txt')) as file:
        file.write('whole')
        assert not (tmp_path / 'a.txt').exists()
    with pytest.raises(ZeroDivisionError), new_file(str(tmp_path / 'b.txt')) as file:
        file.write('half')
        raise ZeroDivisionError
    with (pytest.raises(ValueError, match='a.txt exists already'),
          new_file(str(tmp_path / 'a.txt'))):
        pass
    assert os.listdir(tmp_path) == ['a.txt'] and (tmp_path / 'a.txt').read_text() == 'whole'


def test_an_error_names_the_file_that_was_to_be_written(tmp_path):
    (tmp_path / 'a.txt').touch()
    for path in (tmp_path / 'gone' / 'c.txt', tmp_path / 'a.txt' / 'c.txt'):
        with pytest.raises(OSError) as error, new_file(str(path)):
            pass
        assert error.value.filename == str(path)


def test_a_file_is_replaced_on_request(tmp_path):
    for text in ('old', 'new'):
        with new_file(str(tmp_path / 'a.txt'), replace=True) as file:
            file.write(text)
    assert (tmp_path / 'a.txt').read_text() == 'new'


def test_text_from_a_file_cannot_control_the_screen():
    assert printable('Käfer') == 'Käfer' and printable('a' * 20, 5) == 'aaaaa'
    assert printable('\x1b[2J') == '\\x1b[2J'
