"""Several devices and several workers, as processes on this machine, against one device."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import numpy as np
import pytest

import finetune
from alexnet import LAYERS
from datagenerator import ImageDataGenerator
from inputs.lists import Datasets, ImageList
from reports.run_log import NoLog
from run_folder.checkpoints import Progress
from runtime.tf1 import tf
from tests.helpers import ROOT, run_main, write_list
from tests.training import worker
from training import cluster, steps, strategy
from training.feature_cache import StoredBatches

TOLERANCE = 1e-6
LOST = r'error: another worker .*, the run goes on from its last checkpoint\n'


@pytest.fixture(scope='module')
def flags(picture_folder, all_weights_file, tmp_path_factory):
    """32 steps of fc8, without dropout: 8 epochs of 13 images, batches of 4, 4, 4 and 1; 9 validation images.

    Labels of these make epoch 4 the best one.
    """
    folder = tmp_path_factory.mktemp('lists')
    shutil.copytree(picture_folder, folder / 'pictures')
    write_list(folder / 'train.txt', [f'pictures/{5 * n % 12:02d}.png {5 * n % 12 % 3}' for n in range(13)])
    write_list(folder / 'val.txt', [f'pictures/{5 * n % 12:02d}.png {n * n % 3}' for n in range(9)])
    yield ['--train_file', f'{folder}/train.txt', '--val_file', f'{folder}/val.txt', '--weights_path', all_weights_file,
           '--train_layers', 'fc8', '--num_epochs', '8', '--batch_size', '4', '--learning_rate', '0.001',
           '--weight_decay', '0.01', '--label_smoothing', '0.1', '--dropout_rate', '0', '--class_weights', 'balanced',
           '--cache_dir', f'{folder}/cache', '--peer_timeout', '200']
    shutil.rmtree(folder / 'cache')


@pytest.fixture(scope='module')
def one_device(flags, tmp_path_factory):
    """The folder of a run on one device."""
    folder = tmp_path_factory.mktemp('one') / 'run'
    finetune.main([*flags, '--run_dir', str(folder)])
    yield folder
    shutil.rmtree(folder / 'checkpoints')


@pytest.fixture
def run_dir(tmp_path):
    """The folder of a run, whose checkpoints go after the test."""
    yield tmp_path / 'run'
    shutil.rmtree(tmp_path / 'run' / 'checkpoints', ignore_errors=True)


def start_workers(commands):
    """Start a shell command on each worker of a cluster on free ports; return the processes."""
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in commands]
    jobs = {'worker': [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]}
    for each in sockets:
        each.close()
    return [subprocess.Popen(
        ['bash', '-c', command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, 'TF_CONFIG': json.dumps({'cluster': jobs, 'task': {'type': 'worker', 'index': number}})})
        for number, command in enumerate(commands)]


def python(options, flags):
    """Return the shell command that starts a worker."""
    return shlex.join([sys.executable, '-m', 'tests.training.worker', json.dumps(options), *map(str, flags)])


def ended(processes):
    """Wait for processes, end what is left of them, and return [(exit status, standard output, standard error)]."""
    try:
        shown = [process.communicate(timeout=400) for process in processes]
        return [(process.returncode, *texts) for process, texts in zip(processes, shown)]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def run_workers(*commands):
    """Run workers to their end, once more if another process has taken a port meanwhile."""
    result = ended(start_workers(commands))
    return ended(start_workers(commands)) if 'is the port in use' in str(result) else result


def without_warnings(shown):
    return ''.join(line for line in shown.splitlines(True) if not line.lower().startswith('warning: '))


def values(run):
    """Return {name: array} of all variables in the last checkpoint of a run."""
    name = (run / 'checkpoints' / 'last').read_text().strip()
    readers = [tf.train.load_checkpoint(str(run / 'checkpoints' / part)) for part in (name, 'frozen')]
    return {name: reader.get_tensor(name) for reader in readers for name in reader.get_variable_to_shape_map()}


def columns(path, *names):
    with open(path, newline='') as file:
        return [[row[name] for name in names] for row in csv.DictReader(file)]


def assert_same(run, expected):
    """Compare the weights, Adam's state, and what was counted in each epoch and predicted."""
    got, wanted = values(run), values(expected)
    assert got.keys() == wanted.keys() and wanted['global_step'] >= 30
    assert max(np.abs(np.float64(got[name]) - wanted[name]).max() for name in wanted) <= TOLERANCE
    counts, losses = ('epoch', 'train_accuracy', 'val_accuracy'), ('train_loss', 'val_loss')
    assert columns(run / 'metrics.csv', *counts) == columns(expected / 'metrics.csv', *counts)
    np.testing.assert_allclose(np.float64(columns(run / 'metrics.csv', *losses)),
                               np.float64(columns(expected / 'metrics.csv', *losses)), atol=TOLERANCE)
    paths = 'path', 'class', 'predicted'
    assert columns(run / 'val_predictions.csv', *paths) == columns(expected / 'val_predictions.csv', *paths)


