import glob
import os
import shutil
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

import export
from alexnet import IMAGE_SIZE
from inputs.images import IMAGENET_MEAN, load_image
from run_folder.trained_run import read_run, rebuild_network
from runtime.tf1 import tf
from tests.helpers import ROOT, run_main

# What a client runs: plain TensorFlow, in a folder without this project.
CLIENT = '''
import numpy as np, sys, tensorflow as tf
given = np.load('given.npz')
model = tf.saved_model.load('model/1')
files = [open(path, 'rb').read() for path in given['paths']]
answers = {'raw': model.signatures['serving_default'](images=tf.constant(given['rgb'])),
           'one': model.signatures['serving_default'](images=tf.constant(given['rgb'][:1])),
           'encoded': model.signatures['encoded'](image_bytes=tf.constant(files))}
answers = {f'{key}_{name}': value.numpy() for key, answer in answers.items() for name, value in answer.items()}
lite = tf.lite.Interpreter('model.tflite')
image, = lite.get_input_details()
probabilities, = lite.get_output_details()
lite.resize_tensor_input(image['index'], given['rgb'].shape)
lite.allocate_tensors()
lite.set_tensor(image['index'], given['rgb'])
lite.invoke()
names = {name: np.char.decode(value.astype('S'), 'utf-8') for name, value in answers.items() if name.endswith('names')}
np.savez('answers.npz', **{**answers, **names}, lite=lite.get_tensor(probabilities['index']),
         lite_names=[image['name'], probabilities['name']],
         foreign=[name for name in sys.modules if name in ('alexnet', 'run_folder', 'export', 'inputs')])
'''


@pytest.fixture(scope='module')
def pictures(finished_run):
    """Photos where ../shared lies beside the project, else the drawn pictures: 6 paths."""
    photos = sorted(glob.glob(os.path.join(ROOT, '..', 'shared', 'data', 'hymenoptera', 'val', 'bees', '*.jpg')))
    return photos[:6] or [str(finished_run.parent / 'pictures' / f'{n:02d}.png') for n in range(6)]


@pytest.fixture(scope='module')
def exported(finished_run, tmp_path_factory):
    """A folder with model/1 and model.tflite, made from the finished run by the command in a process of its own."""
    folder = tmp_path_factory.mktemp('exported')
    shown = subprocess.run([sys.executable, os.path.join(ROOT, 'export.py'), str(finished_run), '--saved_model',
                            'model/1', '--tflite', 'model.tflite'], cwd=folder, capture_output=True, text=True,
                           env={**os.environ, 'TMPDIR': str(folder)})
    # Nothing but what was written is said, though TensorFlow has a lot to say here; no temporary file stays.
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, 'wrote model/1\nwrote model.tflite\n', '')
    assert sorted(os.listdir(folder)) == ['model', 'model.tflite'] and os.listdir(folder / 'model') == ['1']
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope='module')
def answers(exported, finished_run, pictures):
    """(what a client of the exported models gets, the probabilities of the run's network for the same pixels)."""
    images = np.stack([load_image(path) for path in pictures])
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, images.shape)
        model, restore = rebuild_network(read_run(str(finished_run)), x)
        restore(session)
        expected = session.run(tf.nn.softmax(model.fc8), {x: images})
    np.savez(exported / 'given.npz', rgb=rgb(images), paths=[os.path.abspath(path) for path in pictures])
    subprocess.run([sys.executable, '-I', '-c', CLIENT], cwd=exported, check=True, capture_output=True)
    return np.load(exported / 'answers.npz'), expected


def rgb(images):
    """Return what load_image returned as uint8 RGB."""
    return np.uint8(np.round(images + IMAGENET_MEAN))[..., ::-1]


def test_plain_tensorflow_gives_the_same_probabilities(answers):
    got, expected = answers
    assert got['foreign'].size == 0 and np.ptp(expected, axis=0).max() > 0.01  # images differ, and it shows
    np.testing.assert_allclose(got['raw_probabilities'], expected, atol=1e-5)
    np.testing.assert_allclose(got['one_probabilities'], expected[:1], atol=1e-5)
    assert got['raw_class_names'].tolist() == [['ant', 'bee', 'Käfer', 'red fox', 'eel', 'owl', 'yak']] * 6


def test_tensorflow_lite_gives_the_same_probabilities_and_has_the_names(answers, exported):
    got, expected = answers
    np.testing.assert_allclose(got['lite'], expected, atol=1e-4)
    assert got['lite_names'].tolist() == ['images', 'probabilities']
    with zipfile.ZipFile(exported / 'model.tflite') as archive:
        assert archive.read('labels.txt').decode() == 'ant\nbee\nKäfer\nred fox\neel\nowl\nyak\n'


