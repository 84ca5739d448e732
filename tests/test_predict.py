import csv
import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

import predict
from reports.screen import epoch_line
from run_folder.metrics import METRICS
from runtime.tf1 import tf
from tests.helpers import ROOT, run_main, write_list


@pytest.fixture
def command(finished_run, capsys):
    """Function that runs predict.py on the finished run; (status, standard output, error)."""
    return lambda *arguments: run_main(predict.main, [finished_run, *arguments], capsys)


def best_row(run):
    """Return the row of metrics.csv whose epoch has the checkpoint `best`."""
    epoch = (run / 'checkpoints' / 'best').read_text().strip().split('-')[1]
    with open(run / 'metrics.csv') as file:
        return next(row for row in csv.DictReader(file) if row['epoch'] == epoch)


@pytest.mark.cpu
def test_evaluation_gives_the_numbers_of_training(finished_run, command, tmp_path):
    status, out, err = command(finished_run.parent / 'val.txt', '--output', tmp_path / 'all.json')
    row = best_row(finished_run)
    evaluation = json.loads((tmp_path / 'all.json').read_text())['evaluation']
    assert status == 0 and err == ''
    assert evaluation['accuracy'] == float(row['val_accuracy'])
    assert evaluation['loss'] == pytest.approx(float(row['val_loss']), rel=1e-6)
    metrics = {name: float(row[name]) for name in METRICS} | {'epoch': int(row['epoch'])}
    printed = epoch_line(metrics, 2, 0)
    assert printed.split()[3:5] == [f'{evaluation["loss"]:.4f}', f'{evaluation["accuracy"]:.4f}']
    assert f'accuracy       {float(row["val_accuracy"]):.4f}\n' in out and 'Käfer' in out
    assert evaluation['images'] == np.sum(evaluation['confusion_matrix']) == 21


def test_the_records_agree_with_the_evaluation(finished_run, command, tmp_path):
    command(finished_run.parent / 'val.txt', '--output', tmp_path / 'all.json')
    content = json.loads((tmp_path / 'all.json').read_text())
    evaluation, images = content['evaluation'], content['images']
    assert len(images) == 21
    guesses = [[guess['class'] for guess in image['predictions']] for image in images]
    right = [image['true_class'] == names[0]
             for image, names in zip(images, guesses, strict=True)]
    assert np.mean(right) == evaluation['accuracy']
    in_top5 = [image['true_class'] in names for image, names in zip(images, guesses, strict=True)]
    assert np.mean(in_top5) == evaluation['top5_accuracy']


@pytest.fixture(scope='module')
def last_probabilities(finished_run):
    """Function of fc7 features, [n, 4096]: softmax of fc8 of the checkpoint `last`, by NumPy."""
    reader = tf.train.load_checkpoint(str(finished_run / 'checkpoints' / 'last-2'))
    weights, biases = reader.get_tensor('fc8/weights'), reader.get_tensor('fc8/biases')

    def softmax(features):
        logits = features.astype(np.float64) @ weights + biases
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return exponentials / exponentials.sum(1, keepdims=True)
    return softmax


@pytest.fixture
def features(finished_run, command, tmp_path):
    """(fc7 of the pictures of the finished run, their paths), both as predict.py writes them."""
    status, out, _ = command(finished_run.parent / 'pictures', '--features', 'fc7',
                             '--output', tmp_path / 'f.npy', '--batch_size', 16)
    assert status == 0 and out == ''
    return np.load(tmp_path / 'f.npy'), (tmp_path / 'f.txt').read_text().splitlines()


def test_features_have_a_row_per_image(finished_run, features):
    values, paths = features
    assert values.shape == (35, 4096) and values.dtype == np.float32
    assert paths == [str(finished_run.parent / 'pictures' / f'{n:02d}.png') for n in range(35)]


