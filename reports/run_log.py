"""RunLog shows a run while it trains and writes its report when it ends."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from datagenerator import ImageDataGenerator
from inputs.lists import Datasets
from reports import image_grids
from reports.diagnosis import diagnose
from reports.evaluation import Predictions
from reports.event_file import TensorBoardLog
from reports.figures import (
    draw_figures,
    explain_mistakes,
    first_batch_sheet,
    load_mistakes,
)
from reports.page import RunRecord
from reports.report import write_report
from reports.screen import EpochPrinter, closing_lines
from run_folder.metrics import MetricsFile, best_row
from runtime.files import printable
from runtime.tf1 import tf

# A full disk has no space for a report either; after PeerLost, the run is restarted at once.
DISK_OR_PEER_LOST = OSError, tf.errors.OpError


class RunLog:
    """The log of a run: metrics.csv, TensorBoard, the screen, and at the end the report.

    It ends with the `with` block, also by an error or Ctrl-C.

    settings: the effective settings.
    command: the command line that started the run.
    generators: of training and validation images, from which images are shown.
    layers: lines of the layer table.
    rows, step: of a resumed run, the rows of metrics.csv and the training steps done.
    """

    def __init__(self, run_dir: str, settings: dict, command: str, datasets: Datasets,
                 generators: Sequence[ImageDataGenerator], layers: Sequence[str],
                 rows: Sequence[dict] = (), step: int = 0):
        self.train_images, self.val_images = generators
        self.metrics = MetricsFile(run_dir, rows)
        self.tensorboard = TensorBoardLog(run_dir, settings, step)
        self.printer = EpochPrinter(settings['num_epochs'])
        self.record = RunRecord(run_dir, command, settings, layers, datasets, self.metrics.rows,
                                best_row(rows), None, self.printer.warnings)
        self.step, self.images, self.figures_future, self.explain = step, {}, None, None

    def begin(self, fetch_conv1: Callable[[], np.ndarray], explain: Callable | None = None):
        """Show the first batch as the network sees it, and the filters of conv1.

        fetch_conv1: function that returns their values, float32 [11, 11, 3, 96].
        explain: function (images uint8 [n, 227, 227, 3], class numbers int [n, k]) that returns
            heatmaps of the best epoch, float32 [n, k, 13, 13]; it is called when the run has
            ended. None: the report has no heatmaps.
        """
        self.fetch_conv1, self.explain = fetch_conv1, explain
        record = self.record
        self.add_image('first_batch', first_batch_sheet(
            self.train_images, record.datasets.class_names, record.settings['batch_size']))
        self.add_image('conv1_filters', image_grids.filters(fetch_conv1()))

    def add_image(self, name, image):
        """Write an image to the event file and keep it for the report."""
        self.images[name] = image_grids.encode_jpeg(image)
        self.tensorboard.add_image(self.step, name, self.images[name])

    def show_best(self, classes: np.ndarray, probabilities: np.ndarray):
        """Set the predictions of the best epoch of a resumed run for the validation list.

        classes: int32 [n]. probabilities: of these classes, float32 [n].
        """
        self.record = self.record._replace(predictions=Predictions(
            self.record.datasets.val.labels, classes, probabilities))

    def summaries_due(self, step: int) -> bool:
        """Return whether the summaries of the layers are to be computed and written at a step."""
        return self.tensorboard.summaries_due(step)

    def write_step(self, step: int, loss: float, summaries: bytes):
        """Write the loss of a training step and its serialized summaries."""
        self.tensorboard.write_step(step, loss, summaries)

    def write_epoch(self, step: int, row: dict, predictions: Sequence[np.ndarray], is_best: bool,
                    is_final: bool):
        """Write and print the results of an epoch.

        step: training steps done.
        row: for metrics.csv, a dict with the keys METRICS.
        predictions: (classes int32 [n], probabilities float32 [n]) for the validation list.
        is_best: this is the best epoch so far. is_final: this is the last one.
        """
        self.step, names = step, self.record.datasets.class_names
        self.metrics.append(row)
        predictions = Predictions(self.record.datasets.val.labels, *predictions)
        if is_best:
            self.record = self.record._replace(best=row, predictions=predictions)
        self.tensorboard.write_epoch(step, row)
        matrix = predictions.confusion_matrix(len(names))
        if matrix is not None:
            self.tensorboard.write_confusion_image(step, row['epoch'], matrix, is_final)
        self.printer.print_epoch(self.metrics.rows)
        self.printer.warn(diagnose(self.metrics.rows, predictions.classes))
        if is_final:  # while the last checkpoint is written
            self.figures_future = ThreadPoolExecutor(1).submit(self.draw)

    def draw(self):
        """Return (mistakes, {file name: content} of the figures)."""
        record = self.record
        mistakes = load_mistakes(record.predictions, record.datasets, self.val_images)
        return mistakes, draw_figures(record.rows, record.best['epoch'], record.matrix,
                                      record.datasets.class_names, mistakes)

    def __enter__(self):
        return self

    def __exit__(self, kind=None, error=None, trace=None):
        disk_or_peer_lost = kind and issubclass(kind, DISK_OR_PEER_LOST)
        disk_or_peer_lost = disk_or_peer_lost and not issubclass(kind, BrokenPipeError)
        try:
            if self.record.predictions is not None and not disk_or_peer_lost:
                self.finish()
        except Exception as failure:  # whatever it is: the run is complete without its report
            print(f'error: the report of {self.record.run_dir} is not complete: '
                  f'{printable(str(failure))}', file=sys.stderr)
        finally:
            with contextlib.suppress(DISK_OR_PEER_LOST if kind else ()):  # reported already
                self.tensorboard.close()

    def finish(self):
        """Print how the run ended and write its report."""
        record = self.record
        lines = closing_lines(record.best, record.guessing, record.matrix,
                              record.datasets.class_names, record.run_dir)
        with contextlib.suppress(BrokenPipeError):  # nobody reads the screen any more
            print('\n'.join(lines), flush=True)
        if 'conv1' in record.settings['train_layers']:
            self.add_image('conv1_filters', image_grids.filters(self.fetch_conv1()))
        mistakes, figures = self.figures_future.result() if self.figures_future else self.draw()
        mistakes = explain_mistakes(mistakes, self.explain)
        write_report(record, self.images, figures, mistakes)
        if 'mistakes.jpg' in figures:
            self.tensorboard.add_image(self.step, 'mistakes', figures['mistakes.jpg'])


class NoLog:
    """The log of a worker that writes nothing: the methods of RunLog, without any effect."""

    def summaries_due(self, step: int) -> bool:
        """Return False: no summaries are to be computed."""
        return False

    def ignore(self, *arguments):
        """Do nothing."""

    begin = show_best = write_step = write_epoch = __exit__ = ignore

    def __enter__(self):
        return self
