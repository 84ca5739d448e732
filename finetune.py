"""Fine-tune AlexNet on your own images: edit the settings below, then run `python finetune.py`."""

import contextlib
import dataclasses
import os
import sys
from typing import Literal

from alexnet import LAYERS
from inputs.checks import read_checked_datasets
from reports.run_log import NoLog, RunLog
from reports.screen import class_table, layer_table
from run_folder.checkpoints import Checkpoints, NoCheckpoints
from run_folder.folder import RunFolder
from run_folder.metrics import best_row
from run_folder.resume import parse_run_settings, read_shared_earlier
from runtime.command import run_command
from runtime.flags import CheckedSettings, command_line, flag
from runtime.tf1 import error_line, open_session, tf
from training.cluster import PeerLost
from training.feature_cache import prepare_batches
from training.graph import build_network, initial_values, initialize
from training.setup import TrainingSetup, choose_layers, choose_weights, effective_settings
from training.steps import Training
from training.strategy import Distribution
from weight_files.find import is_starter


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Fine-tune AlexNet on your own images. Each flag changes one setting for this run."""

    train_file: str = flag(
        'train.txt', 'list of training images, one per line: path, blank, label', group='Data')
    val_file: str = flag('val.txt', 'list of validation images')
    labels_file: str | None = flag(
        None, 'class names, one per line; None: labels.txt beside train_file, if it exists')
    num_classes: int | None = flag(
        None, 'number of classes; None: from labels_file or the lists', low=2)
    skip_broken: bool = flag(False, 'leave out missing and broken images instead of stopping')
    horizontal_flip: bool = flag(
        True, 'mirror half of the training images in each epoch; wrong for letters')
    random_crop: bool = flag(
        False, 'cut 227x227 out of 256x256: at random in training, the centre in validation')

    weights_path: str = flag(
        'auto', 'a .npy or .caffemodel file; none: random values; auto: bvlc_alexnet.npy, '
        'downloaded if it is missing, or else the starter weights', group='Network')
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
    batch_size: int = flag(64, 'images per step', low=1)
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
    cache_dir: str = flag('cache', 'folder of stored features; can be deleted at any time')
    precision: Literal['float32', 'bfloat16'] = flag(
        'float32', 'of matrix products; bfloat16: for CPUs with AVX512-BF16 or AMX')
    num_threads: int | None = flag(
        None, 'threads for decoding and for computing; None: one per core', low=1)
    devices: tuple[str, ...] | None = flag(
        None, 'devices that share each batch, such as GPU:0 GPU:1; None: all GPUs, or the CPU')
    peer_timeout: float = flag(
        600.0, 'seconds to wait for another machine; more than it takes to save', above=0)

    run_dir: str | None = flag(
        None, 'folder of the run; None: a new runs/<date>-<time>', group='Output')
    resume: str | None = flag(
        None, 'folder of a run to resume: its settings apply, and flags change them')
    display_step: int = flag(
        20, 'steps between histograms in TensorBoard, increasing in a long run', low=1)


STARTER_WARNING = ('WARNING: these are not the ImageNet weights. conv1 to conv5 are starter weights, which have seen '
                   'drawings alone, and fc6, fc7 and fc8 start from random values: results on real photos will be far '
                   'below those with the ImageNet weights. See "Weights" in README.md')


def finetune(settings):
    """Do everything that the settings ask for; return (best validation accuracy, its epoch, the run folder).

    Where run_dir is that of a run, or resume names one, it goes on. Raises ValueError for settings or files that do not
    work, FloatingPointError for a loss that is not finite.
    """
    check_layers(settings)
    with Distribution(settings) as distribution, RunFolder(
            settings.resume or settings.run_dir, bool(settings.resume), distribution.is_chief) as folder:
        plan = make_plan(settings, distribution, folder)
        earlier = read_shared_earlier(distribution, folder, effective_settings(plan), plan.data.class_names)
        with warned_of_starter(plan.weights_path), tf.Graph().as_default() as graph:
            network, checkpoints = build(plan, distribution)
            graph.finalize()
            with open_session(settings.precision, settings.num_threads, distribution.session) as session:
                if earlier.progress:
                    checkpoints.restore(session, folder.path, earlier.progress, best_row(earlier.rows))
                elif distribution.is_one_device:
                    initialize(session, network.model)
                elif distribution.is_chief:
                    distribution.load(session, initial_values(plan))
                distribution.broadcast_variables(session)
                log = train(plan, session, network, checkpoints, distribution, folder, earlier)
    return log.best['val_accuracy'], log.best['epoch'], log.run_dir


def make_plan(settings, distribution, folder):
    """Return the TrainingSetup, once every listed file has been looked at and all workers agree; raises ValueError."""
    data = read_checked_datasets(
        settings.train_file, settings.val_file, settings.labels_file, settings.num_classes,
        skip_broken=settings.skip_broken, cache_dir=settings.cache_dir, num_threads=settings.num_threads,
        distribute=distribution.find_broken)
    weights_path = distribution.broadcast_from_chief(lambda: choose_weights(settings, folder.settings))
    plan = TrainingSetup(settings, data, weights_path, *choose_layers(settings, weights_path))
    distribution.check_agreement(effective_settings(plan))
    return plan


def build(plan, distribution):
    """Add all that the run needs to the graph; return (Network, Checkpoints)."""
    tf.set_random_seed(plan.settings.seed)
    with distribution.strategy.scope():
        network = build_network(plan)
    model = network.model
    frozen = [variable for layer in LAYERS if layer not in plan.trained for variable in model.variables[layer]]
    trained = [variable for layer in plan.trained for variable in model.variables[layer]]
    checkpoints = Checkpoints(frozen, trained) if distribution.is_chief else NoCheckpoints()
    distribution.build_broadcast()
    return network, checkpoints


def train(plan, session, network, checkpoints, distribution, folder, earlier):
    """Compute what the frozen layers give, open the run folder, and train until the run's end; return its log."""
    settings, effective = plan.settings, effective_settings(plan)
    layers = layer_table(network.model, plan.trained, set(LAYERS) - set(plan.skipped))
    if distribution.is_chief:
        print('\n'.join(class_table(plan.data) + layers))
    generators, sources = prepare_batches(plan, session, network.model, distribution)
    run_dir = distribution.broadcast_from_chief(lambda: folder.write(effective, plan.data.class_names))
    checkpoints.begin(session, run_dir, earlier.progress)
    step = session.run(tf.train.get_global_step(session.graph))
    log = NoLog(run_dir, earlier.rows) if not distribution.is_chief else RunLog(
        run_dir, effective, command_line('finetune.py', settings), plan.data, generators, layers, earlier.rows, step)
    with log:
        log.begin(lambda: session.run(network.model.variables['conv1'][0]))
        Training(settings, session, network, sources, log, checkpoints, distribution).run()
    return log


@contextlib.contextmanager
def warned_of_starter(weights_path):
    """Warn before and after a block that trains on starter weights."""
    if is_starter(weights_path):
        print(STARTER_WARNING, file=sys.stderr)
    yield
    if is_starter(weights_path):
        print(STARTER_WARNING, file=sys.stderr)


def check_layers(settings):
    """Raise ValueError if skip_layers names layers that train_layers does not."""
    if not set(settings.skip_layers or ()) <= set(settings.train_layers):
        raise ValueError('skip_layers names layers that train_layers does not: they would keep '
                         'their random values')


def main(arguments):
    """Run the command line; returns the exit status."""
    try:
        accuracy, epoch, run_dir = finetune(parse_run_settings(Settings, arguments))
    except FloatingPointError as error:
        print(f'error: {error}', file=sys.stderr)
        return 3
    except PeerLost as error:
        print(f'error: {error}', file=sys.stderr)
        return os.EX_TEMPFAIL  # 75
    except tf.errors.OpError as error:  # a full disk or memory, as TensorFlow says it
        raise OSError(error_line(error)) from error
    print(f'best val_accuracy {accuracy:.4f} (epoch {epoch}) in {run_dir}')
    return 0


if __name__ == '__main__':
    run_command(main)
