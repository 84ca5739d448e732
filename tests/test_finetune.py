import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import finetune
from alexnet import LAYERS
from datagenerator import ImageDataGenerator
from finetune import Settings
from inputs.checks import find_broken
from inputs.images import load_image
from inputs.class_names import read_class_names
from inputs.lists import read_datasets, read_list
from runtime import command
from runtime.tf1 import tf
from tests.helpers import ROOT, png_file, write_dark_and_bright, write_list
from training import graph
from training.feature_cache import StoredBatches
from weight_files.reader import read_weights

FC_LAYERS = ('fc6', 'fc7', 'fc8')


@pytest.fixture(scope='module')
def lists(tmp_path_factory):
    """Folder with train.txt (10 images) and val.txt (5), which are told apart at once."""
    return write_dark_and_bright(tmp_path_factory.mktemp('data'), 160)


@pytest.fixture(scope='module')
def settings(lists, conv_weights_file):
    return Settings(cache_dir=str(lists / 'cache'), train_file=str(lists / 'train.txt'),
                    val_file=str(lists / 'val.txt'), train_layers=FC_LAYERS, weights_path=conv_weights_file, num_epochs=2,
                    batch_size=4, display_step=2, learning_rate=1e-5, optimizer='momentum', horizontal_flip=False)


@pytest.fixture(scope='module')
def run(settings, tmp_path_factory):
    """(best accuracy, its epoch, run folder) of a small run."""
    folder = tmp_path_factory.mktemp('runs') / 'run'
    yield finetune.finetune(dataclasses.replace(settings, run_dir=str(folder)))
    shutil.rmtree(folder / 'checkpoints')  # pytest keeps temporary folders, and these are large


@pytest.fixture
def small_run(settings, tmp_path):
    """Function (folder name, changed settings) -> rows of metrics.csv; its checkpoints go after the test."""
    def fine_tune(name='run', **changes):
        finetune.finetune(dataclasses.replace(settings, run_dir=str(tmp_path / name), **changes))
        return metrics(tmp_path / name)
    yield fine_tune
    for folder in tmp_path.glob('*/checkpoints'):
        shutil.rmtree(folder)


def metrics(folder):
    """Return the rows of metrics.csv without the columns that are times."""
    return [{name: float(value) for name, value in row.items() if not name.endswith(('second', 'seconds'))}
            for row in csv.DictReader(open(folder / 'metrics.csv'))]


def test_frozen_layers_keep_the_files_values_bit_for_bit_and_trained_ones_move(settings):
    data = read_datasets(settings.train_file, settings.val_file)[0]
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        path = settings.weights_path
        network = finetune.build_network(finetune.TrainingSetup(settings, data, path, *finetune.choose_layers(settings, path)))
        with finetune.open_session() as session:
            graph.initialize(session, network.model)
            before = session.run(network.model.variables)
            for images, labels in ImageDataGenerator(data.train).batches(5):
                session.run(network.train_op, {network.model.x: images, network.labels: labels})
            after = session.run(network.model.variables)
            slots = sorted(v.name for v in tf.global_variables() if v.name.split('/')[-1] not in
                           ('weights:0', 'biases:0', 'global_step:0'))
    for layer, pair in read_weights(settings.weights_path).items():
        assert all(a.tobytes() == b.tobytes() == c.tobytes() for a, b, c in zip(pair, before[layer], after[layer]))
    for layer in FC_LAYERS:
        assert all((a != b).any() for a, b in zip(before[layer], after[layer]))
    assert slots == sorted(f'{layer}/{kind}/Momentum:0' for layer in FC_LAYERS for kind in ('weights', 'biases'))


