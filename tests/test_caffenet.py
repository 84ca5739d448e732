"""A .caffemodel of CaffeNet is trained, resumed, predicted with and exported as CaffeNet."""

import json
import os
import re
import shutil

import numpy as np
import pytest

import export
import finetune
import predict
from alexnet import AlexNet
from inputs.images import IMAGENET_MEAN, load_image
from run_folder.trained_run import read_run
from runtime.tf1 import open_session, tf
from tests.caffe_files import caffemodel, in_caffe_order
from tests.helpers import read_checkpoint, run_main, write_dark_and_bright
from weight_files.reader import read_weights

pytestmark = pytest.mark.slow

IMAGES = [f'{n}.png' for n in range(10, 15)]  # of val.txt


@pytest.fixture(scope='module')
def caffenet_file(all_weights_file, tmp_path_factory):
    """A .caffemodel with the weights of all_weights_file and the layers of CaffeNet: 244 MB."""
    path = tmp_path_factory.mktemp('caffenet') / 'caffenet.caffemodel'
    layers = in_caffe_order(read_weights(all_weights_file))
    path.write_bytes(caffemodel(layers, ends=('Pooling', 'LRN')))
    yield str(path)
    path.unlink()


@pytest.fixture(scope='module')
def flags(caffenet_file, tmp_path_factory):
    """Flags of a run that trains fc8 on 10 pictures; its lists and `cache` lie in one folder."""
    folder = write_dark_and_bright(tmp_path_factory.mktemp('pictures'), 60)
    yield ['--train_file', str(folder / 'train.txt'), '--val_file', str(folder / 'val.txt'),
           '--weights_path', caffenet_file, '--train_layers', 'fc8', '--batch_size', '5',
           '--num_epochs', '1', '--cache_dir', str(folder / 'cache')]
    shutil.rmtree(folder / 'cache')


@pytest.fixture(scope='module')
def run(flags, tmp_path_factory):
    """The folder of the run."""
    folder = tmp_path_factory.mktemp('caffenet_run') / 'run'
    assert finetune.main([*flags, '--run_dir', str(folder)]) == 0
    yield folder
    shutil.rmtree(folder / 'checkpoints')


def compute_probabilities(weights_path, fc8, images, architecture):
    """Return the probabilities of images by the layers of a file, and fc8 in NumPy."""
    with tf.Graph().as_default(), open_session() as session:
        x = tf.placeholder(tf.float32, [None, 227, 227, 3])
        model = AlexNet(x, 1.0, 2, ['fc8'], weights_path, architecture=architecture)
        model.load_initial_weights(session)
        features = session.run(model.outputs['fc7'], {x: images})
    logits = features.astype(np.float64) @ fc8[0] + fc8[1]
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def predicted(run, folder, capsys):
    """Return the probabilities of IMAGES by predict.py, [n, 2]."""
    arguments = [run, *(os.path.join(folder, name) for name in IMAGES)]
    output = run.parent / 'predictions.json'
    assert run_main(predict.main, [*arguments, '--output', output], capsys)[0] == 0
    rows = json.loads(output.read_text())['images']
    output.unlink()
    by_name = [{guess['class']: guess['probability'] for guess in row['predictions']}
               for row in rows]
    return np.array([[row['dark'], row['bright']] for row in by_name])


def exported(run, images, folder):
    """Return the probabilities of images, float32 BGR minus the mean, by an exported model."""
    export.main([str(run), '--saved_model', str(folder / 'model')])
    rgb = np.uint8(images + IMAGENET_MEAN)[..., ::-1]
    with tf.Graph().as_default(), open_session() as session:
        tf.saved_model.load(session, ['serve'], str(folder / 'model'))
        return session.run('probabilities:0', {'images:0': rgb})


