"""What a run is spread over: one device, several, or several machines, by TensorFlow's own tf.distribute."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import socket
import threading
import time
from typing import NamedTuple

import numpy as np

from alexnet import session_config, tf
from console import quiet_startup, spelled

BLOCK = 1 << 16  # bytes that a worker tells the others at once
EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
# What TensorFlow says of another process that has ended, was started anew, or hangs.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.FailedPreconditionError,
        tf.errors.DeadlineExceededError)
# Settings that may differ from worker to worker; the lists are compared by content.
OWN = ('run_dir', 'resume', 'train_file', 'val_file', 'labels_file', 'weights_path', 'cache_dir', 'num_threads',
       'display_step', 'peer_timeout')


class LostPeer(ConnectionError):
    """Another worker has ended, or does not answer: this process can't go on; started again, it can."""


class Cluster(NamedTuple):
    """What TF_CONFIG says: the addresses of each job's processes, and which of them this process is."""

    jobs: dict      # {'chief': [address], 'worker': [address, ...]}, or workers alone: the first is the chief then
    job: str
    index: int

    @property
    def addresses(self):
        return self.jobs.get('chief', []) + self.jobs.get('worker', [])

    @property
    def share(self):
        """(number of this worker, 0 being the chief, number of workers)"""
        before = len(self.jobs.get('chief', [])) if self.job == 'worker' else 0
        return before + self.index, len(self.addresses)


