"""The workers of a run, a process a machine: which there are, how they are reached, what is lost with one of them."""

import concurrent.futures
import json
import re
import socket
import time
from typing import NamedTuple

from runtime.tf1 import tf

EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
# What TensorFlow says of another process that has ended, was started anew, or hangs.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.FailedPreconditionError,
        tf.errors.DeadlineExceededError)


class PeerLost(ConnectionError):
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
            raise ValueError('a cluster has the jobs worker and, with one process, chief, no others; each process has '
                             'an address host:port of its own')
        if type(cluster.index) is not int or not 0 <= cluster.index < len(jobs.get(cluster.job, [])):
            raise ValueError(f'the cluster has no {cluster.job} {cluster.index}')
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        named = f'it lacks {error}' if isinstance(error, KeyError) else error
        raise ValueError(f'TF_CONFIG can not be read: {named}. It looks like {EXAMPLE}') from error
    return cluster if len(right) > 1 else None


def start_server(cluster, config):
    """Return the tf.train.Server by which the other workers reach this one."""
    try:
        return tf.train.Server(tf.train.ClusterSpec(cluster.jobs), cluster.job, cluster.index, config=config)
    except tf.errors.OpError as error:
        address = cluster.addresses[cluster.share[0]]
        raise ValueError(f'{address}, this worker by TF_CONFIG, can not be listened at: is the port in use?') from error


def wait_for(address, timeout):
    """Wait until a process listens at an address; PeerLost if none does within `timeout` seconds."""
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


class TimeoutSession(tf.Session):
    """A session of which a run ends with PeerLost if another process does, or is silent for `timeout` seconds.

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
    return PeerLost(f'another worker {what}. Started again with the same --run_dir, the run goes on from its last '
                    'checkpoint')