def test_run_folder_holds_what_the_plan_says(run, settings):
    _, best_epoch, folder = run
    names = {re.sub(r'\.tfevents\..*', '', name) for name in os.listdir(folder)}
    assert names - {'mistakes.jpg'} == {
        '.lock', 'settings.json', 'labels.txt', 'metrics.csv', 'checkpoints', 'events.out', 'confusion_matrix.csv',
        'val_predictions.csv', 'curves.png', 'confusion_matrix.png', 'report.html'}
    written = json.load(open(os.path.join(folder, 'settings.json')))
    assert written['num_classes'] == 2 and written['seed'] == 0 and written['skip_layers'] == list(FC_LAYERS)
    assert {field.name for field in dataclasses.fields(Settings)} <= set(written)
    assert open(os.path.join(folder, 'labels.txt')).read() == 'dark\nbright\n'
    assert open(os.path.join(folder, 'checkpoints', 'best')).read() == f'best-{best_epoch}\n'
    assert open(os.path.join(folder, 'checkpoints', 'last')).read() == 'last-2\n'


def test_metrics_are_counted_over_the_whole_lists(run):
    best_accuracy, best_epoch, folder = run
    rows = list(csv.DictReader(open(os.path.join(folder, 'metrics.csv'))))
    assert [row['epoch'] for row in rows] == ['1', '2']
    for row in rows:
        assert float(row['val_accuracy']) * 5 in range(6)  # 5 images in batches of 4 and 1
        assert round(float(row['train_accuracy']) * 10, 6) in range(11)
    accuracies = [float(row['val_accuracy']) for row in rows]
    assert best_accuracy == max(accuracies) and best_epoch == 1 + accuracies.index(best_accuracy)


def test_event_files_stay_small_and_carry_no_graph(run):
    [name] = [name for name in os.listdir(run[2]) if 'tfevents' in name]
    assert os.path.getsize(os.path.join(run[2], name)) < 1 << 20


def test_every_group_is_in_the_event_file(run):
    events = EventAccumulator(run[2]).Reload()
    tags = {tag for kind in ('scalars', 'histograms', 'images') for tag in events.Tags()[kind]}
    for group in ('train/loss', 'val/accuracy', 'weights/fc6/dead_relus', 'weights/fc6/weights_gradient',
                  'weights/fc8/biases', 'images/first_batch', 'images/conv1_filters', 'images/confusion_matrix'):
        assert group in tags
    gradient = events.Histograms('weights/fc6/weights_gradient')[-1].histogram_value
    assert gradient.min < 0 < gradient.max


def test_predictions_agree_with_the_metrics(run, settings):
    best_accuracy, _, folder = run
    rows = list(csv.DictReader(open(os.path.join(folder, 'val_predictions.csv'))))
    assert [row['path'] for row in rows] == read_list(settings.val_file, ['dark', 'bright']).paths
    assert np.mean([row['class'] == row['predicted'] for row in rows]) == best_accuracy
    assert all(0.5 <= float(row['probability']) <= 1 for row in rows)


def test_predictions_keep_the_order_of_the_list_over_batches(run, small_run, tmp_path, monkeypatch):
    """The same run, validated in batches of 4 and 1 in place of one batch."""
    monkeypatch.setattr(StoredBatches, 'eval_batch_size', 1)
    small_run()
    whole, parts = (list(csv.DictReader(open(os.path.join(folder, 'val_predictions.csv'))))
                    for folder in (run[2], tmp_path / 'run'))
    for expected, got in zip(whole, parts, strict=True):
        assert float(got.pop('probability')) == pytest.approx(float(expected.pop('probability')), abs=1e-3)
        assert got == expected


def test_validation_loss_is_that_of_the_saved_checkpoint(run, settings):
    """Restore the last checkpoint into a new graph and compute the loss of the whole list in one batch, by NumPy."""
    folder = os.path.join(run[2], 'checkpoints')
    data = read_datasets(settings.train_file, settings.val_file)[0]
    with tf.Graph().as_default(), tf.Session() as session:
        network = finetune.build_network(finetune.TrainingSetup(settings, data, settings.weights_path, FC_LAYERS, FC_LAYERS))
        conv = [v for layer in LAYERS if layer not in FC_LAYERS for v in network.model.variables[layer]]
        tf.train.Saver(conv).restore(session, os.path.join(folder, 'frozen'))
        tf.train.Saver([v for v in tf.global_variables() if v not in conv]).restore(
            session, os.path.join(folder, 'last-2'))
        images, labels = ImageDataGenerator(data.val).next_batch(5)
        logits = session.run(network.model.fc8, {network.model.x: images}).astype(np.float64)
        assert session.run(tf.train.get_global_step()) == 6  # 2 epochs of 10 images in batches of 4
    losses = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) - (logits - logits.max(1, keepdims=True))[
        np.arange(5), labels.argmax(1)]
    row = list(csv.DictReader(open(os.path.join(run[2], 'metrics.csv'))))[-1]
    np.testing.assert_allclose(float(row['val_loss']), losses.mean(), rtol=1e-4, atol=1e-6)
    assert float(row['val_accuracy']) == (logits.argmax(1) == labels.argmax(1)).mean()


