import functools
import io
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest

from convert_weights import main, weights_table
from tests.caffe_files import blob, caffemodel, layer
from tests.helpers import ROOT, random_conv_weights, shared
from weight_files.find import find_weights
from weight_files.reader import LAYER_SHAPES, read_file, read_weights


def small_layers():
    random = np.random.RandomState(1)
    return {'conv1': [np.float32(random.rand(2, 3, 4, 5)), np.float32(random.rand(5))],
            'fc8': [np.float32(random.rand(6, 7)), np.float32(random.rand(7))]}


def assert_same(got, expected):
    assert sorted(got) == sorted(expected)
    for name, pair in expected.items():
        for array, value in zip(got[name], pair):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, value)


def python2_file(path, layers):
    """Write what numpy.save of Python 2.7 and NumPy 1.16 does, operation by operation as pickletools shows it in the
    public file: protocol 2, array contents as BINSTRING, names in numpy.core."""
    def array(a):
        shape = b'(' + b''.join(b'K' + bytes([n]) for n in a.shape) + b't'
        data = a.tobytes()
        return (b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01' + shape +
                b'cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89'
                b'T' + struct.pack('<i', len(data)) + data + b'tb')
    body = b''.join(b'U' + bytes([len(name)]) + name.encode() + b'](' + array(w) + array(b) + b'e'
                    for name, (w, b) in layers.items())
    whole = (b'\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01)cnumpy\ndtype\n'
             b'U\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89](}(' + body + b'uetb.')
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b'\n'
    path.write_bytes(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header + whole)


@pytest.mark.parametrize('dtype', ['<f4', '>f4', '<f2', '<f8'])
@pytest.mark.parametrize('layout', ['lists', 'tuples', 'dicts', 'bytes'])
def test_public_layouts(tmp_path, layout, dtype):
    layers = {name: [np.float16(a).astype(dtype) for a in pair] for name, pair in small_layers().items()}
    saved = {'lists': layers, 'tuples': {name: tuple(pair) for name, pair in layers.items()},
             'dicts': {name: {'weights': w, 'biases': b} for name, (w, b) in layers.items()},
             'bytes': {name.encode(): {b'weights': w, b'biases': b} for name, (w, b) in layers.items()}}[layout]
    np.save(tmp_path / 'w.npy', saved, allow_pickle=True)
    assert_same(read_weights(str(tmp_path / 'w.npy')), {n: np.array(p, object) for n, p in layers.items()})


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_bare_pickles_of_every_binary_protocol(tmp_path, protocol):
    layers = small_layers()
    layers['conv1'][0] = np.asfortranarray(layers['conv1'][0])
    (tmp_path / 'w.npy').write_bytes(pickle.dumps(layers, protocol))
    assert_same(read_weights(str(tmp_path / 'w.npy')), layers)


def test_file_of_python_2(tmp_path):
    python2_file(tmp_path / 'w.npy', small_layers())
    # NumPy's own reader is the independent one here.
    assert_same(np.load(tmp_path / 'w.npy', allow_pickle=True, encoding='latin1').item(), small_layers())
    assert_same(read_weights(str(tmp_path / 'w.npy')), small_layers())


def test_real_caffe_weights():
    path = shared('weights', 'bvlc_alexnet_conv.npy')
    assert_same(read_weights(path), np.load(path, allow_pickle=True, encoding='latin1').item())


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def gadgets(target):
    """Return pickles that make the file `target` when they run, each in another way."""
    command, code = f'touch {target}', f'open({str(target)!r}, "w").close()'
    text = b'U' + bytes([len(command)]) + command.encode()
    quoted = b'S' + repr(command).encode() + b'\n'
    objects = np.empty(2, object)
    objects[0] = Call(os.system, command)
    saved = io.BytesIO()
    np.save(saved, {'conv1': [Call(os.system, command), 1]}, allow_pickle=True)
    import_os = b'cimportlib\nimport_module\nU\x02os\x85R'
    return {
        'os.system': pickle.dumps(Call(os.system, command), 2),
        'inside a layer': pickle.dumps({'conv1': [Call(os.system, command), 1]}, 4),
        'inside an array of objects': pickle.dumps({'conv1': [objects, objects]}, 4),
        'behind a right header': saved.getvalue(),
        'as a dtype': pickle.dumps(Call(np.dtype, Call(eval, f'{code} or "f4"')), 4),
        'as a state of an array': b'\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R'
                                  b'(K\x01)'
                                  b'cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R\x89](cos\nsystem\n' + text + b'\x85Retb.',
        'as a key': b'\x80\x02}cos\nsystem\n' + text + b'\x85RK\x01s.',
        'eval': pickle.dumps(Call(eval, code), 4),
        'exec in protocol 5': pickle.dumps(Call(exec, code), 5),
        'subprocess': pickle.dumps(Call(subprocess.check_output, ['touch', str(target)]), 3),
        'a call of what a call gave': pickle.dumps(Call(functools.partial(os.system, command)), 4),
        'getattr': b'\x80\x02c__builtin__\ngetattr\n' + import_os + b'U\x06system\x86R' + text + b'\x85R.',
        'methodcaller': b'\x80\x02coperator\nmethodcaller\nU\x06system' + text + b'\x86R' + import_os + b'\x85R.',
        'setstate': b'\x80\x02cargparse\nNamespace\n)R}U\x0c__setstate__cos\nsystem\nsb' + text + b'b.',
        'INST': b'\x80\x02(' + quoted + b'ios\nsystem\n.',
        'OBJ': b'\x80\x02(csubprocess\nPopen\n](U\x05touchU' + bytes([len(str(target))]) + str(target).encode() + b'eo.',
        'after STACK_GLOBAL': b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c' + text[1:] + b'\x85R.',
        'protocol 0': b'cos\nsystem\n(' + quoted + b'tR.'}


