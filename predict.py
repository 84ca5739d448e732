"""Apply a finished run to images: `python predict.py RUN IMAGE...`, or evaluate it on a list with labels."""

import csv
import dataclasses
import json
import os
import sys
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from alexnet import IMAGE_SIZE
from datagenerator import ImageDataGenerator
from inputs.lists import ImageList, check_labels, read_label, read_lines, read_list, split_line, walk_visible
from reports.evaluation import Evaluation, evaluation_lines, log_softmax
from run_folder.trained_run import read_run, rebuild_network
from runtime.command import progress_bar, run_command
from runtime.files import new_file, printable
from runtime.flags import CheckedSettings, flag, parse_settings, positional
from runtime.tf1 import error_line, open_session, tf

IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')  # what is taken from a folder


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Name the classes that a finished run sees in images. If the input is a list with labels, say how right it is."""

    run: str = positional('run folder, or one of its checkpoints: runs/x/checkpoints/best-7')
    inputs: tuple[str, ...] = positional('images, folders of images, or lists (.txt) of images, with or without labels')
    top: int = flag(5, 'classes named for an image', low=1)
    output: str | None = flag(None, 'a new .csv or .json file instead of the screen; with features a .npy')
    features: str | None = flag(None, 'write the output of this layer, such as fc7 or pool5, instead of classes')
    checkpoint: str | None = flag(None, 'best, last, or the number of an epoch that has one; None: best')
    batch_size: int = flag(128, 'images at once', low=1)
    precision: Literal['float32', 'bfloat16'] | None = flag(None, "of products; None: the run's")
    num_threads: int | None = flag(None, 'threads that decode and that compute; None: one per core', low=1)


class Inputs(NamedTuple):
    """The images to look at: `paths` [n], `places` [n], how an error's line begins; `labels` int32 [n] or None."""

    paths: list
    places: list
    labels: np.ndarray | None


def predict(settings):
    """Do what the settings ask for; return the number of images that could not be read, after naming each.

    Raises ValueError for settings, runs or lists that do not work.
    """
    check_settings(settings)
    run = read_run(settings.run, settings.checkpoint)
    inputs = read_inputs(settings.inputs, run.class_names)
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, IMAGE_SIZE, IMAGE_SIZE, 3], 'images')
        model, restore = rebuild_network(run, images)
        if settings.features not in (None, *model.outputs):
            raise ValueError(f'features {settings.features}: the layers are {" ".join(model.outputs)}')
        output = model.outputs[settings.features or 'fc8']
        graph.finalize()
        with open_session(settings.precision or run.precision, settings.num_threads) as session:
            restore(session)
            source = ReadableImages(run, inputs, settings.num_threads)
            batches = source.run(lambda batch: session.run(output, {images: batch}), settings.batch_size)
            if settings.features:
                write_features(settings.output, batches, inputs.paths, output.shape.as_list()[1:])
            else:
                write_predictions(settings, batches, inputs, run.class_names)
    return len(source.errors)


def check_settings(settings):
    """Raise ValueError for a setting whose value is not legal."""
    suffix = os.path.splitext(settings.output or '')[1]
    if settings.features and suffix != '.npy':
        raise ValueError('features are written to a file: name it with --output FILE.npy')
    if settings.output and not settings.features and suffix not in ('.csv', '.json'):
        raise ValueError(f'output {settings.output} ends in neither .csv nor .json')


def read_inputs(names, class_names):
    """Return the Inputs that images, folders and lists mean together.

    Raises ValueError for a folder without images, for lists that are wrong, and for labelled images among others.
    """
    parts = [read_input(name, class_names) for name in names]
    labels = [part.labels for part in parts if part.labels is not None]
    if labels and len(labels) < len(parts):
        raise ValueError('some inputs are lists with labels, to be evaluated, and some are not: run them one by one')
    return Inputs([path for part in parts for path in part.paths], [place for part in parts for place in part.places],
                  np.concatenate(labels) if labels else None)


def read_input(name, class_names):
    """Return the Inputs that one image, folder or list means."""
    if name.lower().endswith('.txt') and not os.path.isdir(name):
        return read_input_list(name, class_names)
    paths = find_images(name) if os.path.isdir(name) else [name]
    return Inputs(paths, [''] * len(paths), None)


def find_images(folder):
    """Return the sorted paths of the images in a folder and its folders, without hidden ones; ValueError if none."""
    paths = sorted(os.path.join(parent, name) for parent, names, _, _ in walk_visible(folder) for name in names
                   if name.lower().endswith(IMAGE_SUFFIXES))
    if not paths:
        raise ValueError(f'{folder} holds no file that ends in {" ".join(IMAGE_SUFFIXES)}')
    return paths


def read_input_list(list_file, class_names):
    """Return the Inputs of a list: as read_list reads it if any line ends in a label; else each line is a path."""
    lines = {number: line.strip() for number, line in read_lines(list_file)}
    class_numbers = {name: number for number, name in enumerate(class_names)}
    words = (split_line(line, class_numbers) for line in lines.values())
    if not lines or any(len(parts) == 2 and read_label(parts[1], class_numbers) is not None for parts in words):
        _, paths, labels, lines = image_list = read_list(list_file, class_names)
        check_labels(image_list, len(class_names))
    else:
        labels, paths = None, [os.path.join(os.path.dirname(list_file), line) for line in lines.values()]
    return Inputs(paths, [f'{list_file}:{number}: ' for number in lines], labels)


