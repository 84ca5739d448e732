"""Values that are given to Settings in Python end as their flags do."""

import dataclasses
import pathlib

import numpy as np
import pytest

import export
import finetune
import make_lists
import predict
from finetune import Settings
from runtime.flags import parse_settings


def flagged(**values):
    """Return the Settings of flags: the command line is the independent source."""
    words = [[f'--{name}', *str(value).split()] for name, value in values.items()]
    return parse_settings(Settings, sum(words, []))


@pytest.mark.parametrize('value', [
    {'optimizer': 'Momentum'}, {'optimizer': 'Adam'}, {'lr_schedule': 'Cosine'},
    {'class_weights': 'Balanced'}, {'precision': 'fp16'}, {'batch_size': 'many'},
    {'batch_size': 0}, {'batch_size': '1e3'}, {'learning_rate': 'nan'}, {'learning_rate': '-1'},
    {'learning_rate': 'inf'}, {'train_layers': 'fc9'}, {'seed': 2**31}, {'dropout_rate': '1'}])
def test_a_value_is_refused_where_its_flag_is(value):
    with pytest.raises(ValueError):
        flagged(**value)
    with pytest.raises(ValueError, match=next(iter(value))):
        Settings(**value)


@pytest.mark.parametrize('value', [
    {'cache_features': False}, {'num_epochs': None}, {'batch_size': 64.0}, {'batch_size': True},
    {'learning_rate': 10**400}, {'learning_rate': True}, {'learning_rate': [0.1]},
    {'train_layers': {'fc8'}}, {'train_layers': [8]}, {'train_layers': None},
    {'train_layers': ['']}, {'skip_broken': 'True'}, {'skip_broken': 1}, {'train_file': b'x'},
    {'train_file': ['x']}, {'num_classes': np.float32(2)}, {'optimizer': ['adam', 'sgd']}])
def test_a_value_that_no_flag_can_have_is_refused(value):
    with pytest.raises(ValueError, match=next(iter(value))):
        Settings(**value)


@pytest.mark.parametrize('value, flags', [
    ({'learning_rate': '0.1'}, {'learning_rate': '0.1'}),
    ({'learning_rate': '1e-3'}, {'learning_rate': '1e-3'}),
    ({'batch_size': ' 32 '}, {'batch_size': '32'}),
    ({'num_classes': 'None'}, {'num_classes': 'None'}),
    ({'train_layers': 'fc6 fc7 fc8'}, {'train_layers': 'fc6 fc7 fc8'}),
    ({'skip_layers': ['None']}, {'skip_layers': 'None'}),
    ({'devices': ['CPU:0', 'CPU:1']}, {'devices': 'CPU:0 CPU:1'})])
def test_a_text_is_what_its_flag_makes_of_it(value, flags):
    assert Settings(**value) == flagged(**flags)


@pytest.mark.parametrize('value, flags', [
    ({'batch_size': np.int64(32)}, {'batch_size': '32'}),
    ({'num_epochs': np.uint8(3)}, {'num_epochs': '3'}),
    ({'learning_rate': np.float64(0.25)}, {'learning_rate': '0.25'}),
    ({'dropout_rate': np.float32(0.25)}, {'dropout_rate': '0.25'}),
    ({'learning_rate': np.int32(1)}, {'learning_rate': '1'}),
    ({'train_file': np.str_('a.txt')}, {'train_file': 'a.txt'}),
    ({'train_file': pathlib.Path('a.txt')}, {'train_file': 'a.txt'}),
    ({'train_layers': np.array(['fc7', 'fc8'])}, {'train_layers': 'fc7 fc8'})])
def test_values_of_numpy_and_pathlib_are_plain(value, flags):
    settings = Settings(**value)
    assert settings == flagged(**flags)
    [name] = value
    assert type(getattr(settings, name)) is type(getattr(flagged(**flags), name))
    assert Settings(skip_broken=np.True_).skip_broken is True


def test_lists_and_single_words_are_tuples():
    assert Settings(train_layers=['fc8', 'fc7']).train_layers == ('fc8', 'fc7')
    assert Settings(train_layers='fc8').train_layers == ('fc8',)
    assert predict.Settings('run', [pathlib.Path('a b.jpg'), 'c']).inputs == ('a b.jpg', 'c')


def test_every_wrong_value_is_named_in_one_line():
    with pytest.raises(ValueError) as caught:
        Settings(optimizer='Adam', num_epochs=None, train_layers='fc9', run_dir='')
    assert str(caught.value).count('\n') == 0
    for name in ('optimizer', 'num_epochs', 'train_layers', 'run_dir'):
        assert name in str(caught.value)


@pytest.mark.parametrize('settings, values, name', [
    (predict.Settings, {'run': 'r', 'inputs': 'x', 'top': 0}, 'top'),
    (predict.Settings, {'run': 'r', 'inputs': (), 'top': 1}, 'inputs'),
    (predict.Settings, {'run': 'r', 'inputs': 'x', 'precision': 'fp16'}, 'precision'),
    (export.Settings, {'run': None}, 'run'), (export.Settings, {'run': 'r', 'tflite': 3}, 'tflite'),
    (make_lists.Settings, {'folder': 'f', 'val': 1}, 'val'),
    (make_lists.Settings, {'folder': 'f', 'force': 'yes'}, 'force')])
def test_other_commands_check_their_values_too(settings, values, name):
    with pytest.raises(ValueError, match=f'^{name} '):
        settings(**values)


def test_a_changed_copy_is_checked_too():
    with pytest.raises(ValueError, match='optimizer'):
        dataclasses.replace(finetune.Settings(), optimizer='Adam')
