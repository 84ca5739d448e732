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
from predict import read_input_list, read_inputs
from reports.screen import epoch_line
from run_folder.metrics import METRICS
from runtime.tf1 import tf
from tests.helpers import ROOT, run_main, write_list


@pytest.fixture
def command(finished_run, capsys):
    """Run predict.py on the finished run with more arguments; (exit status, standard output, standard error)."""
    return lambda *arguments: run_main(predict.main, [finished_run, *arguments], capsys)


def best_row(run):
    """The row of metrics.csv whose epoch has the checkpoint `best`."""
    epoch = (run / 'checkpoints' / 'best').read_text().strip().split('-')[1]
    return next(row for row in csv.DictReader(open(run / 'metrics.csv')) if row['epoch'] == epoch)


def test_evaluation_gives_the_numbers_of_training(finished_run, command, tmp_path):
    status, out, err = command(finished_run.parent / 'val.txt', '--output', tmp_path / 'all.json')
    row, content = best_row(finished_run), json.load(open(tmp_path / 'all.json'))
    evaluation = content['evaluation']
    assert status == 0 and err == ''
    assert evaluation['accuracy'] == float(row['val_accuracy'])
    assert evaluation['loss'] == pytest.approx(float(row['val_loss']), rel=1e-6)
    printed = epoch_line({name: float(row[name]) for name in METRICS} | {'epoch': int(row['epoch'])}, 2, 0)
    assert printed.split()[3:5] == [f'{evaluation["loss"]:.4f}', f'{evaluation["accuracy"]:.4f}']
    assert f'accuracy       {float(row["val_accuracy"]):.4f}\n' in out and 'Käfer' in out
    assert len(content['images']) == evaluation['images'] == np.sum(evaluation['confusion_matrix']) == 21
    right = [image['true_class'] == image['predictions'][0]['class'] for image in content['images']]
    assert np.mean(right) == evaluation['accuracy']
    in_top5 = [image['true_class'] in [guess['class'] for guess in image['predictions']] for image in content['images']]
    assert np.mean(in_top5) == evaluation['top5_accuracy']


def test_names_and_probabilities_follow_from_features_and_the_checkpoint(finished_run, command, tmp_path):
    """Softmax of the written fc7 times fc8 of the checkpoint, by NumPy."""
    pictures = finished_run.parent / 'pictures'
    status, out, _ = command(pictures, '--features', 'fc7', '--output', tmp_path / 'f.npy', '--batch_size', 16)
    features, paths = np.load(tmp_path / 'f.npy'), (tmp_path / 'f.txt').read_text().splitlines()
    assert status == 0 and out == '' and features.shape == (35, 4096) and features.dtype == np.float32
    assert paths == [str(pictures / f'{n:02d}.png') for n in range(35)]
    reader = tf.train.load_checkpoint(str(finished_run / 'checkpoints' / 'last-2'))
    logits = features.astype(np.float64) @ reader.get_tensor('fc8/weights') + reader.get_tensor('fc8/biases')
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    names = (finished_run / 'labels.txt').read_text(encoding='utf-8').splitlines()

    status, out, _ = command(pictures, '--checkpoint', 'last', '--top', 3, '--output', tmp_path / 'p.csv')
    rows = list(csv.reader(open(tmp_path / 'p.csv', encoding='utf-8')))
    assert rows[0] == ['path', 'class_1', 'probability_1', 'class_2', 'probability_2', 'class_3', 'probability_3']
    for row, path, expected in zip(rows[1:], paths, probabilities, strict=True):
        assert row[0] == path and [names.index(name) for name in row[1::2]] == list(np.argsort(-expected)[:3])
        np.testing.assert_allclose(np.float64(row[2::2]), np.sort(expected)[:-4:-1], atol=1e-5)

    status, out, _ = command(pictures / '00.png', '--checkpoint', 'last', '--top', 1000)
    path, *guesses = out.rstrip('\n').split('\t')
    assert path == paths[0] and [guess.rsplit(maxsplit=1)[0] for guess in guesses] == [
        names[n] for n in np.argsort(-probabilities[0])]
    assert [float(guess.rsplit(maxsplit=1)[1]) for guess in guesses] == pytest.approx(
        sorted(probabilities[0])[::-1], abs=6e-5)


def test_what_cannot_be_read_is_named_and_the_rest_predicted(finished_run, command, tmp_path):
    good = finished_run.parent / 'pictures' / '20.png'
    (tmp_path / 'broken.png').write_bytes(good.read_bytes()[:60])
    lines = [f'{good} 6', 'missing.png 0', f'{good} 6', 'broken.png 1']
    listed = write_list(tmp_path / 'list.txt', lines)
    status, out, err = command(listed, '--batch_size', 2)
    assert status == 1 and f'{listed}:2: ' in err and f'{listed}:4: ' in err and len(err.splitlines()) == 2
    assert re.search('^images +2$', out, re.M) and re.search('^yak +2 ', out, re.M)
    status, out, err = command(tmp_path / 'gone.png', good, tmp_path / 'broken.png', '--batch_size', 1)
    assert status == 1 and len(out.splitlines()) == 1 and out.startswith(str(good)) and len(err.splitlines()) == 2
    status, out, err = command(tmp_path / 'gone.png')
    assert status == 1 and out == '' and 'gone.png: No such file' in err
    status, out, err = command(write_list(tmp_path / 'bad.txt', ['missing.png 0']), '--output', tmp_path / 'x.json')
    assert status == 1 and json.load(open(tmp_path / 'x.json')) == {'images': [], 'evaluation': None}


