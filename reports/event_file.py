"""The event file that TensorBoard reads, and how often a run writes to it."""

import itertools
import json
import os
import time

import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalars
from tensorboard.plugins.hparams import summary_v2 as hparams  # its api imports Keras, slowly
from tensorboard.plugins.text import summary as text

from reports import image_grids
from runtime.files import printable
from runtime.flags import flag_text
from runtime.tf1 import tf

# Columns of the HParams tab.
HPARAM_METRICS = ('val/accuracy', 'val/loss', 'train/accuracy', 'train/loss')
# Where and how fast a run computes, and constants: not worth a column.
NOT_HPARAMS = ('run_dir', 'cache_dir', 'num_threads', 'devices', 'peer_timeout', 'display_step',
               'image_mean')


class EventFile:
    """A new event file in a run folder: scalars, images and settings by training step.

    step: training steps done before, in a resumed run. TensorBoard then ignores later steps in
        earlier files.
    """

    FLUSH_SECONDS = 10  # so that a run can be watched

    def __init__(self, folder: str, step: int = 0):
        # TensorFlow's FileWriter writes in a thread, where a full disk ends in a traceback.
        self.writer = tf.io.TFRecordWriter(new_event_path(folder))
        self.flushed_at = time.monotonic()
        self.write(file_version='brain.Event:2')
        if step:
            self.write(step=step + 1, session_log=tf.SessionLog(status=tf.SessionLog.START))

    def write(self, **content):
        """Write an event with the time of now."""
        event = tf.Event(wall_time=time.time(), **content)
        self.writer.write(event.SerializeToString())
        if time.monotonic() - self.flushed_at > self.FLUSH_SECONDS:
            self.writer.flush()
            self.flushed_at = time.monotonic()

    def add_settings(self, settings: dict):
        """Write the settings as text and as hyperparameters, and the layout of the curves."""
        # Indented by four, Markdown shows the text as it is; JSON is ASCII, even of odd paths.
        shown = json.dumps(settings, indent=2).replace('\n', '\n    ')
        values = {name: hparam_value(value) for name, value in settings.items()
                  if name not in NOT_HPARAMS}
        config = hparams.hparams_config_pb([hparams.HParam(name) for name in values],
                                           [hparams.Metric(tag) for tag in HPARAM_METRICS])
        for summary in (text.pb('settings', f'    {shown}'), hparams.hparams_pb(values), config,
                        custom_scalars.pb(overlaid_curves())):
            self.add_serialized(0, summary.SerializeToString())

    def add_scalars(self, step: int, values: dict[str, float]):
        """Write {tag: number}."""
        self.add_values(step, [tf.Summary.Value(tag=tag, simple_value=value)
                               for tag, value in values.items()])

    def add_image(self, step: int, name: str, content: bytes):
        """Write a PNG or JPEG file, given by its content, under the tag images/<name>."""
        height, width, _ = image_grids.decode(content).shape
        image = tf.Summary.Image(height=height, width=width, colorspace=3,
                                 encoded_image_string=content)
        self.add_values(step, [tf.Summary.Value(tag=f'images/{name}', image=image)])

    def add_values(self, step, values):
        """Write a list of tf.Summary.Value."""
        self.write(step=step, summary=tf.Summary(value=values))

    def add_serialized(self, step: int, summary: bytes):
        """Write the result of a summary operation."""
        self.write(step=step, summary=tf.Summary.FromString(summary))

    def close(self):
        """Write the rest to the disk."""
        self.writer.close()


def hparam_value(value):
    """Return the value of a setting as the HParams tab takes it: a number or text."""
    return value if isinstance(value, (bool, int, float)) else printable(flag_text(value))


def new_event_path(folder):
    """Return the path of a new event file. TensorBoard reads them in the order of their names."""
    for seconds in itertools.count(int(time.time())):
        path = os.path.join(folder, f'events.out.tfevents.{seconds:010}.{os.getpid()}')
        if not os.path.exists(path):
            return path


def overlaid_curves():
    """Return the layout of the Custom Scalars tab: training and validation in one chart."""
    charts = [layout_pb2.Chart(title=name, multiline=layout_pb2.MultilineChartContent(
        tag=[f'train/{name}$', f'val/{name}$'])) for name in ('loss', 'accuracy')]
    return layout_pb2.Layout(category=[
        layout_pb2.Category(title='training and validation', chart=charts)])


class TensorBoardLog:
    """The metrics and images of a run for TensorBoard, less often in a long run.

    settings: the effective settings. step: training steps done before, in a resumed run.
    seconds_between_images: time that passes between confusion matrices at least.
    """

    def __init__(self, run_dir: str, settings: dict, step: int = 0, seconds_between_images=2.0):
        self.display_step, self.next_summaries = settings['display_step'], 0
        # A resumed run has summaries at the same steps as one that was never interrupted: computing
        # them beside a training step can change the last bits of its result.
        while self.next_summaries <= step:
            self.schedule_summaries(self.next_summaries)
        self.seconds_between_images = seconds_between_images
        self.next_image_epoch, self.image_time = 1, -np.inf
        self.events = EventFile(run_dir, step)
        self.events.add_settings(settings)

    def summaries_due(self, step: int) -> bool:
        """Return whether the summaries of the layers are to be computed and written at a step."""
        return step >= self.next_summaries

    def schedule_summaries(self, step):
        """Set the next step with summaries after one that has them.

        They come every display_step. After 20 times display_step the intervals increase, to 5 % of
        the steps so far, so that the event file of a long run stays small.
        """
        self.next_summaries = step + max(self.display_step, step // 20)

    def write_step(self, step: int, loss: float, summaries: bytes):
        """Write the loss of a training step and its serialized summaries."""
        self.schedule_summaries(step)
        self.events.add_serialized(step, summaries)
        self.events.add_scalars(step, {'train/step_loss': loss})

    def write_epoch(self, step: int, row: dict):
        """Write the metrics of an epoch, a row of metrics.csv."""
        values = {f'{part}/{name}': row[f'{part}_{name}']
                  for part in ('train', 'val') for name in ('loss', 'accuracy')}
        self.events.add_scalars(step, values)
        self.events.add_scalars(step, {f'train/{name}': row[name]
                                       for name in ('learning_rate', 'images_per_second')})

    def write_confusion_image(self, step: int, epoch: int, matrix: np.ndarray, is_final: bool):
        """Write a confusion matrix as an image, if one is due or the run ends.

        Past epoch 20, images come at intervals of 5 % of the epochs so far.
        """
        seconds = time.monotonic() - self.image_time
        is_due = epoch >= self.next_image_epoch and seconds > self.seconds_between_images
        if is_due or is_final:
            content = image_grids.encode_png(image_grids.confusion_image(matrix))
            self.events.add_image(step, 'confusion_matrix', content)
            self.next_image_epoch = epoch + max(1, epoch // 20)
            self.image_time = time.monotonic()

    def add_image(self, step: int, name: str, content: bytes):
        """Write a PNG or JPEG file, given by its content."""
        self.events.add_image(step, name, content)

    def close(self):
        """Close the event file."""
        self.events.close()
