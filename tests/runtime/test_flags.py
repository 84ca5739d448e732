import dataclasses
import os
import pathlib
import shlex
from typing import Literal

import pytest

from runtime.flags import CheckedSettings, command_line, flag, parse_settings, positional


@dataclasses.dataclass(frozen=True)
class Example(CheckedSettings):
    """An example."""

    rate: float = flag(0.5, 'a fraction, 0 to 100 %')
    count: int | None = flag(None, 'how many')
    names: tuple[str, ...] = flag(('a', 'b'), 'what they are called')
    others: tuple[str, ...] | None = flag(None, 'or none')
    mirror: bool = flag(False, 'yes or no')
    shown: bool = flag(True, 'no or yes')


def test_without_flags_the_defaults_apply():
    assert parse_settings(Example, []) == Example()


@pytest.mark.parametrize('settings', [
    Example(), Example(2.5, 3, ('x y', "it's"), ('q',), True),
    Example(others=('a',), shown=False)])
def test_a_command_line_reads_back_as_the_settings(settings):
    words = shlex.split(command_line('finetune.py', settings))
    assert words[:2] == ['python', 'finetune.py'] and parse_settings(Example, words[2:]) == settings


def test_each_flag_sets_the_field_of_its_name():
    words = '--rate 2 --count 3 --names x y z --others q --mirror'.split()
    assert parse_settings(Example, words) == Example(2.0, 3, ('x', 'y', 'z'), ('q',), True)


def test_none_and_no_take_a_value_back():
    words = '--count None --others None --no-mirror'.split()
    assert parse_settings(Example, words) == Example()


@pytest.mark.parametrize('words, named', [
    ('--size 3', '--size'), ('--rate fast', "invalid float value: 'fast'"),
    ('--count 1.5', 'invalid int'), ('--rat 3', '--rat 3; did you mean --rate?'),
    ('--mirr=1', 'mean --mirror'), ('--names', '--names'), ('stray', 'stray')])
def test_wrong_flags_are_value_errors_that_name_them(words, named):
    with pytest.raises(ValueError, match=named):
        parse_settings(Example, words.split())


def test_help_shows_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parse_settings(Example, ['--help'])
    shown = capsys.readouterr().out
    assert 'a fraction, 0 to 100 % [0.5]' in shown and '--no-mirror' in shown
    assert 'what they are called [a b]' in shown


def test_none_is_a_word_where_no_value_is_not_allowed():
    assert parse_settings(Example, ['--names', 'None']).names == ('None',)


@dataclasses.dataclass(frozen=True)
class Placed(CheckedSettings):
    """Positional arguments."""

    source: str = positional('where from, all of 100 %')
    targets: tuple[str, ...] = positional('where to')
    depth: int = flag(1, 'how deep')


def test_positional_arguments_have_a_place_and_are_required(capsys):
    assert parse_settings(Placed, '--depth 2 a b c'.split()) == Placed('a', ('b', 'c'), 2)
    assert parse_settings(Placed, 'a --depth 2 None'.split()) == Placed('a', ('None',), 2)
    with pytest.raises(ValueError, match='required: targets'):
        parse_settings(Placed, ['a'])
    with pytest.raises(SystemExit):
        parse_settings(Placed, ['--help'])
    assert 'where from, all of 100 %' in capsys.readouterr().out


@dataclasses.dataclass(frozen=True)
class Optional(CheckedSettings):
    """A positional argument that may be left out."""

    source: str = positional('where from')
    target: str | None = positional('where to', default=None)


def test_a_positional_argument_with_a_default_may_be_left_out():
    assert parse_settings(Optional, ['a']) == Optional('a', None)
    assert parse_settings(Optional, ['a', 'b']) == Optional('a', 'b')
    with pytest.raises(ValueError, match='unrecognized arguments: c'):
        parse_settings(Optional, ['a', 'b', 'c'])


@dataclasses.dataclass(frozen=True)
class Limited(CheckedSettings):
    """Settings with limits."""

    rate: float = flag(0.5, 'how fast', above=0, high=1, group='Numbers')
    dropped: float = flag(0.5, 'how much', low=0, below=1)
    count: int | None = flag(None, 'how many', low=1)
    kind: Literal['adam', 'sgd'] = flag('adam', 'which one', group='Words')
    layers: tuple[str, ...] = flag(('fc7', 'fc8'), 'which layers', choices=('fc6', 'fc7', 'fc8'))
    mirror: bool = flag(True, 'yes or no')
    path: str = flag('a.txt', 'where')


@pytest.mark.parametrize('value, message', [
    ({'rate': 0}, 'rate 0 is not a number, above 0 to 1'), ({'rate': 1.5}, 'above 0 to 1'),
    ({'rate': float('nan')}, 'rate nan'), ({'rate': 'fast'}, 'rate fast is not a number'),
    ({'rate': True}, 'rate True'), ({'dropped': 1}, 'dropped 1 is not a number, 0 to below 1'),
    ({'dropped': float('inf')}, 'dropped inf'),
    ({'count': 0}, 'a whole number, 1 or more, or None'), ({'count': True}, 'count True'),
    ({'count': 2.0}, 'count 2.0 is not a whole number'),
    ({'kind': 'Adam'}, 'kind Adam is not one of adam, sgd'), ({'kind': False}, 'kind False'),
    ({'kind': None}, 'kind None'), ({'layers': 'fc9'}, 'layers fc9 is not one of fc6 fc7 fc8'),
    ({'layers': 7}, 'layers 7 is not words'), ({'layers': ()}, 'layers names nothing'),
    ({'mirror': 1}, 'mirror 1 is not True or False'), ({'path': None}, 'path None is not text'),
    ({'rate': 2, 'kind': 'x'}, '^rate 2 .*; kind x ')])
def test_values_in_the_file_are_checked_as_flags_are(value, message):
    with pytest.raises(ValueError, match=message):
        Limited(**value)


def test_a_list_or_one_word_becomes_a_tuple():
    assert Limited(layers=['fc8', 'fc7']).layers == ('fc8', 'fc7')
    assert Limited(layers='fc8').layers == ('fc8',)
    assert Limited(rate=1).rate == 1.0 and type(Limited(rate=1).rate) is float
    assert Limited(path=pathlib.Path('a') / 'b').path == os.path.join('a', 'b')


def test_flags_have_the_same_limits(capsys):
    for words in ('--rate 0', '--dropped 1', '--count 0', '--kind Adam', '--layers fc9'):
        with pytest.raises(ValueError, match=words.split()[1]):
            parse_settings(Limited, words.split())


def test_help_has_the_groups_and_limits_of_the_file(capsys):
    with pytest.raises(SystemExit):
        parse_settings(Limited, ['--help'])
    shown = capsys.readouterr().out
    positions = [shown.index(text) for text in
                 ('Numbers:', 'how fast; above 0 to 1 [0.5]', 'Words:', 'which one [adam]')]
    assert positions == sorted(positions)
    assert 'how many; 1 or more [None]' in shown
