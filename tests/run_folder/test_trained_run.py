import json
import os

import numpy as np
import pytest

from alexnet import IMAGE_SIZE, LAYERS
from inputs.views import central_view, views_of
from run_folder.folder import FORMAT
from run_folder.trained_run import read_run, rebuild_network
from runtime.tf1 import tf
from tests.helpers import read_checkpoint, read_values


def restore(path, checkpoint=None):
    """Read a run and restore its network; return (TrainedRun, {layer: (weights, biases)})."""
    run = read_run(str(path), checkpoint)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, IMAGE_SIZE, IMAGE_SIZE, 3])
        model, restore_variables = rebuild_network(run, images)
        session.graph.finalize()
        restore_variables(session)
        return run, session.run(model.variables)


def test_a_finished_run_is_read_and_restored(finished_run, all_weights_file):
    run, variables = restore(finished_run)
    assert run.class_names == ['ant', 'bee', 'Käfer', 'red fox', 'eel', 'owl', 'yak']
    assert run.views == (central_view((227, 227)),) and run.image_mean.tolist() == [104, 117, 124]
    assert run.precision == 'float32'
    checkpoints = finished_run / 'checkpoints'
    expected = {**read_values(checkpoints / 'frozen'), **read_checkpoint(checkpoints, 'best')}
    for layer in LAYERS:
        weights, biases = variables[layer]
        assert weights.tobytes() == expected[f'{layer}/weights'].tobytes()
        assert biases.tobytes() == expected[f'{layer}/biases'].tobytes()


def test_the_same_checkpoint_by_name_number_and_path(finished_run):
    run = read_run(str(finished_run), 'last')
    assert run.checkpoints[0] == str(finished_run / 'checkpoints' / 'last-2')
    for path in ('last-2', 'last-2.index', 'last-2.data-00000-of-00001'):
        assert read_run(str(finished_run / 'checkpoints' / path)).checkpoints == run.checkpoints
    assert read_run(str(finished_run), '2').checkpoints[0].endswith('-2')
    with pytest.raises(ValueError, match='leave out --checkpoint best'):
        read_run(str(finished_run / 'checkpoints' / 'last-2'), 'best')


def change_settings(**changes):
    """Return a function that changes settings.json of a folder; 'delete' deletes a setting."""
    def change(folder):
        settings = json.loads((folder / 'settings.json').read_text()) | changes
        kept = {name: value for name, value in settings.items() if value != 'delete'}
        (folder / 'settings.json').write_text(json.dumps(kept))
    return change


def write(name, content):
    """Return a function that writes a file of a folder."""
    return lambda folder: (folder / name).write_bytes(content)


def remove(pattern):
    """Return a function that deletes files of a folder."""
    return lambda folder: [path.unlink() for path in folder.glob(pattern)]


def flip_a_bit(folder):
    """Change one bit of the best checkpoint."""
    path, = folder.glob('checkpoints/best-*.data*')
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(folder):
    """Cut off the last byte of the best checkpoint."""
    path, = folder.glob('checkpoints/best-*.data*')
    os.truncate(path, os.path.getsize(path) - 1)


def add_class(folder):
    """Add a class to settings and class names that fc8 does not have."""
    change_settings(num_classes=8)(folder)
    with open(folder / 'labels.txt', 'a') as file:
        file.write('cat\n')


def swap(folder):
    """Give the frozen layers the name of the best checkpoint."""
    for path in folder.glob('checkpoints/best-*.*'):
        name = 'index' if path.name.endswith('index') else 'data-00000-of-00001'
        path.unlink()
        os.link(folder / 'checkpoints' / f'frozen.{name}', path)
    remove('checkpoints/frozen.*')(folder)


