"""fc6 in its dual form, of real size, against the same runs without it."""

import csv
import dataclasses
import json
import os
import shutil
import signal

import cv2
import numpy as np
import pytest
from conftest import at_batch, read_checkpoint, run_main, write_dark_and_bright

import finetune
import predict
from alexnet import LAYERS, set_values, tf
from benchmarks.killed_run import outcome
from checkpoints import Checkpoints
from console import Stopped
from dual import choose_counts
from feature_store import NoRoom
from finetune import Settings
from lists import read_data
from optimization import Plan
from reports import RunLog
from weights import read_weights

FC_LAYERS = ('fc6', 'fc7', 'fc8')


def metrics(folder, name='run'):
    """Return float [epochs, 5] of metrics.csv: epoch, loss and accuracy of training and of validation."""
    with open(folder / name / 'metrics.csv', newline='') as file:
        return np.array([[float(value) for value in row[:5]] for row in list(csv.reader(file))[1:]])


def evaluation(run_dir, pictures, capsys, checkpoint='best'):
    """Return [loss, accuracy] of the validation list as predict.py finds them."""
    output = run_dir.parent / f'{checkpoint}.json'
    words = [run_dir, pictures / 'val.txt', '--checkpoint', checkpoint, '--output', output]
    assert run_main(predict.main, words, capsys)[0] == 0
    found = json.loads(output.read_text())['evaluation']
    return [found['loss'], found['accuracy']]


def assert_close(got, wanted):
    """As a whole: at a ReLU that rounding moves to the other side, single values differ by more."""
    assert np.linalg.norm(got - wanted) <= 1e-3 * np.linalg.norm(wanted)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Folder with train.txt (10 images) and val.txt (5), which take some epochs to be told apart."""
    return write_dark_and_bright(tmp_path_factory.mktemp('pictures'), 100)


@pytest.fixture(scope='module')
def settings(pictures, conv_weights_file):
    """3 steps an epoch, which go astray and come back: the best epoch is not the last one."""
    return Settings(train_file=str(pictures / 'train.txt'), val_file=str(pictures / 'val.txt'), train_layers=FC_LAYERS,
                    weights_path=conv_weights_file, cache_dir=str(pictures / 'cache'), num_epochs=4, batch_size=4,
                    display_step=2, learning_rate=1e-5, optimizer='momentum', dual_fc6='on')


@pytest.fixture
def fine_tune(settings, tmp_path):
    """Function (folder name, changed settings) that trains; the checkpoints go after the test."""
    yield lambda name='run', **changes: finetune.finetune(
        dataclasses.replace(settings, run_dir=str(tmp_path / name), **changes))
    for folder in tmp_path.glob('*/checkpoints'):
        shutil.rmtree(folder)


@pytest.fixture(scope='module')
def validated():
    """What each epoch of `undisturbed` predicts: arrays (classes, probabilities)."""
    return []


@pytest.fixture(scope='module')
def undisturbed(settings, validated, tmp_path_factory):
    """The folder that holds the folder `run` of a run in the dual form that nothing disturbs."""
    folder, write_epoch = tmp_path_factory.mktemp('undisturbed'), RunLog.write_epoch

    def noted(log, step, metrics, predictions, *rest):
        validated.append(predictions)
        write_epoch(log, step, metrics, predictions, *rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, 'write_epoch', noted)
        finetune.finetune(dataclasses.replace(settings, run_dir=str(folder / 'run')))
    yield folder
    shutil.rmtree(folder / 'run' / 'checkpoints')


@pytest.mark.parametrize('changes', [
    {'optimizer': 'momentum'}, {'optimizer': 'sgd', 'horizontal_flip': False},
    {'skip_layers': ('fc8',), 'pretrained_lr_share': 0.5, 'lr_schedule': 'step'}])
def test_training_is_that_of_the_weights_themselves(fine_tune, tmp_path, all_weights_file, changes):
    """Loss and accuracy of every epoch, and all that the checkpoints hold; also where fc6 goes on from a file's values."""
    weights = {'weights_path': all_weights_file} if 'skip_layers' in changes else {}
    for dual_fc6 in ('on', 'off'):
        fine_tune(dual_fc6, dual_fc6=dual_fc6, learning_rate=2e-6, **weights, **changes)
    np.testing.assert_allclose(metrics(tmp_path, 'on'), metrics(tmp_path, 'off'), rtol=1e-4, atol=1e-4)
    for kind in ('best', 'last'):
        got, wanted = (read_checkpoint(tmp_path / name / 'checkpoints', kind) for name in ('on', 'off'))
        assert {name for name in got if name not in wanted} <= {'fc6/coefficients', 'fc6/coefficients/Momentum'}
        for name, value in wanted.items():
            assert_close(got[name], value)
    first = tf.train.load_checkpoint(str(tmp_path / 'on/checkpoints/frozen')).get_tensor('fc6/first_weights')
    if weights:
        np.testing.assert_array_equal(first, read_weights(all_weights_file)['fc6'][0])
    moved = [read_checkpoint(tmp_path / name / 'checkpoints', 'last')['fc6/weights'] - first for name in ('on', 'off')]
    assert np.linalg.norm(moved[1]) > 1e-3
    assert_close(moved[0], moved[1])


