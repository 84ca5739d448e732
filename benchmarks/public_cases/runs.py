"""Cases of settings, and of where a run takes place."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

from benchmarks.public_cases.trial import refused


def settings_in_the_file(trial):
    """Values of Settings are checked as flags are."""
    code = ('import finetune, sys\n'
            'def works(**values):\n'
            '    try:\n        settings = finetune.Settings(**values)\n'
            '        getattr(finetune, "check_settings", lambda settings: None)(settings)\n'
            '    except ValueError:\n        return False\n'
            '    return True\n'
            'wrong = [dict(optimizer="Momentum"), dict(lr_schedule="Cosine"),\n'
            '         dict(cache_features=False), dict(class_weights="Balanced"),\n'
            '         dict(precision="fp16"), dict(num_epochs=None)]\n'
            'print(sum(works(**values) for values in wrong),\n'
            '      finetune.Settings(train_layers=["fc8", "fc7"]).train_layers,\n'
            '      finetune.Settings(train_layers="fc8").train_layers)')
    _, out, _ = trial.run('-c', code)
    return out.strip() == "0 ('fc8', 'fc7') ('fc8',)"


def tilde(trial):
    """~ in a path setting."""
    os.makedirs(trial.path('home'), exist_ok=True)
    status, _, _ = trial.finetune('--run_dir', '~/run2', HOME=trial.path('home'))
    return status == 0 and trial.exists('home/run2/metrics.csv') and not trial.exists('~')


def empty_value(trial):
    """--resume "" and --cache_dir "" (an unset shell variable)."""
    before = set(os.listdir(trial.folder))
    resume = trial.finetune('--resume', '')
    cache = trial.finetune('--run_dir', 'run3', '--cache_dir', '')
    return (refused(resume, 'resume') and refused(cache, 'cache_dir')
            and set(os.listdir(trial.folder)) == before)


def remote_folder(trial):
    """--run_dir s3://bucket/x."""
    result = trial.finetune('--run_dir', 's3://bucket/x')
    return refused(result, 's3://bucket/x') and not trial.exists('s3:') and not result[1]


def resume_elsewhere(trial):
    """Resume from another folder."""
    trial.finetune('--run_dir', 'run5')
    result = trial.run('finetune.py', '--resume', trial.path('run5'), '--num_epochs', '2', cwd='/')
    return result[0] == 0 and '(epoch' in result[1]


def matplotlib_of_a_user(trial):
    """MPLBACKEND of a notebook, matplotlibrc of a user."""
    trial.write('rc/matplotlibrc', 'text.usetex: True\nsavefig.bbox: tight\n')
    status, _, errors = trial.finetune(
        '--run_dir', 'run6', MPLBACKEND='module://matplotlib_inline.backend_inline',
        MATPLOTLIBRC=trial.path('rc'))
    return status == 0 and 'report' not in errors and all(
        trial.exists(f'run6/{name}') for name in ('report.html', 'curves.png'))


def notebook(trial):
    """Run within a notebook: a screen without reconfigure, a session that goes on."""
    script = os.path.join(trial.project, 'finetune.py')
    code = ('import builtins, io, runpy, sys\n'
            'builtins.get_ipython = lambda: None\n'
            'class OutStream(io.TextIOBase):\n'
            '    def write(self, text): return sys.__stdout__.write(text)\n'
            'sys.stdout = OutStream()\n'
            f'sys.argv = ["finetune.py", *{trial.flags("--run_dir", "run7")!r}]\n'
            'try:\n'
            f'    runpy.run_path({script!r}, run_name="__main__")\n'
            'except SystemExit as end:\n    print("ended", end.code)\n'
            'print("the session goes on")\n')
    status, out, errors = trial.run('-c', code)
    return status == 0 and 'the session goes on' in out and 'Traceback' not in errors


def closed_streams(trial):
    """Closed standard output or standard error."""
    results = [trial.finetune('--run_dir', 'run8', shell='>&-'),
               trial.finetune('--resume', 'run8', '--num_epochs', '2', shell='2>&-'),
               trial.finetune('--resume', 'run8', '--num_epochs', '3', shell='>&- 2>&-')]
    return [status for status, _, _ in results] == [0, 0, 0] and not any(
        'Traceback' in errors for _, _, errors in results)


def hangup(trial):
    """SIGHUP saves, status 129; nohup goes on."""
    command = [sys.executable, os.path.join(trial.project, 'finetune.py'),
               *trial.flags('--run_dir', 'run9', '--num_epochs', '100000')]
    process = subprocess.Popen(command, cwd=trial.folder, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    while '3/100000' not in process.stdout.readline():
        if process.poll() is not None:
            return False
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    saved = trial.exists('run9/checkpoints/last')
    return process.returncode == 129 and 'to resume' in errors and saved


def no_temporary_folder(trial):
    """No writable temporary folder."""
    code = ('import tempfile\n'
            'def gone(*a, **o): raise FileNotFoundError(2, "No usable temporary directory found")\n'
            'tempfile.TemporaryFile = tempfile.gettempdir = tempfile.mkstemp = gone\n'
            'import finetune\nprint("imported")')
    status, out, _ = trial.run('-c', code)
    return status == 0 and 'imported' in out


def single_cluster(trial):
    """TF_CONFIG of one process: '{}', an empty cluster, master."""
    configs = ['{}', '{"cluster": {}}', json.dumps(
        {'cluster': {'master': ['localhost:2222']}, 'task': {'type': 'master', 'index': 0}})]
    statuses = [trial.finetune('--run_dir', f'run11-{n}', TF_CONFIG=text)[0]
                for n, text in enumerate(configs)]
    return statuses == [0, 0, 0]


def without_flock(trial):
    """A file system without flock."""
    trial.write('site/sitecustomize.py', 'import errno, fcntl, os\ndef flock(*arguments):\n'
                '    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))\nfcntl.flock = flock\n')
    shutil.copytree(trial.trained(), trial.path('run12'))
    shutil.copytree(trial.path('cache'), trial.path('cache12'))
    for folder, _, _ in os.walk(trial.path('cache12')):
        open(os.path.join(folder, 'lock'), 'w').close()
    start = time.monotonic()
    status, _, errors = trial.finetune(
        '--resume', 'run12', '--num_epochs', '2', '--cache_dir', 'cache12',
        PYTHONPATH=f'{trial.path("site")}{os.pathsep}{trial.project}')
    return status == 0 and 'Traceback' not in errors and time.monotonic() - start < 60


def pattern_in_a_path(trial):
    """[ ] * ? in the path of a run folder."""
    name = trial.path('run [13] *?')
    shutil.copytree(trial.trained(), name)
    return (trial.run('predict.py', name, 'few.txt')[0] == 0
            and trial.run('finetune.py', '--resume', name, '--num_epochs', '2')[0] == 0)


CASES = {
    1: settings_in_the_file, 2: tilde, 3: empty_value, 4: remote_folder, 5: resume_elsewhere,
    6: matplotlib_of_a_user, 7: notebook, 8: closed_streams, 9: hangup,
    10: no_temporary_folder, 11: single_cluster, 12: without_flock, 13: pattern_in_a_path}
