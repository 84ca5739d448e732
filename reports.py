"""What a person looks at: the layer table, a line an epoch, metrics.csv, TensorBoard's event files."""

import csv
import os

from alexnet import LAYERS
from console import quiet_startup

with quiet_startup():
    import tensorflow.compat.v1 as tf

METRICS = ('epoch', 'train_loss', 'train_accuracy', 'val_loss', 'val_accuracy', 'learning_rate', 'images_per_second',
           'seconds')
HISTOGRAM_VALUES = 10_000  # of a variable; enough for its shape, and cheap for the 38 million of fc6


def layer_table(model, trained, pretrained):
    """Return lines that say, for each layer, where its values come from, whether they change, and their number."""
    lines = [f'{"layer":7}{"values":15}{"":9}{"parameters":>12}']
    for layer in LAYERS:
        count = sum(variable.shape.num_elements() for variable in model.variables[layer])
        source = 'pretrained' if layer in pretrained else 'from scratch'
        lines.append(f'{layer:7}{source:15}{"trained" if layer in trained else "frozen":9}{count:12,}')
    return lines


def histogram_summaries(model, trained):
    """Return one operation that gives the histograms of the trained layers' weights and biases."""
    summaries = []
    for layer in trained:
        for variable in model.variables[layer]:
            name = variable.name.split(':')[0].split('/')[-1]
            # An odd stride: with an even one, a matrix of 4096 columns would show the same few columns only.
            stride = variable.shape.num_elements() // HISTOGRAM_VALUES | 1
            values = tf.reshape(variable, [-1])[::stride]
            # A histogram of NaN would stop the run before it can say that the loss is not finite.
            values = tf.where(tf.is_finite(values), values, tf.zeros_like(values))
            summaries.append(tf.summary.histogram(f'weights/{layer}/{name}', values))
    return tf.summary.merge(summaries)


def epoch_line(metrics, num_epochs):
    """Return one line about an epoch; `metrics` has the keys METRICS."""
    return ('epoch {epoch:3d}/{num_epochs}  train loss {train_loss:.4f} accuracy {train_accuracy:.4f}  '
            'val loss {val_loss:.4f} accuracy {val_accuracy:.4f}  {images_per_second:.0f} images/s  '
            '{seconds:.1f} s').format(num_epochs=num_epochs, **metrics)


class RunLog:
    """Event files in the run folder's train/ and val/, on one axis of training steps, and metrics.csv."""

    def __init__(self, run_dir):
        self.writers = {part: tf.summary.FileWriter(os.path.join(run_dir, part)) for part in ('train', 'val')}
        self.csv_path = os.path.join(run_dir, 'metrics.csv')
        self.append_row(METRICS)

    def append_row(self, values):
        with open(self.csv_path, 'a', newline='', encoding='utf-8') as file:
            csv.writer(file).writerow(values)

    def write_step(self, step, loss, summary):
        """Write the loss of one training step and the serialized summaries that came with it."""
        self.writers['train'].add_summary(summary, step)
        self.write_scalars('train', step, {'step/loss': loss})

    def write_epoch(self, step, metrics):
        """Write what an epoch gave to the event files and as a row of metrics.csv."""
        for part in ('train', 'val'):
            self.write_scalars(part, step, {f'epoch/{name}': metrics[f'{part}_{name}'] for name in ('loss', 'accuracy')})
        self.write_scalars('train', step, {f'epoch/{name}': metrics[name]
                                           for name in ('learning_rate', 'images_per_second')})
        self.append_row([metrics[name] for name in METRICS])

    def write_scalars(self, part, step, values):
        summary = tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self.writers[part].add_summary(summary, step)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for writer in self.writers.values():
            writer.close()
