"""Wrong settings, lists and images: one line, exit status 2, and nothing written."""

import os

import numpy as np
import pytest

import finetune
from inputs.checks import find_broken
from inputs.class_names import read_class_names
from inputs.images import load_image
from inputs.lists import read_list
from tests.helpers import ROOT, png_file, run_main, write_list


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    """Let relative paths lead to an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('flags, named', [
    (['--train_file', 'missing.txt'], 'missing.txt'),
    (['--labels_file', 'missing.txt'], 'missing.txt'),
    (['--weights_path', 'missing.npy'], 'weights_path missing.npy: no such file'),
    (['--train_layers', 'fc8', 'conv10'], 'train_layers conv10 is not one of conv1 conv2'),
    (['--train_layers', 'fc8', '--skip_layers', 'fc7'], 'skip_layers'),
    (['--train_layers', 'fc8'], 'fc6 is missing; fc7 is missing'),
    (['--num_classes', '3'], 'num_classes 3, but'),
    (['--learning_rate', '0', '--batch_size', '0', '--dropout_rate', '1'],
     'dropout_rate 1.0 is not a number, 0 to below 1; learning_rate 0.0 is not a number, above 0; '
     'batch_size 0 is not a whole number, 1 or more'),
    pytest.param(['--cache_dir', os.path.join(ROOT, 'README.md')],
                 'README.md is no folder that can be written to', marks=pytest.mark.slow),
    (['--num_epochs', 'many'], "invalid int value: 'many'"),
    (['--lerning_rate', '1'], '--lerning_rate')])
def test_bad_settings_get_one_line_and_write_nothing(small_flags, tmp_path, capsys, flags, named):
    status, _, shown = run_main(
        finetune.main, [*small_flags, '--run_dir', 'run', *flags], capsys)
    assert status == 2 and named in shown
    assert shown.startswith('error: ') and shown.count('\n') == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('line, named, lines', [
    ('0.png 2', ':2: label 2, but there are 2 classes', 1),
    ('gone.png 1', ':2: ', 2),  # the second line is about skip_broken
    ('0.png wasp', 'label "wasp"', 1),
    ('labels.txt 0', 'not a JPEG', 2),
    ('0.png', 'needs an image path, a blank and a label', 1)])
def test_bad_lines_are_named_before_anything_is_written(
        small_flags, dark_and_bright, tmp_path, capsys, line, named, lines):
    bad = write_list(dark_and_bright / 'bad.txt', ['1.png 1', line])
    status, _, shown = run_main(
        finetune.main, [*small_flags, '--train_file', bad, '--run_dir', 'run'], capsys)
    assert status == 2 and f'{bad}:2: ' in shown and named in shown
    assert shown.count('\n') == lines and ('\nskip_broken leaves out' in shown) == (lines == 2)
    assert os.listdir(tmp_path) == []


@pytest.fixture
def broken_flags(small_flags, dark_and_bright, tmp_path):
    """Flags of one epoch on 5 whole images and 3 broken ones; decoding alone finds short.png."""
    whole = (dark_and_bright / '0.png').read_bytes()
    (tmp_path / 'cut.png').write_bytes(whole[:200])
    (tmp_path / 'short.png').write_bytes(png_file(60, 60))
    images = [f'{dark_and_bright / str(n)}.png {n % 2}' for n in range(5)]
    broken = write_list(tmp_path / 'broken.txt',
                        [*images, 'gone.png 0', 'cut.png 1', 'short.png 1'])
    return [*small_flags, '--train_file', broken, '--cache_dir', 'cache', '--run_dir', 'run',
            '--num_epochs', 1, '--labels_file', dark_and_bright / 'labels.txt']


def test_broken_images_are_named_by_line(broken_flags, tmp_path, capsys):
    status, _, shown = run_main(finetune.main, broken_flags, capsys)
    lines = [line.removeprefix('error: ') for line in shown.splitlines()]
    assert status == 2 and not os.path.exists('run')
    assert lines[:-1] == [
        f'{tmp_path}/broken.txt:6: {tmp_path}/gone.png: No such file or directory',
        f'{tmp_path}/broken.txt:7: {tmp_path}/cut.png: the PNG file is cut off']
    assert lines[-1].startswith('skip_broken leaves out')


@pytest.mark.slow
@pytest.mark.parametrize('cache_features', ['on', 'off'])
def test_broken_images_are_left_out_on_request(broken_flags, run_dir, capsys, cache_features):
    flags = [*broken_flags, '--cache_features', cache_features, '--skip_broken']
    status, _, shown = run_main(finetune.main, flags, capsys)
    assert status == 0 and 'skip_broken: 3 images' in shown
    assert 'gone.png: No such file' in shown and 'cut.png: the PNG file is cut off' in shown
    assert 'short.png: Pillow' in shown


@pytest.mark.slow
def test_images_are_left_out_before_steps_are_counted(
        dark_and_bright, small_run, tmp_path, capsys):
    """Of 6 images, 5 are left, which are one step: epoch 2 starts half-way down the cosine.

    With 2 steps per epoch, it would start at a quarter.
    """
    for part in ('train', 'val'):
        (tmp_path / f'{part}.png').write_bytes(png_file(60, 60))
        images = [f'{dark_and_bright}/{n}.png {n % 2}' for n in range(5)]
        write_list(tmp_path / f'{part}.txt', [*images, f'{part}.png 1'])
    changes = {'train_file': str(tmp_path / 'train.txt'), 'val_file': str(tmp_path / 'val.txt'),
               'views': 'crops'}
    with pytest.raises(ValueError, match=r'(?s)train.txt:6: .*train.png: Pillow.*'
                                         r'val.txt:6: .*val.png: Pillow'):
        small_run(**changes)
    rows = small_run(**changes, skip_broken=True, num_epochs=2, batch_size=5,
                     lr_schedule='cosine', learning_rate=1e-4)
    shown = capsys.readouterr().err
    assert 'val.png: Pillow' in shown and 'train.png: Pillow' in shown
    rates = [row['learning_rate'] for row in rows]
    np.testing.assert_allclose(rates, [1e-4, 0.5e-4], rtol=1e-5)


def test_a_stray_label_does_not_make_a_giant_network(tmp_path, picture_folder, capsys):
    bad = write_list(tmp_path / 'list.txt', [f'{picture_folder}/00.png 0',
                                             f'{picture_folder}/01.png 1000000'])
    status, _, shown = run_main(finetune.main, ['--train_file', bad, '--val_file', bad], capsys)
    assert status == 2 and 'look for a wrong label' in shown


def test_a_used_run_folder_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / 'metrics.csv').write_text('of another run')
    status, _, shown = run_main(finetune.main, ['--run_dir', tmp_path], capsys)
    assert status == 2 and 'exists already' in shown
    assert os.listdir(tmp_path) == ['metrics.csv']


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir('/proc'),
                    reason='needs a folder in which even root cannot write')
def test_a_folder_without_permission_is_one_line(small_flags, capsys):
    status, _, shown = run_main(finetune.main, [*small_flags, '--run_dir', '/proc/run'], capsys)
    assert status == 2 and '/proc/run' in shown and shown.count('\n') == 1


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_status_3(small_flags, run_dir, capsys):
    flags = [*small_flags, '--learning_rate', '1e30', '--display_step', '1', '--run_dir', run_dir]
    status, _, shown = run_main(finetune.main, flags, capsys)
    assert status == 3 and shown.count('\n') == 1
    assert 'step 2' in shown and '1e+30' in shown and 'try' in shown


def test_the_sample_lists_are_whole(tmp_path):
    for part, count in (('train', 300), ('val', 100)):
        image_list = read_list(os.path.join(ROOT, f'{part}.txt'))
        assert len(set(image_list.paths)) == count
        assert np.bincount(image_list.labels).tolist() == [count // 5] * 5
        assert not find_broken([image_list], load_image, str(tmp_path))
    assert len(read_class_names(os.path.join(ROOT, 'labels.txt'))) == 5