def test_encoded_images_give_nearly_the_same(answers):
    """Single pixels differ by 1 of 255, see below; of probabilities that is some thousandths at the most."""
    got, expected = answers
    np.testing.assert_allclose(got['encoded_probabilities'], expected, atol=0.01)
    assert (got['encoded_probabilities'].argmax(1) == expected.argmax(1)).all()


def decoded(content, scale_size):
    """What the graph makes of the content of an image file."""
    with tf.Graph().as_default(), tf.Session() as session:
        text = tf.placeholder(tf.string, [])
        return session.run(export.decode(text, scale_size), {text: content}).astype(int)


@pytest.mark.parametrize('scale_size', [(227, 227), (256, 256), (300, 250)])
@pytest.mark.parametrize('height, width, kind, share', [(500, 333, 'jpg', 0.03), (227, 700, 'png', 0.03),
                                                        (454, 512, 'jpg', 0.03), (60, 90, 'png', 0.2)])
def test_decoding_in_the_graph_is_load_image_and_the_centre(tmp_path, scale_size, height, width, kind, share):
    """Compared with OpenCV: rounding differs in some of 1,000 values if it shrinks, in an eighth if it grows."""
    noise = np.random.RandomState(0).randint(0, 256, (12, 9, 3)).astype(np.uint8)
    path = str(tmp_path / f'picture.{kind}')
    cv2.imwrite(path, cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
    left, top = ((side - IMAGE_SIZE) // 2 for side in scale_size)
    expected = rgb(load_image(path, scale_size))[top:top + IMAGE_SIZE, left:left + IMAGE_SIZE].astype(int)
    got = decoded(open(path, 'rb').read(), scale_size)
    share = 0.2 if height < scale_size[1] else share
    assert got.shape == expected.shape and abs(got - expected).max() <= 1 and (got != expected).mean() <= share


def test_only_inference_is_written(exported):
    """No dropout, no random numbers, no slots of an optimizer, nothing that only this project knows."""
    with tf.Graph().as_default(), tf.Session() as session:
        proto = tf.saved_model.load(session, [tf.saved_model.SERVING], str(exported / 'model' / '1'))
    operations = {node.op for node in proto.graph_def.node} | {
        node.op for function in proto.graph_def.library.function for node in function.node_def}
    assert 'Conv2D' in operations and not any('Random' in name or 'PyFunc' in name for name in operations)
    assert {part.method_name for part in proto.signature_def.values()} == {tf.saved_model.PREDICT_METHOD_NAME}
    names = [name for name, _ in tf.train.list_variables(str(exported / 'model' / '1' / 'variables' / 'variables'))]
    assert sorted(names) == sorted(f'{layer}/{kind}' for kind in ('weights', 'biases')
                                   for layer in ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8'))


def test_a_session_that_feeds_a_signature_gets_its_outputs(exported, answers, pictures):
    """The way of TensorFlow Serving: names of tensors from the signature, fed and fetched."""
    with tf.Graph().as_default(), tf.Session() as session:
        proto = tf.saved_model.load(session, [tf.saved_model.SERVING], str(exported / 'model' / '1'))
        for key, name, values in (('serving_default', 'images', rgb(np.stack([load_image(pictures[1])]))),
                                  ('encoded', 'image_bytes', [open(pictures[1], 'rb').read()])):
            signature = proto.signature_def[key]
            got = session.run({output: info.name for output, info in signature.outputs.items()},
                              {signature.inputs[name].name: values})
            assert got['class_names'].shape == got['probabilities'].shape == (1, 7)
            np.testing.assert_allclose(got['probabilities'], answers[1][1:2], atol=1e-5 if name == 'images' else 0.01)


@pytest.mark.parametrize('flags, named', [
    ([], 'nothing to write'),
    (['--saved_model', 'taken'], 'taken exists already'),
    (['--saved_model', 'new', '--tflite', 'new'], 'new exists already'),
    (['--saved_model', 'new/1', '--tflite', 'taken.tflite'], 'taken.tflite exists already'),
    (['--saved_model', 'new/1', '--checkpoint', '9'], 'it has no checkpoint 9'),
    (['--saved_model', 'taken.tflite/1'], 'File exists'),
])
def test_what_cannot_be_written_ends_in_a_line(finished_run, tmp_path, monkeypatch, capsys, flags, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'taken').mkdir()
    (tmp_path / 'taken.tflite').write_text('x')
    status, out, err = run_main(export.main, [finished_run, *flags], capsys)
    assert status == 2 and out == '' and named in err and len(err.splitlines()) == 1
    assert sorted(os.listdir()) == ['taken', 'taken.tflite'] and os.listdir('taken') == []
