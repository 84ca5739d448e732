import os

import cv2
import numpy as np
import pytest

from alexnet import LAYERS, AlexNet
from runtime.tf1 import assign_values, open_session, session_config, tf
from tests.helpers import ROOT, random_conv_weights, shared
from weight_files.reader import read_weights

# Blobs of Caffe's bvlc_alexnet, channels last; test_caffe_itself compares with Caffe's own.
SHAPES = {'conv1': (55, 55, 96), 'norm1': (55, 55, 96), 'pool1': (27, 27, 96),
          'conv2': (27, 27, 256), 'norm2': (27, 27, 256), 'pool2': (13, 13, 256),
          'conv3': (13, 13, 384), 'conv4': (13, 13, 384), 'conv5': (13, 13, 256),
          'pool5': (6, 6, 256), 'fc6': (4096,), 'fc7': (4096,), 'fc8': (1000,)}
FC_LAYERS = ('fc6', 'fc7', 'fc8')


@pytest.fixture(scope='module')
def network(conv_weights_file):
    """(session, model): the full network, random conv weights from a file, fc8 of 1000 classes."""
    with tf.Graph().as_default(), open_session() as session:
        tf.set_random_seed(0)
        x = tf.placeholder(tf.float32, [None, 227, 227, 3])
        model = AlexNet(x, tf.placeholder_with_default(1.0, []), 1000, FC_LAYERS, conv_weights_file)
        session.run(tf.global_variables_initializer())
        model.load_initial_weights(session)
        yield session, model