@pytest.mark.parametrize('kind', sorted(gadgets('')))
def test_pickles_that_run_code_are_refused_and_run_nothing(tmp_path, kind):
    target, file = tmp_path / 'ran', tmp_path / 'w.npy'
    file.write_bytes(gadgets(target)[kind])
    with pytest.raises(ValueError, match='w.npy is not a weight file'):
        read_weights(str(file))
    assert not target.exists()
    # They do run where pickles are run. What comes after that need not make sense.
    with open(file, 'rb') as content, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            result = np.load(content, allow_pickle=True) if kind == 'behind a right header' else pickle.load(content)
            getattr(result, 'wait', int)()
        except (TypeError, ValueError):
            pass
    assert target.exists()


@pytest.mark.parametrize('content', [
    b'\x80\x02Pos.system\n.', b'\x80\x02U\x09os.systemQ.', b'\x80\x02\x82\x01)R.', b'\x80\x02\x83\x01\x00)R.',
    b'\x80\x02\x84\x01\x00\x00\x00)R.', b'\x80\x02cos\nsystem\n}b.', b'\x80\x02csubprocess\nPopen\n)\x81.',
    b'\x80\x04\x8c\x0asubprocess\x8c\x05Popen\x93)}\x92.', b'\x80\x05\x97.', b'\x80\x02)c_codecs\nencode\nU\x01ax.',
    b'\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.', b'\x80\x02cnumpy.testing\nrunstring\n)R.',
    b"\x93NUMPY\x01\x00v\x00{'descr': __import__('os').getpid(), 'fortran_order': False, 'shape': ()}".ljust(128) + b'\x80\x02}.'])
def test_other_operations_than_those_of_arrays_are_refused(tmp_path, content):
    """Persistent ids, extension registry, objects made by class, state of functions, buffers, codecs, a header's code."""
    (tmp_path / 'w.npy').write_bytes(content)
    with pytest.raises(ValueError, match='w.npy is not a weight file'):
        read_weights(str(tmp_path / 'w.npy'))


def pickled_array(shape, content):
    """Return operations that make a float32 array of this content; shape: operations that make it."""
    return (b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01' + shape +
            b'cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89' +
            content + b'tb')


LONG_NUMBER = b'\x8a\xff' + b'\x7f' * 255


@pytest.mark.parametrize('operations, message', [
    (b'}q\x02(U\x01a' + pickled_array(b'(' + LONG_NUMBER * 20_000 + b't', b'U\x00') + b'u', 'a few whole numbers'),
    (b'}(U\x01a' + pickled_array(b'(T\x00\x00\x10\x00' + b'a' * (1 << 20) + b'K\xfft', b'U\x00') + b'u',
     'few whole numbers'),
    (b'c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R',
     'no dictionary'),
    (b'X\x00\x00\x10\x00' + b'a' * (1 << 20) + b'q\x01' +
     b'c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R' * 30_000,
     'encodes text'),
    (pickled_array(b'(K\x80K\x80t', b'T\x00\x00\x01\x00' + b'\0' * 65536) + b'q\x01}(' + b''.join(
        b'U\x05%05d](h\x01h\x01e' % n for n in range(15_000)) + b'u', 'share arrays')])
def test_small_pickles_that_would_fill_the_memory_or_take_hours_are_refused(tmp_path, operations, message):
    (tmp_path / 'w.npy').write_bytes(b'\x80\x02' + operations + b'.')
    with pytest.raises(ValueError, match=message):
        read_weights(str(tmp_path / 'w.npy'))


def npy(array):
    def write(path):
        np.save(path, array, allow_pickle=True)
    return write