@pytest.mark.parametrize('arguments, named', [
    (['missing.txt'], 'missing.txt'),
    (['.'], 'holds no file that ends in'),
    (['x.jpg', '--top', '0', ], 'top 0 is not 1 or more'),
    (['x.jpg', '--batch_size', '0'], 'batch_size 0 is not 1 or more'),
    (['x.jpg', '--output', 'x.xlsx'], 'neither .csv nor .json'),
    (['x.jpg', '--output', 'taken.csv'], 'taken.csv exists already'),
    (['x.jpg', '--features', 'fc7'], '--output FILE.npy'),
    (['x.jpg', '--features', 'fc9', '--output', 'x.npy'], 'features fc9: the layers are conv1 norm1'),
    (['x.jpg', '--features', 'fc7', '--output', 'taken.npy'], 'taken.txt exists already'),
    (['x.jpg', '--checkpoint', '9'], 'no checkpoint 9, but best-'),
    ([], 'the following arguments are required: inputs'),
    (['wrong.txt'], 'wrong.txt:1: label 7, but there are 7 classes'),
    (['half.txt'], 'half.txt:2: label "b.jpg" is not a 0-based class number'),
    (['wrong.txt', 'x.jpg'], 'wrong.txt:1'),
    (['right.txt', 'x.jpg'], 'run them one by one'),
    (['wide.txt'], 'wide.txt is UTF-16 text; save it as UTF-8'),
])
def test_wrong_arguments_end_in_a_line(command, arguments, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('taken.csv', 'taken.txt'):
        (tmp_path / name).write_text('x')
    write_list(tmp_path / 'wrong.txt', ['a.jpg 7'])
    write_list(tmp_path / 'half.txt', ['a.jpg Käfer', 'a photo b.jpg'])
    write_list(tmp_path / 'right.txt', ['a.jpg owl'])
    (tmp_path / 'wide.txt').write_text('a.jpg\n', encoding='utf-16')
    before = sorted(os.listdir())
    status, out, err = command(*arguments)
    assert status == 2 and out == '' and named in err and len(err.splitlines()) == 1
    assert sorted(os.listdir()) == before and (tmp_path / 'taken.txt').read_text() == 'x'


def test_a_network_that_answers_nan_is_refused_and_leaves_no_file(finished_run, run_copy, capsys, tmp_path):
    checkpoint = (run_copy / 'checkpoints' / 'best').read_text().strip()
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable('fc8/weights', initializer=tf.zeros([4096, 7]))
        tf.get_variable('fc8/biases', initializer=tf.fill([7], np.nan))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(run_copy / 'checkpoints' / checkpoint), write_meta_graph=False)
    for flags in (['--output', 'x.csv'], ['--output', 'x.json'], ['--features', 'fc8', '--output', 'x.npy']):
        flags[-1] = tmp_path / flags[-1]
        status, _, err = run_main(predict.main, [run_copy, finished_run.parent / 'pictures', *flags], capsys)
        assert status == 2 and 'values that are not finite' in err and os.listdir(tmp_path) == ['run']


def test_folders_are_searched_for_images(tmp_path):
    for name in ('b/c/2.JPG', 'b/1.png', 'a.jpeg', 'notes.txt', 'b/labels.csv', '.git/d.jpg', 'b/._1.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('')
    inputs = read_inputs([str(tmp_path), 'x'], ['a', 'b'])
    assert inputs.paths == [*(str(tmp_path / name) for name in ('a.jpeg', 'b/1.png', 'b/c/2.JPG')), 'x']
    assert inputs.labels is None and inputs.places == [''] * 4


def test_lists_with_and_without_labels(tmp_path):
    plain = write_list(tmp_path / 'plain.txt', ['# which ones', 'my photo 1.jpg', '', '/abs/b.jpg', 'c.jpg'])
    inputs = read_input_list(plain, ['a', 'b'])
    assert inputs.paths == [str(tmp_path / 'my photo 1.jpg'), '/abs/b.jpg', str(tmp_path / 'c.jpg')]
    assert inputs.labels is None and inputs.places == [f'{plain}:{number}: ' for number in (2, 4, 5)]
    labelled = write_list(tmp_path / 'labelled.txt', ['my photo 1.jpg b', 'c.jpg 0'])
    inputs = read_inputs([labelled, labelled], ['a', 'b'])
    assert inputs.labels.tolist() == [1, 0, 1, 0]
    assert inputs.places[1] == f'{labelled}:2: ' and inputs.paths[0] == str(tmp_path / 'my photo 1.jpg')
    named = write_list(tmp_path / 'named.txt', ['my photo 1.jpg\tred fox', 'c.jpg\tblue whale'])
    assert read_input_list(named, ['blue whale', 'red fox']).labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match='no image is listed'):
        read_input_list(write_list(tmp_path / 'empty.txt', ['# nothing']), ['a', 'b'])


def test_odd_file_names_stay_on_their_line(finished_run, command, tmp_path):
    picture = cv2.imread(str(finished_run.parent / 'pictures' / '20.png'))
    name = os.fsencode(tmp_path) + b'/tab\there\nline \xff.png'
    with open(name, 'wb') as file:
        file.write(cv2.imencode('.png', picture)[1].tobytes())
    status, out, err = command(tmp_path)
    assert status == 0 and len(out.splitlines()) == 1 and out.split('\t')[0].endswith(r'tab\there\nline \udcff.png')
    status, out, err = command(tmp_path, '--output', tmp_path / 'x.json')
    assert os.fsencode(json.load(open(tmp_path / 'x.json'))['images'][0]['path']) == name


def test_a_reader_that_ends_early_is_no_error(finished_run):
    process = subprocess.Popen([sys.executable, os.path.join(ROOT, 'predict.py'), str(finished_run),
                                str(finished_run.parent / 'pictures')], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b'' and process.wait() == 141
