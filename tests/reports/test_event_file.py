import json
import os

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from reports.event_file import EventFile, TensorBoardLog
from run_folder.metrics import METRICS

SETTINGS = {'learning_rate': 0.5, 'horizontal_flip': True, 'num_epochs': 10, 'patience': None,
            'run_dir': 'runs/1', 'train_layers': ('fc7', 'fc8'), 'train_file': 'l\udcffst.txt',
            'display_step': 20}


def read_events(folder):
    """Return TensorBoard's reader of all event files in a folder."""
    return EventAccumulator(str(folder), {'images': 0}).Reload()


def read_hparams(reader, name):
    content = reader.SummaryMetadata(f'_hparams_/{name}').plugin_data.content
    return HParamsPluginData.FromString(content)


def test_settings_are_text_and_hyperparameters(tmp_path):
    events = EventFile(str(tmp_path))
    events.add_settings(SETTINGS)
    events.close()
    reader = read_events(tmp_path)
    [shown] = reader.Tensors('settings/text_summary')[0].tensor_proto.string_val
    assert json.loads(shown) == json.loads(json.dumps(SETTINGS))
    values = read_hparams(reader, 'session_start_info').session_start_info.hparams
    assert values['learning_rate'].number_value == 0.5 and values['horizontal_flip'].bool_value
    assert values['train_layers'].string_value == 'fc7 fc8'
    assert values['patience'].string_value == 'None'
    assert 'run_dir' not in values  # every run would differ from every other
    metrics = read_hparams(reader, 'experiment').experiment.metric_infos
    assert 'val/accuracy' in [metric.name.tag for metric in metrics]
    assert 'custom_scalars__config__' in reader.Tags()['tensors']


def test_runs_of_one_process_within_a_second_have_a_file_each(tmp_path):
    for step in (0, 8, 16):
        EventFile(str(tmp_path), step).close()
    assert len(os.listdir(tmp_path)) == 3


def test_a_resumed_run_replaces_what_came_after_its_step(tmp_path):
    for start, values in ((0, (1, 2, 3)), (2, (30,))):
        events = EventFile(str(tmp_path), start)
        for step, value in enumerate(values, start + 1):
            events.add_scalars(step, {'loss': value})
        events.close()
    scalars = read_events(tmp_path).Scalars('loss')
    assert [(event.step, event.value) for event in scalars] == [(1, 1), (2, 2), (3, 30)]


def summary_steps(log, first, last):
    """Return the steps at which a log asks for summaries, and write these."""
    steps = []
    for step in range(first, last + 1):
        if log.summaries_due(step):
            log.write_step(step, 0.5, b'')
            steps.append(step)
    return steps


def test_summaries_come_every_display_step_then_ever_rarer(tmp_path):
    """Steps computed by hand: up to 20 times display_step, then 5 % of the way."""
    log = TensorBoardLog(str(tmp_path), SETTINGS)
    steps = summary_steps(log, 1, 1_000_000)
    log.close()
    assert steps[:23] == [*range(20, 421, 20), 441, 463] and len(steps) < 200
    assert [event.step for event in read_events(tmp_path).Scalars('train/step_loss')] == steps


def test_asking_for_summaries_changes_nothing(tmp_path):
    log = TensorBoardLog(str(tmp_path), SETTINGS)
    assert [log.summaries_due(step) for step in (19, 20, 20, 25)] == [False, True, True, True]
    log.close()


@pytest.mark.parametrize('interrupted', [20, 30, 450, 10_000])
def test_a_resumed_run_has_summaries_at_the_same_steps(tmp_path, interrupted):
    """Fetching summaries can change the last bits of a step, and runs are to be reproducible."""
    log = TensorBoardLog(str(tmp_path), SETTINGS)
    steps = summary_steps(log, 1, 20_000)
    log.close()
    resumed = TensorBoardLog(str(tmp_path), SETTINGS, interrupted)
    later = [step for step in steps if step > interrupted]
    assert summary_steps(resumed, interrupted + 1, 20_000) == later
    resumed.close()


def test_confusion_images_stay_few_in_a_long_run(tmp_path):
    log = TensorBoardLog(str(tmp_path), SETTINGS, seconds_between_images=-1)
    for epoch in range(1, 401):
        log.write_confusion_image(9 * epoch, epoch, np.eye(3, dtype=int), epoch == 400)
    log.close()
    written = read_events(tmp_path).Images('images/confusion_matrix')
    assert [event.step // 9 for event in written[:20]] == list(range(1, 21))
    assert len(written) < 100 and written[-1].step == 3600


def test_confusion_images_of_quick_epochs_are_the_first_and_last(tmp_path):
    log = TensorBoardLog(str(tmp_path), SETTINGS, seconds_between_images=3600)
    for epoch in range(1, 6):
        log.write_confusion_image(epoch, epoch, np.eye(3, dtype=int), epoch == 5)
    log.close()
    written = read_events(tmp_path).Images('images/confusion_matrix')
    assert [event.step for event in written] == [1, 5]
    assert (written[0].height, written[0].width) == (399, 399)  # 3 classes of 400 // 3 pixels


def test_metrics_of_an_epoch_are_scalars(tmp_path):
    log = TensorBoardLog(str(tmp_path), SETTINGS)
    row = {name: number + 0.5 for number, name in enumerate(METRICS)}
    log.write_epoch(9, row)
    log.close()
    reader = read_events(tmp_path)
    for tag, column in (('train/loss', 'train_loss'), ('val/loss', 'val_loss'),
                        ('train/accuracy', 'train_accuracy'), ('val/accuracy', 'val_accuracy'),
                        ('train/learning_rate', 'learning_rate'),
                        ('train/images_per_second', 'images_per_second')):
        [event] = reader.Scalars(tag)
        assert (event.step, event.value) == (9, row[column])
