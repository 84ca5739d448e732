"""A worker as test_distribution.py starts it: `python worker.py OPTIONS FLAG ...` is `python finetune.py FLAG ...`.

OPTIONS is JSON. devices: how many the worker has, logical CPUs of which TensorFlow gives it one. at: {number of a batch
of training or validation, the first being 1: signal that the process sends itself after it}, unless the file `once` is
there, which it makes then. talk: see there. A checkpoint is written after each step.
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import alexnet  # noqa: E402
import console  # noqa: E402
import distribution  # noqa: E402
import finetune  # noqa: E402
import training  # noqa: E402
from checkpoints import Checkpoints  # noqa: E402


def split_cpu(count):
    """Let this worker have `count` CPU devices."""
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended
    make_config = alexnet.session_config

    def config(*arguments):
        result = make_config(*arguments)
        result.device_count['CPU'] = count
        return result
    CollectiveAllReduceExtended._initialize_local_devices = lambda self, resolver, worker: (
        tuple(f'{worker}/device:CPU:{n}' for n in range(count)), 'CPU')
    alexnet.session_config = distribution.session_config = config


def signalling(at, once):
    """Return a Training.after_batch that sends this process the signals `at` batches of these numbers."""
    after_batch, batches = training.Training.after_batch, []

    def counted(self):
        batches.append(self)
        if len(batches) in at and not os.path.exists(once):
            open(once, 'w').close()
            os.kill(os.getpid(), at[len(batches)])
        after_batch(self)
    return counted


def talk(arguments):
    """Print as JSON what the workers tell each other; what the chief says takes several blocks."""
    settings = finetune.Settings(peer_timeout=float(arguments[0]))
    with distribution.Distribution(settings) as group:
        number, said = group.share[0], {}
        said['gather'] = [[len(text), set(text) == {'ü'}, *rest] for text, *rest in
                          group.gather(['ü' * 100_000 * (1 + number), number, None])]
        group.exchange.timeout = 5
        with group.patience():
            time.sleep(8 * number)
        said['from_chief'] = group.from_chief(lambda: {'of': number})
        for name, action in (('failure', lambda: group.from_chief(lambda: int('x'))),
                             ('agreement', lambda: group.check_agreement({'seed': number, 'run_dir': number}))):
            try:
                action()
            except ValueError as error:
                said[name] = str(error)
        print(json.dumps(said))
    return 0


def main():
    options = json.loads(sys.argv[1])
    if options.get('devices'):
        split_cpu(options['devices'])
    if options.get('at'):
        training.Training.after_batch = signalling({int(number): options['at'][number] for number in options['at']},
                                                   options['once'])
    Checkpoints.SECONDS_BETWEEN_STEPS = -1
    console.run_command(talk if options.get('talk') else finetune.main, sys.argv[2:])


if __name__ == '__main__':
    main()
