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
from alexnet import IMAGE_SIZE, LAYERS
from inputs.images import IMAGENET_MEAN, load_image
from inputs.views import views_of
from run_folder.trained_run import read_run, rebuild_network
from runtime.tf1 import open_session, tf
from tests.helpers import ROOT, run_main
from tests.image_files import CASES, by_pillow
from tests.raw_images import png, png_chunk

pytestmark = pytest.mark.slow

NAMES = ['ant', 'bee', 'Käfer', 'red fox', 'eel', 'owl', 'yak']  # of the fixture finished_run

# What a client runs: plain TensorFlow, in a folder without this project.
CLIENT = '''
import numpy as np, sys, tensorflow as tf
tf.config.experimental.enable_tensor_float_32_execution(False)  # it is on by default, on GPUs
given = np.load('given.npz')
model = tf.saved_model.load('model/1')
predict, predict_encoded = (model.signatures[key] for key in ('serving_default', 'encoded'))
files = [open(path, 'rb').read() for path in given['paths']]
answers = {'raw': predict(images=tf.constant(given['rgb'])),
           'one': predict(images=tf.constant(given['rgb'][:1])),
           'encoded': predict_encoded(image_bytes=tf.constant(files))}
answers = {f'{key}_{name}': value.numpy()
           for key, answer in answers.items() for name, value in answer.items()}
for name, value in answers.items():
    if name.endswith('names'):
        answers[name] = np.char.decode(value.astype('S'), 'utf-8')
lite = tf.lite.Interpreter('model.tflite')
image, = lite.get_input_details()
probabilities, = lite.get_output_details()
lite.resize_tensor_input(image['index'], given['rgb'].shape)
lite.allocate_tensors()
lite.set_tensor(image['index'], given['rgb'])
lite.invoke()
ours = [name for name in sys.modules if name in ('alexnet', 'run_folder', 'export', 'inputs')]
np.savez('answers.npz', **answers, lite=lite.get_tensor(probabilities['index']),
         lite_names=[image['name'], probabilities['name']], ours=ours)
'''


@pytest.fixture(scope='module')
def pictures(finished_run):
    """Photos where ../shared lies beside the project, else the drawn pictures: 6 paths."""
    bees = os.path.join(ROOT, '..', 'shared', 'data', 'hymenoptera', 'val', 'bees')
    drawn = [str(finished_run.parent / 'pictures' / f'{n:02d}.png') for n in range(6)]
    return sorted(glob.glob(os.path.join(bees, '*.jpg')))[:6] or drawn


@pytest.fixture(scope='module')
def exported(finished_run, tmp_path_factory):
    """A folder with model/1 and model.tflite, exported from the finished run in a process."""
    folder = tmp_path_factory.mktemp('exported')
    command = [sys.executable, os.path.join(ROOT, 'export.py'), str(finished_run),
               '--saved_model', 'model/1', '--tflite', 'model.tflite']
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True,
                           env={**os.environ, 'TMPDIR': str(folder)})
    # No message of TensorFlow is printed, which has many here, and no temporary file remains.
    assert shown.stdout == 'wrote model/1\nwrote model.tflite\n'
    assert (shown.returncode, shown.stderr) == (0, '')
    assert sorted(os.listdir(folder)) == ['model', 'model.tflite']
    assert os.listdir(folder / 'model') == ['1']
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope='module')
def answers(exported, finished_run, pictures):
    """(answers of the exported models to a client, probabilities of the run's own network)."""
    images = np.stack([load_image(path) for path in pictures])
    with tf.Graph().as_default(), open_session() as session:
        x = tf.placeholder(tf.float32, images.shape)
        model, restore = rebuild_network(read_run(str(finished_run)), x)
        restore(session)
        expected = session.run(tf.nn.softmax(model.fc8), {x: images})
    paths = [os.path.abspath(path) for path in pictures]
    np.savez(exported / 'given.npz', rgb=rgb(images), paths=paths)
    subprocess.run([sys.executable, '-I', '-c', CLIENT], cwd=exported, check=True,
                   capture_output=True)
    return np.load(exported / 'answers.npz'), expected


