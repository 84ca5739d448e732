"""What a person looks at: RunLog shows a run as it goes and, when it ends, writes its report."""

import contextlib
import csv
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from reports import image_grids
from reports.evaluation import (
    Predictions,
    confusion_matrix,
    diagnose,
    majority_accuracy,
    write_matrix,
    write_predictions,
)
from reports.event_file import EventFile
from reports.page import Record, make_page
from reports.screen import HEADER, class_counts, closing_lines, epoch_line
from run_folder.metrics import METRICS, best_row
from runtime.files import new_file, printable
from runtime.tf1 import tf

FIRST_BATCH = 16             # images shown of it
MISTAKES = 24                # shown at most
MOST_CLASSES_MATRIX = 1000   # with more, a confusion matrix takes megabytes that nobody can look at
SECONDS_BETWEEN_PICTURES = 2
LINES_BETWEEN_HEADERS = 20
# What a full disk raises, which has no room for a report either, and PeerLost, after which the run goes on at once.
DISK_OR_PEER_LOST = OSError, tf.errors.OpError


class RunLog:
    """What a run shows: lines on the screen; metrics.csv and an event file as it goes; the report when it ends.

    It ends with the `with` block, by an error or Ctrl-C too. settings: the dict of those in force. generators: the
    ImageDataGenerators of training and validation, of which it shows images. layers: lines of the layer table. Of a run
    that goes on, rows: those of metrics.csv, and step: training steps done.
    """

    def __init__(self, run_dir, settings, command, data, generators, layers, rows=(), step=0):
        self.run_dir, self.settings, self.command, self.data, self.layers = run_dir, settings, command, data, layers
        self.train_images, self.val_images = generators
        self.rows, self.best, self.predictions, self.troubles, self.pictures = list(rows), best_row(rows), None, {}, {}
        self.step, self.next_summaries, self.lines, self.drawing = step, 0, 0, None
        while self.next_summaries <= step:  # what is computed beside a step can change its last bits
            self.summaries_due(self.next_summaries)
        self.next_picture, self.picture_time = 1, -np.inf
        self.write_rows()
        self.events = EventFile(run_dir, step)
        self.events.add_settings(settings)

    def write_rows(self):
        """Write metrics.csv anew: killed at any moment, it is whole."""
        with self.file('metrics.csv') as file:
            writer = csv.DictWriter(file, METRICS)
            writer.writeheader()
            writer.writerows(self.rows)

    def add_picture(self, step, name, picture):
        """Write a picture to the event file and keep it for the report."""
        content = image_grids.encode_jpeg(picture)
        self.pictures[name] = content
        self.events.add_picture(step, name, content, picture.shape)

    def show_best(self, classes, probabilities):
        """Take what the best epoch of a run that goes on predicts."""
        self.predictions = Predictions(self.data.val.labels, classes, probabilities)

    def begin(self, fetch_filters):
        """Show the first batch as the network sees it, and conv1's filters.

        fetch_filters: function that returns their values, float32 [11, 11, 3, 96].
        """
        images, self.fetch_filters = self.train_images, fetch_filters
        images.start_epoch(0)
        indices = images.in_shard(images.epoch_order.order)[:min(FIRST_BATCH, self.settings['batch_size'])]
        self.add_picture(self.step, 'first_batch', image_grids.sheet(
            [image_grids.labelled(image_grids.visible(image, images.mean), self.data.class_names[images.labels[index]])
             for index, image in zip(indices, images.pool.map(images.load, indices))], columns=4))
        self.add_picture(self.step, 'conv1_filters', image_grids.filters(fetch_filters()))

    def summaries_due(self, step):
        """Say whether the state of the layers is to be written at this step, and count on it.

        That is every display_step, and after 20 times display_step at ever longer intervals, each 5 % of the way so
        far: the event file of a long run stays small.
        """
        if step < self.next_summaries:
            return False
        self.next_summaries = step + max(self.settings['display_step'], step // 20)
        return True

    def write_step(self, step, loss, summary):
        """Write the loss of one training step and the serialized summaries that came with it."""
        self.events.add_serialized(step, summary)
        self.events.add_scalars(step, {'train/step_loss': loss})

    def write_epoch(self, step, metrics, predictions, is_best, is_final):
        """Write and print what an epoch gave.

        metrics: dict with the keys METRICS. predictions: of the validation list, arrays (classes, probabilities).
        """
        self.step = step
        self.rows.append(metrics)
        self.write_rows()
        self.events.add_scalars(step, {f'{part}/{name}': metrics[f'{part}_{name}']
                                       for part in ('train', 'val') for name in ('loss', 'accuracy')})
        self.events.add_scalars(step, {f'train/{name}': metrics[name]
                                       for name in ('learning_rate', 'images_per_second')})
        predictions = Predictions(self.data.val.labels, *predictions)
        if is_best:
            self.best, self.predictions = metrics, predictions
        self.write_confusion_image(step, metrics['epoch'], predictions, is_final)
        self.print_epoch(metrics)
        self.warn(predictions.classes)
        if is_final:  # while the last checkpoint is written
            self.drawing = ThreadPoolExecutor(1).submit(self.draw)

    def confusion_matrix(self, predictions):
        return confusion_matrix(predictions.labels, predictions.classes, len(self.data.class_names))

    def write_confusion_image(self, step, epoch, predictions, is_final):
        """Write the confusion matrix as a picture, unless one was written just before; rarer in a long run."""
        is_due = epoch >= self.next_picture and time.monotonic() - self.picture_time > SECONDS_BETWEEN_PICTURES
        if len(self.data.class_names) <= MOST_CLASSES_MATRIX and (is_due or is_final):
            picture = image_grids.heat(self.confusion_matrix(predictions))
            self.events.add_picture(step, 'confusion_matrix', image_grids.encode_png(picture), picture.shape)
            self.next_picture, self.picture_time = epoch + max(1, epoch // 20), time.monotonic()

    def print_epoch(self, metrics):
        """Print the line of an epoch, and the header where it is far above."""
        epoch, num_epochs = metrics['epoch'], self.settings['num_epochs']
        if self.lines % LINES_BETWEEN_HEADERS == 0:
            print(HEADER)
        self.lines += 1
        seconds_left = (num_epochs - epoch) * sum(row['seconds'] for row in self.rows) / len(self.rows)
        print(epoch_line(metrics, num_epochs, seconds_left), flush=True)

    def warn(self, classes):
        """Print each sign of trouble the first time that it is seen."""
        found = diagnose(self.rows, classes)
        for kind, sentence in found.items():
            if kind not in self.troubles:
                print(f'WARNING: {sentence}', file=sys.stderr)
        self.troubles.update(found)

    def __enter__(self):
        return self

    def __exit__(self, kind=None, error=None, trace=None):
        disk_fails = kind and issubclass(kind, DISK_OR_PEER_LOST) and not issubclass(kind, BrokenPipeError)
        try:
            if self.predictions is not None and not disk_fails:
                self.finish()
        except Exception as failure:  # whatever it is: the run is complete without its report, and says what ended it
            print(f'error: the report of {self.run_dir} is not complete: {printable(str(failure))}', file=sys.stderr)
        finally:
            with contextlib.suppress(DISK_OR_PEER_LOST if kind else ()):  # the first error says it
                self.events.close()

    def finish(self):
        """Write the files that show the run as a whole, and print how it ended."""
        names, counts, matrix = self.data.class_names, class_counts(self.data), self.best_matrix()
        _, guessing = majority_accuracy(*counts)
        with contextlib.suppress(BrokenPipeError):  # whoever read the screen has ended; the report is for later
            print('\n'.join(closing_lines(self.best, guessing, matrix, names, self.run_dir)), flush=True)
        self.write_tables(matrix)
        if 'conv1' in self.settings['train_layers']:
            self.add_picture(self.step, 'conv1_filters', image_grids.filters(self.fetch_filters()))
        mistakes, files = self.drawing.result() if self.drawing else self.draw()
        for name, content in files.items():
            with self.file(name, 'wb') as file:
                file.write(content)
            self.pictures[os.path.splitext(name)[0]] = content
        if mistakes:
            sheet = files['mistakes.jpg']
            self.events.add_picture(self.step, 'mistakes', sheet, image_grids.decode(sheet).shape)
        else:
            with contextlib.suppress(FileNotFoundError):  # that of a run which goes on, and has learnt since
                os.remove(os.path.join(self.run_dir, 'mistakes.jpg'))
        page = make_page(Record(
            self.run_dir, self.command, self.settings, self.layers, names, counts, guessing, self.rows, self.best,
            matrix, list(self.troubles.values()), self.pictures,
            [(image_grids.encode_jpeg(image), *answer) for image, *answer in mistakes]))
        with self.file('report.html') as file:
            file.write(page)

    def write_tables(self, matrix):
        """Write val_predictions.csv and confusion_matrix.csv."""
        with self.file('val_predictions.csv') as file:
            write_predictions(file, self.data.val.paths, self.predictions, self.data.class_names)
        if matrix is not None:
            with self.file('confusion_matrix.csv') as file:
                write_matrix(file, matrix, self.data.class_names)

    def best_matrix(self):
        """Return the confusion matrix of the best epoch, or None."""
        if len(self.data.class_names) <= MOST_CLASSES_MATRIX:
            return self.confusion_matrix(self.predictions)

    def draw(self):
        """Return (mistakes as load_mistakes does, {file name: its content} of the figures)."""
        from reports import plots as figures
        mistakes, names = self.load_mistakes(), self.data.class_names
        return mistakes, figures.draw(self.rows, self.best['epoch'], self.best_matrix(), names, mistakes)

    def load_mistakes(self):
        """Return the most confident mistakes: (image as the network sees it, true class, predicted class, probability).

        An image that is gone by now is left out.
        """
        mistakes, names, predictions = [], self.data.class_names, self.predictions
        for index in predictions.mistakes(MISTAKES):
            with contextlib.suppress(ValueError):
                image = self.val_images.load_unflipped(self.data.val.paths[index])
                mistakes.append((image_grids.visible(image, self.val_images.mean), names[predictions.labels[index]],
                                 names[predictions.classes[index]], float(predictions.probabilities[index])))
        return mistakes

    def file(self, name, mode='w'):
        """Open a file of the run folder for writing; it has its name only once it is whole."""
        text = {} if 'b' in mode else {'newline': '', 'encoding': 'utf-8', 'errors': 'surrogateescape'}
        return new_file(os.path.join(self.run_dir, name), mode, replace=True, **text)


class NoLog(contextlib.nullcontext):
    """The log on a worker that is not the chief: it has the rows, the chief the rest."""

    def __init__(self):
        super().__init__(self)

    def summaries_due(self, step):
        return False

    def leave(self, *arguments):
        """Do nothing."""

    begin = show_best = write_epoch = leave


