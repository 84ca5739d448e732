"""Text on the screen. Which letters reorder others: Unicode Standard Annex 9, section 2."""

import pytest

from runtime.files import printable


def test_control_characters_are_escaped_one_by_one():
    assert printable('Käfer\n\x1b[2J\x9b\udcff\u2028.png') == r'Käfer\n\x1b[2J\x9b\udcff\u2028.png'
    assert printable('C:\\new\t') == r'C:\new\t'


@pytest.mark.parametrize('code', [*range(0x202a, 0x202f), *range(0x2066, 0x206a), 0xfeff])
def test_letters_that_reorder_others_are_escaped(code):
    assert printable(f'a{chr(code)}gpj.exe') == f'a\\u{code:04x}gpj.exe'


@pytest.mark.parametrize('letter', ['\u200c', '\u200d', '\u00a0', '\u3000', '\U000e0067'])
def test_harmless_letters_are_shown(letter):
    assert printable(f'a{letter}b') == f'a{letter}b'


def test_text_is_cut_to_the_limit():
    assert printable('abc' * 9, 4) == 'abca' and printable('\n' * 9, 2) == r'\n\n'
