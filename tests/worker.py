"""finetune.py as test_distribution.py starts it: python worker.py '{"devices": ..., "at": {...}}' FLAG ...

devices: of this worker, logical CPUs, which TensorFlow gives a worker one of. at: {number of a batch of training or
validation, the first being 1: signal that the process sends itself after it}. A checkpoint is written after each step.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import distribution  # noqa: E402
import finetune  # noqa: E402
import training  # noqa: E402
from checkpoints import Checkpoints  # noqa: E402
from console import run_command  # noqa: E402


def split_cpu(count):
    """Let the worker have `count` CPU devices."""
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

    def devices(self, resolver, worker_device):
        return tuple(f'{worker_device}/device:CPU:{n}' for n in range(count)), 'CPU'
    make_config = distribution.session_config

    def config(*arguments):
        result = make_config(*arguments)
        result.device_count['CPU'] = count
        return result
    CollectiveAllReduceExtended._initialize_local_devices = devices
    distribution.session_config = finetune.open_session.__globals__['session_config'] = config


def signal_after(at):
    """Send this process a signal after the batches of these numbers."""
    after_batch, batches = training.Training.after_batch, []

    def counted(self):
        after_batch(self)
        batches.append(1)
        if len(batches) in at:
            os.kill(os.getpid(), at[len(batches)])
    training.Training.after_batch = counted


options = json.loads(sys.argv[1])
if options.get('devices'):
    split_cpu(options['devices'])
signal_after({int(number): signal for number, signal in options.get('at', {}).items()})
Checkpoints.SECONDS_BETWEEN_STEPS = -1
run_command(finetune.main, sys.argv[2:])
