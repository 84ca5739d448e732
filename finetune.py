"""Fine-tune AlexNet on your own images: edit the settings below, then run `python finetune.py`."""

import contextlib
import dataclasses
import os
import sys
from typing import Literal

from alexnet import LAYERS, open_session, reason, tf
from bottlenecks import prepare_batches, scale_size
from checkpoints import Checkpoints, ChiefsCheckpoints
from checks import read_lists
from cluster import LostPeer
from console import command_line, run_command, setting
from distribution import Distribution
from images import IMAGENET_MEAN
from optimization import Plan, build_network, first_values, initialize
from reports import RowsLog, RunLog, best_row
from resume import parse_run_settings, read_shared_earlier
from runs import RunFolder
from screen import class_table, layer_table
from training import Training
from weights import find_weights, is_starter


@dataclasses.dataclass(frozen=True)
class Settings:
    """Fine-tune AlexNet on your own images. Each flag changes one setting for this run."""

    # What to learn
    train_file: str = setting('train.txt', 'list of training images, a line each: path, blank, label')
    val_file: str = setting('val.txt', 'list of validation images')
    labels_file: str | None = setting(None, 'class names, one a line; None: labels.txt beside train_file, if there')
    num_classes: int | None = setting(None, 'number of classes, 2 or more; None: from labels_file or the lists')
    skip_broken: bool = setting(False, 'leave out images that are missing or broken, instead of stopping')

    # The network
    weights_path: str = setting(
        'auto', 'a .npy or .caffemodel file; none: no file; auto: bvlc_alexnet.npy, downloaded if need be, or else '
        'sample/starter_weights.npy')
    train_layers: tuple[str, ...] = setting(('fc7', 'fc8'), f'layers that are trained, of {" ".join(LAYERS)}')
    skip_layers: tuple[str, ...] | None = setting(None, 'trained layers that start from scratch; None: train_layers')

    # How it learns
    optimizer: Literal['adam', 'momentum', 'sgd'] = setting('adam', 'adam, momentum or sgd, as in Caffe')
    learning_rate: float = setting(0.0001, 'step size, above 0; momentum and sgd want 10 times this')
    lr_schedule: Literal['constant', 'step', 'cosine'] = setting(
        'constant', 'constant; step: a tenth after each third of the run; cosine: falls smoothly to 0')
    pretrained_lr_share: float = setting(
        0.1, 'share of learning_rate for trained layers that go on from the values of the file, above 0 to 1')
    momentum: float = setting(0.9, 'share of the last step that is repeated (adam: beta1), 0 to below 1')
    weight_decay: float = setting(0.0, 'pull of weights, not biases, towards 0, as in Caffe; 0 or more')
    num_epochs: int = setting(10, 'passes over the training images, 1 or more')
    batch_size: int = setting(64, 'images a step, 1 or more')
    patience: int | None = setting(None, 'stop after so many epochs without a better one, 1 or more; None: never')
    dropout_rate: float = setting(0.5, 'share of fc6 and fc7 outputs dropped in training, 0 to below 1')
    label_smoothing: float = setting(0.0, 'share of a label that is spread over all classes, 0 to below 1')
    class_weights: Literal['none', 'balanced'] = setting('none', 'balanced: rare classes count as much as common ones')
    seed: int = setting(0, 'number that order, initial values and dropout follow from, 0 or more')

    # What the images go through in training
    horizontal_flip: bool = setting(True, 'mirror training images, half of them in each pass; wrong for letters')
    random_crop: bool = setting(False, 'cut 227x227 out of 256x256: anywhere in training, the centre in validation')

    # Speed
    cache_features: Literal['auto', 'on', 'off'] = setting('auto', 'store what frozen layers compute: on, off, or auto')
    cache_dir: str = setting('cache', 'folder for what is stored; can be deleted at any time')
    precision: Literal['float32', 'bfloat16'] = setting(
        'float32', 'of products; bfloat16: for CPUs with AVX512-BF16 or AMX')
    num_threads: int | None = setting(None, 'threads that decode and that compute; None: one a core')
    devices: tuple[str, ...] | None = setting(None, 'that share each batch, as GPU:0 GPU:1; None: all GPUs, or the CPU')
    peer_timeout: float = setting(600.0, 'seconds to wait for other machines, more than any takes to save, above 0')

    # What is written
    run_dir: str | None = setting(None, 'folder for all that a run writes; None: a new runs/<date>-<time>')
    resume: str | None = setting(None, 'folder of a run to go on with: its settings hold, and flags change them')
    display_step: int = setting(20, 'steps between histograms in TensorBoard, 1 or more; later in a long run rarer')


STARTER_WARNING = ('WARNING: these are not the ImageNet weights. conv1 to conv5 are starter weights, which have seen '
                   'drawings alone, and fc6, fc7 and fc8 start from random values: results on real photos will be far '
                   'below those with the ImageNet weights. See "Weights" in README.md')


def finetune(settings):
    """Do everything that the settings ask for; return (best validation accuracy, its epoch, the run folder).

    Where run_dir is that of a run, or resume names one, it goes on. Raises ValueError for settings or files that do not
    work, FloatingPointError for a loss that is not finite.
    """
    check_settings(settings)
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
                    distribution.load(session, first_values(plan))
                distribution.spread(session)
                log = train(plan, session, network, checkpoints, distribution, folder, earlier)
    return log.best['val_accuracy'], log.best['epoch'], log.run_dir


