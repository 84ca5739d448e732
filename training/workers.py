"""The processes of a run, one per machine, and the exchange of values between them.

SingleWorker and WorkerGroup share rank, size, all_gather_object, broadcast and barrier.
"""

import concurrent.futures
import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from runtime.tf1 import tf
from training.strategy import all_reduce_sum

BLOCK = 1 << 16  # bytes per worker and exchange


class SingleWorker:
    """The only process of a run.

    rank: number of this process, from 0. Worker 0, the chief, reads the weight file and writes the
        run folder.
    size: number of processes.
    """

    rank, size = 0, 1

    def all_gather_object(self, value: Any) -> list:
        """Return [value], the values of all workers."""
        return [value]

    def broadcast(self, function: Callable) -> Any:
        """Return the value of function()."""
        return function()

    def barrier(self):
        """Return a context manager that does not wait."""
        return contextlib.nullcontext()


class WorkerGroup:
    """One of several processes, which exchange values by collective operations.

    rank, size: see SingleWorker.
    strategy: the MultiWorkerMirroredStrategy of the cluster.
    make_session: function of a graph that returns its session.
    """

    def __init__(self, rank: int, size: int, strategy, make_session: Callable):
        self.rank, self.size = rank, size
        first_replica = rank * strategy.num_replicas_in_sync // size
        with tf.Graph().as_default() as graph:
            self.block = tf.placeholder(tf.float32, [size, 1 + BLOCK])
            self.blocks = all_reduce_sum(strategy, lambda replica: (
                self.block if replica == first_replica else tf.zeros_like(self.block)))
            self.session = make_session(graph)

    def all_gather_object(self, value: Any) -> list:
        """Return [value of worker 0, value of worker 1, ...]; every worker has to call this.

        value: anything that JSON can hold. Collective operations need the same shape everywhere, so
        each worker sends its text in blocks: the number of bytes that remain, then bytes. They are
        floats, because TensorFlow cannot sum small integers on GPUs.
        """
        content, remaining = json.dumps(value).encode(), True
        texts = [b''] * self.size
        while remaining:
            part, content = content[:BLOCK].ljust(BLOCK), content[BLOCK:]
            block = np.zeros([self.size, 1 + BLOCK], np.float32)
            block[self.rank, 0] = len(content)
            block[self.rank, 1:] = np.frombuffer(part, np.uint8)
            blocks = self.session.run(self.blocks, {self.block: block})
            texts = [text + np.uint8(row[1:]).tobytes()
                     for text, row in zip(texts, blocks, strict=True)]
            remaining = blocks[:, 0].any()
        return [json.loads(text) for text in texts]

    def broadcast(self, function: Callable) -> Any:
        """Call `function` on worker 0 alone; return its value on all workers.

        The value must be one that JSON can hold. A ValueError or OSError of the function is raised
        on worker 0, and as a ValueError on the others.
        """
        value = failure = None
        with self.barrier():
            try:
                value = function() if self.rank == 0 else None
            except (ValueError, OSError) as error:
                failure = error
        text = f'the chief says: {failure}' if failure else None
        value, text = self.all_gather_object([value, text])[0]
        if text:
            raise failure or ValueError(text)
        return value

    @contextlib.contextmanager
    def barrier(self):
        """Wait at the end of the block until all workers have arrived there.

        Workers that are still busy answer a heartbeat each second, so the wait may exceed the
        timeout of the session.
        """
        arrived = threading.Event()

        def send_heartbeats():
            while not all(self.all_gather_object(arrived.is_set())):
                arrived.wait(1)
        heartbeats = concurrent.futures.ThreadPoolExecutor(1).submit(send_heartbeats)
        try:
            yield
        finally:  # an error or Ctrl-C does not wait
            arrived.set()
        heartbeats.result()


Workers = SingleWorker | WorkerGroup