@pytest.mark.parametrize('devices', [['CPU:0'], ['CPU:0', 'CPU:1']])
def test_devices_that_are_named_give_what_one_gives(flags, one_device, run_dir, devices):
    finetune.main([*flags, '--devices', *devices, '--run_dir', str(run_dir)])
    assert_same(run_dir, one_device)


@pytest.mark.parametrize('devices', [1, 2])
def test_two_workers_give_what_one_device_gives(flags, one_device, run_dir, tmp_path, devices):
    """Worker 1 has no weight file, and writes no run folder. devices: of each worker."""
    chief, other = run_workers(
        python({'devices': devices}, [*flags, '--run_dir', run_dir]),
        python({'devices': devices}, [*flags, '--run_dir', tmp_path / 'other', '--weights_path', 'nowhere.npy']))
    assert not os.path.exists(tmp_path / 'other')
    assert (chief[0], other[0]) == (0, 0), (chief, other)
    assert chief[1].splitlines()[-1] == other[1].splitlines()[-1] and f' in {run_dir}' in other[1]
    assert_same(run_dir, one_device)


def test_workers_killed_within_an_epoch_and_started_again_by_a_loop(flags, one_device, run_dir, tmp_path):
    """README's loop; worker 1 dies in epoch 2, then the chief in epoch 5: the next chief has to recall the best one."""
    def loop(number, batch):
        options = {'at': {batch: signal.SIGKILL}, 'once': f'{tmp_path}/killed {number}'}
        command = python(options, [*flags, '--run_dir', run_dir])
        return f'while {command}; s=$?; [ $s = 75 ] || [ $s = 137 ]; do sleep 1; done; exit $s'
    chief, other = run_workers(loop(0, 16), loop(1, 7))
    assert (chief[0], other[0]) == (0, 0), (chief, other)
    assert os.path.exists(f'{tmp_path}/killed 0') and os.path.exists(f'{tmp_path}/killed 1')
    for _, _, shown in (chief, other):  # one line each, but for what the shell says of the kill
        assert len(re.findall(LOST, shown)) == 1 and 'Traceback' not in shown
    assert_same(run_dir, one_device)


