"""What is saved when a run ends before its last epoch."""

import contextlib
import shlex

from runtime.command import Interrupted, defer_signals


@contextlib.contextmanager
def save_on_interruption(session, checkpoints, progress, run_dir, learning_rate):
    """Save the run if Ctrl-C, SIGTERM, vanished images or a loss that is not finite end the block.

    Yields a function that the loop calls after each step: it writes checkpoints that are due, and
    raises Interrupted if a signal came.
    progress: the Progress of the run, which the loop keeps up to date.
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
            # The values of now are lost; `last` stays older, and finite.
            checkpoints.save_best(session)
            raise FloatingPointError(
                f'{error}, learning_rate {learning_rate:g}: try a tenth; what is saved resumes with '
                f'{command} --learning_rate {learning_rate / 10:g}') from error
        except (Interrupted, ValueError):
            checkpoints.save(session, progress)
            raise