def read_cluster(text):
    """Return the Cluster of the environment variable TF_CONFIG; None without one, or for a single process."""
    if not text:
        return None
    try:
        config = json.loads(text)
        jobs, task = config['cluster'], config['task']
        cluster = Cluster(jobs, task['type'], task['index'])
        known = set(jobs) <= {'chief', 'worker'} and len(jobs.get('chief', [])) < 2
        right = [re.fullmatch(r'\S+:\d+', address) for address in cluster.addresses]
        if not known or not all(right) or len(set(cluster.addresses)) < len(right):
            raise ValueError('a cluster has the jobs worker and, with one process, chief, no others; each process has an '
                             'address host:port of its own')
        if cluster.job not in jobs or type(cluster.index) is not int or not 0 <= cluster.index < len(jobs[cluster.job]):
            raise ValueError(f'the cluster has no {cluster.job} {cluster.index}')
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        named = f'it lacks {error}' if isinstance(error, KeyError) else error
        raise ValueError(f'TF_CONFIG can not be read: {named}. It looks like {EXAMPLE}') from error
    return cluster if len(right) > 1 else None


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
                self.block = tf.placeholder(tf.int32, [self.share[1], 1 + BLOCK // 4])
                first = self.share[0] * replicas // self.share[1]
                self.blocks = self.total(lambda number: self.block if number == first else tf.zeros_like(self.block))
                self.exchange = PeerSession(self.server.target, graph, config, self.timeout)

    def adapted(self, config):
        """Return a tf.ConfigProto made fit for the strategy."""
        config = self.strategy.update_config_proto(config)
        if self.devices and self.devices[0].startswith('CPU'):
            config.device_count['CPU'] = 1 + max(int(name.split(':')[1]) for name in self.devices)
        return config

    def session(self, config):
        """Return a session of the current graph."""
        if self.cluster:
            return PeerSession(self.server.target, None, self.adapted(config), self.timeout)
        return tf.Session(config=self.adapted(config))

    def __enter__(self):
        if self.cluster and not self.is_chief:
            wait_for(self.cluster.addresses[0], self.timeout)
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            with contextlib.suppress(LostPeer):  # nothing that is left to do needs the others
                self.gather(None)
        elif self.cluster and not issubclass(kind, LostPeer):
            time.sleep(1)  # the others can still be receiving what this one knows already, and then end like it

    def total(self, part):
        """Return the sum, a tensor, of what part(number) returns on each replica of the cluster."""
        def numbered():
            return part(int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)))
        with self.strategy.scope():
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM,
                                        self.strategy.extended.call_for_each_replica(numbered), axis=None)

    def gather(self, value):
        """Return [value of worker 0, of worker 1, ...], of values fit for JSON; all workers have to call this.

        Collective operations want the same shape from all, so each tells it in blocks: how many follow, and characters.
        """
        worker, workers = self.share
        if workers == 1:
            return [value]
        content = json.dumps(value).encode()
        texts, rest = [b''] * workers, 1
        while rest:
            block = np.zeros(self.block.shape.as_list(), np.int32)
            part, content = content[:BLOCK], content[BLOCK:]
            block[worker, 0], block[worker, 1:] = len(content), np.frombuffer(part.ljust(BLOCK), np.int32)
            blocks = self.exchange.run(self.blocks, {self.block: block})
            texts = [text + row[1:].tobytes() for text, row in zip(texts, blocks)]
            rest = blocks[:, 0].any()
        return [json.loads(text) for text in texts]

    @contextlib.contextmanager
    def patience(self):
        """Let the workers wait at the end of the block until all are there, longer than `timeout` if they are alive."""
        if self.share[1] == 1:
            yield
            return
        arrived = threading.Event()

        def answer():
            while not all(self.gather(arrived.is_set())):
                arrived.wait(1)
        answering = concurrent.futures.ThreadPoolExecutor(1).submit(answer)
        try:
            yield
        finally:  # an error, or Ctrl-C, is not held up by this
            arrived.set()
        answering.result()

    def from_chief(self, function):
        """Return what `function` returns on the chief, a value fit for JSON; it is called there alone.

        What is wrong there, ValueError or OSError, is ValueError on the others.
        """
        value = failure = None
        with self.patience():
            try:
                value = function() if self.is_chief else None
            except (ValueError, OSError) as error:
                failure = error
        value, text = self.gather([value, failure and f'the chief says: {failure}'])[0]
        if text:
            raise failure or ValueError(text)
        return value

    def check_agreement(self, settings):
        """Raise ValueError on all workers if settings, a dict, of one differ from the chief's."""
        all_settings = self.gather({name: spelled(value) for name, value in settings.items() if name not in OWN})
        for worker, theirs in enumerate(all_settings):
            different = [f'{name} {value}, not {all_settings[0].get(name)}' for name, value in theirs.items()
                         if value != all_settings[0].get(name)]
            if different:
                raise ValueError(f'worker {worker} differs from the chief: {"; ".join(different)}. '
                                 'Give all workers the same lists and settings')

    def find_broken(self, look, image_lists):
        """Return what look(image_lists) does, {path: what is wrong}; each worker looks at its share alone."""
        with self.patience():
            broken = look([part.share(*self.share) for part in image_lists])
        return self.all_broken(image_lists, broken)

    def all_broken(self, image_lists, broken):
        """Return {path: what is wrong}, `broken` with what other workers found; the lists are training's and validation's."""
        self.check_agreement({f'the {name} list': list_key(part) for name, part in zip(('training', 'validation'), image_lists)})
        paths = [path for part in image_lists for path in part.paths]
        found = self.gather([n for n, path in enumerate(paths) if path in broken])
        others = {paths[n]: f'{paths[n]}: broken or missing on worker {worker}'
                  for worker, numbers in enumerate(found) for n in numbers}
        return {**others, **broken}

    def merge(self, predictions):
        """Return the predictions for a whole list, in its order, of those for the share of each worker: arrays [n]."""
        if self.share[1] == 1:
            return predictions
        parts = self.gather([part.tolist() for part in predictions])
        merged = [np.empty(sum(map(len, column)), part.dtype) for part, column in zip(predictions, zip(*parts))]
        for worker, columns in enumerate(parts):
            for whole, column in zip(merged, columns):
                whole[worker::self.share[1]] = column
        return merged

    def load(self, session, values):
        """Give the variables, on all devices of this machine, the values of {name: array}."""
        for variable in session.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
            for copy in self.strategy.experimental_local_results(variable):
                session.run(copy.initializer, {copy.initializer.inputs[1]: values[variable.op.name]})

    def make_spread(self):
        """Make the operations that `spread` runs, for all global variables of the current graph."""
        def spread(variable):
            whole = self.total(lambda number: tf.identity(variable) if number == 0
                               else tf.zeros(variable.shape, variable.dtype))
            with self.strategy.scope():
                return tf.group(variable.assign(whole))
        self.spreading = [spread(variable) for variable in tf.global_variables()] if self.cluster else []

    def spread(self, session):
        """Give the variables of all workers the chief's values."""
        for operation in self.spreading:
            session.run(operation)


