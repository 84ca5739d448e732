"""What a resumed run keeps, what it may change, and what is refused."""

import contextlib
import dataclasses
import json
import os

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import finetune
import predict
from finetune import Settings
from run_folder.checkpoint_files import Progress
from run_folder.folder import RunFolder
from run_folder.resume import parse_run_settings, read_resume_state
from runtime.tf1 import tf
from tests.helpers import (
    one_error_line,
    outcome,
    read_checkpoint_name,
    read_csv,
    read_values,
    run_main,
    write_list,
)
from training.workers import SingleWorker

CLASS_NAMES = ['ant', 'bee', 'owl']


@pytest.fixture
def begun(tmp_path):
    """(folder of a run without checkpoints, its stored settings)."""
    settings = Settings(
        train_layers=('fc7', 'fc8'), batch_size=7, num_classes=3, architecture='alexnet')
    stored = {**dataclasses.asdict(settings), 'image_mean': [104.0, 117.0, 124.0],
              'scale_size': [227, 227], 'train_images': 12, 'val_images': 12}
    with RunFolder(str(tmp_path / 'run')) as folder:
        folder.write(stored, CLASS_NAMES)
    return folder.path, stored


def change_stored(run_dir, change):
    """Replace the settings of a run by what `change` makes of them."""
    path = os.path.join(run_dir, 'settings.json')
    with open(path) as file:
        settings = json.load(file)
    with open(path, 'w') as file:
        json.dump(change(settings), file)


@pytest.mark.parametrize('flag', ['--resume', '--run_dir'])
def test_the_settings_of_the_run_apply_and_flags_change_them(begun, flag):
    settings = parse_run_settings(Settings, [flag, begun[0], '--num_epochs', '5'])
    assert settings == Settings(train_layers=('fc7', 'fc8'), batch_size=7, num_classes=3,
                                architecture='alexnet', num_epochs=5, run_dir=begun[0])


def test_devices_belong_to_the_machine(begun):
    change_stored(begun[0], lambda settings: {**settings, 'devices': ['GPU:6', 'GPU:7']})
    assert parse_run_settings(Settings, ['--resume', begun[0]]).devices is None


def test_settings_keep_their_value_under_a_name_of_before(begun):
    def rename(settings):
        settings['pretrained_lr_share'] = settings.pop('pretrained_lr_mult') + 0.25
        return settings
    change_stored(begun[0], rename)
    settings = parse_run_settings(Settings, ['--resume', begun[0]])
    assert settings.pretrained_lr_mult == 0.25 + Settings().pretrained_lr_mult


def test_a_run_without_a_checkpoint_starts_anew(begun):
    with RunFolder(begun[0], must_exist=True) as folder:
        progress, rows = read_resume_state(SingleWorker(), folder, begun[1], CLASS_NAMES)
    assert progress == Progress() and rows == []


@pytest.mark.parametrize('random_crop', [False, True])
def test_a_run_of_before_there_were_views_saw_whole_pictures(begun, random_crop):
    def make_older(settings):
        del settings['views']
        return {**settings, 'random_crop': random_crop}
    change_stored(begun[0], make_older)
    settings = parse_run_settings(Settings, ['--resume', begun[0]])
    stored = {**begun[1], 'views': settings.views}
    with RunFolder(begun[0]) as folder:
        if random_crop:
            with pytest.raises(ValueError, match='random_crop was on, and there are views in its'):
                read_resume_state(SingleWorker(), folder, stored, CLASS_NAMES)
        else:
            assert read_resume_state(SingleWorker(), folder, stored, CLASS_NAMES)[1] == []


@pytest.mark.parametrize('changed, class_names, named', [
    ({'batch_size': 64, 'seed': 7, 'views': 'crops', 'horizontal_flip': False}, CLASS_NAMES,
     'batch_size was 7, not 64; seed was 0, not 7; views was whole, not crops; '
     'horizontal_flip was True, not False. Name another'),
    ({'precision': 'bfloat16'}, CLASS_NAMES, 'precision was float32, not bfloat16'),
    ({}, ['ant', 'owl', 'bee'], 'the classes are not those of its labels.txt')])
def test_another_run_is_refused(begun, changed, class_names, named):
    stored = {**begun[1], **changed}
    with (RunFolder(begun[0]) as folder, pytest.raises(ValueError, match=named)):
        read_resume_state(SingleWorker(), folder, stored, class_names)


def test_no_folder_no_run(tmp_path, capsys):
    status, _, shown = run_main(finetune.main, ['--resume', tmp_path / 'none'], capsys)
    assert status == 2 and 'nothing to resume' in one_error_line(shown)


