"""A worker as test_distribution.py starts it: `python worker.py OPTIONS FLAG ...` is `python finetune.py FLAG ...`.

OPTIONS is JSON. devices: how many the worker has, logical CPUs of which TensorFlow gives it one. at: {number of a batch
of training or validation, the first being 1: signal that the process sends itself after it}, unless the file `once` is
there, which it makes then. talk: see there. A checkpoint is written after each step.
"""

import json
import os
import sys
import time

import finetune
from run_folder.checkpoints import Checkpoints
from runtime import command, tf1
from training import steps, strategy


def split_cpu(count):
    """Let this worker have `count` CPU devices."""
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended
    make_config = tf1.session_config

    def config(*arguments):
        result = make_config(*arguments)
        result.device_count['CPU'] = count
        return result
    CollectiveAllReduceExtended._initialize_local_devices = lambda self, resolver, worker: (
        tuple(f'{worker}/device:CPU:{n}' for n in range(count)), 'CPU')
    tf1.session_config = strategy.session_config = config


def signalling(at, once):
    """Return a Training.after_batch that sends this process the signals `at` batches of these numbers."""
    after_batch, batches = steps.Training.after_batch, []

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
    with strategy.Distribution(settings) as group:
        number, said = group.share[0], {}
        said['gather'] = [[len(text), set(text) == {'ü'}, *rest] for text, *rest in
                          group.all_gather_object(['ü' * 100_000 * (1 + number), number, None])]
        group.exchange.timeout = 5
        with group.barrier():
            time.sleep(8 * number)
        said['broadcast_from_chief'] = group.broadcast_from_chief(lambda: {'of': number})
        for name, action in (('failure', lambda: group.broadcast_from_chief(lambda: int('x'))),
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
        steps.Training.after_batch = signalling({int(number): options['at'][number] for number in options['at']},
                                                   options['once'])
    Checkpoints.SECONDS_BETWEEN_STEPS = -1
    command.run_command(talk if options.get('talk') else finetune.main, sys.argv[2:])


if __name__ == '__main__':
    main()
