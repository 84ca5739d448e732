"""Saving a run that ends before its last epoch."""

import contextlib
import shlex
from collections.abc import Callable, Iterator

from run_folder.checkpoint_files import Progress
from runtime.signals import Interrupted, defer_signals
from runtime.tf1 import tf


@contextlib.contextmanager
def save_on_interruption(session: tf.Session, checkpoints, progress: Progress, run_dir: str,
                         learning_rate: float) -> Iterator[Callable[[], None]]:
    """Save the run if a signal, a ValueError such as missing images, or an infinite loss ends it.

    Yields a function that the loop calls after each step: it writes checkpoints that are due, and
    raises Interrupted after a signal.
    checkpoints: Checkpoints or NoCheckpoints.
    progress: the Progress of the run, which the loop updates.
    run_dir, learning_rate: for the message about how to resume.
    """
    command = f'--resume {shlex.quote(run_dir)}'
    with defer_signals() as caught:
        def after_step():
            checkpoints.after_step(session, progress)
            if caught:
                raise Interrupted(caught[0], f'stopped in epoch {progress.epochs + 1}; to resume: '
                                             f'python finetune.py {command}')
        try:
            yield after_step
        except FloatingPointError as error:
            # The current values are not saved: `last` keeps older values, which are finite.
            checkpoints.save_best(session)
            raise FloatingPointError(
                f'{error}, learning_rate {learning_rate:g}: try a tenth; what is saved resumes '
                f'with {command} --learning_rate {learning_rate / 10:g}') from error
        except (Interrupted, ValueError):
            checkpoints.save(session, progress)
            raise
