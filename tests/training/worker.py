"""A worker process: `python -m tests.training.worker OPTIONS FLAG ...` is `finetune.py FLAG ...`.

OPTIONS is JSON, all of it optional.
devices: number of CPU devices; TensorFlow gives a worker one.
at: {number of a batch of training or validation, from 1: signal that the process sends itself
    then}, unless the file `once` exists, which it makes before.
talk: exchange values with the other worker instead of training.
A checkpoint is written after each step.
"""

import json
import os
import sys
import time

import finetune
from run_folder.checkpoints import Checkpoints, NoCheckpoints
from runtime.command import run_command
from training import devices
from training.setup import check_agreement


def split_cpu(count):
    """Let this worker have `count` CPU devices."""
    from tensorflow.python.distribute.collective_all_reduce_strategy import (
        CollectiveAllReduceExtended,
    )
    make_config = devices.session_config

    def config(*arguments):
        result = make_config(*arguments)
        result.device_count['CPU'] = count
        return result
    CollectiveAllReduceExtended._initialize_local_devices = lambda self, resolver, worker: (
        tuple(f'{worker}/device:CPU:{n}' for n in range(count)), 'CPU')
    devices.session_config = config


def send_signals(signals, once):
    """Let this process send itself signals, {number of a batch: signal}; see `at` and `once`."""
    batches = []

    def signal_before(after_step):
        def wrapped(self, session, progress):
            batches.append(progress.name)
            if len(batches) in signals and not os.path.exists(once):
                open(once, 'w').close()
                os.kill(os.getpid(), signals[len(batches)])
            after_step(self, session, progress)
        return wrapped
    for kind in (Checkpoints, NoCheckpoints):
        kind.after_step = signal_before(kind.after_step)


def talk(arguments):
    """Print as JSON what the workers tell each other; the gathered texts need several blocks."""
    with devices.Devices(peer_timeout=float(arguments[0])) as group:
        workers = group.workers
        heard = {'gathered': gather_long_texts(workers)}
        workers.session.timeout = 5
        with workers.barrier():
            time.sleep(8 * workers.rank)
        heard['broadcast'] = workers.broadcast(lambda: {'of': workers.rank})
        heard['failure'] = error_of(lambda: workers.broadcast(lambda: int('x')))
        heard['agreement'] = error_of(lambda: check_agreement(
            workers, {'seed': workers.rank, 'run_dir': workers.rank}))
        print(json.dumps(heard))
    return 0


def gather_long_texts(workers):
    """Return [length, whether it arrived whole, rank, None] for a text of each worker."""
    value = ['ü' * 100_000 * (1 + workers.rank), workers.rank, None]
    return [[len(text), set(text) == {'ü'}, *rest]
            for text, *rest in workers.all_gather_object(value)]


def error_of(function):
    """Return the text of the ValueError that a function raises, None if it raises none."""
    try:
        function()
    except ValueError as error:
        return str(error)
    return None


def main():
    options = json.loads(sys.argv[1])
    if options.get('devices'):
        split_cpu(options['devices'])
    if options.get('at'):
        signals = {int(number): signal for number, signal in options['at'].items()}
        send_signals(signals, options['once'])
    Checkpoints.SECONDS_BETWEEN_STEPS = -1
    run_command(talk if options.get('talk') else finetune.main, sys.argv[2:])


if __name__ == '__main__':
    main()