def test_csv_follows_from_features_and_checkpoint(finished_run, command, tmp_path, features,
                                                  last_probabilities):
    values, paths = features
    names = (finished_run / 'labels.txt').read_text(encoding='utf-8').splitlines()
    command(finished_run.parent / 'pictures', '--checkpoint', 'last', '--top', 3,
            '--output', tmp_path / 'p.csv')
    header, *rows = csv.reader((tmp_path / 'p.csv').read_text(encoding='utf-8').splitlines())
    assert header == ['path', 'class_1', 'probability_1', 'class_2', 'probability_2', 'class_3',
                      'probability_3']
    for row, path, expected in zip(rows, paths, last_probabilities(values), strict=True):
        classes = [names.index(name) for name in row[1::2]]
        assert row[0] == path and classes == list(np.argsort(-expected)[:3])
        np.testing.assert_allclose(np.float64(row[2::2]), np.sort(expected)[:-4:-1], atol=1e-5)


def test_the_screen_follows_from_features_and_checkpoint(finished_run, command, features,
                                                         last_probabilities):
    values, paths = features
    names = (finished_run / 'labels.txt').read_text(encoding='utf-8').splitlines()
    expected = last_probabilities(values[:1])[0]
    _, out, _ = command(paths[0], '--checkpoint', 'last', '--top', 1000)
    path, *guesses = out.rstrip('\n').split('\t')
    pairs = [guess.rsplit(maxsplit=1) for guess in guesses]
    assert path == paths[0]
    assert [name for name, _ in pairs] == [names[n] for n in np.argsort(-expected)]
    probabilities = [float(text) for _, text in pairs]
    assert probabilities == pytest.approx(sorted(expected)[::-1], abs=6e-5)


def test_unreadable_images_are_named_by_line_in_order(finished_run, command, tmp_path):
    good = finished_run.parent / 'pictures' / '20.png'
    (tmp_path / 'broken.png').write_bytes(good.read_bytes()[:60])
    lines = [f'{good} 6', 'missing.png 0', f'{good} 6', 'broken.png 1', f'{good} 6']
    listed = write_list(tmp_path / 'list.txt', lines)
    status, out, err = command(listed, '--batch_size', 2)
    first, second = err.splitlines()
    assert status == 1 and first.startswith(f'{listed}:2: ') and 'missing.png' in first
    assert second.startswith(f'{listed}:4: ') and 'broken.png' in second
    assert re.search('^images +3$', out, re.M) and re.search('^yak +3 ', out, re.M)


def test_results_stay_with_their_images(finished_run, command, tmp_path):
    """Broken images between others, batches of 2: rows are those of the whole pictures alone."""
    pictures = [finished_run.parent / 'pictures' / f'{n:02d}.png' for n in range(5)]
    options = '--features', 'fc7', '--batch_size', 2, '--output'
    assert command(*pictures, *options, tmp_path / 'whole.npy')[0] == 0
    gone = tmp_path / 'gone.png'
    mixed = [gone, pictures[0], gone, gone, gone, *pictures[1:4], gone, pictures[4], gone]
    status, _, err = command(*mixed, *options, tmp_path / 'mixed.npy')
    assert status == 1 and err.count('gone.png: No such file') == 6
    assert (tmp_path / 'mixed.txt').read_text() == (tmp_path / 'whole.txt').read_text()
    np.testing.assert_allclose(np.load(tmp_path / 'mixed.npy'), np.load(tmp_path / 'whole.npy'),
                               rtol=1e-4, atol=1e-4)


def test_images_without_a_readable_one(finished_run, command, tmp_path):
    status, out, err = command(tmp_path / 'gone.png')
    assert status == 1 and out == '' and 'gone.png: No such file' in err
    listed = write_list(tmp_path / 'bad.txt', ['missing.png 0'])
    status, out, err = command(listed, '--output', tmp_path / 'x.json')
    content = json.loads((tmp_path / 'x.json').read_text())
    assert status == 1 and content == {'images': [], 'evaluation': None}


