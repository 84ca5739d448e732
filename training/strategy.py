"""What a run is spread over: one device, several, or several machines, by TensorFlow's own tf.distribute."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import threading
import time

import numpy as np

from runtime.flags import flag_text
from runtime.tf1 import assign_values, quiet_startup, session_config, tf
from training.cluster import PeerLost, TimeoutSession, read_cluster, start_server, wait_for

BLOCK = 1 << 16  # bytes that a worker tells the others at once
# Settings that may differ from worker to worker; the lists are compared by content.
MAY_DIFFER_BETWEEN_WORKERS = ('run_dir', 'resume', 'train_file', 'val_file', 'labels_file', 'weights_path', 'cache_dir', 'num_threads',
       'display_step', 'peer_timeout')


class Distribution:
    """The devices and workers, processes on one machine or several, that a run is spread over.

    strategy: TensorFlow's; in its scope the network is built. share: (worker, workers), the number of this one, 0 being
    the chief, and how many there are. Use it as a context manager, which waits at the end until all workers are there.
    """

    def __init__(self, settings):
        self.cluster, self.timeout = read_cluster(os.environ.get('TF_CONFIG')), settings.peer_timeout
        self.share = self.cluster.share if self.cluster else (0, 1)
        self.is_chief, self.devices = self.share[0] == 0, settings.devices or ()
        with quiet_startup(), tf.Graph().as_default() as graph:  # outside of a graph, strategies work otherwise
            self.strategy = make_strategy(self.cluster, self.devices)
            replicas = self.strategy.num_replicas_in_sync
            self.is_one_device = replicas == 1
            if settings.batch_size < replicas:
                raise ValueError(f'batch_size {settings.batch_size} is less than the {replicas} devices that share it')
            if self.cluster:
                config = self.adapted(session_config(settings.precision, settings.num_threads))
                self.server = start_server(self.cluster, config)
                self.block = tf.placeholder(tf.float32, [self.share[1], 1 + BLOCK])
                first = self.share[0] * replicas // self.share[1]
                self.blocks = self.all_reduce_sum(lambda number: self.block if number == first else tf.zeros_like(self.block))
                self.exchange = TimeoutSession(self.server.target, graph, config, self.timeout)

    def adapted(self, config):
        """Return a tf.ConfigProto made fit for the strategy."""
        config = self.strategy.update_config_proto(config)
        if self.devices and self.devices[0].startswith('CPU'):
            config.device_count['CPU'] = 1 + max(int(name.split(':')[1]) for name in self.devices)
        return config

    def session(self, config):
        """Return a session of the current graph."""
        if self.cluster:
            return TimeoutSession(self.server.target, None, self.adapted(config), self.timeout)
        return tf.Session(config=self.adapted(config))

    def __enter__(self):
        if self.cluster and not self.is_chief:
            wait_for(self.cluster.addresses[0], self.timeout)
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            with contextlib.suppress(PeerLost):  # nothing that is left to do needs the others
                self.all_gather_object(None)
        elif self.cluster and not issubclass(kind, PeerLost):
            time.sleep(1)  # the others can still be receiving what this one knows already, and then end like it

    def all_reduce_sum(self, part):
        """Return the sum, a tensor, of what part(number) returns on each replica of the cluster."""
        def numbered():
            return part(int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)))
        with self.strategy.scope():
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, for_each_replica(numbered), axis=None)

    def all_gather_object(self, value):
        """Return [value of worker 0, of worker 1, ...], of values fit for JSON; all workers have to call this.

        Collective operations want the same shape from all, so each tells it in blocks: how many bytes follow, and
        bytes. They are floats, because TensorFlow adds up no smaller integers on GPUs.
        """
        worker, workers = self.share
        if workers == 1:
            return [value]
        content = json.dumps(value).encode()
        texts, rest = [b''] * workers, 1
        while rest:
            block = np.zeros(self.block.shape.as_list(), np.float32)
            part, content = content[:BLOCK], content[BLOCK:]
            block[worker, 0], block[worker, 1:] = len(content), np.frombuffer(part.ljust(BLOCK), np.uint8)
            blocks = self.exchange.run(self.blocks, {self.block: block})
            texts = [text + np.uint8(row[1:]).tobytes() for text, row in zip(texts, blocks)]
            rest = blocks[:, 0].any()
        return [json.loads(text) for text in texts]

    @contextlib.contextmanager
    def barrier(self):
        """Let the workers wait at the end of the block until all are there, longer than `timeout` if they are alive."""
        if self.share[1] == 1:
            yield
            return
        arrived = threading.Event()

        def answer():
            while not all(self.all_gather_object(arrived.is_set())):
                arrived.wait(1)
        answering = concurrent.futures.ThreadPoolExecutor(1).submit(answer)
        try:
            yield
        finally:  # an error, or Ctrl-C, is not held up by this
            arrived.set()
        answering.result()

    def broadcast_from_chief(self, function):
        """Return what `function` returns on the chief, a value fit for JSON; it is called there alone.

        What is wrong there, ValueError or OSError, is ValueError on the others.
        """
        value = failure = None
        with self.barrier():
            try:
                value = function() if self.is_chief else None
            except (ValueError, OSError) as error:
                failure = error
        value, text = self.all_gather_object([value, failure and f'the chief says: {failure}'])[0]
        if text:
            raise failure or ValueError(text)
        return value

    def check_agreement(self, settings):
        """Raise ValueError on all workers if settings, a dict, of one differ from the chief's."""
        all_settings = self.all_gather_object({name: flag_text(value) for name, value in settings.items() if name not in MAY_DIFFER_BETWEEN_WORKERS})
        for worker, theirs in enumerate(all_settings):
            different = [f'{name} {value}, not {all_settings[0].get(name)}' for name, value in theirs.items()
                         if value != all_settings[0].get(name)]
            if different:
                raise ValueError(f'worker {worker} differs from the chief: {"; ".join(different)}. '
                                 'Give all workers the same lists and settings')

    def find_broken(self, look, image_lists):
        """Return what look(image_lists) does, {path: what is wrong}; each worker looks at its share alone."""
        with self.barrier():
            broken = look([part.shard(*self.share) for part in image_lists])
        return self.gather_broken(image_lists, broken)

    def gather_broken(self, image_lists, broken):
        """Return {path: what is wrong}: what other workers found, too; image_lists: of training and of validation."""
        if self.share[1] == 1:
            return broken
        self.check_agreement({f'the {name} list': list_fingerprint(part)
                              for name, part in zip(('training', 'validation'), image_lists)})
        paths = [path for part in image_lists for path in part.paths]
        found = self.all_gather_object([n for n, path in enumerate(paths) if path in broken])
        others = {paths[n]: f'{paths[n]}: broken or missing on worker {worker}'
                  for worker, numbers in enumerate(found) for n in numbers}
        return {**others, **broken}

    def gather_predictions(self, predictions):
        """Return the predictions for a whole list, in its order, of those for the share of each worker: arrays [n]."""
        if self.share[1] == 1:
            return predictions
        parts = self.all_gather_object([part.tolist() for part in predictions])
        merged = [np.empty(sum(map(len, column)), part.dtype) for part, column in zip(predictions, zip(*parts))]
        for worker, columns in enumerate(parts):
            for whole, column in zip(merged, columns):
                whole[worker::self.share[1]] = column
        return merged

    def load(self, session, values):
        """Give the variables, on all devices of this machine, the values of {name: array}."""
        for variable in session.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
            copies = self.strategy.experimental_local_results(variable)
            assign_values(session, copies, [values[variable.op.name]] * len(copies))

    def build_broadcast(self):
        """Make the operations that `spread` runs, for all global variables of the current graph."""
        def spread(variable):
            whole = self.all_reduce_sum(lambda number: tf.identity(variable) if number == 0
                               else tf.zeros(variable.shape, variable.dtype))
            with self.strategy.scope():
                return tf.group(variable.assign(whole))
        self.broadcast_ops = [spread(variable) for variable in tf.global_variables()] if self.cluster else []

    def broadcast_variables(self, session):
        """Give the variables of all workers the chief's values."""
        for operation in self.broadcast_ops:
            session.run(operation)


