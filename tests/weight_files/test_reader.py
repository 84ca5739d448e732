import multiprocessing
import os
import pickle
import warnings

import numpy as np
import pytest

from runtime.files import printable
from tests.caffe_files import caffemodel
from tests.npy_files import python2_file, small_caffe_layers, small_layers
from weight_files.architecture import read_architecture
from weight_files.reader import (
    LAYER_SHAPES,
    check_layers,
    format_names,
    layer_differences,
    read_weights,
)


def test_shapes_are_those_of_the_paper():
    # Caffe's bvlc_alexnet.caffemodel has 60,965,224 parameters.
    assert sum(np.prod(shape) + shape[-1] for shape in LAYER_SHAPES.values()) == 60965224


@pytest.mark.parametrize('content, message', [
    (b'', 'it is empty'),
    (b'<html>no access</html>', 'it is a web page'),
    (b' \n<!DOCTYPE html>', 'it is a web page'),
    (b'rubbish', 'it is neither a .npy nor a .caffemodel')])
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / 'w.npy').write_bytes(content)
    with pytest.raises(ValueError, match=f'w.npy is not a weight file: {message}'):
        read_weights(str(tmp_path / 'w.npy'))


@pytest.mark.parametrize('weights', [np.float32([np.nan]), np.float64([1e300])])
def test_values_that_are_not_finite_in_float32_are_refused(tmp_path, weights):
    np.save(tmp_path / 'w.npy', {'conv1': [weights, np.zeros(1)]}, allow_pickle=True)
    with pytest.raises(ValueError, match='w.npy: layer conv1 holds values that are not finite'):
        read_weights(str(tmp_path / 'w.npy'))


def test_files_that_are_too_large_are_refused_unread(tmp_path):
    with open(tmp_path / 'w.npy', 'wb') as file:
        file.truncate((1 << 30) + 1)  # takes no space
    with pytest.raises(ValueError, match='more than 1073741824 bytes'):
        read_weights(str(tmp_path / 'w.npy'))


def test_differences_of_a_layer():
    pair = [np.zeros((2, 3)), np.zeros(3)]
    assert layer_differences('fc8', pair, (2, 3)) == []
    assert layer_differences('fc8', pair, (2, 4)) == [
        'fc8/weights is (2, 3) and should be (2, 4)', 'fc8/biases is (3,) and should be (4,)']
    assert layer_differences('fc8', None, (2, 3)) == ['fc8 is missing']
    assert layer_differences('fc8', [*pair, pair[0]], (2, 3)) == [
        'fc8 has 3 arrays and should have weights and biases']


def test_layers_that_do_not_fit_are_named_with_the_others():
    layers = {'fc8': [np.zeros((2, 3)), np.zeros(3)], 'other': [np.zeros(1)]}
    check_layers('w.npy', layers, {'fc8': (2, 3)})
    with pytest.raises(ValueError) as error:
        check_layers('w.npy', layers, {'fc8': (2, 3), 'conv1': (1, 1)})
    assert str(error.value).startswith('w.npy does not fit: conv1 is missing. It has fc8 other '
                                       '(AlexNet has no other). A layer that it lacks can be')


def test_names_in_a_message_are_few_and_printable():
    assert format_names(['a', '\x1b[31m', 'b' * 60]) == f'a \\x1b[31m {"b" * 50}'
    assert format_names(map(str, range(23))).endswith(' 18 19 and 3 more')


def sound_files(folder):
    """Return the content of a small weight file of each kind."""
    layers, path = small_layers(), folder / 'sound.npy'
    np.save(path, layers, allow_pickle=True)
    weights, biases = layers['fc8']
    files = [path.read_bytes(), pickle.dumps({'fc8': {'weights': weights, 'biases': biases}}, 2),
             caffemodel(small_caffe_layers()),
             caffemodel(small_caffe_layers(), v1=True, old_shape=True)]
    python2_file(path, layers)
    return [*files, path.read_bytes()]


def changed(content, random):
    """Return bytes of which one to three are other ones, or differ in a bit."""
    content = bytearray(content)
    for position in random.randint(0, len(content), random.randint(1, 4)):
        flipped = content[position] ^ 1 << random.randint(8)
        content[position] = random.choice([random.randint(256), flipped])
    return bytes(content)


def damaged_files(sound, random):
    """Return cut, changed and random files, 570 of them."""
    half = sound[:-len(sound) // 2]
    cases = [sound[:size] for size in random.choice(len(sound), 150)]
    cases += [changed(sound, random) for _ in range(200)]
    # Changes in the first bytes, where the structure is.
    cases += [changed(sound[:200], random) + sound[200:] for _ in range(150)]
    cases += [sound[:random.randint(20)] + random.bytes(random.randint(1, 2000))
              for _ in range(50)]
    cases += [half + random.bytes(100) + half for _ in range(10)]
    return cases + [random.bytes(3000) for _ in range(10)]


def is_refused(path):
    """Read a weight file; return whether that ends in a ValueError."""
    assert_one_line(read_architecture, path)
    layers = assert_one_line(read_weights, path)
    if layers is None:
        return True
    assert all(array.dtype == np.float32 for pair in layers.values() for array in pair)
    return False


def assert_one_line(read, path):
    """Return what a function reads from a file, None after a ValueError, which must be a line."""
    try:
        return read(str(path))
    except ValueError as error:
        text = str(error)
        assert text.startswith(str(path)) and text == printable(text) and len(text) < 500, text
        assert len(text.splitlines()) == 1


def read_damaged_files(folder):
    """Read damaged files: arrays, or a ValueError of one line; no warning, little memory."""
    warnings.simplefilter('error')
    warnings.simplefilter('ignore', DeprecationWarning)  # which Python does not show either
    random, path, refused = np.random.RandomState(2), folder / 'damaged', []
    for sound in sound_files(folder):
        for case in damaged_files(sound, random):
            path.write_bytes(case)
            refused.append(is_refused(path))
    assert len(refused) > 2500 and sum(refused) > 0.4 * len(refused)
    with open('/proc/self/status') as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith('VmHWM'))
    assert peak < 300_000, peak  # kB, with Python and NumPy


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='needs Linux: peak of memory')
def test_damaged_files_end_in_one_line_and_take_no_memory(tmp_path):
    context = multiprocessing.get_context('spawn')
    process = context.Process(target=read_damaged_files, args=[tmp_path])
    process.start()
    process.join(60)
    process.kill()
    assert process.exitcode == 0