class PeerSession(tf.Session):
    """A session of which a run ends with LostPeer if another process does, or is silent for `timeout` seconds.

    TensorFlow's own timeout does not end a run that waits for the chief's first answer, nor a session closed meanwhile.
    """

    def __init__(self, target, graph, config, timeout):
        super().__init__(target, graph, config)
        self.timeout, self.threads = timeout, concurrent.futures.ThreadPoolExecutor(4, 'session')

    def run(self, *arguments, **options):
        try:
            return self.threads.submit(super().run, *arguments, **options).result(self.timeout)
        except concurrent.futures.TimeoutError as error:
            raise lost_peer(f'has not answered for {self.timeout:g} s') from error
        except LOST as error:
            raise lost_peer('has ended, or was started anew') from error

    def close(self):
        """Leave it to the end of the process."""


def lost_peer(what):
    return LostPeer(f'another worker {what}. Started again with the same --run_dir, the run goes on from its last checkpoint')


def make_strategy(cluster, devices):
    """Return the tf.distribute strategy for the cluster, for several devices, or for one."""
    gpus = [f'GPU:{n}' for n in range(len(tf.config.list_physical_devices('GPU')))]
    if cluster and devices:
        raise ValueError('devices are for a single machine: with TF_CONFIG, all GPUs are used that '
                         'CUDA_VISIBLE_DEVICES leaves, else the CPU')
    wrong = [name for name in devices if name not in gpus and not re.fullmatch(r'CPU:\d{1,3}', name)]
    if wrong or len(set(devices)) < len(devices) or len({name[:3] for name in devices}) > 1:
        raise ValueError(f'devices {" ".join(devices)}: here are {" ".join(gpus) or "no GPUs"}, and CPU:0, '
                         'and names can not be mixed or repeated')
    if cluster:
        kinds = tf.distribute.experimental.CollectiveCommunication  # AUTO takes no NCCL without eager execution
        return tf.distribute.experimental.MultiWorkerMirroredStrategy(kinds.NCCL if gpus else kinds.RING)
    if devices or len(gpus) > 1:
        return tf.distribute.MirroredStrategy(devices or gpus)
    return tf.distribute.get_strategy()


def start_server(cluster, config):
    """Return the tf.train.Server by which the other workers reach this one."""
    try:
        return tf.train.Server(tf.train.ClusterSpec(cluster.jobs), cluster.job, cluster.index, config=config)
    except tf.errors.OpError as error:
        address = cluster.addresses[cluster.share[0]]
        raise ValueError(f'{address}, this worker by TF_CONFIG, can not be listened at: is the port in use?') from error


def wait_for(address, timeout):
    """Wait until a process listens at an address; LostPeer if none does within `timeout` seconds."""
    host, port = address.rsplit(':', 1)
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip('[]'), int(port)), timeout).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise lost_peer(f'(the chief, at {address}) has not answered for {timeout:g} s: {error}') from error
        time.sleep(0.2)


def list_key(image_list):
    """Return text that differs for lists of other labels, or images of other names, in whatever folder these are."""
    names = [os.path.basename(path) for path in image_list.paths]
    digest = hashlib.sha256(json.dumps([names, image_list.labels.tolist()]).encode()).hexdigest()
    return f'{len(names)} images ({digest[:8]})'