def for_each_replica(function, *arguments):
    """Return what function(*arguments) returns on each device of the strategy in whose scope this is called."""
    # AutoGraph would write the function anew, and leave the file that it is written to.
    function = tf.autograph.experimental.do_not_convert(function)
    return tf.distribute.get_strategy().extended.call_for_each_replica(function, arguments)


def make_strategy(cluster, devices):
    """Return the tf.distribute strategy for the cluster, for several devices, or for one."""
    gpus = [f'GPU:{n}' for n in range(len(tf.config.list_physical_devices('GPU')))]
    if cluster and devices:
        raise ValueError('devices are for a single machine: with TF_CONFIG, all GPUs are used that '
                         'CUDA_VISIBLE_DEVICES leaves, else the CPU')
    wrong = [name for name in devices if name not in gpus and not re.fullmatch(r'CPU:\d{1,3}', name)]
    if wrong or len(set(devices)) < len(devices) or len({name[:3] for name in devices}) > 1:
        raise ValueError(f'devices {" ".join(devices)}: here are {" ".join([*gpus, "CPU:0"])}; name each once, GPUs or '
                         'CPUs, not both')
    if cluster:
        kinds = tf.distribute.experimental.CollectiveCommunication  # AUTO takes no NCCL without eager execution
        return tf.distribute.experimental.MultiWorkerMirroredStrategy(kinds.NCCL if gpus else kinds.RING)
    if len(devices) == 1:  # a mirrored variable is initialized by operations that it makes too late
        return tf.distribute.OneDeviceStrategy(devices[0])
    if devices or len(gpus) > 1:
        return tf.distribute.MirroredStrategy(devices or gpus)
    return tf.distribute.get_strategy()


def list_fingerprint(image_list):
    """Return text that differs for lists of other labels, or images of other names, in whatever folder these are."""
    names = [os.path.basename(path) for path in image_list.paths]
    digest = hashlib.sha256(json.dumps([names, image_list.labels.tolist()]).encode()).hexdigest()
    return f'{len(names)} images ({digest[:8]})'
