"""The devices and processes of a run, and the sessions that reach them."""

import contextlib
import os
import time
from collections.abc import Sequence

from runtime.tf1 import find_gpus, op_determinism, quiet_startup, session_config, tf
from training.cluster import PeerLost, TimeoutSession, read_cluster, start_server, wait_for
from training.strategy import make_strategy
from training.workers import SingleWorker, WorkerGroup


class Devices:
    """The devices of this process, and the other processes of the run if TF_CONFIG names a cluster.

    names: devices that share each batch, such as ('GPU:0', 'GPU:1'); None: all GPUs, or the CPU.
    precision, num_threads: as runtime.tf1.session_config takes them.
    peer_timeout: seconds to wait for another process.
    deterministic: let runs be equal bit for bit on GPUs too; on CPUs they are.
    strategy: the tf.distribute strategy; None for one device, whose graph is built without it.
    workers: a SingleWorker or WorkerGroup.
    Use it as a context manager, which waits at its end until all workers have arrived there.
    Raises ValueError for unknown or mixed devices, for a precision that they lack, and for a
    TF_CONFIG that cannot be read.
    """

    def __init__(self, names: Sequence[str] | None = None, precision: str = 'float32',
                 num_threads: int | None = None, peer_timeout: float = 600.0,
                 deterministic: bool = True):
        self.names, self.timeout = names or (), peer_timeout
        self.precision, self.num_threads = precision, num_threads
        self.deterministic, self.exit_stack = deterministic, contextlib.ExitStack()
        self.cluster, self.server = read_cluster(os.environ.get('TF_CONFIG')), None
        # Outside of a graph, a strategy would execute eagerly.
        with quiet_startup(), tf.Graph().as_default():
            self.strategy = make_strategy(self.cluster, self.names)
            self.config()  # a precision that these devices lack is an error before any work
            self.workers = self.join() if self.cluster else SingleWorker()

    def join(self):
        """Start this process's server and return the WorkerGroup."""
        self.server = start_server(self.cluster, self.config())
        return WorkerGroup(self.cluster.rank, self.cluster.size, self.strategy, self.make_session)

    @property
    def num_replicas(self) -> int:
        """The number of devices that share each batch, on all machines."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    def check_batch_size(self, batch_size: int):
        """Raise ValueError if a batch has fewer images than there are devices."""
        if batch_size < self.num_replicas:
            raise ValueError(f'batch_size {batch_size} is less than the {self.num_replicas} '
                             'devices that share it')

    @property
    def are_cpus(self) -> bool:
        """Whether the devices are named, and are CPUs."""
        return bool(self.names) and self.names[0].startswith('CPU')

    @property
    def uses_gpus(self) -> bool:
        """Whether the devices are GPUs."""
        return not self.are_cpus and bool(find_gpus())

    def local_config(self) -> tf.ConfigProto:
        """Return the tf.ConfigProto of a session that no other device or process takes part in."""
        return session_config(self.precision, self.num_threads, not self.are_cpus)

    def config(self) -> tf.ConfigProto:
        """Return the tf.ConfigProto of this run's sessions."""
        config = self.local_config()
        if self.strategy:
            config = self.strategy.update_config_proto(config)
        if self.are_cpus:
            numbers = [int(name.split(':')[1]) for name in self.names]
            config.device_count['CPU'] = 1 + max(numbers)
        return config

    def make_session(self, graph=None):
        """Return a session of a graph; None: the current one."""
        if self.server:
            return TimeoutSession(self.server.target, graph, self.config(), self.timeout)
        return tf.Session(graph=graph, config=self.config())

    def open_session(self) -> tf.Session:
        """Return a session of the current graph, without TensorFlow's messages at its start."""
        with quiet_startup():
            return self.make_session()

    def scope(self):
        """Return the context in which the graph of one device is built."""
        return tf.device(self.names[0] if len(self.names) == 1 else None)

    def __enter__(self):
        if self.workers.rank > 0:
            wait_for(self.cluster.addresses[0], self.timeout)
        self.exit_stack.enter_context(op_determinism(self.deterministic and self.uses_gpus))
        return self

    def __exit__(self, kind, error, trace):
        self.exit_stack.close()
        if kind is None:
            with contextlib.suppress(PeerLost):  # the rest of the run needs no other worker
                self.workers.all_gather_object(None)
        elif self.cluster and not issubclass(kind, PeerLost):
            time.sleep(1)  # lets the others receive the error that this worker already knows