@pytest.mark.parametrize('arguments, named', [
    (['missing.txt'], 'missing.txt'),
    (['.'], 'holds no image'),
    (['x.jpg', '--top', '0'], 'top 0 is not a whole number, 1 or more'),
    (['x.jpg', '--batch_size', '0'], 'batch_size 0 is not a whole number, 1 or more'),
    (['x.jpg', '--output', 'x.xlsx'], 'neither .csv nor .json'),
    (['x.jpg', '--output', 'taken.csv'], 'taken.csv exists already'),
    (['x.jpg', '--features', 'fc7'], '--output FILE.npy'),
    (['x.jpg', '--features', 'fc9', '--output', 'x.npy'],
     'features fc9: the layers are conv1 norm1'),
    (['x.jpg', '--features', 'fc7', '--output', 'taken.npy'], 'taken.txt exists already'),
    (['x.jpg', '--checkpoint', '9'], 'no checkpoint 9, but best-'),
    ([], 'the following arguments are required: inputs'),
    (['wrong.txt'], 'wrong.txt:1: label 7, but there are 7 classes'),
    (['half.txt'], 'half.txt:2: label "b.jpg" is not a 0-based class number'),
    (['wrong.txt', 'x.jpg'], 'wrong.txt:1'),
    (['right.txt', 'x.jpg'], 'run them one by one'),
    (['unknown.txt'], 'unknown.txt:1: label "wasp" is not a 0-based class number or a class'),
    (['wide.txt'], 'wide.txt is UTF-16 text; save it as UTF-8'),
])
def test_wrong_arguments_end_in_a_line(command, arguments, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('taken.csv', 'taken.txt'):
        (tmp_path / name).write_text('x')
    write_list(tmp_path / 'wrong.txt', ['a.jpg 7'])
    write_list(tmp_path / 'half.txt', ['a.jpg Käfer', 'a photo b.jpg'])
    write_list(tmp_path / 'right.txt', ['a.jpg owl'])
    write_list(tmp_path / 'unknown.txt', ['a.jpg wasp'])
    (tmp_path / 'wide.txt').write_text('a.jpg\n', encoding='utf-16')
    before = sorted(os.listdir())
    status, out, err = command(*arguments)
    assert status == 2 and out == '' and named in err and len(err.splitlines()) == 1
    assert sorted(os.listdir()) == before and (tmp_path / 'taken.txt').read_text() == 'x'


@pytest.mark.slow
def test_nan_is_refused_and_leaves_no_file(finished_run, run_copy, capsys, tmp_path):
    checkpoint = (run_copy / 'checkpoints' / 'best').read_text().strip()
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable('fc8/weights', initializer=tf.zeros([4096, 7]))
        tf.get_variable('fc8/biases', initializer=tf.fill([7], np.nan))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(run_copy / 'checkpoints' / checkpoint),
                              write_meta_graph=False)
    pictures = finished_run.parent / 'pictures'
    for name, flags in (('x.csv', []), ('x.json', []), ('x.npy', ['--features', 'fc8'])):
        arguments = [run_copy, pictures, *flags, '--output', tmp_path / name]
        status, _, err = run_main(predict.main, arguments, capsys)
        assert status == 2 and 'values that are not finite' in err
        assert os.listdir(tmp_path) == ['run']


def test_odd_file_names_stay_on_their_line(finished_run, command, tmp_path):
    picture = cv2.imread(str(finished_run.parent / 'pictures' / '20.png'))
    name = os.fsencode(tmp_path) + b'/tab\there\nline \xff.png'
    with open(name, 'wb') as file:
        file.write(cv2.imencode('.png', picture)[1].tobytes())
    status, out, err = command(tmp_path)
    assert status == 0 and len(out.splitlines()) == 1
    assert out.split('\t')[0].endswith(r'tab\there\nline \udcff.png')
    status, out, err = command(tmp_path, '--output', tmp_path / 'x.json')
    image, = json.loads((tmp_path / 'x.json').read_text())['images']
    assert os.fsencode(image['path']) == name


@pytest.mark.slow
def test_a_reader_that_ends_early_is_no_error(finished_run):
    command = [sys.executable, os.path.join(ROOT, 'predict.py'), str(finished_run),
               str(finished_run.parent / 'pictures')]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b'' and process.wait() == 141