def test_a_peer_that_hangs_ends_by_timeout_and_the_run_goes_from_two_workers_to_one_to_two(
        flags, one_device, run_dir, tmp_path, capsys):
    flags = [*flags, '--run_dir', run_dir]
    hangs = {'at': {7: signal.SIGSTOP}, 'once': f'{tmp_path}/stopped'}
    processes = start_workers([python({}, [*flags, '--peer_timeout', 15]),
                               f'exec {python(hangs, flags)}'])
    try:
        [(status, _, shown)] = ended(processes[:1])
        assert processes[1].poll() is None
    finally:
        os.killpg(processes[1].pid, signal.SIGKILL)
        processes[1].communicate()
    assert status == 75 and re.fullmatch(LOST, without_warnings(shown)) and 'not answered for 15 s' in shown
    assert (run_dir / 'checkpoints' / 'last').read_text().startswith('last-1-')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps.Training, 'after_batch',
                      worker.signalling({15: signal.SIGTERM}, f'{tmp_path}/one device'))
        assert run_main(finetune.main, flags, capsys)[0] == 143
    chief, other = run_workers(python({}, flags), python({}, flags))
    assert (chief[0], other[0]) == (0, 0), (chief, other)
    assert_same(run_dir, one_device)


def test_a_worker_without_any_image(flags, run_dir, tmp_path, capsys):
    """One image for training, one for validation, of 3 classes; both belong to the chief."""
    folder = os.path.dirname(flags[1])
    lists = write_list(tmp_path / 'one.txt', [f'{folder}/pictures/07.png 1'])
    flags = [*flags, '--train_file', lists, '--val_file', lists, '--num_classes', 3, '--num_epochs', 30]
    assert run_main(finetune.main, [*flags, '--run_dir', tmp_path / 'one'], capsys)[0] == 0
    command = python({}, [*flags, '--run_dir', run_dir])
    chief, other = run_workers(command, command)
    assert (chief[0], other[0]) == (0, 0), (chief, other)
    assert_same(run_dir, tmp_path / 'one')
    shutil.rmtree(tmp_path / 'one' / 'checkpoints')


def test_what_workers_tell_each_other():
    command = python({'talk': True}, [200])
    results = run_workers(command, command)
    assert [status for status, _, _ in results] == [0, 0], results
    for number, (_, out, _) in enumerate(results):
        said = json.loads(out)
        assert said['gather'] == [[100_000, True, 0, None], [200_000, True, 1, None]]
        assert said['broadcast_from_chief'] == {'of': 0}
        assert said['failure'].startswith('invalid literal' if number == 0 else 'the chief says: invalid literal')
        assert said['agreement'].startswith('worker 1 differs from the chief: seed 1, not 0. ')


@pytest.mark.parametrize('changed, named', [
    (['--train_file', 'OTHER'], [r'worker 1 differs from the chief: the training list 12 images \(\w+\), not 13 '] * 2),
    (['--learning_rate', '0.5'], [r'worker 1 differs from the chief: learning_rate 0\.5, not '] * 2),
    (['--val_file', 'BROKEN'], ['val.txt:4: .*03.png: broken or missing on worker 1',
                                'val.txt:4: .*03.png: No such file'])])
def test_a_worker_that_differs_ends_all(flags, tmp_path, changed, named):
    """The lists may lie elsewhere; here an image of worker 1's share is missing. One of the chief's does not count."""
    with open(flags[1]) as train, open(flags[3]) as val:
        write_list(tmp_path / 'train.txt', train.read().splitlines()[1:])
        shutil.copytree(f'{os.path.dirname(flags[1])}/pictures', tmp_path / 'pictures')
        write_list(tmp_path / 'val.txt', val.read().splitlines())
    for name in ('03.png', '10.png'):  # at positions 3 and 2
        os.remove(tmp_path / 'pictures' / name)
    places = {'OTHER': f'{tmp_path}/train.txt', 'BROKEN': f'{tmp_path}/val.txt'}
    results = run_workers(python({}, flags), python({}, [*flags, *(places.get(word, word) for word in changed)]))
    for (status, _, shown), text in zip(results, named):
        assert status == 2 and re.search(text, shown) and 'Traceback' not in shown, shown


def test_a_worker_whose_chief_never_comes_ends_in_one_line(flags):
    process = start_workers(['true', python({}, [*flags, '--peer_timeout', 2])])[1]
    [(status, _, shown)] = ended([process])
    assert status == 75 and re.fullmatch(LOST, shown) and 'has not answered for 2 s' in shown, shown