def make_plan(settings, distribution, folder):
    """Return the Plan, once every listed file has been looked at and all workers agree; raises ValueError."""
    data = read_lists(settings, distribution.find_broken)
    weights_path = distribution.from_chief(lambda: choose_weights(settings, folder.settings))
    plan = Plan(settings, data, weights_path, *choose_layers(settings, weights_path))
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
    checkpoints = Checkpoints(frozen, trained) if distribution.is_chief else ChiefsCheckpoints()
    distribution.make_spread()
    return network, checkpoints


def train(plan, session, network, checkpoints, distribution, folder, earlier):
    """Compute what the frozen layers give, open the run folder, and train until the run's end; return its log."""
    settings, effective = plan.settings, effective_settings(plan)
    layers = layer_table(network.model, plan.trained, set(LAYERS) - set(plan.skipped))
    if distribution.is_chief:
        print('\n'.join(class_table(plan.data) + layers))
    generators, sources = prepare_batches(plan, session, network.model, distribution)
    run_dir = distribution.from_chief(lambda: folder.write(effective, plan.data.class_names))
    checkpoints.begin(session, run_dir, earlier.progress)
    step = session.run(tf.train.get_global_step(session.graph))
    log = RowsLog(run_dir, earlier.rows) if not distribution.is_chief else RunLog(
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


def check_settings(settings):
    """Raise ValueError with every setting whose value is not legal; types are right already."""
    errors = [f'{name} {getattr(settings, name)} is not {legal}' for name, legal, right in (
        ('learning_rate', 'above 0', 0 < settings.learning_rate < float('inf')),
        ('pretrained_lr_share', 'above 0 to 1', 0 < settings.pretrained_lr_share <= 1),
        ('momentum', '0 to below 1', 0 <= settings.momentum < 1),
        ('weight_decay', '0 or more', 0 <= settings.weight_decay < float('inf')),
        ('patience', '1 or more', settings.patience is None or settings.patience >= 1),
        ('label_smoothing', '0 to below 1', 0 <= settings.label_smoothing < 1),
        ('num_epochs', '1 or more', settings.num_epochs >= 1),
        ('batch_size', '1 or more', settings.batch_size >= 1),
        ('dropout_rate', '0 to below 1', 0 <= settings.dropout_rate < 1),
        ('seed', '0 to 2147483647', 0 <= settings.seed < 2**31),
        ('num_classes', '2 or more', settings.num_classes is None or settings.num_classes >= 2),
        ('num_threads', '1 or more', settings.num_threads is None or settings.num_threads >= 1),
        ('peer_timeout', 'above 0', 0 < settings.peer_timeout < float('inf')),
        ('display_step', '1 or more', settings.display_step >= 1)) if not right]
    unknown = sorted(set(settings.train_layers + (settings.skip_layers or ())) - set(LAYERS))
    if unknown:
        errors.append(f'no layer is called {", ".join(unknown)}; the layers are {" ".join(LAYERS)}, blanks between')
    if not set(settings.skip_layers or ()) <= set(settings.train_layers):
        errors.append('skip_layers names layers that train_layers does not: they would keep their random values')
    if errors:
        raise ValueError('; '.join(errors))


def choose_layers(settings, weights_path):
    """Return (layers that are trained, layers of these that start from scratch); all and all without a file.

    The starter weights end at pool5: the layers above it are then always among both.
    """
    if weights_path is None:
        return LAYERS, LAYERS
    missing = ('fc6', 'fc7', 'fc8') if is_starter(weights_path) else ()
    trained = tuple(layer for layer in LAYERS if layer in settings.train_layers + missing)
    skipped = trained if settings.skip_layers is None else settings.skip_layers + missing
    return trained, tuple(layer for layer in trained if layer in skipped)  # each once: named twice, it would step twice


def choose_weights(settings, stored):
    """Return the path of the weight file, or None for no file; `stored`: settings of a run that goes on, or None."""
    if not stored:
        return find_weights(settings.weights_path, os.path.dirname(os.path.abspath(__file__)))
    path = stored['weights_path'] if settings.weights_path == 'auto' else settings.weights_path
    return None if path == 'none' else path


def effective_settings(plan):
    """Return the settings as a dict, with the weight file and layers that were chosen, and counts of images."""
    data = plan.data
    return {**dataclasses.asdict(plan.settings), 'resume': None, 'num_classes': len(data.class_names),
            'weights_path': plan.weights_path or 'none', 'train_layers': plan.trained, 'skip_layers': plan.skipped,
            'image_mean': IMAGENET_MEAN.tolist(), 'scale_size': scale_size(plan.settings),
            'train_images': len(data.train.paths), 'val_images': len(data.val.paths)}


def main(arguments):
    """Run the command line; returns the exit status."""
    try:
        accuracy, epoch, run_dir = finetune(parse_run_settings(Settings, arguments))
    except FloatingPointError as error:
        print(f'error: {error}', file=sys.stderr)
        return 3
    except LostPeer as error:
        print(f'error: {error}', file=sys.stderr)
        return os.EX_TEMPFAIL  # 75
    except tf.errors.OpError as error:  # a full disk or memory, as TensorFlow says it
        raise OSError(reason(error)) from error
    print(f'best val_accuracy {accuracy:.4f} (epoch {epoch}) in {run_dir}')
    return 0


if __name__ == '__main__':
    run_command(main)