@pytest.mark.parametrize('write, message', [
    (lambda path: path.write_bytes(b''), 'is not a weight file'),
    (lambda path: path.write_bytes(b'<html>no access</html>'), 'is not a weight file'),
    (npy(np.zeros(3)), 'one array, not a dictionary'),
    (npy({}), 'no layers with weights'),
    (npy(np.array([{}, None])), 'not one dictionary'),
    (lambda path: path.write_bytes(b'\x80\x02].'), 'no dictionary of layers'),
    (npy({'conv1': np.zeros(3)}), 'layer conv1 is not a pair'),
    (npy({'conv1': [np.zeros(3)]}), 'layer conv1 is not a pair'),
    (npy({'conv1': [np.float32([np.nan]), np.zeros(1)]}), 'conv1 holds values that are not finite'),
    (npy({'conv1': [np.array(['a']), np.zeros(1)]}), 'not floating point'),
    (lambda path: path.write_bytes(b'\x80\x02' + b'}' * 200_000 + b'.'), 'more than 100000 operations'),
    (lambda path: path.write_bytes(b'\x80\x02(((t(tt}r\xff\xff\xff\xff.'), 'is not a weight file')])
def test_other_content_is_refused(tmp_path, write, message):
    write(tmp_path / 'w.npy')
    with pytest.raises(ValueError, match=message):
        read_weights(str(tmp_path / 'w.npy'))


def test_files_that_are_too_large_are_refused_unread(tmp_path):
    with open(tmp_path / 'w.npy', 'wb') as file:
        file.truncate((1 << 30) + 1)  # takes no space
    with pytest.raises(ValueError, match='more than 1073741824 bytes'):
        read_weights(str(tmp_path / 'w.npy'))


def sound_files(folder):
    """Return the content of a small weight file of each kind."""
    layers, path = small_layers(), folder / 'sound.npy'
    caffe_layers = {name: [array.T.copy() for array in pair] for name, pair in layers.items()}
    np.save(path, layers, allow_pickle=True)
    files = [path.read_bytes(), pickle.dumps({'fc8': {'weights': layers['fc8'][0], 'biases': layers['fc8'][1]}}, 2),
             caffemodel(caffe_layers), caffemodel(caffe_layers, v1=True, old_shape=True)]
    python2_file(path, layers)
    return [*files, path.read_bytes()]


def read_damaged_files(folder):
    """Read cut, changed and random files: arrays, or a ValueError of one line; no warning, little memory."""
    warnings.simplefilter('error')
    warnings.simplefilter('ignore', DeprecationWarning)  # which Python does not show either
    random, path, refused, count = np.random.RandomState(2), folder / 'damaged', 0, 0

    def changed(content):
        content = bytearray(content)
        for position in random.randint(0, len(content), random.randint(1, 4)):
            content[position] = random.randint(256) if random.randint(2) else content[position] ^ 1 << random.randint(8)
        return bytes(content)
    for sound in sound_files(folder):
        head = sound[:-len(sound) // 2]
        cases = [sound[:n] for n in random.choice(len(sound), 150)] + [changed(sound) for _ in range(200)]
        cases += [changed(sound[:200]) + sound[200:] for _ in range(150)]  # where the structure is
        cases += [sound[:random.randint(20)] + random.bytes(random.randint(1, 2000)) for _ in range(50)]
        cases += [head + random.bytes(100) + head for _ in range(10)] + [random.bytes(3000) for _ in range(10)]
        for case in cases:
            count += 1
            path.write_bytes(case)
            try:
                assert all(array.dtype == np.float32 for pair in read_weights(str(path)).values() for array in pair)
            except ValueError as error:
                refused += 1
                assert str(error).startswith(str(path)) and str(error).isprintable() and len(str(error)) < 500, error
    assert count > 2500 and refused > 0.4 * count
    with open('/proc/self/status') as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith('VmHWM'))
    assert peak < 300_000, peak  # kB, with Python and NumPy


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='reads the peak of memory as Linux shows it')
def test_damaged_files_end_in_one_line_and_take_no_memory(tmp_path):
    process = multiprocessing.get_context('spawn').Process(target=read_damaged_files, args=[tmp_path])
    process.start()
    process.join(60)
    process.kill()
    assert process.exitcode == 0


def test_find_weights_takes_a_path_none_or_the_file_beside_the_script(tmp_path):
    beside = tmp_path / 'bvlc_alexnet.npy'
    beside.write_bytes(b'')
    assert find_weights('none', str(tmp_path)) is None
    assert find_weights('auto', str(tmp_path)) == str(beside)
    assert find_weights(str(beside), 'elsewhere') == str(beside)
    with pytest.raises(ValueError, match='missing.npy: no such file'):
        find_weights('missing.npy', str(tmp_path))
    with pytest.raises(ValueError, match='this is no file'):
        find_weights(str(tmp_path), str(tmp_path))
    with pytest.raises(ValueError, match='bvlc_alexnet.npy is not a weight file: it is empty'):
        read_weights(str(beside))