@pytest.mark.parametrize('text, named', [
    ('nonsense', 'Expecting value'), ('{}', "lacks 'cluster'"), ('[]', 'list'),
    ('{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}', 'no others'),
    ('{"cluster": {"worker": ["a", "b:1"]}, "task": {"type": "worker", "index": 0}}', 'host:port'),
    ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', 'of its own'),
    ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', 'no worker 2'),
    ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": true}}', 'no worker True'),
    ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}', 'no chief 0'),
    ('{"cluster": {"worker": 7}, "task": {"type": "worker", "index": 0}}', 'int')])
def test_a_wrong_tf_config_is_one_line(text, named, flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('TF_CONFIG', text)
    status, _, shown = run_main(finetune.main, [*flags, '--run_dir', tmp_path / 'run'], capsys)
    assert status == 2 and shown.startswith('error: TF_CONFIG ') and named in shown and shown.count('\n') == 1
    assert not os.path.exists(tmp_path / 'run')


def test_clusters_that_are_right():
    chief = '{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:2"]}, "task": {"type": "%s", "index": %d}}'
    assert cluster.read_cluster(chief % ('worker', 1)).share == (2, 3)
    assert cluster.read_cluster(chief % ('chief', 0)).share == (0, 3)
    assert cluster.read_cluster('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}') is None
    assert cluster.read_cluster(None) is None and cluster.read_cluster('') is None


@pytest.mark.parametrize('changed, named', [
    (['--devices', 'GPU:99'], 'devices GPU:99: here are'), (['--devices', 'CPU:0', 'CPU:0'], 'name each once'),
    (['--devices', 'CPU:0', 'CPU:1', '--batch_size', '1'], 'batch_size 1 is less than the 2 devices'),
    (['--peer_timeout', '0'], 'peer_timeout 0.0 is not above 0')])
def test_settings_that_do_not_fit_are_one_line(changed, named, flags, capsys):
    status, _, shown = run_main(finetune.main, [*flags, *changed], capsys)
    assert status == 2 and named in shown and shown.count('\n') == 1


@pytest.mark.parametrize('count', range(1, 10))
@pytest.mark.parametrize('workers', [1, 2, 3, 4])
def test_each_image_is_read_once_an_epoch_in_the_batches_of_one_worker(picture_folder, count, workers):
    """Lists of 1 to 9 images, batches of 4: around the batch, and fewer images than workers."""
    image_list = ImageList('list', [str(picture_folder / f'{n:02d}.png') for n in range(count)],
                           np.arange(count, dtype=np.int32), np.arange(count))
    whole, *shares = (ImageDataGenerator(image_list, shuffle=True, nb_classes=9, seed=3, shard=share, num_threads=1)
                      for share in [(0, 1), *((n, workers) for n in range(workers))])
    for epoch in range(2):
        batches = [list(generator.batches(4)) for generator in (whole, *shares)]
        for (_, expected), *parts in zip(*batches, strict=True):
            assert sorted(np.concatenate([labels for _, labels in parts]).argmax(1)) == sorted(expected.argmax(1))
            assert all((blue // 20 == labels.argmax(1)).all() for images, labels in parts
                       for blue in [images[:, 0, 0, 0] + 104])
        for generator in (whole, *shares):
            generator.reset_pointer()


@pytest.fixture(scope='module')
def two_devices():
    """A session with the network on two devices, all values its own random ones; fc8, of 3 classes, is trained."""
    settings = finetune.Settings(devices=('CPU:0', 'CPU:1'), batch_size=4, optimizer='sgd', learning_rate=0.001)
    one = ImageList('', ['a'], np.zeros(1, np.int32), np.ones(1, np.int32))
    with strategy.Distribution(settings) as group, tf.Graph().as_default():
        with group.strategy.scope():
            network = finetune.build_network(finetune.TrainingSetup(
                settings, Datasets(one, one, ['a', 'b', 'c']), None, ('fc8',), ('fc8',)))
        session = finetune.open_session(make=group.session)
        session.run(tf.global_variables_initializer())
        yield session, network


def test_no_function_of_a_replica_is_written_to_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    with strategy.Distribution(finetune.Settings(devices=('CPU:0', 'CPU:1'))) as group, tf.Graph().as_default():
        with group.strategy.scope():
            strategy.for_each_replica(lambda: tf.zeros([]))
    assert os.listdir(tmp_path) == []


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5, 7, 8, 9])
def test_every_row_counts_once_on_two_devices(two_devices, count):
    """Loss, correct ones, predictions, and steps of 4 rows without dropout, by NumPy, of random features."""
    session, network = two_devices
    random = np.random.default_rng(count)
    features, labels = random.random((count, 4096), np.float32), random.integers(3, size=count)
    generator = ImageDataGenerator(ImageList('', ['-'] * count, labels, labels), nb_classes=3)
    source = network.model.outputs['fc7'], StoredBatches(generator, features, np.array([np.arange(count)] * 2))
    weights, biases = map(np.float64, session.run(network.model.variables['fc8']))
    logits = features @ weights + biases
    progress, settings = Progress(), finetune.Settings(batch_size=4, dropout_rate=0)
    classes, sure = steps.run_pass(session, network, source, settings, progress, '')
    assert classes.tolist() == logits.argmax(1).tolist() and progress.correct == (classes == labels).sum()
    np.testing.assert_allclose(sure, softmax(logits).max(1), rtol=1e-5)
    np.testing.assert_allclose(progress.loss_sum, -np.log(softmax(logits)[range(count), labels]).sum(), rtol=1e-5)
    generator.start_epoch(0)
    steps.run_pass(session, network, source, settings, Progress(), '', log=NoLog('', []))
    for start in range(0, count, 4):
        rows, one_hot = features[start:start + 4], np.eye(3)[labels[start:start + 4]]
        error = (softmax(rows @ weights + biases) - one_hot) / len(rows)  # gradient of the mean cross-entropy
        weights, biases = weights - 0.001 * rows.T @ error, biases - 0.001 * error.sum(0)
    np.testing.assert_allclose(session.run(network.model.variables['fc8'][0]), weights, atol=1e-7)


