"""Tries thirty cases that people reported of tools like this one, and prints a table.

`python -m benchmarks.public_cases HYMENOPTERA CONV_WEIGHTS [PROJECT [NUMBER...]]` makes lists of
the photos in the folder HYMENOPTERA, trains fc6 to fc8 for an epoch, and tries the cases on the
scripts in the folder PROJECT, by default this one. Each case is decided by an independent source:
Pillow, the shell, NumPy, the bytes of a file. An older copy of the project as PROJECT shows what
happened before.
"""

import sys
import tempfile

from benchmarks.public_cases import lists, pictures, runs, weights
from benchmarks.public_cases.trial import Trial

CASES = {**runs.CASES, **pictures.CASES, **lists.CASES, **weights.CASES}


def attempt(trial, function):
    """Return 'right', 'wrong', or the error that a case ended with."""
    try:
        return 'right' if function(trial) else 'wrong'
    except Exception as error:  # a case that cannot even be tried is wrong
        return f'wrong ({type(error).__name__})'


def main(photos, conv_weights, project='.', *numbers):
    """Print a row per case."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(project, photos, conv_weights, folder)
        trial.trained()
        for number, function in sorted(CASES.items()):
            if not numbers or str(number) in numbers:
                title = function.__doc__.rstrip('.')
                print(f'| {number} | {title} | {attempt(trial, function)} |', flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
