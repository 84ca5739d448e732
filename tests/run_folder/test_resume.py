"""Runs that are killed, stopped, refused or starved, against an undisturbed one; weights and numbers bit for bit."""

import csv
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import finetune
import predict
from benchmarks.killed_run import kill_and_compare, outcome
from finetune import Settings
from run_folder.checkpoints import Checkpoints
from runtime.tf1 import tf
from tests.helpers import ROOT, at_batch, run_main, write_list

EPOCHS = 4  # of 4 steps


@pytest.fixture(scope='module')
def pictures(picture_folder, tmp_path_factory):
    """A folder with train.txt and val.txt, of 12 pictures each, in train/ and val/."""
    folder = tmp_path_factory.mktemp('lists')
    for part in ('train', 'val'):
        shutil.copytree(picture_folder, folder / part)
        write_list(folder / f'{part}.txt', [f'{part}/{n:02d}.png {n % 3}' for n in range(12)])
    return folder


@pytest.fixture(scope='module')
def flags(pictures, all_weights_file, tmp_path_factory):
    """A run of fc8 on 12 pictures: dropout, flips, a schedule, and pictures that are drawn in another order each epoch."""
    return ['--train_file', str(pictures / 'train.txt'), '--val_file', str(pictures / 'val.txt'), '--weights_path',
            all_weights_file, '--train_layers', 'fc8', '--num_epochs', str(EPOCHS), '--batch_size', '3', '--lr_schedule', 'cosine', '--learning_rate', '0.01',
            '--display_step', '3', '--cache_dir', str(tmp_path_factory.mktemp('cache'))]


