"""Clusters of workers, as processes on this machine, and the comparison of their runs."""

import csv
import json
import os
import shlex
import signal
import socket
import subprocess
import sys

import numpy as np

from runtime.tf1 import tf
from tests.helpers import ROOT

# A fiftieth of Adam's step with the default learning_rate: workers compute features in batches of
# other sizes, whose last bits differ, and Adam divides small gradients by their size.
TOLERANCE = 2e-6
PEER_LOST = (r'error: another worker .*\. Started again with the same --run_dir, the run resumes '
             r'from its last checkpoint\n')


def worker_command(options, flags):
    """Return the shell command that starts a worker; options, flags: as in worker.py."""
    return shlex.join([sys.executable, '-m', 'tests.training.worker', json.dumps(options),
                       *map(str, flags)])


def start_workers(commands):
    """Start a shell command on each worker of a cluster on free ports; return the processes."""
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in commands]
    jobs = {'worker': [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]}
    for each in sockets:
        each.close()
    # The log level that TensorFlow's import has set in this process is not one of a worker.
    environment = {name: value for name, value in os.environ.items()
                   if name != 'TF_CPP_MIN_LOG_LEVEL'}
    processes = []
    for rank, command in enumerate(commands):
        config = json.dumps({'cluster': jobs, 'task': {'type': 'worker', 'index': rank}})
        processes.append(subprocess.Popen(
            ['bash', '-c', command], cwd=ROOT, env={**environment, 'TF_CONFIG': config},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True))
    return processes


def wait_for_exit(processes):
    """Wait for processes; return [(exit status, standard output, standard error)].

    No process survives an error.
    """
    try:
        texts = [process.communicate(timeout=400) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def run_workers(*commands):
    """Run workers to their end, once more if another process has taken a port meanwhile."""
    results = wait_for_exit(start_workers(commands))
    if 'is the port in use' in str(results):
        results = wait_for_exit(start_workers(commands))
    return results


def assert_success(results):
    """Assert that all of the results of run_workers have exit status 0."""
    assert [status for status, _, _ in results] == [0] * len(results), results


def without_warnings(text):
    """Return standard error without its lines of warning."""
    return ''.join(line for line in text.splitlines(True)
                   if not line.lower().startswith('warning: '))


def last_values(run):
    """Return {name: array} of all variables in the last checkpoint of a run."""
    name = (run / 'checkpoints' / 'last').read_text().strip()
    values = {}
    for part in (name, 'frozen'):
        reader = tf.train.load_checkpoint(str(run / 'checkpoints' / part))
        values.update({key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()})
    return values


def columns(path, *names):
    """Return the values of some columns of a CSV file, as text, row by row."""
    with open(path, newline='') as file:
        return [[row[name] for name in names] for row in csv.DictReader(file)]


def assert_same_run(run, expected):
    """Compare the weights, Adam's state, and the metrics and predictions of two runs."""
    got, wanted = last_values(run), last_values(expected)
    assert got.keys() == wanted.keys() and wanted['global_step'] >= 30
    for name, value in wanted.items():
        np.testing.assert_allclose(
            np.float64(got[name]), value, rtol=0, atol=TOLERANCE, err_msg=name)
    counts, losses = ('epoch', 'train_accuracy', 'val_accuracy'), ('train_loss', 'val_loss')
    paths = 'path', 'class', 'predicted'
    for file, names in (('metrics.csv', counts), ('val_predictions.csv', paths)):
        assert columns(run / file, *names) == columns(expected / file, *names)
    got, wanted = (np.float64(columns(folder / 'metrics.csv', *losses))
                   for folder in (run, expected))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)
