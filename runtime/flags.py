"""Settings: dataclasses whose fields are flags, checked alike on the command line and in a script.

    @dataclasses.dataclass(frozen=True)
    class Settings(CheckedSettings):
        dropout_rate: float = flag(0.5, 'fraction of outputs dropped', low=0, below=1)

declares the setting `dropout_rate`, its flag `--dropout_rate`, its line of `--help`, its legal
range, and the message about a value outside of it.
"""

import argparse
import dataclasses
import difflib
import shlex
import typing
from collections.abc import Sequence
from typing import Any

from runtime.legal_values import describe_limits, legal_value, value_type


def flag(default: Any, help: str, *, low=None, high=None, above=None, below=None,
         choices: Sequence[str] | None = None, group: str | None = None,
         is_path: bool = False) -> Any:
    """Return a dataclass field for a setting with a default and a help text.

    low, high: smallest and largest legal number.
    above, below: limits that are not legal themselves.
    choices: legal words of a setting of several words.
    group: title of the `--help` group that begins with this setting.
    is_path: the text names a file or folder of this machine: `~` is expanded, addresses refused.
    """
    limits = {'low': low, 'high': high, 'above': above, 'below': below}
    return dataclasses.field(default=default, metadata={
        'help': help, 'group': group, 'choices': choices, 'is_path': is_path,
        'limits': {name: limit for name, limit in limits.items() if limit is not None}})


def positional(help: str, default: Any = dataclasses.MISSING, *, is_path: bool = False) -> Any:
    """Return a dataclass field for a positional argument; optional if it has a default."""
    return dataclasses.field(default=default, metadata={
        'help': help, 'group': None, 'choices': None, 'limits': {}, 'is_path': is_path,
        'positional': True})


class CheckedSettings:
    """Base of a frozen dataclass of settings: no instance has a value that its flag would refuse.

    A list of words or a single word becomes a tuple, a path object text, NumPy's values Python's,
    and text becomes what its flag makes of it.
    Raises ValueError naming every setting whose value is not legal.
    """

    def __post_init__(self):
        errors = []
        for field in dataclasses.fields(self):
            try:
                value = legal_value(field, getattr(self, field.name))
                object.__setattr__(self, field.name, value)
            except ValueError as error:
                errors.append(str(error))
        if errors:
            raise ValueError('; '.join(errors))


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, which raises ValueError for a wrong flag: one report for all errors."""

    def error(self, message):
        """Raise ValueError instead of ending the process."""
        raise ValueError(f'{message} (--help lists the flags)')


def parse_settings(settings_class: type, arguments: Sequence[str],
                   defaults: dict[str, Any] | None = None) -> Any:
    """Return an instance of a dataclass of settings, whose fields the arguments set.

    `name: T = flag(default, help)` is set by `--name`; T is str, int, float, bool (`--name`,
    `--no-name`), tuple[str, ...] (several words), Literal[...] (one of its words), or one of these
    `| None` (the word None). `name: T = positional(help)` is set by a positional argument; T is
    str, str | None, or tuple[str, ...]. defaults: {name: value} in place of the class's defaults.
    Raises ValueError for unknown flags and for values that are not legal.
    """
    parser = ArgumentParser(description=settings_class.__doc__, allow_abbrev=False)
    target = parser
    for field in dataclasses.fields(settings_class):
        if field.metadata['group']:
            target = parser.add_argument_group(field.metadata['group'])
        add_argument(target, field)
    parser.set_defaults(**(defaults or {}))
    parsed, unknown = parser.parse_known_args(arguments)
    values = vars(parsed)
    if unknown:
        flags = [f'--{name}' for name in values]
        near = difflib.get_close_matches(unknown[0].split('=')[0], flags, 1)
        hint = f'; did you mean {near[0]}?' if near else ''
        parser.error(f'unrecognized arguments: {" ".join(unknown)}{hint}')
    return settings_class(**values)


def add_argument(parser, field):
    """Add the argument of one setting to an argparse parser or group."""
    kind, optional = value_type(field)
    help = field.metadata['help'].replace('%', '%%')
    if field.metadata.get('positional'):
        if field.default is not dataclasses.MISSING:
            parser.add_argument(field.name, nargs='?', default=field.default, help=help)
        else:
            parser.add_argument(field.name, nargs=None if kind is str else '+', help=help)
        return
    default = ' '.join(field.default) if isinstance(field.default, tuple) else field.default
    legal = describe_limits(field)
    help = f'{help}; {legal} [{default}]' if legal else f'{help} [{default}]'
    options = {'default': field.default, 'help': help}
    if kind is bool:
        options['action'] = argparse.BooleanOptionalAction
    elif typing.get_origin(kind) is typing.Literal:
        words = typing.get_args(kind)
        options['choices'] = (*words, 'None') if optional else words
    elif typing.get_origin(kind) is tuple:
        options.update(nargs='*' if optional else '+', metavar='NAME')
    else:
        options.update(type=converter(kind, optional), metavar=kind.__name__.upper())
    parser.add_argument(f'--{field.name}', **options)


def converter(kind, optional):
    """Return the function by which argparse reads a value of this type, or the word None."""
    def convert(text):
        return None if optional and text == 'None' else kind(text)
    convert.__name__ = kind.__name__  # argparse names it in "invalid float value: 'x'"
    return convert


def flag_text(value: Any) -> str:
    """Return the value of a setting as its flag spells it."""
    return ' '.join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def flag_words(name: str, value: Any) -> list[str]:
    """Return the words of a command line that parse_settings reads as this value of a setting."""
    if isinstance(value, bool):
        return [f'--{name}' if value else f'--no-{name}']
    return [f'--{name}', *(value if isinstance(value, (tuple, list)) else [flag_text(value)])]


def command_line(script: str, settings: CheckedSettings) -> str:
    """Return the shell command `python script ...` that parse_settings reads as these settings."""
    words = ['python', script]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        words += flag_words(field.name, value) if value != field.default else []
    return shlex.join(words)