@pytest.mark.slow
def test_a_finished_run_takes_more_epochs(resumable_flags, run_dir, tmp_path, capsys):
    """Without any, it writes its report again. At the end, it is the run of 4 epochs."""
    flags = [*resumable_flags, '--lr_schedule', 'constant']
    assert run_main(finetune.main, [*flags, '--run_dir', run_dir, '--num_epochs', '2'],
                    capsys)[0] == 0
    os.remove(f'{run_dir}/report.html')
    status, out, _ = run_main(finetune.main, ['--run_dir', run_dir], capsys)
    assert status == 0 and out.splitlines()[-1].startswith('best val_accuracy ')
    assert os.path.exists(f'{run_dir}/report.html')
    assert run_main(finetune.main, ['--resume', run_dir, '--num_epochs', '4'], capsys)[0] == 0
    images = EventAccumulator(run_dir, {'images': 0}).Reload().Images('images/first_batch')
    assert [event.step for event in images] == [0, 8, 8]
    finetune.main([*flags, '--run_dir', str(tmp_path / 'whole')])
    assert outcome(run_dir) == outcome(tmp_path / 'whole')


@pytest.mark.slow
@pytest.mark.parametrize('changed, named', [
    (['--batch_size', '4'], 'batch_size was 3, not 4'),
    (['--train_layers', 'fc7', 'fc8'], 'train_layers was fc8, not fc7 fc8'),
    (['--optimizer', 'sgd', '--seed', '7'], 'optimizer was adam, not sgd; seed was 0, not 7'),
    (['--weights_path', 'none'], 'weights_path was '),
    (['--train_file', 'OTHER'], 'train_images was 12, not 11'),
    (['--num_classes', '4'], 'num_classes was 3, not 4'),
    (['--run_dir', 'other'], 'run_dir other: a run is resumed in its own folder')])
def test_what_makes_another_run_is_refused_and_changes_nothing(
        undisturbed, resumable_lists, capsys, changed, named):
    settings_file = undisturbed / 'settings.json'
    before = outcome(undisturbed), settings_file.read_text()
    other = write_list(resumable_lists / 'other.txt',
                       [f'train/{n:02d}.png {n % 3}' for n in range(11)])
    flags = [other if word == 'OTHER' else word for word in changed]
    status, _, shown = run_main(finetune.main, ['--resume', undisturbed, *flags], capsys)
    assert status == 2 and named in one_error_line(shown)
    assert (outcome(undisturbed), settings_file.read_text()) == before


@contextlib.contextmanager
def moved_away(path):
    """Move a file away during a block."""
    os.rename(path, f'{path}.away')
    try:
        yield
    finally:
        os.rename(f'{path}.away', path)


@pytest.mark.slow
def test_a_finished_run_needs_no_weight_file(undisturbed, all_weights_file, capsys):
    with moved_away(all_weights_file):
        assert run_main(finetune.main, ['--resume', undisturbed], capsys)[0] == 0


def add_variables(prefix, extra):
    """Write a checkpoint again, with more variables in it."""
    values = {**read_values(prefix), **extra}
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = [tf.placeholder(value.dtype, value.shape) for value in values.values()]
        save = tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(values),
                                 shape_and_slices=[''] * len(values), tensors=tensors)
        session.run(save, dict(zip(tensors, values.values(), strict=True)))


def make_older(run_dir):
    """Turn a run folder into that of an older version.

    Runs could be made in a dual form of fc6, whose settings and variables are ignored today;
    pretrained_lr_mult was called pretrained_lr_share.
    """
    def change(settings):
        settings['pretrained_lr_share'] = settings.pop('pretrained_lr_mult')
        return {**settings, 'dual_fc6': 'auto', 'is_dual': True}
    change_stored(run_dir, change)
    rows, folder = np.ones((12, 8), np.float32), os.path.join(run_dir, 'checkpoints')
    add_variables(f'{folder}/frozen', {'fc6/fingerprints': rows, 'fc6/first_weights': rows})
    for kind in ('best', 'last'):
        add_variables(os.path.join(folder, read_checkpoint_name(run_dir, kind)),
                      {'fc6/coefficients': rows})


@pytest.mark.slow
def test_a_run_of_an_older_version_predicts_and_resumes(
        resumable_flags, resumable_lists, run_dir, capsys):
    flags = [*resumable_flags, '--lr_schedule', 'constant', '--run_dir', run_dir]
    assert run_main(finetune.main, [*flags, '--num_epochs', '2'], capsys)[0] == 0
    make_older(run_dir)
    status, out, _ = run_main(
        predict.main, [run_dir, resumable_lists / 'val.txt', '--checkpoint', 'last'], capsys)
    accuracy = float(read_csv(f'{run_dir}/metrics.csv')[-1]['val_accuracy'])
    assert status == 0 and f'accuracy       {accuracy:.4f}' in out
    assert run_main(finetune.main, ['--resume', run_dir, '--num_epochs', '4'], capsys)[0] == 0
    assert [row['epoch'] for row in read_csv(f'{run_dir}/metrics.csv')] == ['1', '2', '3', '4']