def exit_status(arguments, capsys):
    """Run the command in this process; return (exit status, standard output, standard error)."""
    statuses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, 'exit_now', statuses.append)  # the real one would end the tests
        patch.chdir(arguments[arguments.index('--run_dir') + 1].parent if '--run_dir' in arguments else '.')
        command.run_command(finetune.main, [str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return statuses[0], shown.out, shown.err


@pytest.mark.parametrize('flags, named', [
    (['--train_file', 'missing.txt'], 'missing.txt'),
    (['--labels_file', 'missing.txt'], 'missing.txt'),
    (['--weights_path', 'missing.npy'], 'weights_path missing.npy: no such file'),
    (['--train_layers', 'fc8', 'conv10'], 'no layer is called conv10; the layers are conv1 conv2'),
    (['--train_layers', 'fc8', '--skip_layers', 'fc7'], 'skip_layers'),
    (['--train_layers', 'fc8'], 'fc6 is missing; fc7 is missing'),
    (['--num_classes', '3'], 'num_classes 3, but'),
    (['--learning_rate', '0', '--batch_size', '0', '--dropout_rate', '1'], 'batch_size 0 is not 1 or more'),
    (['--cache_dir', os.path.join(ROOT, 'README.md')], 'README.md is no folder that can be written to'),
    (['--num_epochs', 'many'], "invalid int value: 'many'"),
    (['--lerning_rate', '1'], '--lerning_rate')])
def test_bad_input_gets_one_line_and_status_2_and_writes_nothing(settings, tmp_path, capsys, flags, named):
    arguments = ['--train_file', settings.train_file, '--val_file', settings.val_file, '--train_layers', *FC_LAYERS,
                 '--weights_path', settings.weights_path, '--cache_dir', settings.cache_dir, '--run_dir', tmp_path / 'run', *flags]
    status, _, shown = exit_status(arguments, capsys)
    assert status == 2 and named in shown and shown.startswith('error: ') and shown.count('\n') == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('line, named', [
    ('0.png 2', ':2: label 2, but there are 2 classes'), ('gone.png 1', ':2: '), ('0.png wasp', 'label "wasp"'),
    ('labels.txt 0', 'not a JPEG'), ('0.png', 'needs an image path, a blank and a label')])
def test_bad_lines_are_named_before_anything_is_written(settings, lists, tmp_path, capsys, line, named):
    bad = write_list(lists / 'bad.txt', ['1.png 1', line])
    status, _, shown = exit_status(['--train_file', bad, '--val_file', settings.val_file, '--run_dir', tmp_path / 'run',
                                    '--weights_path', settings.weights_path, '--train_layers', *FC_LAYERS,
                                    '--cache_dir', settings.cache_dir], capsys)
    assert status == 2 and f'{bad}:2: ' in shown and named in shown
    assert shown.count('\n') == 1 + ('\nskip_broken leaves out' in shown) and os.listdir(tmp_path) == []


@pytest.fixture
def broken_list(lists, tmp_path):
    """A list of 5 whole images and 3 broken ones; what is wrong with short.png is only seen when it is decoded."""
    (tmp_path / 'cut.png').write_bytes((lists / '0.png').read_bytes()[:200])
    (tmp_path / 'short.png').write_bytes(png_file(60, 60))
    return write_list(tmp_path / 'broken.txt', [f'{lists / str(n)}.png {n % 2}' for n in range(5)]
                      + ['gone.png 0', 'cut.png 1', 'short.png 1'])


@pytest.mark.parametrize('cache_features', ['on', 'off'])
def test_broken_images_are_left_out_on_request(settings, broken_list, tmp_path, capsys, cache_features):
    run_dir = tmp_path / 'runs' / 'run'
    run_dir.parent.mkdir()
    arguments = ['--train_file', broken_list, '--val_file', settings.val_file, '--run_dir', run_dir, '--num_epochs', 1,
                 '--weights_path', settings.weights_path, '--train_layers', *FC_LAYERS,
                 '--labels_file', os.path.join(os.path.dirname(settings.val_file), 'labels.txt'),
                 '--cache_dir', tmp_path / 'cache', '--cache_features', cache_features]
    status, _, shown = exit_status(arguments, capsys)
    assert status == 2 and [line.split(': ')[-2:] for line in shown.splitlines()[:-1]] == [
        [f'{tmp_path}/gone.png', 'No such file or directory'], [f'{tmp_path}/cut.png', 'the PNG file is cut off']]
    assert 'broken.txt:6: ' in shown and 'broken.txt:7: ' in shown and not run_dir.exists()
    status, _, shown = exit_status([*arguments, '--skip_broken'], capsys)
    assert status == 0 and 'skip_broken: 3 images' in shown
    assert all(name in shown for name in ('gone.png: No such file', 'cut.png: the PNG file is cut off', 'short.png: OpenCV'))
    for file in os.listdir(run_dir / 'checkpoints'):
        os.remove(run_dir / 'checkpoints' / file)


def test_broken_images_of_both_lists_are_left_out_before_steps_are_counted(lists, small_run, tmp_path, capsys):
    """Of 6 images, 5 are left: at 5 a step, the second of two epochs begins half-way down the cosine, not at a quarter."""
    for part in ('train', 'val'):
        (tmp_path / f'{part}.png').write_bytes(png_file(60, 60))
        write_list(tmp_path / f'{part}.txt', [f'{lists}/{n}.png {n % 2}' for n in range(5)] + [f'{part}.png 1'])
    changes = {'train_file': str(tmp_path / 'train.txt'), 'val_file': str(tmp_path / 'val.txt'), 'random_crop': True}
    with pytest.raises(ValueError, match=r'(?s)train.txt:6: .*train.png: OpenCV.*val.txt:6: .*val.png: OpenCV'):
        small_run(**changes)
    rows = small_run(**changes, skip_broken=True, num_epochs=2, batch_size=5, lr_schedule='cosine', learning_rate=1e-4)
    shown = capsys.readouterr().err
    assert 'val.png: OpenCV' in shown and 'train.png: OpenCV' in shown
    np.testing.assert_allclose([row['learning_rate'] for row in rows], [1e-4, 0.5e-4], rtol=1e-5)


def test_a_stray_label_does_not_make_a_giant_network(tmp_path, picture_folder, capsys):
    bad = write_list(tmp_path / 'list.txt', [f'{picture_folder}/00.png 0', f'{picture_folder}/01.png 1000000'])
    status, _, shown = exit_status(['--train_file', bad, '--val_file', bad], capsys)
    assert status == 2 and 'look for a wrong label' in shown


def test_a_used_run_folder_is_refused_before_any_work(settings, tmp_path, capsys):
    (tmp_path / 'metrics.csv').write_text('of another run')
    status, _, shown = exit_status(['--run_dir', tmp_path], capsys)
    assert status == 2 and 'exists already' in shown and os.listdir(tmp_path) == ['metrics.csv']


def test_a_loss_that_is_not_finite_stops_with_status_3(settings, tmp_path, capsys):
    status, _, shown = exit_status(['--train_file', settings.train_file, '--val_file', settings.val_file,
                                    '--weights_path', settings.weights_path, '--train_layers', *FC_LAYERS,
                                    '--batch_size', '4', '--learning_rate', '1e30',
                                    '--display_step', '1', '--run_dir', tmp_path / 'run'], capsys)
    assert status == 3 and 'step 2' in shown and '1e+30' in shown and 'try' in shown and shown.count('\n') == 1


def test_the_script_as_a_user_runs_it(settings, lists, tmp_path):
    """One epoch in a process of its own: the screen is the run's own words, the last line as the plan has it."""
    command = [sys.executable, os.path.join(ROOT, 'finetune.py'), '--train_file', lists / 'train.txt',
               '--val_file', lists / 'val.txt', '--weights_path', settings.weights_path, '--train_layers', *FC_LAYERS,
               '--num_epochs', '1', '--run_dir', 'run']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, '')
    lines = done.stdout.splitlines()
    assert lines[14].startswith('pool5 of 25 images') and lines[15].startswith('  epoch  train loss')
    assert lines[16].split()[0] == '1/1' and lines[17].startswith('best epoch 1: ') and done.stdout.isascii()
    accuracy = list(csv.DictReader(open(tmp_path / 'run' / 'metrics.csv')))[0]['val_accuracy']
    assert lines[-1] == f'best val_accuracy {float(accuracy):.4f} (epoch 1) in run'
    shutil.rmtree(tmp_path / 'run' / 'checkpoints')


def test_no_weights_means_every_layer_is_trained(settings):
    assert finetune.choose_layers(settings, None) == (LAYERS, LAYERS)
    only_new = dataclasses.replace(settings, train_layers=('fc8', 'fc7'), skip_layers=('fc8',))
    assert finetune.choose_layers(only_new, 'w.npy') == (('fc7', 'fc8'), ('fc8',))
    plan = finetune.TrainingSetup(only_new, read_datasets(settings.train_file, settings.val_file)[0], 'w.npy', ('fc7', 'fc8'), ('fc8',))
    assert finetune.effective_settings(plan)['skip_layers'] == ('fc8',)
    twice = dataclasses.replace(settings, train_layers=('fc8', 'fc7', 'fc8'), skip_layers=('fc8', 'fc7', 'fc8'))
    assert finetune.choose_layers(twice, 'w.npy') == (('fc7', 'fc8'), ('fc7', 'fc8'))


def test_the_sample_lists_are_whole(tmp_path):
    for part, count in (('train', 300), ('val', 100)):
        image_list = read_list(os.path.join(ROOT, f'{part}.txt'))
        assert len(set(image_list.paths)) == count and set(np.bincount(image_list.labels)) == {count // 5}
        assert not find_broken([image_list], load_image, str(tmp_path))
    assert len(read_class_names(os.path.join(ROOT, 'labels.txt'))) == 5


def test_a_run_from_stored_features_equals_one_from_images(small_run, tmp_path, capsys):
    """Loss and accuracy of every epoch within 1e-4, cold and warm; the same dropout, order and initial values."""
    runs = {name: small_run(name, cache_features=cache_features, cache_dir=str(tmp_path / 'cache'), learning_rate=1e-4,
                            num_epochs=3) for name, cache_features in (('off', 'off'), ('cold', 'on'), ('warm', 'auto'))}
    shown = capsys.readouterr().out
    assert 'is not stored: cache_features is off' in shown
    assert '15 images, 15 of them computed' in shown and '15 images, 0 of them computed' in shown
    assert_same_metrics(runs['off'], runs['cold'])
    assert_same_metrics(runs['off'], runs['warm'])


def assert_same_metrics(expected_rows, rows):
    for expected, got in zip(expected_rows, rows, strict=True):
        for column, value in expected.items():
            assert got[column] == pytest.approx(value, rel=1e-4, abs=1e-4), column


def test_with_random_crop_what_validation_sees_is_stored_and_nothing_else(small_run, tmp_path, capsys):
    small_run('whole', num_epochs=1)  # stores the pictures as they are seen without cropping: none of it may be used
    capsys.readouterr()
    runs = [small_run(cache_features, cache_features=cache_features, random_crop=True, learning_rate=1e-4)
            for cache_features in ('auto', 'off')]
    shown = capsys.readouterr().out
    assert '5 images, 5 of them computed' in shown and 'of the training images is not stored: random_crop' in shown
    assert_same_metrics(*runs)
    assert json.load(open(tmp_path / 'auto' / 'settings.json'))['scale_size'] == [256, 256]


def test_trained_convolutions_are_not_stored(settings, small_run, tmp_path, capsys):
    layers = ('conv5',) + FC_LAYERS
    small_run(train_layers=layers, num_epochs=1, cache_dir=str(tmp_path / 'cache'))
    assert 'is not stored: a convolution is trained' in capsys.readouterr().out
    assert {name.split('-')[0] for name in os.listdir(tmp_path / 'cache')} == {'check_image', 'load_image'}
    with pytest.raises(ValueError, match='cache_features is on, but a convolution is trained'):
        finetune.finetune(dataclasses.replace(settings, train_layers=layers, cache_features='on'))


def test_bfloat16_learns_with_float32_variables(small_run, tmp_path):
    rows = small_run(precision='bfloat16', num_epochs=1)
    reader = tf.train.load_checkpoint(str(tmp_path / 'run' / 'checkpoints' / 'last-1'))
    assert set(reader.get_variable_to_dtype_map().values()) == {tf.float32, tf.int64}  # int64: the global step
    assert np.isfinite(rows[0]['val_loss'])


def test_dropout_rate_is_the_share_dropped(settings, small_run):
    """At rate 0 a step sees the network that was validated before it; with the rate taken for the share that is kept,
    nothing would be left of fc6 and fc7, and nothing but fc8's biases could learn."""
    rows = small_run(dropout_rate=0.0, learning_rate=2e-5, num_epochs=4, batch_size=10, val_file=settings.train_file)
    for before, row in zip(rows, rows[1:]):
        assert row['train_loss'] == pytest.approx(before['val_loss'], rel=1e-3, abs=1e-4)
    assert rows[-1]['val_loss'] < 0.9 * rows[0]['train_loss']


def test_patience_ends_a_run_that_gets_no_better(small_run, tmp_path, capsys):
    """With a step so small that nothing changes, the first epoch stays the best one."""
    rows = small_run(learning_rate=1e-20, num_epochs=9, patience=2)
    assert len(rows) == 3 and 'stopped: 2 epochs without a better one' in capsys.readouterr().out
    assert open(tmp_path / 'run' / 'checkpoints' / 'last').read() == 'last-3\n'
    assert open(tmp_path / 'run' / 'checkpoints' / 'best').read() == 'best-1\n'


def test_the_learning_rate_follows_the_schedule_and_reaches_the_step(small_run):
    """3 steps an epoch, 2 epochs: a tenth after each third is 0.1 in the middle of the run, 0.01 at its last third."""
    rates = [row['learning_rate'] for row in small_run(lr_schedule='step', num_epochs=3)]
    np.testing.assert_allclose(rates, [1e-5, 1e-6, 1e-7], rtol=1e-5)


def test_layers_that_keep_pretrained_values_take_smaller_steps(lists, settings, tmp_path):
    """conv5 moves by its share of what it would move by in a step of plain gradient descent."""
    (data, _), moves = read_datasets(settings.train_file, settings.val_file), []
    for share in (1.0, 0.25):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(0)
            changed = dataclasses.replace(settings, pretrained_lr_mult=share, optimizer='sgd')
            network = finetune.build_network(finetune.TrainingSetup(
                changed, data, settings.weights_path, ('conv5',) + FC_LAYERS, FC_LAYERS))
            graph.initialize(session, network.model)
            before = session.run(network.model.variables['conv5'][1])
            images, labels = ImageDataGenerator(data.train).next_batch(10)
            session.run(network.train_op, {network.model.x: images, network.labels: labels})
            moves.append(session.run(network.model.variables['conv5'][1]) - before)
    np.testing.assert_allclose(moves[1], 0.25 * moves[0], rtol=1e-2, atol=1e-8)