def test_images_go_through_all_layers_on_two_devices_also_where_one_has_none(two_devices):
    session, network = two_devices
    image = np.random.default_rng(0).random((1, 227, 227, 3), np.float32)
    both = np.concatenate([image, image])
    one = session.run(network.loss_sum, network.feed(network.model.x, image, np.float32([[1, 0, 0]]), 1))
    two = session.run(network.loss_sum, network.feed(network.model.x, both, np.float32([[1, 0, 0]] * 2), 2))
    none = session.run(network.loss_sum, network.feed(network.model.x, image[:0], np.zeros((0, 3), np.float32), 1))
    assert 2 * one == pytest.approx(two, rel=1e-5) and none == 0


def test_devices_drop_different_units(two_devices):
    """Two equal rows, one a device: without dropout their logits are equal."""
    session, network = two_devices
    features = np.ones((2, 4096), np.float32)
    for keep_prob, equal in ((1.0, True), (0.5, False)):
        feed = network.feed(network.model.outputs['fc7'], features, np.eye(3, dtype=np.float32)[:2], 2, keep_prob)
        first, second = session.run([replica.model.fc8 for replica in network.replicas], feed)
        assert (np.abs(first - second).max() < 1e-5) == equal


def test_variables_have_the_same_names_on_two_devices(two_devices):
    session, _ = two_devices
    names = {variable.op.name for variable in session.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}
    assert names == {'global_step', *(f'{layer}/{kind}' for layer in LAYERS for kind in ('weights', 'biases'))}