def rgb(images):
    """Return images of load_image as uint8 RGB."""
    return np.uint8(np.round(images + IMAGENET_MEAN))[..., ::-1]


def test_plain_tensorflow_gives_the_same_probabilities(answers):
    got, expected = answers
    assert got['ours'].size == 0
    assert np.ptp(expected, axis=0).max() > 0.01  # the images' probabilities differ
    np.testing.assert_allclose(got['raw_probabilities'], expected, atol=1e-5)
    np.testing.assert_allclose(got['one_probabilities'], expected[:1], atol=1e-5)
    assert got['raw_class_names'].tolist() == [NAMES] * 6


def test_tensorflow_lite_gives_the_same_and_has_the_names(answers, exported):
    got, expected = answers
    np.testing.assert_allclose(got['lite'], expected, atol=1e-4)
    assert got['lite_names'].tolist() == ['images', 'probabilities']
    with zipfile.ZipFile(exported / 'model.tflite') as archive:
        assert archive.read('labels.txt').decode().splitlines() == NAMES


def test_encoded_images_give_nearly_the_same(answers):
    """Single pixels differ by 1 of 255, see below; probabilities by a few thousandths at most."""
    got, expected = answers
    np.testing.assert_allclose(got['encoded_probabilities'], expected, atol=0.01)
    assert (got['encoded_probabilities'].argmax(1) == expected.argmax(1)).all()


def decoded(content, scale_size):
    """Return the pixels that the exported graph decodes from an image file, int."""
    with tf.Graph().as_default(), open_session() as session:
        text = tf.placeholder(tf.string, [])
        return session.run(export.decode(text, scale_size), {text: content}).astype(int)


@pytest.mark.parametrize('scale_size', [(227, 227), (256, 256), (300, 250)])
@pytest.mark.parametrize('height, width, kind', [
    (500, 333, 'jpg'), (227, 700, 'png'), (454, 512, 'jpg'), (60, 90, 'png')])