def test_its_checkpoints_hold_the_weights_that_it_validated(undisturbed, pictures, capsys):
    """predict.py knows nothing of the dual form; loss and accuracy are those of metrics.csv."""
    rows = metrics(undisturbed)
    for wanted, row in (('best', max(rows, key=lambda row: (row[4], -row[3]))), ('last', rows[-1])):
        assert evaluation(undisturbed / 'run', pictures, capsys, wanted) == pytest.approx(row[3:], rel=1e-4)


@pytest.fixture
def stopped(fine_tune, tmp_path, monkeypatch):
    """Function batch -> run folder of a run that was stopped after this batch."""
    def run(batch):
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, 'SECONDS_BETWEEN', 0)  # checkpoints before it must change nothing
            at_batch(batch, lambda: os.kill(os.getpid(), signal.SIGINT), patch)
            with pytest.raises(Stopped):
                fine_tune()
        return str(tmp_path / 'run')
    return run


@pytest.mark.parametrize('batch, last', [(2, 'last-0-2'), (11, 'last-2-3')])
def test_stopped_it_goes_on_to_the_same_bits(stopped, undisturbed, tmp_path, capsys, batch, last):
    """Before the first epoch's end, and in the third, after the best one; batch 4 of each epoch is its validation."""
    run_dir = stopped(batch)
    with open(f'{run_dir}/checkpoints/last') as file:
        assert file.read().strip() == last
    with open(undisturbed / 'run' / 'checkpoints' / 'best') as file:
        assert file.read().strip() == 'best-2'
    assert run_main(finetune.main, ['--resume', run_dir], capsys)[0] == 0
    assert outcome(tmp_path) == outcome(undisturbed)