@pytest.fixture(scope='module')
def images():
    return np.random.RandomState(3).uniform(-120, 150, (2, 227, 227, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def outputs(network, images):
    session, model = network
    return session.run(model.outputs, {model.x: images})


def test_every_output_has_the_shape_that_caffe_gives_it(network, outputs):
    assert {name: value.shape[1:] for name, value in outputs.items()} == SHAPES
    assert all(tensor.shape.as_list()[0] is None for tensor in network[1].outputs.values())


def test_outputs_are_reachable_by_name(network):
    session, model = network
    for name, tensor in model.outputs.items():
        assert session.graph.get_tensor_by_name(f'{name}/output:0') is tensor
        assert model.tensor(name) is tensor
    assert model.tensor('x') is model.x


def test_variables_are_exactly_weights_and_biases_of_each_layer(network):
    session, _ = network
    variables = session.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    names = [f'{layer}/{kind}:0' for layer in LAYERS for kind in ('weights', 'biases')]
    assert sorted(variable.name for variable in variables) == sorted(names)


def test_parameters_are_as_many_as_in_the_paper(network):
    # Caffe's bvlc_alexnet.caffemodel has 60,965,224 parameters.
    sizes = [variable.shape.num_elements()
             for pair in network[1].variables.values() for variable in pair]
    assert sum(sizes) == 60965224


def test_the_batch_size_is_free(network, images, outputs):
    session, model = network
    alone = session.run(model.fc8, {model.x: images[1:]})
    largest = np.abs(outputs['fc8']).max()
    np.testing.assert_allclose(alone, outputs['fc8'][1:], rtol=1e-4, atol=1e-4 * largest)


@pytest.mark.parametrize('name', ['pool5', 'fc6', 'fc7'])
def test_a_fed_output_gives_the_same_logits(network, outputs, name):
    session, model = network
    logits = session.run(model.fc8, {model.tensor(name): outputs[name]})
    largest = np.abs(logits).max()
    np.testing.assert_allclose(logits, outputs['fc8'], rtol=1e-5, atol=1e-5 * largest)


def test_grouped_convolution_by_hand(outputs):
    # conv2 at row 10, column 7, in NumPy: 5x5 around it. Outputs 128..255 see input channels
    # 48..95 only.
    weights, biases = random_conv_weights()['conv2']
    window = outputs['pool1'][:, 8:13, 5:10].astype(np.float64)
    for group in range(2):
        part, kernel = window[..., 48 * group:][..., :48], weights[..., 128 * group:][..., :128]
        sums = np.einsum('nijc,ijco->no', part, kernel) + biases[128 * group:][:128]
        expected = np.maximum(sums, 0)
        got = outputs['conv2'][:, 10, 7, 128 * group:][:, :128]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_local_response_norm_by_hand(outputs):
    # Caffe's definition: x / (1 + alpha / 5 * sum of squares of 5 neighbouring channels) ** beta.
    x = outputs['conv1'][:, ::9, ::9].astype(np.float64)
    padded = np.pad(x**2, [(0, 0), (0, 0), (0, 0), (2, 2)])
    squares = sum(padded[..., i:i + 96] for i in range(5))
    expected = x / (1 + 1e-4 / 5 * squares) ** 0.75
    np.testing.assert_allclose(outputs['norm1'][:, ::9, ::9], expected, rtol=1e-5)


def test_dropout_is_random_and_keeps_the_mean(network, outputs):
    session, model = network
    fed = {model.outputs['fc7']: outputs['fc7'], model.keep_prob: 0.5}
    first, second = (session.run(model.fc8, fed) for _ in range(2))
    assert np.abs(first - second).max() > 0
    fed[model.outputs['fc7']] = np.repeat(outputs['fc7'][:1], 2000, 0)
    mean, largest = session.run(model.fc8, fed).mean(0), np.abs(outputs['fc8']).max()
    np.testing.assert_allclose(mean, outputs['fc8'][0], atol=0.1 * largest)


def test_loading_makes_no_operations_and_leaves_the_graph_small(network):
    session, model = network
    before = len(session.graph.get_operations())
    model.load_initial_weights(session)
    assert len(session.graph.get_operations()) == before
    assert session.graph.as_graph_def().ByteSize() < 1 << 20


def test_loading_gives_all_but_skipped_layers_the_file(network, conv_weights_file):
    session, model = network
    before = session.run(model.variables['fc6'])
    model.load_initial_weights(session)
    after = session.run(model.variables)
    np.testing.assert_array_equal(after['fc6'][0], before[0])
    for layer, pair in read_weights(conv_weights_file).items():
        np.testing.assert_array_equal(after[layer][0], pair[0])
        np.testing.assert_array_equal(after[layer][1], pair[1])


@pytest.fixture
def load(network, tmp_path):
    """Function that loads {layer: [weights, biases]} from w.npy into the network."""
    session, model = network
    path = model.weights_path

    def load(layers):
        np.save(tmp_path / 'w.npy', layers, allow_pickle=True)
        model.weights_path = str(tmp_path / 'w.npy')
        model.load_initial_weights(session)
    yield load
    model.weights_path = path


def test_every_difference_is_named_and_nothing_assigned(network, load):
    session, model = network
    layers = random_conv_weights()
    layers['conv2'][0] = layers['conv2'][0][:3]
    layers['conv3'][1] = layers['conv3'][1][:7]
    layers['conv1'][1] = layers['conv1'][1] + 1
    del layers['conv4']
    layers['fc8_mine'] = layers['conv5']
    before = session.run(model.variables['conv1'])
    with pytest.raises(ValueError) as error:
        load(layers)
    for difference in ('conv2/weights is (3, 5, 48, 256) and should be (5, 5, 48, 256)',
                       'conv3/biases is (7,)', 'conv4 is missing', 'fc8_mine'):
        assert difference in str(error.value)
    np.testing.assert_array_equal(session.run(model.variables['conv1'])[1], before[1])


def test_layers_that_alexnet_does_not_have_are_named(load, tmp_path, capsys):
    load({**random_conv_weights(), 'fc8_flickr': [np.ones((2, 1)), np.ones(1)]})
    line = f'{tmp_path / "w.npy"}: AlexNet has no fc8_flickr; ignored\n'
    assert capsys.readouterr().out == line


def test_unknown_layers_are_refused_and_the_legal_ones_listed():
    message = 'called conv10, fc9; the layers are conv1 conv2'
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), 1.0, 2, ['fc9', 'conv10', 'fc8'])


