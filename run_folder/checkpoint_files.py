"""The files of a run's checkpoints, and the progress of the run."""

import contextlib
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator

from runtime.files import new_file

# TensorFlow takes a path with one of these for a pattern when it restores.
PATTERN = re.compile(r'[*?[\\]')


@dataclasses.dataclass
class Progress:
    """The progress of a run: finished epochs, and sums over the steps of the current epoch."""

    epochs: int = 0
    steps: int = 0
    loss_sum: float = 0.0       # cross-entropy summed over the images of these steps, nats
    correct: int = 0            # correctly classified images of these steps
    seconds: float = 0.0        # that these steps took
    learning_rate: float = 0.0  # of the first of these steps

    @property
    def name(self) -> str:
        """The name of the checkpoint: last-2 after two epochs, last-2-17 after 17 more steps."""
        return f'last-{self.epochs}-{self.steps}' if self.steps else f'last-{self.epochs}'

    @property
    def has_begun(self) -> bool:
        """Whether the run has done a step, so that a checkpoint of this progress exists."""
        return self.epochs > 0 or self.steps > 0

    def add_step(self, loss_sum: float, correct: float, seconds: float):
        """Count a step. seconds: that all steps of the epoch took so far."""
        self.steps += 1
        self.loss_sum += float(loss_sum)
        self.correct += int(correct)
        self.seconds = seconds

    def finish_epoch(self):
        """Count the epoch, and forget its steps."""
        vars(self).update(vars(Progress(self.epochs + 1)))


class CheckpointFolder:
    """The folder of a run's checkpoints.

    The text files `last` and `best` hold the name of one checkpoint each. A new checkpoint is
    written whole; then these files are replaced, `last` after `best`; then the older checkpoints
    are deleted. So at any moment `last` names a whole checkpoint, and the best one of the epochs
    up to it exists.
    """

    def __init__(self, run_dir: str):
        self.folder = os.path.join(run_dir, 'checkpoints')

    def path(self, name: str) -> str:
        """Return the path of a file, or the prefix of a checkpoint's files."""
        return os.path.join(self.folder, name)

    def make(self):
        """Make the folder, if it is missing."""
        os.makedirs(self.folder, exist_ok=True)

    def write_progress(self, progress: Progress):
        """Write a Progress beside the checkpoint that has its name."""
        with new_file(self.path(f'{progress.name}.json'), replace=True) as file:
            json.dump(dataclasses.asdict(progress), file)

    def publish(self, last: str, best_epoch: int | None):
        """Let `best` and `last` name these checkpoints, then delete all others.

        last: name of a checkpoint. best_epoch: None before the first epoch.
        """
        names = ['frozen', last]
        if best_epoch:
            self.point_best_at(best_epoch)
            names.append(f'best-{best_epoch}')
        self.point_at(last)
        self.delete_all_but(names)

    def point_best_at(self, epoch: int):
        """Let the text file `best` name the checkpoint of an epoch."""
        self.point_at(f'best-{epoch}')

    def point_at(self, name):
        """Let the text file `best` or `last` name a checkpoint."""
        with new_file(self.path(name.split('-')[0]), replace=True) as file:
            file.write(f'{name}\n')

    def delete_all_but(self, names: Collection[str]):
        """Delete all but these checkpoints and the text files that name them."""
        texts = [name.split('-')[0] for name in names if name != 'frozen']
        self.delete(lambda file: file not in texts and file.split('.')[0] not in names)

    def delete_checkpoint(self, name: str):
        """Delete the files of a checkpoint, half-written ones too."""
        self.delete(lambda file: file.startswith((f'{name}.', f'{name}_')))

    def delete(self, is_deleted: Callable[[str], bool]):
        """Delete the files for whose names `is_deleted` returns True."""
        for file in os.listdir(self.folder):
            if is_deleted(file):
                os.remove(self.path(file))


@contextlib.contextmanager
def tensorflow_path(prefix: str) -> Iterator[str]:
    """Yield a path to the files of a checkpoint that TensorFlow takes literally.

    It leads through an open descriptor of the folder or, where the system has no such paths,
    through a symbolic link. Raises OSError if the folder is missing.
    """
    folder, name = os.path.split(prefix)
    if not PATTERN.search(folder):
        yield prefix
        return
    with contextlib.ExitStack() as stack:
        if os.path.isdir('/proc/self/fd'):
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            plain = f'/proc/self/fd/{descriptor}'
        else:
            plain = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), 'checkpoints')
            os.symlink(os.path.abspath(folder), plain, target_is_directory=True)
        yield os.path.join(plain, name)


def read_progress(run_dir: str) -> Progress | None:
    """Return the Progress of the checkpoint that `last` names, None before the first checkpoint.

    Raises ValueError if the checkpoint's files are broken or missing.
    """
    folder = CheckpointFolder(run_dir)
    if not os.path.exists(folder.path('last')):
        return None
    try:
        with open(folder.path('last'), encoding='utf-8') as file:
            name = file.read(100).strip()
        with open(folder.path(f'{name}.json'), encoding='utf-8') as file:
            progress = Progress(**json.load(file))
        types = [type(value) for value in vars(progress).values()]
        if progress.name != name or types != [type(value) for value in vars(Progress()).values()]:
            raise ValueError(f'{name}.json belongs to another checkpoint')
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f'{run_dir} cannot be resumed, its last checkpoint is broken: '
                         f'{error}') from error
    return progress