@pytest.fixture(scope='module')
def undisturbed(flags, tmp_path_factory):
    """The folder that holds the folder `run` of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp('undisturbed')
    finetune.main([*flags, '--run_dir', str(folder / 'run')])
    yield folder
    shutil.rmtree(folder / 'run' / 'checkpoints')


@pytest.fixture
def run_dir(tmp_path):
    """The folder of a run, whose checkpoints go after the test."""
    yield str(tmp_path / 'run')
    shutil.rmtree(tmp_path / 'run' / 'checkpoints', ignore_errors=True)


def one_line(shown):
    """Return the one line of standard error that is no warning about so small a set of pictures."""
    [line] = [line for line in shown.splitlines() if not line.lower().startswith('warning: ')]
    return line


@pytest.mark.parametrize('number, batch, last', [
    (signal.SIGINT, 2, 'last-0-2'), (signal.SIGTERM, 8, 'last-1-3'), (signal.SIGTERM, 10, 'last-1-4')])
def test_a_signal_ends_the_step_saves_and_the_run_goes_on(flags, undisturbed, run_dir, tmp_path, capsys, number, batch, last):
    """Batch 5 of each epoch is its validation."""
    with pytest.MonkeyPatch.context() as patch:
        at_batch(batch, lambda: os.kill(os.getpid(), number), patch)
        status, _, shown = run_main(finetune.main, [*flags, '--run_dir', run_dir], capsys)
    assert status == 128 + number and f'--resume {run_dir}' in one_line(shown)
    with open(f'{run_dir}/checkpoints/last') as file:
        assert file.read().strip() == last
    status, out, shown = run_main(finetune.main, ['--resume', run_dir], capsys)
    assert status == 0 and out.splitlines()[-1].endswith(f' in {run_dir}')
    assert outcome(tmp_path) == outcome(undisturbed)


def test_killed_at_random_moments_it_is_the_undisturbed_run(flags, tmp_path):
    """The same with SIGKILL, 5 times; benchmarks/killed_run.py does it 30 times."""
    happened, ended = kill_and_compare(str(tmp_path), [*flags, '--num_epochs', '100'], kills=5)
    for folder in tmp_path.glob('*/run/checkpoints'):
        shutil.rmtree(folder)
    assert len(happened) == 5 and ended >= 1


def test_a_second_signal_ends_the_process_at_once(flags, run_dir):
    """The first is held back by a step that does not end."""
    script = ('import sys, time; sys.path.insert(0, sys.argv.pop(1)); import finetune, training.steps; '
              'training.steps.run_pass = lambda *arguments: [print("here", flush=True), time.sleep(1e6)]; finetune.main(sys.argv[1:])')
    process = subprocess.Popen([sys.executable, '-c', script, ROOT, *flags, '--run_dir', run_dir], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    while process.stdout.readline() != 'here\n':
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT  # a shell says 130


def test_a_finished_run_goes_on_with_more_epochs_or_writes_its_report_again(flags, undisturbed, run_dir, tmp_path, capsys):
    settings = ['--lr_schedule', 'constant', '--run_dir', run_dir]
    assert run_main(finetune.main, [*flags, *settings, '--num_epochs', '2'], capsys)[0] == 0
    os.remove(f'{run_dir}/report.html')
    status, out, shown = run_main(finetune.main, ['--run_dir', run_dir], capsys)
    assert status == 0 and out.splitlines()[-1].startswith('best val_accuracy ')
    assert os.path.exists(f'{run_dir}/report.html')
    assert run_main(finetune.main, ['--resume', run_dir, '--num_epochs', '4'], capsys)[0] == 0
    pictures = EventAccumulator(run_dir, {'images': 0}).Reload().Images('images/first_batch')
    assert [event.step for event in pictures] == [0, 8, 8]
    finetune.main([*flags, '--lr_schedule', 'constant', '--run_dir', str(tmp_path / 'whole' / 'run')])
    assert outcome(tmp_path) == outcome(tmp_path / 'whole')
    shutil.rmtree(tmp_path / 'whole')


@pytest.mark.parametrize('changed, named', [
    (['--batch_size', '4'], 'batch_size was 3, not 4'), (['--train_layers', 'fc7', 'fc8'], 'train_layers was fc8, not fc7 fc8'),
    (['--optimizer', 'sgd', '--seed', '7'], 'optimizer was adam, not sgd; seed was 0, not 7'),
    (['--weights_path', 'none'], 'weights_path was '), (['--train_file', 'OTHER'], 'train_images was 12, not 11'),
    (['--num_classes', '4'], 'num_classes was 3, not 4'), (['--run_dir', 'other'], 'run_dir other: a run goes on in its own')])
def test_what_makes_another_run_is_refused_and_nothing_changes(undisturbed, pictures, capsys, changed, named):
    run = undisturbed / 'run'
    before = outcome(undisturbed), (run / 'settings.json').read_text()
    other = write_list(pictures / 'other.txt', [f'train/{n:02d}.png {n % 3}' for n in range(11)])
    status, _, shown = run_main(finetune.main, ['--resume', run, *(other if word == 'OTHER' else word for word in changed)],
                                capsys)
    assert status == 2 and named in one_line(shown)
    assert (outcome(undisturbed), (run / 'settings.json').read_text()) == before


def test_a_finished_run_needs_no_weight_file(undisturbed, all_weights_file, capsys):
    os.rename(all_weights_file, f'{all_weights_file}.away')
    try:
        assert run_main(finetune.main, ['--resume', undisturbed / 'run'], capsys)[0] == 0
    finally:
        os.rename(f'{all_weights_file}.away', all_weights_file)


def with_more_variables(prefix, extra):
    """Write a checkpoint again, with more variables in it."""
    reader = tf.train.load_checkpoint(prefix)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value) for name, value in {**values, **extra}.items()}
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, prefix, write_meta_graph=False, write_state=False)


def test_a_run_folder_of_an_older_version_resumes_and_predicts(flags, pictures, undisturbed, run_dir, tmp_path, capsys):
    """Runs could be made in a dual form of fc6: settings and variables of that are in their files, and are ignored."""
    assert run_main(finetune.main, [*flags, '--run_dir', run_dir, '--num_epochs', '2'], capsys)[0] == 0
    with open(f'{run_dir}/settings.json') as file:
        settings = json.load(file)
    settings.update(dual_fc6='auto', is_dual=True)
    with open(f'{run_dir}/settings.json', 'w') as file:
        json.dump(settings, file)
    rows = np.ones((12, 8), np.float32)
    with_more_variables(f'{run_dir}/checkpoints/frozen', {'fc6/fingerprints': rows, 'fc6/first_weights': rows})
    for kind in ('best', 'last'):
        with open(f'{run_dir}/checkpoints/{kind}') as file:
            with_more_variables(f'{run_dir}/checkpoints/{file.read().strip()}', {'fc6/coefficients': rows})
    status, out, _ = run_main(predict.main, [run_dir, pictures / 'val.txt', '--checkpoint', 'last'], capsys)
    with open(f'{run_dir}/metrics.csv', newline='') as file:
        accuracy = float(list(csv.DictReader(file))[-1]['val_accuracy'])
    assert status == 0 and f'accuracy       {accuracy:.4f}' in out
    settings = ['--lr_schedule', 'cosine', '--num_epochs', str(EPOCHS)]
    assert run_main(finetune.main, ['--resume', run_dir, *settings], capsys)[0] == 0


def test_no_folder_no_run(tmp_path, capsys):
    status, _, shown = run_main(finetune.main, ['--resume', tmp_path / 'none'], capsys)
    assert status == 2 and 'nothing to go on with' in one_line(shown)


@pytest.mark.skipif(not os.path.isdir('/proc'), reason='needs a folder in which even root can not write')
def test_a_folder_without_permission_is_one_line(flags, capsys):
    status, _, shown = run_main(finetune.main, [*flags, '--run_dir', '/proc/run'], capsys)
    assert status == 2 and '/proc/run' in one_line(shown)


def test_images_that_vanish_are_named_and_all_before_is_saved(flags, pictures, run_dir, tmp_path, capsys):
    """Of images that are decoded in each epoch; once they are back, the run goes on."""
    flags = [*flags, '--cache_features', 'off']
    finetune.main([*flags, '--run_dir', str(tmp_path / 'whole' / 'run')])
    capsys.readouterr()
    away = f'{pictures}/away'
    with pytest.MonkeyPatch.context() as patch:
        at_batch(7, lambda: os.rename(f'{pictures}/train', away), patch)
        try:
            status, _, shown = run_main(finetune.main, [*flags, '--run_dir', run_dir], capsys)
        finally:
            os.rename(away, f'{pictures}/train')
    assert status == 2 and '.png: No such file' in one_line(shown)
    with open(f'{run_dir}/checkpoints/last') as file:
        assert file.read().startswith('last-1-')
    assert run_main(finetune.main, ['--resume', run_dir], capsys)[0] == 0
    assert outcome(tmp_path) == outcome(tmp_path / 'whole')
    shutil.rmtree(tmp_path / 'whole')


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(flags, undisturbed, run_dir, tmp_path, capsys, monkeypatch):
    """Files can not grow beyond 40 kB after epoch 2: less than a checkpoint of fc8 or an event file, more than metrics.csv."""
    monkeypatch.setattr(Checkpoints, 'SECONDS_BETWEEN', 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch:
        at_batch(11, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1])), patch)
        try:
            status, _, shown = run_main(finetune.main, [*flags, '--run_dir', run_dir], capsys)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2 and 'File too large' in one_line(shown)
    names = os.listdir(f'{run_dir}/checkpoints')
    assert {name.split('.')[0] for name in names if name.startswith('last')} == {'last', 'last-2'}
    assert not any('part' in name or 'temp' in name for name in names + os.listdir(run_dir))
    assert run_main(finetune.main, ['--resume', run_dir], capsys)[0] == 0
    assert outcome(tmp_path) == outcome(undisturbed)


def test_an_exploding_learning_rate_leaves_what_is_finite_and_a_smaller_one_goes_on(flags, run_dir, capsys, monkeypatch):
    monkeypatch.setattr(Checkpoints, 'SECONDS_BETWEEN', 0)
    assert run_main(finetune.main, [*flags, '--run_dir', run_dir, '--num_epochs', '1'], capsys)[0] == 0
    status, _, shown = run_main(finetune.main, ['--resume', run_dir, '--num_epochs', '3', '--learning_rate', '1e38'], capsys)
    assert status == 3 and 'learning_rate 1e+38' in shown and f'--resume {run_dir} --learning_rate 1e+37' in shown
    with open(f'{run_dir}/checkpoints/last') as file:
        assert file.read().strip() == 'last-1'
    status, out, _ = run_main(finetune.main, ['--resume', run_dir, '--learning_rate', '0.001'], capsys)
    assert status == 0 and '3/3' in out


def test_fc8_alone_takes_little_more_than_the_network_once(undisturbed, all_weights_file):
    """1.2 times the weights, and what is trained for each of the two checkpoints: fc8 for 3 classes with Adam's slots."""
    size = sum(path.stat().st_size for path in (undisturbed / 'run').rglob('*') if path.is_file())
    assert size < 1.2 * os.path.getsize(all_weights_file) + 2 * 3 * 4 * 4097 * 3