def test_predictions_and_exports_are_of_caffenet(
        run, flags, caffenet_file, all_weights_file, tmp_path, capsys):
    assert json.loads((run / 'settings.json').read_text())['architecture'] == 'caffenet'
    assert read_run(str(run)).architecture == 'caffenet'
    pictures = os.path.dirname(flags[1])
    images = np.stack([load_image(os.path.join(pictures, name)) for name in IMAGES])
    checkpoint = read_checkpoint(run / 'checkpoints', 'best')
    fc8 = checkpoint['fc8/weights'], checkpoint['fc8/biases']
    expected = compute_probabilities(caffenet_file, fc8, images, 'caffenet')
    np.testing.assert_allclose(predicted(run, pictures, capsys), expected, atol=1e-5)
    np.testing.assert_allclose(exported(run, images, tmp_path), expected, atol=1e-5)
    other = compute_probabilities(all_weights_file, fc8, images, 'alexnet')
    assert np.abs(other - expected).max() > 1e-3  # so that the test can tell the two apart


def test_a_resumed_run_stays_caffenet(run, flags, tmp_path, capsys):
    copy = tmp_path / 'run'
    shutil.copytree(run, copy)
    status, out, err = run_main(
        finetune.main, [*flags, '--num_epochs', 2, '--run_dir', copy], capsys)
    assert status == 0, err
    needed, computed = re.search(r'of (\d+) views, (\d+) of them computed now', out).groups()
    assert int(needed) - int(computed) == 15  # the first epoch's and those of validation are found
    assert json.loads((copy / 'settings.json').read_text())['architecture'] == 'caffenet'
    arguments = ['--resume', copy, '--num_epochs', 3, '--architecture', 'alexnet']
    status, _, err = run_main(finetune.main, arguments, capsys)
    assert status == 2 and 'architecture was caffenet, not alexnet' in err
    shutil.rmtree(copy / 'checkpoints')


def test_features_of_one_architecture_are_not_used_for_the_other(
        run, flags, all_weights_file, tmp_path, capsys):
    """With the same weights, images and cache."""
    arguments = [*flags, '--weights_path', all_weights_file, '--run_dir']
    shown = {}
    for architecture in ('alexnet', 'caffenet'):
        folder = tmp_path / architecture
        status, out, err = run_main(
            finetune.main, [*arguments, folder, '--architecture', architecture], capsys)
        assert status == 0, err
        shown[architecture] = next(line for line in out.splitlines() if 'is stored in' in line)
        shutil.rmtree(folder / 'checkpoints')
    assert '15 of them computed now' in shown['alexnet']  # a view of 10 images each, and 5
    assert ', 0 of them computed now' in shown['caffenet']


@pytest.mark.parametrize('architecture', ['', 'CaffeNet', 'auto'])
def test_the_class_refuses_other_architectures(architecture):
    with pytest.raises(ValueError, match='is not one of alexnet caffenet'):
        AlexNet(None, 1.0, 2, [], architecture=architecture)


def test_the_class_refuses_a_file_of_the_other_architecture(caffenet_file):
    with tf.Graph().as_default(), open_session() as session:
        model = AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), 1.0, 1000, [],
                        caffenet_file)
        with pytest.raises(ValueError, match='is caffenet .*, and architecture is alexnet'):
            model.load_initial_weights(session)
        assert session.run(tf.report_uninitialized_variables()).size == 16


def test_a_setting_that_contradicts_the_file_ends_with_one_line(flags, run_dir, capsys):
    arguments = [*flags, '--architecture', 'alexnet', '--run_dir', run_dir]
    status, _, err = run_main(finetune.main, arguments, capsys)
    assert status == 2 and len(err.splitlines()) == 1
    assert 'caffenet.caffemodel is caffenet' in err and 'architecture is alexnet' in err


def test_both_architectures_draw_the_same_initial_values():
    """Random operations are seeded by their number in the graph, which is the same."""
    values = {}
    for architecture in ('alexnet', 'caffenet'):
        with tf.Graph().as_default(), open_session() as session:
            tf.set_random_seed(3)
            x = tf.placeholder(tf.float32, [None, 227, 227, 3])
            model = AlexNet(x, 1.0, 2, [], architecture=architecture)
            session.run(tf.variables_initializer(model.variables['conv5']))
            values[architecture] = session.run(model.variables['conv5'][0])
            norm1 = model.outputs['norm1'].shape.as_list()[1:]
            assert norm1 == {'alexnet': [55, 55, 96], 'caffenet': [27, 27, 96]}[architecture]
    np.testing.assert_array_equal(values['alexnet'], values['caffenet'])
