"""The processes of a cluster: their addresses, servers and sessions, and the loss of one."""

import concurrent.futures
import json
import re
import socket
import time
from typing import NamedTuple

from runtime.tf1 import tf

EXAMPLE = ('{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
           '"task": {"type": "worker", "index": 0}}')
RESTART_HINT = 'Started again with the same --run_dir, the run resumes from its last checkpoint'
# TensorFlow's errors for another process that has ended, was restarted, or hangs.
PEER_ERRORS = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
               tf.errors.FailedPreconditionError, tf.errors.DeadlineExceededError)


class PeerLost(ConnectionError):
    """Another worker ended or does not answer; this process must end, and can be restarted."""

    def __init__(self, what: str):
        super().__init__(f'another worker {what}. {RESTART_HINT}')


class Cluster(NamedTuple):
    """The processes of a run, from TF_CONFIG.

    jobs: {'chief': [address], 'worker': [address, ...]}, each address host:port; without the job
        chief, worker 0 is the chief.
    job, index: of this process.
    """

    jobs: dict[str, list[str]]
    job: str
    index: int

    @property
    def addresses(self) -> list[str]:
        """The address of each process, in the order of their ranks."""
        return self.jobs.get('chief', []) + self.jobs.get('worker', [])

    @property
    def rank(self) -> int:
        """The number of this process; 0 is the chief."""
        return self.index + (len(self.jobs.get('chief', [])) if self.job == 'worker' else 0)

    @property
    def size(self) -> int:
        """The number of processes."""
        return len(self.addresses)


def read_cluster(text: str | None) -> Cluster | None:
    """Return the Cluster of a TF_CONFIG; None without one, and for a single process.

    As in tf.distribute.cluster_resolver.TFConfigClusterResolver, a cluster without processes or
    with one, whatever its job is called, is a single process; the addresses of a job may be a list
    or a dict by number; the index may be text.
    Raises ValueError if the JSON text does not describe this process in a cluster.
    """
    if not text or text.isspace():
        return None
    try:
        config = json.loads(text)
        jobs = read_jobs(config.get('cluster'))
        if sum(map(len, jobs.values())) < 2:
            return None
        task = config['task']
        index = task['index']
        cluster = Cluster(jobs, task['type'], int(index) if isinstance(index, str) else index)
        check_cluster(cluster)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f'it lacks {error}' if isinstance(error, KeyError) else error
        raise ValueError(f'TF_CONFIG cannot be read: {reason}. It looks like {EXAMPLE}') from error
    return cluster


def read_jobs(cluster):
    """Return {job: [address, ...]} of the `cluster` of a TF_CONFIG, without empty jobs."""
    jobs = tf.train.ClusterSpec(cluster or {}).as_dict()
    return {job: addresses for job, addresses in jobs.items() if addresses}


def check_cluster(cluster):
    """Raise ValueError unless a Cluster has legal jobs and addresses, and contains this process."""
    jobs, addresses = cluster.jobs, cluster.addresses
    known = set(jobs) <= {'chief', 'worker'} and len(jobs.get('chief', [])) < 2
    well_formed = [re.fullmatch(r'\S+:\d+', address) for address in addresses]
    if not known or not all(well_formed) or len(set(addresses)) < len(addresses):
        raise ValueError('a cluster has the jobs worker and, with one process, chief, no others; '
                         'each process has an address host:port of its own')
    if type(cluster.index) is not int or not 0 <= cluster.index < len(jobs.get(cluster.job, [])):
        raise ValueError(f'the cluster has no {cluster.job} {cluster.index}')


def start_server(cluster: Cluster, config: tf.ConfigProto) -> tf.train.Server:
    """Return the server by which the other workers reach this one.

    Raises ValueError if its address cannot be listened at.
    """
    try:
        return tf.train.Server(
            tf.train.ClusterSpec(cluster.jobs), cluster.job, cluster.index, config=config)
    except tf.errors.OpError as error:
        address = cluster.addresses[cluster.rank]
        raise ValueError(f'{address}, the address of this worker in TF_CONFIG, cannot be listened '
                         'at: is the port in use?') from error


def wait_for(address: str, timeout: float):
    """Wait until the chief listens at its address; PeerLost if not within `timeout` seconds."""
    host, port = address.rsplit(':', 1)
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip('[]'), int(port)), timeout).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise PeerLost(f'(the chief, at {address}) has not answered for {timeout:g} s: '
                               f'{error}') from error
        time.sleep(0.2)


class TimeoutSession(tf.Session):
    """A session whose runs raise PeerLost if another process ends or is silent for too long.

    timeout: seconds per run. TensorFlow's own timeout ends neither a run that waits for the chief's
    first answer nor a session that is closed meanwhile.
    """

    def __init__(self, target: str, graph: tf.Graph | None, config: tf.ConfigProto,
                 timeout: float):
        super().__init__(target, graph, config)
        self.timeout = timeout
        self.threads = concurrent.futures.ThreadPoolExecutor(4, 'session')

    def run(self, *arguments, **options):
        """Run as tf.Session does; raise PeerLost after `timeout` or a peer's error."""
        run = self.threads.submit(super().run, *arguments, **options)
        try:
            return run.result(self.timeout)
        except concurrent.futures.TimeoutError as error:
            raise PeerLost(f'has not answered for {self.timeout:g} s') from error
        except PEER_ERRORS as error:
            raise PeerLost('has ended, or was restarted') from error

    def close(self):
        """Do nothing: the session ends with the process."""
