"""What TensorBoard shows: summaries of trained layers as graph operations, and the event file that a run writes."""

import itertools
import json
import os
import time

from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalars
from tensorboard.plugins.hparams import summary_v2 as hparams  # its api imports Keras and takes half a second
from tensorboard.plugins.text import summary as text

from runtime.files import printable
from runtime.flags import flag_text
from runtime.tf1 import tf

HPARAM_METRICS = ('val/accuracy', 'val/loss', 'train/accuracy', 'train/loss')  # columns of the HParams tab
# No result depends on these settings.
NOT_HPARAMS = ('run_dir', 'cache_dir', 'num_threads', 'devices', 'peer_timeout', 'display_step', 'image_mean')


class EventFile:
    """The event file of a run, in its folder: scalars, pictures and settings on one axis of training steps.

    step: how many are done in a run that goes on; TensorBoard then drops what earlier files have of later ones.
    """

    FLUSH_SECONDS = 10  # so that a run can be looked at as it goes

    def __init__(self, folder, step=0):
        # TensorFlow's FileWriter writes in a thread, where a full disk ends in a traceback.
        self.writer, self.flushed_at = tf.io.TFRecordWriter(new_event_path(folder)), time.monotonic()
        self.write(file_version='brain.Event:2')
        if step:
            self.write(step=step + 1, session_log=tf.SessionLog(status=tf.SessionLog.START))

    def write(self, **content):
        """Write an event of now."""
        self.writer.write(tf.Event(wall_time=time.time(), **content).SerializeToString())
        if time.monotonic() - self.flushed_at > self.FLUSH_SECONDS:
            self.writer.flush()
            self.flushed_at = time.monotonic()

    def add_settings(self, settings):
        """Write the dict `settings` as text and as hyperparameters, and which curves belong into one chart."""
        # Indented by four, Markdown shows it as it is; JSON is ASCII, whatever a path holds.
        shown = json.dumps(settings, indent=2).replace('\n', '\n    ')
        values = {name: value if isinstance(value, (bool, int, float)) else printable(flag_text(value))
                  for name, value in settings.items() if name not in NOT_HPARAMS}
        for summary in (
                text.pb('settings', f'    {shown}'), hparams.hparams_pb(values),
                hparams.hparams_config_pb([hparams.HParam(name) for name in values],
                                          [hparams.Metric(tag) for tag in HPARAM_METRICS]),
                custom_scalars.pb(overlaid_curves())):
            self.add_serialized(0, summary.SerializeToString())

    def add_scalars(self, step, values):
        """Write {tag: number}."""
        self.write(step=step, summary=tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value)
                                                        for tag, value in values.items()]))

    def add_serialized(self, step, summary):
        """Write what a summary operation gave."""
        self.write(step=step, summary=tf.Summary.FromString(summary))

    def add_picture(self, step, tag, encoded, shape):
        """Write a PNG or JPEG file's bytes of a picture of this shape, (height, width, ...)."""
        picture = tf.Summary.Image(height=shape[0], width=shape[1], colorspace=3, encoded_image_string=encoded)
        self.write(step=step, summary=tf.Summary(value=[tf.Summary.Value(tag=f'images/{tag}', image=picture)]))

    def close(self):
        self.writer.close()


def new_event_path(folder):
    """Return the path of an event file that is not there yet; TensorBoard reads them in the order of their names."""
    paths = (os.path.join(folder, f'events.out.tfevents.{seconds:010}.{os.getpid()}')
             for seconds in itertools.count(int(time.time())))
    return next(path for path in paths if not os.path.exists(path))


def overlaid_curves():
    """Return the layout of the Custom Scalars tab: training and validation in one chart."""
    return layout_pb2.Layout(category=[layout_pb2.Category(title='training and validation', chart=[
        layout_pb2.Chart(title=name, multiline=layout_pb2.MultilineChartContent(
            tag=[f'train/{name}$', f'val/{name}$'])) for name in ('loss', 'accuracy')])])