def test_what_the_best_epoch_predicts_is_recalled_bit_for_bit(undisturbed, validated, monkeypatch, capsys):
    """The best is the second of four."""
    recalled, show_best = [], RunLog.show_best
    monkeypatch.setattr(RunLog, 'show_best', lambda log, *values: (recalled.extend(values), show_best(log, *values)))
    assert run_main(finetune.main, ['--resume', undisturbed / 'run'], capsys)[0] == 0
    for got, wanted in zip(recalled, validated[1], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_loss_that_is_not_finite_leaves_the_best_epoch(fine_tune, pictures, tmp_path, monkeypatch, capsys):
    """Which waits in memory: nothing is written after the first epoch."""
    def spoil(checkpoints, session):
        if checkpoints.progress.epochs == 1:
            coefficients = checkpoints.model.coefficients
            set_values(session, [coefficients], [np.full(coefficients.shape, np.nan)])
    monkeypatch.setattr(Checkpoints, 'save_step', spoil)
    with pytest.raises(FloatingPointError):
        fine_tune()
    assert evaluation(tmp_path / 'run', pictures, capsys) == pytest.approx(metrics(tmp_path)[0, 3:], rel=1e-4)


def test_it_goes_on_without_the_dual_form_where_that_can_not_be(stopped, undisturbed, tmp_path, capsys):
    """And then stays without: the coefficients are as old as that."""
    run_dir = stopped(7)
    without = ['--resume', run_dir, '--dual_fc6', 'auto', '--cache_features', 'off']
    assert run_main(finetune.main, without, capsys)[0] == 0
    np.testing.assert_allclose(metrics(tmp_path), metrics(undisturbed), rtol=1e-4, atol=1e-4)
    assert not json.loads((tmp_path / 'run' / 'settings.json').read_text())['is_dual']
    status, _, shown = run_main(finetune.main, ['--resume', run_dir, '--cache_features', 'auto', '--dual_fc6', 'on',
                                                '--num_epochs', '5'], capsys)
    assert status == 2 and 'dual_fc6 is on, but the run has begun, or gone on, without it' in shown


def test_an_image_that_has_changed_is_named(stopped, pictures, capsys):
    run_dir, path = stopped(5), str(pictures / '3.png')
    shutil.copy(path, f'{path}.old')
    try:
        cv2.imwrite(path, cv2.imread(path)[::-1] // 2)
        status, _, shown = run_main(finetune.main, ['--resume', run_dir], capsys)
        assert status == 2 and shown.count('another image') == 1
        assert f'train.txt:4: {path}: the run began with another image' in shown and 'set dual_fc6 to off' in shown
        assert run_main(finetune.main, ['--resume', run_dir, '--dual_fc6', 'off'], capsys)[0] == 0
    finally:
        shutil.move(f'{path}.old', path)


def plan_of(settings):
    trained = tuple(layer for layer in LAYERS if layer in settings.train_layers)
    return Plan(settings, read_data(settings.train_file, settings.val_file)[0], settings.weights_path, trained, trained)


@pytest.mark.parametrize('changes, obstacle', [
    ({'train_layers': ('fc7', 'fc8')}, 'fc6 is not the first'), ({'train_layers': ('conv5', *FC_LAYERS)}, 'fc6 is not'),
    ({'optimizer': 'adam'}, 'optimizer is adam'), ({'weight_decay': 0.1}, 'weight_decay is 0.1'),
    ({'precision': 'bfloat16'}, 'precision is bfloat16'), ({'cache_features': 'off'}, 'cache_features is off'),
    ({'random_crop': True}, 'random_crop'), ({'devices': ('CPU:0', 'CPU:1')}, 'the run is spread over several')])
def test_where_it_can_not_be_on_says_why_and_auto_goes_without(settings, changes, obstacle):
    plan = plan_of(dataclasses.replace(settings, num_epochs=100, **changes))
    with pytest.raises(ValueError, match=f'dual_fc6 is on, but {obstacle}'):
        choose_counts(plan, plan.settings.devices is None, None)
    plan = plan_of(dataclasses.replace(plan.settings, dual_fc6='auto'))
    assert choose_counts(plan, plan.settings.devices is None, None) is None


def test_auto_takes_it_for_few_images_and_epochs_enough(settings, monkeypatch, capsys):
    def counts(stored=None, **changes):
        changed = dataclasses.replace(settings, **{'dual_fc6': 'auto', **changes})
        return choose_counts(plan_of(changed), True, stored)
    assert counts(num_epochs=8) == (20, 5) and counts(num_epochs=4, horizontal_flip=False) == (10, 5)
    assert counts(num_epochs=7) is None and counts(num_epochs=8, dual_fc6='off') is None
    assert counts(num_epochs=7, dual_fc6='on') == counts({'is_dual': True, 'horizontal_flip': True}) == (20, 5)
    assert counts({'horizontal_flip': True}) is None and not capsys.readouterr().out
    assert counts({'is_dual': True, 'horizontal_flip': False}) is None
    assert 'fc6 goes on without its dual form, for good: horizontal_flip' in capsys.readouterr().out
    assert counts({'is_dual': True, 'horizontal_flip': True}, dual_fc6='off') is None
    assert 'for good: dual_fc6 is off' in capsys.readouterr().out
    monkeypatch.setattr('feature_store.SPARE_BYTES', 1 << 60)  # a disk without room, on which features can be already
    assert counts(num_epochs=8) is None and counts(num_epochs=8, dual_fc6='on') == (20, 5)
    monkeypatch.undo()
    for most, found in ((20, (20, 5)), (19, None)):
        monkeypatch.setattr('dual.MOST_IMAGES', most)
        assert counts(num_epochs=8) == found
    monkeypatch.setattr('dual.MOST_IMAGES', 4)
    assert counts(num_epochs=8, train_file=settings.val_file, horizontal_flip=False) is None


def test_where_features_can_not_be_stored_it_says_what_to_do(fine_tune, monkeypatch, tmp_path):
    def no_room(*arguments):
        raise NoRoom('no room')
    monkeypatch.setattr('bottlenecks.store_batches', no_room)
    with pytest.raises(ValueError, match='can not be stored.*set dual_fc6 to off'):
        fine_tune()
    assert not (tmp_path / 'run').exists()
