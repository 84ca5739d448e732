"""Class names. NFC and NFD are written as code points from the Unicode standard, not computed."""

import itertools
import subprocess

import pytest

from inputs.class_names import read_class_names, read_list_class_names, show_classes, sort_classes

# (decomposed as macOS writes it, composed): UnicodeData.txt; the syllable by section 3.12.
FORMS = [('Ka\u0308fer', 'K\u00e4fer'), ('Cho\u0301', 'Ch\u00f3'), ('\u30ab\u3099', '\u30ac'),
         ('\u1100\u1161\u11bc', '\uac15'), ('\u212bngstrom', '\u00c5ngstrom')]
# Letters that real names need: joiners, blanks, marks of direction, a flag, a private letter.
LETTERS = ['\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645', '\u0915\u094d\u200d\u0937',
           '\U0001f468\u200d\U0001f469\u200d\U0001f467', 'a\u00a0b', 'a\u3000b', 'a\u202fb',
           '\u05d0\u200e(1)', 'soft\u00adhyphen', '\U0001f3f4\U000e0067\U000e007f', '\uf8ff',
           '\U000378ff']


def write_names(folder, content):
    """Write labels.txt from text, in which surrogates stand for bytes; return its path."""
    (folder / 'labels.txt').write_bytes(content.encode('utf-8', 'surrogateescape'))
    return str(folder / 'labels.txt')


def test_class_names(tmp_path):
    path = write_names(tmp_path, '\ufeffred ant\r\nbee\r\n\r\n')
    assert read_class_names(path) == ['red ant', 'bee']


@pytest.mark.parametrize('content, message', [
    ('', 'no class name'), ('a\nb\na\n', 'a more than once'), ('a\n\nb\n', ':2: no name'),
    ('a\nK\udce4fer\n', ':2: the name is not UTF-8'),
    ('a\n\u00a0\nb\n', ':2: no name')])
def test_wrong_class_names_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_class_names(write_names(tmp_path, content))


@pytest.mark.parametrize('line', ['0\tants', 'ants\t0', 'ants\tbees'])
def test_a_tab_in_a_class_name_is_named(tmp_path, line):
    path = write_names(tmp_path, f'wasps\n{line}\n')
    with pytest.raises(ValueError) as error:
        read_class_names(path)
    text = 'a tab in the name: write one name per line, without a number'
    assert str(error.value) == f'{path}:2: {text}'


@pytest.mark.parametrize('code', [0x1b, 0x07, 0x85, 0x9b, 0x2028, 0x202e, 0x2066, 0xfeff])
def test_control_characters_are_named_by_code(tmp_path, code):
    path = write_names(tmp_path, f'ants\nb{chr(code)}ees\n')
    with pytest.raises(ValueError) as error:
        read_class_names(path)
    assert str(error.value) == f'{path}:2: the name holds the control character U+{code:04X}'


def test_letters_of_all_languages_are_legal(tmp_path):
    assert read_class_names(write_names(tmp_path, '\n'.join(LETTERS))) == LETTERS


def test_names_are_read_in_nfc(tmp_path):
    names = [composed for _, composed in FORMS]
    for content in ('\n'.join(apart for apart, _ in FORMS), '\n'.join(names)):
        assert read_class_names(write_names(tmp_path, content)) == names


@pytest.mark.parametrize('apart, composed', FORMS)
def test_lists_have_each_name_in_one_form(tmp_path, apart, composed):
    path = write_names(tmp_path, f'{composed}\nant\n{apart}\n')
    with pytest.raises(ValueError, match=f'{composed} more than once'):
        read_list_class_names(path, None)
    assert read_class_names(path) == [composed, 'ant', apart]  # older runs stay usable


@pytest.mark.parametrize('encoding', ['utf-16-le', 'utf-16-be'])
def test_class_names_in_utf_16_are_named(tmp_path, encoding):
    """As PowerShell's `>` and Notepad's "Unicode" write them."""
    (tmp_path / 'labels.txt').write_bytes('\ufeffants\r\nbees\r\n'.encode(encoding))
    with pytest.raises(ValueError, match='labels.txt is UTF-16 text; save it as UTF-8$'):
        read_class_names(str(tmp_path / 'labels.txt'))


@pytest.mark.parametrize('names, options', [
    (['1', '01', '2', '02', '10', '001'], '-s -k1,1n -k1,1'), (['a', 'B', 'ä', '1', 'a1'], '')])
def test_the_order_of_classes_is_that_of_sort(names, options):
    """In whatever order the names come; the reference is the shell's sort."""
    done = subprocess.run(f'LC_ALL=C sort {options}', input='\n'.join(names), shell=True,
                          capture_output=True, text=True, check=True)
    for shuffled in itertools.permutations(names):
        assert sort_classes(shuffled) == done.stdout.split()


def test_few_classes_are_shown_without_control_characters():
    assert show_classes(['a\u200cb', 'c\x1b[2J']) == 'a\u200cb, c\\x1b[2J'
    assert show_classes([str(n) for n in range(9)]) == '0, 1, 2, 3, 4, ...'
