"""A folder in which the cases are tried, and what they are judged by."""

import json
import os
import subprocess
import sys

import numpy as np
from PIL import Image


class Trial:
    """A folder with lists, weights and a run; commands are run in it."""

    def __init__(self, project, photos, weights, folder):
        self.project, self.photos, self.folder = os.path.abspath(project), photos, folder
        self.weights = os.path.abspath(weights)
        self.run('make_lists.py', os.path.abspath(photos), '--output', folder)
        self.small_list('train.txt', 'small.txt', 8)
        self.small_list('val.txt', 'few.txt', 4)

    def small_list(self, source, target, count):
        """Write a list of the first and last images of another list."""
        lines = self.read(source).splitlines()
        chosen = lines[2:2 + count] + lines[-count:]
        self.write(target, ''.join(f'{line}\n' for line in chosen))

    def path(self, *names):
        """Return a path in the folder."""
        return os.path.join(self.folder, *names)

    def read(self, name):
        """Return the text of a file."""
        with open(self.path(name), encoding='utf-8', errors='surrogateescape') as file:
            return file.read()

    def write(self, name, content):
        """Write a file; return its path."""
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        if isinstance(content, str):
            content = content.encode('utf-8', 'surrogateescape')
        with open(self.path(name), 'wb') as file:
            file.write(content)
        return self.path(name)

    def exists(self, name):
        """Return whether something of this name is in the folder."""
        return os.path.lexists(self.path(name))

    def run(self, script, *arguments, cwd=None, shell='', timeout=200, **environment):
        """Run a script of the project, or python with `-c`; return (status, output, errors)."""
        program = [script] if script == '-c' else [os.path.join(self.project, script)]
        words = [sys.executable, *program, *map(str, arguments)]
        environment = {**os.environ, 'PYTHONPATH': self.project, **environment}
        command = ['bash', '-c', f'exec "$@" {shell}', 'bash', *words]
        done = subprocess.run(command, cwd=cwd or self.folder, capture_output=True, text=True,
                              errors='replace', timeout=timeout, env=environment)
        return done.returncode, done.stdout, done.stderr

    def flags(self, *more):
        """Return the flags of a short run."""
        return ['--train_file', 'small.txt', '--val_file', 'few.txt',
                '--weights_path', self.weights, '--train_layers', 'fc6', 'fc7', 'fc8',
                '--num_epochs', '1', '--cache_dir', self.path('cache'), *more]

    def finetune(self, *more, **options):
        """Run finetune.py for an epoch."""
        return self.run('finetune.py', *self.flags(*more), **options)

    def trained(self):
        """Return the folder of a run, made once."""
        if not self.exists('trained'):
            status, _, errors = self.finetune('--run_dir', 'trained')
            assert status == 0, errors
        return self.path('trained')

    def predict(self, *arguments, **options):
        """Run predict.py on the trained run."""
        return self.run('predict.py', self.trained(), *arguments, **options)

    def probabilities(self, picture):
        """Return the probabilities that predict.py gives for a picture, {class: probability}."""
        name = f'{os.path.basename(picture)}.json'
        if self.exists(name):
            os.remove(self.path(name))
        self.predict(picture, '--output', name)
        [record] = json.loads(self.read(name))['images']
        return {guess['class']: guess['probability'] for guess in record['predictions']}

    def same_answer(self, picture, reference):
        """Return whether a picture gets the probabilities of pixels, uint8 RGB, as a PNG file."""
        Image.fromarray(reference).save(self.path('reference.png'))
        got, wanted = self.probabilities(picture), self.probabilities(self.path('reference.png'))
        return max(abs(got[name] - wanted[name]) for name in wanted) < 0.01


def one_line(shown):
    """Return whether text is one line that reports an error without a traceback."""
    return len(shown.strip().splitlines()) == 1 and 'error:' in shown and 'Traceback' not in shown


def refused(result, *words):
    """Return whether a command ended with status 2 and one line that has these words."""
    status, _, errors = result
    return status == 2 and one_line(errors) and all(word in errors for word in words)


def photo(trial):
    """Return a photo of the set, uint8 RGB [300, 400, 3]."""
    path = trial.read('val.txt').splitlines()[-1].rsplit(maxsplit=1)[0]
    return np.array(Image.open(path).convert('RGB').resize((400, 300)))
