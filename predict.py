"""Apply a finished run to images: `python predict.py RUN IMAGE...`, or evaluate it on a list."""

import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from alexnet import IMAGE_SIZE, mean_log_probabilities
from inputs.arguments import read_inputs
from inputs.batches import load_batches, split
from inputs.images import load_views
from inputs.views import evaluation_views
from reports.evaluation import Evaluation, evaluation_lines
from reports.heatmaps import Heatmaps, check_heatmap_folder
from reports.illustrations import Illustrator
from reports.prediction_files import record_line, write_records
from run_folder.trained_run import read_run, rebuild_network
from runtime.command import progress_bar, run_command
from runtime.files import new_file, printable
from runtime.flags import CheckedSettings, flag, parse_settings, positional
from runtime.tf1 import error_line, open_session, tf


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Predict the classes of images with a finished run; evaluate it if a list has labels."""

    run: str = positional(
        'run folder, or one of its checkpoints: runs/x/checkpoints/last', is_path=True)
    inputs: tuple[str, ...] = positional(
        'images, folders of images, or lists (.txt) of images, with or without labels',
        is_path=True)
    top: int = flag(5, 'number of classes predicted per image', low=1)
    output: str | None = flag(
        None, 'a new .csv, .json or .html file instead of the screen; with features a .npy',
        is_path=True)
    heatmaps: str | None = flag(
        None, 'a new folder for a picture per image of what in it spoke for its class',
        is_path=True)
    features: str | None = flag(
        None, 'write the output of this layer, such as fc7 or pool5, instead of classes')
    checkpoint: str | None = flag(
        None, 'best, last, or the number of an epoch that has one; None: best')
    views: Literal['whole', 'crops'] | None = flag(
        None, 'answer by these views of an image; whole is quick; None: those of the run')
    batch_size: int = flag(128, 'views of images per batch', low=1)
    precision: Literal['float32', 'tensorfloat32', 'bfloat16'] | None = flag(
        None, "of matrix products; None: that of the run's settings")
    num_threads: int | None = flag(
        None, 'threads for decoding and for computing; None: one per core', low=1)


def predict(settings: Settings) -> int:
    """Predict as the settings say; return the number of images that could not be read.

    Each of these is named on standard error. Raises ValueError for settings, runs or lists that
    do not work.
    """
    check_output(settings)
    run, errors = read_run(settings.run, settings.checkpoint), {}
    inputs = read_inputs(settings.inputs, run.class_names)
    views = choose_views(settings, run)
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, [None, IMAGE_SIZE, IMAGE_SIZE, 3], 'images')
        model, restore = rebuild_network(run, images)
        if settings.features not in (None, *model.outputs):
            raise ValueError(f'features {settings.features}: the layers are '
                             f'{" ".join(model.outputs)}')
        heatmaps = Heatmaps(model) if settings.heatmaps else None
        num_images = tf.placeholder(tf.int32, [])
        if settings.features:
            fetches = {'values': model.outputs[settings.features]}
        else:
            fetches = {'values': mean_log_probabilities(model.fc8, num_images)}
        if heatmaps:
            fetches['conv5'] = model.outputs['conv5']
        graph.finalize()
        with open_session(settings.precision or run.precision, settings.num_threads) as session:
            restore(session)
            batches = compute_batches(
                lambda pixels: session.run(fetches, {
                    images: pixels.reshape(-1, *pixels.shape[2:]), num_images: len(pixels)}),
                read_batches(inputs, views, errors, settings.batch_size, settings.num_threads))
            if settings.features:
                shape = fetches['values'].shape.as_list()[1:]
                write_features(settings.output, batches, inputs.paths, shape)
            else:
                explain = functools.partial(heatmaps.compute, session) if heatmaps else None
                write_predictions(settings, batches, inputs, run.class_names, explain)
    return len(errors)


def check_output(settings):
    """Raise ValueError for an output file of the wrong kind."""
    suffix = os.path.splitext(settings.output or '')[1]
    if settings.features and suffix != '.npy':
        raise ValueError('features are written to a file: name it with --output FILE.npy')
    if settings.output and not settings.features and suffix not in ('.csv', '.json', '.html'):
        raise ValueError(f'output {settings.output} ends in neither .csv nor .json nor .html')
    if settings.features and settings.heatmaps:
        raise ValueError('heatmaps are of classes: leave out --features or --heatmaps')
    if settings.heatmaps:
        check_heatmap_folder(settings.heatmaps)


def choose_views(settings, run):
    """Return the views of each image that are computed; features are of the first view alone."""
    views = run.views
    if settings.views:
        views = evaluation_views(settings.views, run.horizontal_flip)
    return views[:1] if settings.features else views


def read_batches(inputs, views, errors, batch_size, num_threads) -> Iterator[tuple]:
    """Yield (positions, pixels) per batch of the readable Inputs.

    batch_size: number of views in a batch.
    positions: int64 [n], in the inputs. pixels: uint8 [n, views, 227, 227, 3]. errors: dict that
    receives {position: error} of the others, which are named on standard error, too.
    """
    load, reported = functools.partial(load_views, views=views), 0
    for positions, pixels in load_batches(
            split(inputs.paths, max(1, batch_size // len(views))), load,
            (len(views), IMAGE_SIZE, IMAGE_SIZE, 3), errors, num_threads, progress_bar(None)):
        for position, error in itertools.islice(errors.items(), reported, None):
            tqdm.write(inputs.error_prefixes[position] + error, sys.stderr)
        reported = len(errors)
        if len(positions):
            yield positions, pixels


class ComputedBatch(NamedTuple):
    """A batch of images and what the network computed from them."""

    positions: np.ndarray     # int64 [n], in the inputs
    images: np.ndarray        # uint8 [n, 227, 227, 3], BGR, the first view of each
    values: np.ndarray        # log-probabilities or features, float32 [n, ...]
    conv5: np.ndarray | None  # float32 [n, 13, 13, 256] of the first view, for heatmaps


def compute_batches(network: Callable, batches) -> Iterator[ComputedBatch]:
    """Yield the ComputedBatch per (positions, pixels); raise ValueError for NaN and infinity.

    network: function of pixels, uint8 [n, views, 227, 227, 3], that returns {'values': array,
        perhaps 'conv5': array of all views}.
    """
    for positions, pixels in batches:
        outputs = network(pixels)
        if not np.isfinite(outputs['values']).all():
            raise ValueError('the network answers with values that are not finite: train again')
        conv5 = outputs['conv5'][::pixels.shape[1]] if 'conv5' in outputs else None
        yield ComputedBatch(positions, pixels[:, 0], outputs['values'], conv5)


def write_features(path, batches, paths, shape):
    """Write features as .npy, float32 [n, *shape], and the paths of the images as .txt.

    batches: a ComputedBatch each. The .txt has one path per line.
    """
    header = {'descr': '<f4', 'fortran_order': False}
    with (new_file(os.path.splitext(path)[0] + '.txt', encoding='utf-8') as names,
          new_file(path, 'wb') as file):
        count = 0
        np.lib.format.write_array_header_1_0(file, {**header, 'shape': (count, *shape)})
        for positions, _, values, _ in batches:
            file.write(np.ascontiguousarray(values, '<f4'))
            names.writelines(f'{printable(paths[position], 4096)}\n' for position in positions)
            count += len(positions)
        file.seek(0)  # NumPy leaves space in the header for a larger number of rows
        np.lib.format.write_array_header_1_0(file, {**header, 'shape': (count, *shape)})


def write_predictions(settings, batches, inputs, class_names, explain):
    """Write the predictions to the screen or a file; evaluate them if the Inputs have labels.

    batches: a ComputedBatch each, whose values are log-probabilities.
    explain: function that computes heatmaps, as Heatmaps.compute; None for no heatmaps.
    """
    for_page = bool(settings.output) and settings.output.endswith('.html')
    illustrator = Illustrator(inputs, class_names, explain, settings.heatmaps, for_page)
    evaluation = None
    if inputs.labels is not None:
        evaluation = Evaluation(inputs.paths, inputs.labels, class_names)
    top = min(settings.top, len(class_names))
    records = make_records(batches, inputs, class_names, top, evaluation, illustrator)
    if settings.output:
        write_records(settings.output, records, top, evaluation, settings.run)
    else:
        for record in records:
            if evaluation is None:  # with labels, the screen shows the evaluation alone
                tqdm.write(record_line(record))
    if evaluation is not None and evaluation.batches:
        print('\n'.join(evaluation_lines(evaluation.evaluate())))


def make_records(batches, inputs, class_names, top, evaluation, illustrator) -> Iterator[dict]:
    """Yield a dict per image: path, true_class if it has a label, predictions by probability."""
    for batch in batches:
        positions, log_probabilities = batch.positions, batch.values
        if evaluation is not None:
            evaluation.add(positions, log_probabilities)
        probabilities = np.exp(np.float64(log_probabilities))
        likeliest = np.argsort(-log_probabilities, 1, kind='stable')[:, :top]
        records = []
        for position, numbers, row in zip(positions, likeliest, probabilities, strict=True):
            record = {'path': inputs.paths[position]}
            if inputs.labels is not None:
                record['true_class'] = class_names[inputs.labels[position]]
            record['predictions'] = [{'class': class_names[number],
                                      'probability': float(row[number])} for number in numbers]
            records.append(record)
        illustrator.illustrate(records, batch, likeliest[:, 0], probabilities)
        yield from records
        sys.stdout.flush()  # the reader of a pipe gets each batch at once


def main(arguments):
    """Run the command line; return the exit status, 1 if an image could not be read."""
    try:
        return 1 if predict(parse_settings(Settings, arguments)) else 0
    except tf.errors.OpError as error:  # memory is exhausted
        raise OSError(error_line(error)) from error


if __name__ == '__main__':
    run_command(main)