def test_without_a_weight_file_there_is_nothing_to_load():
    with tf.Graph().as_default():
        model = AlexNet(tf.placeholder(tf.float32, [None, 227, 227, 3]), 1.0, 2, [], None)
        with pytest.raises(ValueError, match='no weights to load'):
            model.load_initial_weights(None)


def drawn_layer(random, model, layer):
    """Return weights and biases of a layer as ../shared/README.md says that Caffe's were drawn."""
    inputs, outputs = model.variables[layer][0].shape.as_list()
    weights = random.standard_normal([inputs, outputs]) * np.sqrt(2 / inputs)
    return np.float32(weights), np.float32(random.standard_normal([outputs]) * 0.1)


@pytest.mark.parametrize('architecture, file', [
    ('alexnet', 'forward.npz'), ('caffenet', 'caffenet_forward.npz')])
def test_caffe_itself(architecture, file):
    """Every blob of Caffe's forward pass over 4 photos, within 1e-5 of the blob's largest value."""
    reference = np.load(shared('caffe_reference', file))
    with tf.Graph().as_default(), open_session() as session:
        x = tf.placeholder(tf.float32, [None, 227, 227, 3])
        path = shared('weights', 'bvlc_alexnet_conv.npy')
        model = AlexNet(x, 1.0, 1000, FC_LAYERS, path, architecture=architecture)
        model.load_initial_weights(session)
        random = np.random.RandomState(7)
        for layer in FC_LAYERS:
            assign_values(session, model.variables[layer], drawn_layer(random, model, layer))
        images = reference['images'] - np.float32([104, 117, 124])
        outputs = session.run({**model.outputs, 'prob': tf.nn.softmax(model.fc8)}, {x: images})
    assert set(outputs) == set(SHAPES) | {'prob'}
    for name, value in outputs.items():
        assert value.shape == tuple(reference[f'{name}_shape'])
        error = np.abs(value.reshape(4, -1)[:, reference[f'{name}_index']] - reference[name]).max()
        assert error <= 1e-5 * np.abs(reference[name]).max(), name


def test_code_written_for_the_well_known_class_runs(all_weights_file, tmp_path, monkeypatch):
    """Word for word: an empty skip_layer, keep_prob fed, bvlc_alexnet.npy in the current folder."""
    os.symlink(all_weights_file, tmp_path / 'bvlc_alexnet.npy')
    monkeypatch.chdir(tmp_path)
    image = np.random.RandomState(0).uniform(-120, 150, (227, 227, 3))
    session_config()  # TensorFloat-32 is off in this process
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [1, 227, 227, 3])
        keep_prob = tf.placeholder(tf.float32)
        model = AlexNet(x, keep_prob, 1000, [])
        score = model.fc8
        softmax = tf.nn.softmax(score)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            model.load_initial_weights(sess)
            feed = {x: image.reshape((1, 227, 227, 3)), keep_prob: 1}
            probs, features = sess.run([softmax, model.outputs['fc7']], feed_dict=feed)
            class_number = np.argmax(sess.run(softmax, feed_dict={x: image[None], keep_prob: 1}))
    weights, biases = read_weights('bvlc_alexnet.npy')['fc8']
    expected = np.exp(features.astype(np.float64) @ weights + biases)
    assert probs.shape == (1, 1000) and class_number == expected.argmax()
    np.testing.assert_allclose(probs, expected / expected.sum(), atol=1e-5)


def test_the_docs_lines_for_a_notebook_run(all_weights_file, tmp_path, monkeypatch):
    with open(os.path.join(ROOT, 'docs', 'use.md'), encoding='utf-8') as file:
        text = file.read()
    code = text.split('## The class alone')[1].split('```python\n')[1].split('```')[0]
    os.symlink(all_weights_file, tmp_path / 'bvlc_alexnet.npy')
    photo = np.random.RandomState(0).randint(0, 255, (300, 400, 3))
    cv2.imwrite(str(tmp_path / 'photo.jpg'), photo)
    monkeypatch.chdir(tmp_path)
    exec(code, names := {})
    probabilities = names['probabilities']
    assert probabilities.shape == (1, 1000) and abs(probabilities.sum() - 1) < 1e-5
    assert len(code.splitlines()) <= 15
