"""The legal values of settings: conversion, checks and their messages.

A field is one of a dataclass of settings, as runtime.flags declares them.
"""

import os
import re
import sys
import typing

# s3://bucket/x, and s3:/bucket/x, which pathlib makes of it. A single letter is a Windows drive.
ADDRESS = re.compile(r'[A-Za-z][\w+.@-]+:/')
NONE = (None, 'None', ['None'], ('None',))


def value_type(field):
    """Return (type of a setting's value, whether None is legal too)."""
    kinds = typing.get_args(field.type)
    if type(None) not in kinds:
        return field.type, False
    return next(kind for kind in kinds if kind is not type(None)), True


def legal_value(field, value):
    """Return a setting's value, converted to its type; raise ValueError if it is not legal."""
    kind, optional = value_type(field)
    value = plain_value(value, kind)
    if optional and value in NONE:
        return None
    if typing.get_origin(kind) is tuple:
        return legal_words(field, value)
    if typing.get_origin(kind) is typing.Literal:
        legal = value in typing.get_args(kind) and isinstance(value, str)
    elif kind is float:
        legal = (isinstance(value, (int, float)) and not isinstance(value, bool)
                 and abs(value) <= sys.float_info.max)
    else:
        legal = type(value) is kind
    if not legal or not is_within(value, field.metadata['limits']):
        text = repr(value) if kind is bool else shown(value)  # 'True' is not True
        raise ValueError(f'{field.name} {text} is not {describe_legal(field)}')
    if kind is str:
        return legal_text(field, value)
    return float(value) if kind is float else value


def plain_value(value, kind=str):
    """Return a value of NumPy, a path object, or a number in text as the plain Python value."""
    if hasattr(value, 'tolist'):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            return value
    return value


def legal_words(field, value):
    """Return a setting's several words as a tuple; raise ValueError if one is not legal."""
    words = (value,) if isinstance(value, str) else value
    if isinstance(words, (tuple, list)):
        words = [plain_value(word) for word in words]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f'{field.name} {shown(value)} is not words, such as {example(field)}')
    words = [legal_text(field, word) for word in words]
    if choices := field.metadata['choices']:
        words = ' '.join(words).split()
        if unknown := [word for word in words if word not in choices]:
            raise ValueError(f'{field.name} {shown(" ".join(unknown))} is not one of '
                             f'{" ".join(choices)}, blanks between')
    if not words and not value_type(field)[1]:
        raise ValueError(f'{field.name} names nothing')
    return tuple(words)


def legal_text(field, text):
    """Return the text of a setting, `~` expanded in a path; raise ValueError if it is not legal."""
    name, is_path = field.name, field.metadata['is_path']
    if not text.strip():
        raise ValueError(f'{name} is empty: leave it out, or give it a value; a shell variable '
                         'that is not set has none')
    if '\0' in text:
        raise ValueError(f'{name} {shown(text)} holds a zero byte')
    if is_path and text == 'None' and 'positional' not in field.metadata:
        raise ValueError(f'{name} cannot be None; a file of this name is ./None')
    return local_path(name, text) if is_path else text


def local_path(name, path):
    """Return the path in a setting with `~` expanded, as a shell does.

    Raises ValueError for addresses such as s3://bucket/x, and for an unknown home folder.
    """
    if ADDRESS.match(path):
        raise ValueError(f'{name} {shown(path)} is an address, and only files and folders of this '
                         'machine can be used: copy or mount it, and name its path')
    expanded, home = os.path.expanduser(path), path.split('/')[0]
    if expanded.startswith('~') and not os.path.lexists(home):
        raise ValueError(f'{name} {shown(path)}: {shown(home)} is no home folder; a name that '
                         'begins with ~ is written ./~')
    return expanded


def is_within(value, limits):
    """Return whether a number is within a setting's limits; True for other values."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return True
    return (('low' not in limits or value >= limits['low'])
            and ('high' not in limits or value <= limits['high'])
            and ('above' not in limits or value > limits['above'])
            and ('below' not in limits or value < limits['below']))


def describe_legal(field):
    """Return the legal values of a setting in words: 'a number, 0 to below 1, or None'."""
    kind, optional = value_type(field)
    if typing.get_origin(kind) is typing.Literal:
        text = f'one of {", ".join(typing.get_args(kind))}'
    else:
        name = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'text'}[kind]
        name = 'a path' if field.metadata['is_path'] else name
        limits = describe_limits(field)
        text = f'{name}, {limits}' if limits else name
    return f'{text}, or None' if optional else text


def describe_limits(field):
    """Return the legal range of a setting in words, '0 to below 1'; '' without limits."""
    limits = field.metadata['limits']
    start = f'{limits["low"]}' if 'low' in limits else ''
    start = f'above {limits["above"]}' if 'above' in limits else start
    if 'below' in limits:
        return f'{start} to below {limits["below"]}' if start else f'below {limits["below"]}'
    if 'high' in limits:
        return f'{start} to {limits["high"]}' if start else f'at most {limits["high"]}'
    return start if 'above' in limits or not start else f'{start} or more'


def shown(value):
    """Return a wrong value as a message shows it: plain text as it is, other values by repr."""
    is_plain = isinstance(value, str) and value.isprintable() and value.strip()
    return value if is_plain else repr(value)[:200]


def example(field):
    """Return an example value of a setting of several words."""
    return ' '.join(field.metadata['choices'][-2:]) if field.metadata['choices'] else 'a b'