def state():
    """Return (memory in kB, open files, threads) of this process."""
    with open('/proc/self/status') as file:
        status = dict(line.split(':', 1) for line in file)
    return int(status['VmRSS'].split()[0]), len(os.listdir('/proc/self/fd')), threading.active_count()


@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='reads /proc')
def test_nothing_grows_over_2000_steps(pictures, all_weights_file, run_dir, tmp_path, monkeypatch):
    """From the 500th batch to the last; the graph is finalized before the loop: one operation more would be an error."""
    states, after_step = [], Checkpoints.after_step

    def noted(*arguments):
        after_step(*arguments)
        gc.collect(0)
        states.append(state())
    monkeypatch.setattr(Checkpoints, 'after_step', noted)
    long_list = write_list(pictures / 'long.txt', [f'train/{n % 12:02d}.png {n % 3}' for n in range(250)])
    finetune.finetune(Settings(
        train_file=long_list, val_file=str(pictures / 'val.txt'), weights_path=all_weights_file, train_layers=('fc8',),
        batch_size=1, num_epochs=10, cache_dir=str(tmp_path / 'cache'), run_dir=run_dir))
    memory, files, threads = zip(*states[499:2500])
    assert len(memory) == 2001 and memory[-1] - memory[0] < 20_000
    assert set(files[-100:]) <= set(files[:260]) and max(threads) <= max(threads[:260])