def test_table_of_layers_ranges_and_what_fits(tmp_path):
    layers = {'conv1': random_conv_weights()['conv1'], 'conv2': [np.float16([[-1.5, 2]]), np.float64([1, np.inf])],
              'fc8': [np.zeros((4096, 3)), np.ones(3)], 'fc8_\x1b[31m': [np.zeros((2, 1)), np.zeros(0)]}
    np.save(tmp_path / 'w.npy', layers, allow_pickle=True)
    lines = weights_table(*read_file(str(tmp_path / 'w.npy')))
    cells = [line.split('  ') for line in lines]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in cells]
    assert cells[0] == ['layer', 'shapes', 'type', 'values', 'AlexNet']
    assert cells[1][:3] == ['conv1', '(11, 11, 3, 96) (96,)', 'float32'] and cells[1][4] == 'fits'
    assert cells[2] == ['conv2', '(1, 2) (2,)', 'float16 float64', '-1.5 to 2, not finite',
                        'conv2/weights is (1, 2) and should be (5, 5, 48, 256); conv2/biases is (2,) and should be (256,)']
    assert cells[3] == ['fc8', '(4096, 3) (3,)', 'float64', '0 to 0, 1 to 1', 'fits']  # any number of classes
    assert cells[4] == ['fc8_\\x1b[31m', '(2, 1) (0,)', 'float64', '0 to 0, none', 'has no such layer']
    assert lines[5:] == ["AlexNet's layers that it lacks: conv3 conv4 conv5 fc6 fc7"]


@pytest.mark.parametrize('v1', [False, True])
@pytest.mark.parametrize('order, said', [
    (('Pooling', 'LRN'), True), (('LRN', 'Pooling'), False), (('Pooling',), False)])
def test_table_tells_caffenet_from_alexnet(tmp_path, order, said, v1):
    content = layer('conv1', 'Convolution', [blob(np.ones((1, 1, 1, 1), 'f4'))], v1)
    (tmp_path / 'net').write_bytes(content + b''.join(layer(kind, kind, [], v1) for kind in order))
    assert ('CaffeNet' in weights_table(*read_file(str(tmp_path / 'net')))[-1]) == said


def run(*arguments):
    """Run the command; return (exit status, standard output, standard error)."""
    command = [sys.executable, 'convert_weights.py', *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_command_shows_and_converts(tmp_path):
    caffe_layers = {name: [array.T.copy() for array in pair] for name, pair in small_layers().items()}
    caffe_layers['conv1'][0] = small_layers()['conv1'][0].transpose(3, 2, 0, 1).copy()
    source, target = tmp_path / 'in.caffemodel', tmp_path / 'out.npy'
    source.write_bytes(caffemodel(caffe_layers))
    status, table, errors = run(source)
    assert (status, errors) == (0, '') and 'conv1  (2, 3, 4, 5) (5,)' in table
    assert os.listdir(tmp_path) == ['in.caffemodel']
    assert run(source, target) == (0, f'{table}wrote {target}\n', '')
    assert_same(np.load(target, allow_pickle=True, encoding='bytes').item(), small_layers())
    assert run(source, target)[0::2] == (2, f'error: {target} exists already: --force replaces it\n')
    assert run(target, target, '--force')[0] == 0
    assert_same(read_weights(str(target)), small_layers())
    assert sorted(os.listdir(tmp_path)) == ['in.caffemodel', 'out.npy']


@pytest.mark.parametrize('content', [b'', b'rubbish', caffemodel({'fc8': [np.float32([[np.nan]]), np.float32([1])]})],
                         ids=['empty', 'rubbish', 'not finite'])
def test_command_leaves_nothing_after_an_error(tmp_path, content):
    (tmp_path / 'in').write_bytes(content)
    for arguments in (['in', 'out.npy'], ['in', 'out.npy', '--force'], ['in', 'out.caffemodel'], ['none', 'out.npy'],
                      [], ['--x']):
        with pytest.raises((ValueError, OSError)):
            main([str(tmp_path / argument) if argument[:1] != '-' else argument for argument in arguments])
    assert os.listdir(tmp_path) == ['in']


def test_shapes_are_those_of_the_paper():
    # Caffe's bvlc_alexnet.caffemodel has 60,965,224 parameters.
    assert sum(np.prod(shape) + shape[-1] for shape in LAYER_SHAPES.values()) == 60965224
