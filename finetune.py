"""Fine-tune AlexNet on your own images: edit the settings below, then run `python finetune.py`."""

import contextlib
import dataclasses
import functools
import os
import sys
from typing import Literal

from alexnet import LAYERS
from inputs.checks import read_checked_datasets
from reports.heatmaps import Heatmaps, make_report_functions
from reports.run_log import NoLog, RunLog
from reports.screen import class_table, layer_table, warn_of_starter_weights
from run_folder.checkpoints import make_checkpoints
from run_folder.folder import RunFolder
from run_folder.metrics import best_row
from run_folder.resume import parse_run_settings, read_resume_state
from runtime.command import run_command
from runtime.flags import CheckedSettings, command_line, flag
from runtime.tf1 import error_line, tf
from training.cluster import PeerLost
from training.devices import Devices
from training.graph import build_training_graph, initialize_variables
from training.interruption import save_on_interruption
from training.setup import (
    check_agreement,
    choose_weights,
    find_broken_on_all,
    make_setup,
    settings_to_store,
)
from training.sources import CacheOptions, make_generators, make_sources
from training.steps import epoch_metrics, evaluate, has_ended, remaining_epochs, train_epoch
from training.strategy import broadcast_variables, build_broadcast


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Fine-tune AlexNet on your own images. Each flag changes one setting for this run."""

    train_file: str = flag(
        'train.txt', 'list of training images: path, blank, label', group='Data', is_path=True)
    val_file: str = flag('val.txt', 'list of validation images', is_path=True)
    labels_file: str | None = flag(
        None, 'class names, one per line; None: labels.txt beside train_file, if any', is_path=True)
    num_classes: int | None = flag(
        None, 'number of classes; None: from labels_file or the lists', low=2)
    skip_broken: bool = flag(False, 'leave out missing and broken images instead of stopping')
    views: Literal['whole', 'crops'] = flag(
        'whole', 'what the network sees of a picture: the whole, or crops of centre and corners; '
        'training draws one view per epoch, validation averages the crops')
    horizontal_flip: bool = flag(True, 'mirror images are views, too; wrong for letters')

    weights_path: str = flag(
        'auto', 'a .npy or .caffemodel file; none: random values; auto: bvlc_alexnet, downloaded '
        'if it is missing, or else the starter weights; caffenet: bvlc_reference_caffenet, '
        'downloaded if it is missing', group='Network', is_path=True)
    architecture: Literal['auto', 'alexnet', 'caffenet'] = flag(
        'auto', 'caffenet pools before it normalises, alexnet after it; auto: as the weight file '
        'says, or else alexnet')
    train_layers: tuple[str, ...] = flag(
        ('fc7', 'fc8'), f'layers to train, of {" ".join(LAYERS)}', choices=LAYERS)
    skip_layers: tuple[str, ...] | None = flag(
        None, 'trained layers that start from random values; None: all of train_layers',
        choices=LAYERS)
    dropout_rate: float = flag(
        0.5, 'fraction of fc6 and fc7 outputs that training drops', low=0, below=1)

    optimizer: Literal['adam', 'momentum', 'sgd'] = flag(
        'adam', 'adam, momentum or sgd, as in Caffe', group='Training')
    learning_rate: float = flag(
        0.0001, 'step size; momentum and sgd need about 10 times the default', above=0)
    lr_schedule: Literal['constant', 'step', 'cosine'] = flag(
        'constant', 'constant; step: divided by 10 after each third of the run; cosine: down to 0')
    pretrained_lr_mult: float = flag(
        0.1, 'factor on learning_rate for trained layers that start from the weight file',
        above=0, high=1)
    momentum: float = flag(
        0.9, 'fraction of the last step that is repeated (adam: beta1)', low=0, below=1)
    weight_decay: float = flag(0.0, 'L2 penalty on weights, not biases, as in Caffe', low=0)
    num_epochs: int = flag(10, 'number of epochs', low=1)
    batch_size: int | None = flag(None, 'images per step; None: 64, from 1,000 images 128', low=1)
    patience: int | None = flag(
        None, 'early stopping: stop after so many epochs without a better one; None: never', low=1)
    label_smoothing: float = flag(
        0.0, 'fraction of each label that is spread over all classes', low=0, below=1)
    class_weights: Literal['none', 'balanced'] = flag(
        'none', 'balanced: in the loss, rare classes count as much as common ones')
    seed: int = flag(
        0, 'seed of image order, initial values and dropout', low=0, high=2**31 - 1)

    cache_features: Literal['auto', 'on', 'off'] = flag(
        'auto', 'store the outputs of the frozen layers; auto: if the disk has space',
        group='Speed')
    cache_dir: str = flag('cache', 'folder of stored features; can be deleted', is_path=True)
    precision: Literal['float32', 'tensorfloat32', 'bfloat16'] = flag(
        'float32', 'of matrix products; tensorfloat32: for GPUs that have it; bfloat16: for CPUs '
        'with AVX512-BF16 or AMX')
    deterministic: bool = flag(True, 'let two runs with one seed be equal bit for bit on GPUs too')
    num_threads: int | None = flag(
        None, 'threads for decoding and for computing; None: one per core', low=1)
    devices: tuple[str, ...] | None = flag(
        None, 'devices that share each batch, such as GPU:0 GPU:1; None: all GPUs, or the CPU')
    peer_timeout: float = flag(
        600.0, 'seconds to wait for another machine; more than it takes to save', above=0)

    run_dir: str | None = flag(
        None, 'folder of the run; None: a new runs/<date>-<time>', group='Output', is_path=True)
    resume: str | None = flag(
        None, 'folder of a run to resume: its settings apply, and flags change them', is_path=True)
    display_step: int = flag(
        20, 'steps between histograms in TensorBoard, increasing in a long run', low=1)


def finetune(settings: Settings) -> tuple[float, int, str]:
    """Train a network; return (best validation accuracy, its epoch, the run folder).

    If run_dir or resume names the folder of a run, that run is resumed. Raises ValueError for bad
    settings or files, FloatingPointError for a loss that is not finite, PeerLost for lost workers.
    """
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(make_devices(settings))
        workers, is_chief = devices.workers, devices.workers.rank == 0
        folder = stack.enter_context(RunFolder(
            settings.resume or settings.run_dir, bool(settings.resume), is_writer=is_chief))
        datasets, setup, stored = read_inputs(settings, devices, folder)
        progress, history = read_resume_state(workers, folder, stored, datasets.class_names)
        stack.enter_context(warn_of_starter_weights(setup.weights_path))

        graph = stack.enter_context(tf.Graph().as_default())
        training = build_training_graph(setup, devices)
        checkpoints = make_checkpoints(training.model, setup.trained_layers, is_writer=is_chief)
        broadcast_ops = build_broadcast(devices.strategy, workers)
        heatmaps = Heatmaps(training.model)
        graph.finalize()

        session = stack.enter_context(devices.open_session())
        if progress.has_begun:
            checkpoints.restore(session, folder.path, progress, best_row(history))
        else:
            initialize_variables(session, training.model, setup, devices)
        broadcast_variables(session, broadcast_ops)

        layers = layer_table(training.model, setup.trained_layers, setup.pretrained_layers)
        print_on(is_chief, class_table(datasets) + layers)
        generators, (train_source, val_source) = make_batches(
            settings, datasets, setup, session, training.model, workers)
        validate = functools.partial(
            evaluate, session, training, val_source, workers, setup.batch_size)

        run_dir = workers.broadcast(lambda: folder.write(stored, datasets.class_names))
        checkpoints.begin(session, run_dir, progress)
        log = stack.enter_context(NoLog() if not is_chief else RunLog(
            run_dir, stored, training_command(settings), datasets, generators, layers, history,
            step=session.run(training.step)))
        log.begin(*make_report_functions(session, heatmaps, checkpoints.load_best))
        if history:
            recall_best(session, checkpoints, broadcast_ops, progress, log, validate)

        with save_on_interruption(
                session, checkpoints, progress, run_dir, settings.learning_rate) as after_step:
            for epoch in remaining_epochs(history, settings.num_epochs, settings.patience):
                train_epoch(session, training, train_source, progress, log, after_step,
                            setup.batch_size, settings.dropout_rate)
                validation = validate(after_step)
                history.append(epoch_metrics(progress, validation, len(datasets.train.paths)))
                is_best = best_row(history) is history[-1]
                is_final = has_ended(history, settings.num_epochs, settings.patience)
                log.write_epoch(epoch * progress.steps, history[-1], validation.predictions,
                                is_best, is_final)
                progress.finish_epoch()
                checkpoints.after_epoch(session, progress, is_best, is_final)
    best = best_row(history)
    return best['val_accuracy'], best['epoch'], run_dir


def make_devices(settings):
    """Return the Devices that the settings name."""
    return Devices(settings.devices, settings.precision, settings.num_threads,
                   settings.peer_timeout, settings.deterministic)


def training_command(settings):
    """Return the shell command that makes a run with these settings again, in a new folder."""
    return command_line('finetune.py', dataclasses.replace(settings, run_dir=None, resume=None))


def print_on(is_chief, lines):
    """Print lines on the chief alone."""
    if is_chief:
        print('\n'.join(lines))


def read_inputs(settings, devices, folder):
    """Return (Datasets, TrainingSetup, dict for settings.json), the same on all workers."""
    workers = devices.workers
    datasets = read_checked_datasets(
        settings.train_file, settings.val_file, settings.labels_file, settings.num_classes,
        skip_broken=settings.skip_broken, cache_dir=settings.cache_dir,
        num_threads=settings.num_threads,
        distribute=functools.partial(find_broken_on_all, workers))
    project = os.path.dirname(os.path.abspath(__file__))
    weights_path, architecture = workers.broadcast(lambda: choose_weights(
        settings.weights_path, settings.architecture, folder.settings, project))
    setup = make_setup(settings, datasets, weights_path, architecture)
    devices.check_batch_size(setup.batch_size)
    stored = settings_to_store(dataclasses.asdict(settings), setup, datasets)
    check_agreement(workers, stored)
    return datasets, setup, stored


def make_batches(settings, datasets, setup, session, model, workers):
    """Return (ImageDataGenerators, BatchSources), each for the training and validation list."""
    generators = make_generators(
        datasets, views=settings.views, horizontal_flip=settings.horizontal_flip,
        seed=settings.seed, num_threads=settings.num_threads, shard=(workers.rank, workers.size))
    cache = CacheOptions(settings.cache_features, settings.cache_dir, settings.precision,
                         settings.num_threads, settings.num_epochs)
    return generators, make_sources(
        session, model, generators, setup.trained_layers, cache, workers)


def recall_best(session, checkpoints, broadcast_ops, progress, log, validate):
    """Evaluate the best epoch of a resumed run again, because the report shows its predictions."""
    checkpoints.load_best(session)
    broadcast_variables(session, broadcast_ops)
    log.show_best(*validate().predictions)
    checkpoints.restore_last(session, progress)
    broadcast_variables(session, broadcast_ops)


def main(arguments):
    """Run a command line; return the exit status: 0, 3 for an infinite loss, 75 for PeerLost."""
    try:
        accuracy, epoch, run_dir = finetune(parse_run_settings(Settings, arguments))
    except FloatingPointError as error:
        print(f'error: {error}', file=sys.stderr)
        return 3
    except PeerLost as error:
        print(f'error: {error}', file=sys.stderr)
        return os.EX_TEMPFAIL  # 75
    except tf.errors.OpError as error:  # such as a full disk or memory
        raise OSError(error_line(error)) from error
    print(f'best val_accuracy {accuracy:.4f} (epoch {epoch}) in {run_dir}')
    return 0


if __name__ == '__main__':
    run_command(main)