class ReadableImages(ImageDataGenerator):
    """The images of some Inputs as the run's training saw its validation images; `errors` has those it can't read."""

    def __init__(self, run, inputs, num_threads):
        self.places, self.errors = inputs.places, {}  # {position: message}
        labels = np.zeros(len(inputs.paths), np.int32)  # the network doesn't see them
        super().__init__(ImageList('', inputs.paths, labels, labels), mean=run.image_mean, scale_size=run.scale_size,
                         crop_size=(IMAGE_SIZE, IMAGE_SIZE), num_threads=num_threads)

    def load(self, index):
        """Return the image at a position; if it can't be read, the reason is kept and zeros take its place."""
        try:
            return super().load(index)
        except ValueError as error:
            self.errors[index] = self.places[index] + str(error)
            return np.zeros(3, np.float32)

    def run(self, network, batch_size):
        """Yield (positions in the list, network(their images)) batch by batch; names what can't be read."""
        with progress_bar(None)(None, self.data_size) as bar:
            while self.pointer < self.data_size:
                positions = self.order[self.pointer:self.pointer + batch_size]
                images, _ = self.next_batch(batch_size)
                readable = np.array([position not in self.errors for position in positions])
                for position in positions[~readable]:
                    bar.write(self.errors[position], sys.stderr)
                if readable.any():
                    values = network(images if readable.all() else images[readable])
                    if not np.isfinite(values).all():
                        raise ValueError('the network answers with values that are not finite: train again')
                    yield positions[readable], values
                bar.update(len(positions))


def write_features(path, batches, paths, shape):
    """Write the float32 rows of `batches`, each of this shape, as .npy, and the images' paths, a line each, as .txt."""
    header = {'descr': '<f4', 'fortran_order': False}
    with (new_file(os.path.splitext(path)[0] + '.txt', encoding='utf-8') as names, new_file(path, 'wb') as file):
        count = 0
        np.lib.format.write_array_header_1_0(file, {**header, 'shape': (count, *shape)})
        for positions, values in batches:
            file.write(np.ascontiguousarray(values, '<f4'))
            names.writelines(f'{printable(paths[position], 4096)}\n' for position in positions)
            count += len(positions)
        file.seek(0)  # NumPy leaves room in the header for the number of rows to grow
        np.lib.format.write_array_header_1_0(file, {**header, 'shape': (count, *shape)})


def write_predictions(settings, batches, inputs, class_names):
    """Write what the logits of `batches` mean, to the screen or a file; evaluate them if the images have labels."""
    tally = None if inputs.labels is None else Evaluation(inputs.paths, inputs.labels, class_names)
    top = min(settings.top, len(class_names))
    records = make_records(batches, inputs, class_names, top, tally)
    if not settings.output:
        for record in records:
            if not tally:  # the evaluation is what is asked for
                tqdm.write(record_line(record))
    else:
        is_csv = settings.output.endswith('.csv')
        with new_file(settings.output, newline='', encoding='utf-8', errors='surrogateescape') as file:
            write_csv(file, records, top, bool(tally)) if is_csv else write_json(file, records, tally)
    if tally and tally.batches:
        print('\n'.join(evaluation_lines(tally.evaluate())))


def make_records(batches, inputs, class_names, top, tally):
    """Yield a dict an image: path, true_class if it has a label, predictions, the `top` likeliest first."""
    for positions, logits in batches:
        if tally:
            tally.add(positions, logits)
        probabilities = np.exp(log_softmax(logits))
        order = np.argsort(-logits, 1, kind='stable')[:, :top]
        for position, classes, row in zip(positions, order, probabilities):
            label = {} if inputs.labels is None else {'true_class': class_names[inputs.labels[position]]}
            yield {'path': inputs.paths[position], **label, 'predictions': [
                {'class': class_names[number], 'probability': float(row[number])} for number in classes]}
        sys.stdout.flush()  # whoever reads a pipe gets each batch at once


def record_line(record):
    """Return a line for the screen or a pipe: path and, after tabs, each class with its probability."""
    return '\t'.join([printable(record['path'], 4096)] + [
        f'{guess["class"]} {guess["probability"]:.4f}' for guess in record['predictions']])


def write_csv(file, records, top, labelled):
    """Write path, the true class if known, class_1, probability_1, class_2, ...: a row an image."""
    writer = csv.writer(file)
    writer.writerow(['path'] + ['true_class'] * labelled + [
        f'{name}_{n}' for n in range(1, top + 1) for name in ('class', 'probability')])
    for record in records:
        guesses = record.pop('predictions')
        writer.writerow([*record.values(), *(value for guess in guesses for value in guess.values())])


def write_json(file, records, tally):
    """Write {"images": [a record an image], "evaluation": what Evaluation.evaluate returns, or null}, a line a record."""
    file.write('{"images": [')
    for number, record in enumerate(records):
        file.write((',\n' if number else '\n') + json.dumps(record))
    evaluation = tally.evaluate() if tally and tally.batches else None
    file.write(f'\n],\n"evaluation": {json.dumps(evaluation)}}}\n')


def main(arguments):
    """Run the command line; returns the exit status: 1 if images could not be read."""
    try:
        return 1 if predict(parse_settings(Settings, arguments)) else 0
    except tf.errors.OpError as error:  # no memory left, as TensorFlow says it
        raise OSError(error_line(error)) from error


if __name__ == '__main__':
    run_command(main)