@pytest.mark.parametrize('break_run, named', [
    (remove('settings.json'), 'settings.json: No such file'),
    (remove('labels.txt'), 'labels.txt: No such file'),
    (remove('checkpoints/best'), 'none is written yet'),
    (remove('checkpoints/best-*.index'), 'No such file'),
    (remove('checkpoints/best-*.data*'), 'No such file'),
    (remove('checkpoints/frozen.*'), 'lack conv1/weights conv1/biases'),
    (write('settings.json', b'{"format": 1'), 'settings.json is not JSON'),
    (write('settings.json', b'[' * 100_000), 'settings.json is not JSON'),
    (write('settings.json', b'\xff\xfe'), 'settings.json is not JSON'),
    (write('settings.json', b'[1]'), 'settings.json has format None'),
    (write('settings.json', b' ' * 2_000_000), 'settings.json is no file of at most'),
    (write('labels.txt', b'x' * 2_000_000), 'labels.txt is no file of at most'),
    (write('labels.txt', b'\x1b[2J\nb\n\x07'), 'the name holds the control character U+001B'),
    (write('labels.txt', b'a\nb\n'), 'labels.txt names 2 classes, settings.json 7'),
    (write('checkpoints/best', b'../../other/best-1'),
     "the file checkpoints/best says '../../other/best-1'"),
    (write('checkpoints/best', b''), 'the file checkpoints/best says'),
    (write('checkpoints/frozen.index', b'not a table' * 20), 'frozen is not a checkpoint'),
    (change_settings(format='delete'), 'format None, and this version reads 1 only'),
    (change_settings(format=True), 'format True'),
    (change_settings(weights_path=7), 'weights_path 7'),
    (change_settings(format=FORMAT + 1), 'format 2, and this version reads 1 only'),
    (change_settings(num_classes='7'), "num_classes '7'"),
    (change_settings(scale_size=[227, 10**6]), 'scale_size'),
    (change_settings(scale_size='227'), 'scale_size'),
    (change_settings(views='all'), 'views'), (change_settings(views=['crops']), 'views'),
    (change_settings(horizontal_flip='yes'), 'horizontal_flip'),
    (change_settings(image_mean=[104.0, float('nan'), 124.0]), 'image_mean'),
    (change_settings(image_mean='delete'), 'image_mean'),
    (change_settings(precision=['float32']), 'precision'),
    (flip_a_bit, 'is broken'),
    (truncate, 'is broken: its data has only'),
    (add_class, 'fc8/weights is float32 [4096, 7], and should be float32 [4096, 8]'),
    (swap, 'lack fc8/weights fc8/biases'),
])
def test_a_broken_or_foreign_run_is_refused_in_one_line(run_copy, break_run, named):
    break_run(run_copy)
    with pytest.raises(ValueError) as error:
        restore(run_copy)
    text = str(error.value)
    assert named in text and str(run_copy) in text and len(text.splitlines()) == 1


def test_what_is_no_run_at_all_is_refused(tmp_path):
    (tmp_path / 'file').write_text('x')
    os.mkfifo(tmp_path / 'settings.json')
    for path in ('missing', 'file', 'checkpoints/best-1', '.'):
        with pytest.raises(ValueError, match='cannot be used'):
            read_run(str(tmp_path / path))


def test_views_are_those_of_the_run(run_copy):
    change_settings(views='crops', horizontal_flip=True)(run_copy)
    assert read_run(str(run_copy)).views == views_of('crops', True)
    change_settings(views='crops', horizontal_flip=False)(run_copy)
    assert read_run(str(run_copy)).views == views_of('crops', False)


def test_a_run_of_an_older_version_has_one_view(run_copy):
    """Its random_crop validated on the centre of 256x256 pixels."""
    change_settings(views='delete', scale_size=[256, 256])(run_copy)
    assert read_run(str(run_copy)).views == (central_view((256, 256)),)
    change_settings(scale_size='delete')(run_copy)
    assert read_run(str(run_copy)).views == (central_view((IMAGE_SIZE, IMAGE_SIZE)),)
    np.testing.assert_array_equal(read_run(str(run_copy)).image_mean, np.float32([104, 117, 124]))