def test_decoding_in_the_graph_is_that_of_load_image(tmp_path, scale_size, height, width, kind):
    """Rounding differs from OpenCV's in few values if the picture shrinks, in an eighth else."""
    noise = np.random.RandomState(0).randint(0, 256, (12, 9, 3)).astype(np.uint8)
    path = str(tmp_path / f'picture.{kind}')
    cv2.imwrite(path, cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
    expected = rgb(load_image(path, scale_size, crop_size=(IMAGE_SIZE, IMAGE_SIZE))).astype(int)
    with open(path, 'rb') as file:
        got = decoded(file.read(), scale_size)
    assert got.shape == expected.shape and abs(got - expected).max() <= 1
    shrinks = height >= scale_size[1]
    assert (got != expected).mean() <= (0.03 if shrinks else 0.2)


def test_the_model_of_a_run_with_crops_takes_the_first(finished_run, tmp_path):
    """The centre of 256x256 pixels, cut out by NumPy."""
    picture = np.random.RandomState(0).randint(0, 256, (256, 256, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    run = read_run(str(finished_run))._replace(views=views_of('crops', True))
    with tf.Graph().as_default(), tf.Session() as session:
        tensors, _ = export.build_serving_graph(run)
        [found] = session.run(
            tensors.images, {tensors.image_bytes: [(tmp_path / 'a.png').read_bytes()]})
    np.testing.assert_array_equal(found, picture[14:241, 14:241, ::-1])


@pytest.mark.parametrize('case', [case for case in CASES if 'PNG' in case])
def test_the_graph_lays_transparency_on_white(case):
    """As Pillow does: alpha, and clear colours of palettes and of RGB; 1 bit has neither."""
    expected = by_pillow(CASES[case])[:, :, ::-1]
    np.testing.assert_allclose(decoded(CASES[case], (IMAGE_SIZE,) * 2), expected, atol=1)


@pytest.mark.parametrize('depth', [1, 2, 4, 16])
@pytest.mark.parametrize('has_clear_colour', [False, True])
def test_the_graph_knows_each_depth_of_gray(depth, has_clear_colour):
    """By NumPy: one row of each gray; the graph takes the high byte of 16 bits."""
    samples = np.repeat(np.linspace(0, (1 << depth) - 1, 227).astype(int)[:, None], 227, axis=1)
    bits = (samples[:, :, None] >> np.arange(depth)[::-1] & 1).astype(np.uint8)
    rows = [row.tobytes() for row in np.packbits(bits.reshape(227, -1), axis=1)]
    clear = [png_chunk(b'tRNS', samples[0, :1].astype('>u2').tobytes())] * has_clear_colour
    expected = samples * (255 / ((1 << depth) - 1))
    expected[(samples == samples[0, 0]) & has_clear_colour] = 255
    content = png(rows, 227, depth, 0, *clear)
    np.testing.assert_allclose(decoded(content, (IMAGE_SIZE,) * 2)[:, :, 1], expected, atol=1)


@pytest.fixture
def saved_graph(exported):
    """(session, MetaGraphDef) of the SavedModel as TensorFlow Serving loads it."""
    with tf.Graph().as_default(), open_session() as session:
        folder = str(exported / 'model' / '1')
        yield session, tf.saved_model.load(session, [tf.saved_model.SERVING], folder)


def test_only_inference_is_written(exported, saved_graph):
    """No dropout, no random numbers, no slots of an optimizer, no functions of this project."""
    graph = saved_graph[1].graph_def
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    operations = {node.op for node in nodes}
    assert 'Conv2D' in operations
    assert not any('Random' in name or 'PyFunc' in name for name in operations)
    variables = tf.train.list_variables(str(exported / 'model' / '1' / 'variables' / 'variables'))
    assert sorted(name for name, _ in variables) == sorted(
        f'{layer}/{kind}' for layer in LAYERS for kind in ('weights', 'biases'))


@pytest.mark.parametrize('key, name, atol', [
    ('serving_default', 'images', 1e-5), ('encoded', 'image_bytes', 0.01)])
def test_feeding_a_signature_gives_its_outputs(saved_graph, answers, pictures, key, name, atol):
    """As TensorFlow Serving does it: names of tensors from the signature, fed and fetched."""
    session, proto = saved_graph
    signature = proto.signature_def[key]
    with open(pictures[1], 'rb') as file:
        values = {'images': rgb(load_image(pictures[1]))[None], 'image_bytes': [file.read()]}
    outputs = {output: info.name for output, info in signature.outputs.items()}
    got = session.run(outputs, {signature.inputs[name].name: values[name]})
    assert signature.method_name == tf.saved_model.PREDICT_METHOD_NAME
    assert got['class_names'].shape == got['probabilities'].shape == (1, 7)
    np.testing.assert_allclose(got['probabilities'], answers[1][1:2], atol=atol)


@pytest.mark.parametrize('flags, named', [
    ([], 'nothing to write'),
    (['--saved_model', 'taken'], 'taken exists already'),
    (['--saved_model', 'new', '--tflite', 'new'], 'new exists already'),
    (['--saved_model', 'new/1', '--tflite', 'taken.tflite'], 'taken.tflite exists already'),
    (['--saved_model', 'new/1', '--checkpoint', '9'], 'it has no checkpoint 9'),
    (['--saved_model', 'taken.tflite/1'], 'File exists'),
])
def test_what_cannot_be_written_ends_in_a_line(finished_run, tmp_path, monkeypatch, capsys,
                                               flags, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'taken').mkdir()
    (tmp_path / 'taken.tflite').write_text('x')
    status, out, err = run_main(export.main, [finished_run, *flags], capsys)
    assert status == 2 and out == '' and named in err and len(err.splitlines()) == 1
    assert sorted(os.listdir()) == ['taken', 'taken.tflite'] and os.listdir('taken') == []
