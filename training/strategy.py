"""The tf.distribute strategy of a run, and the collective operations built on it."""

import contextlib
import re

from runtime.tf1 import tf


def make_strategy(cluster, names):
    """Return the tf.distribute strategy for a cluster or several devices, None for one device.

    cluster: a Cluster, or None for a single process.
    names: devices of this process, such as ('GPU:0', 'GPU:1'); (): all GPUs, or the CPU.
    Raises ValueError for unknown or mixed devices.
    """
    gpus = [f'GPU:{n}' for n in range(len(tf.config.list_physical_devices('GPU')))]
    check_names(names, gpus, cluster)
    if cluster:
        grow_gpu_memory()
        return tf.distribute.experimental.MultiWorkerMirroredStrategy(
            choose_communication(gpus, cluster.addresses))
    if len(names) == 1 or len(names) == 0 and len(gpus) < 2:
        return None
    grow_gpu_memory()
    return tf.distribute.MirroredStrategy(names or gpus)


def grow_gpu_memory():
    """Let a strategy take the memory of GPUs as it needs it, as session_config lets sessions.

    A strategy counts the GPUs by TensorFlow's eager context. That is the first user of their memory
    in this process, and would take all of it: no session could change that later.
    """
    for gpu in tf.config.list_physical_devices('GPU'):
        with contextlib.suppress(RuntimeError):  # the context exists already, as in a notebook
            tf.config.experimental.set_memory_growth(gpu, True)


def choose_communication(gpus, addresses):
    """Return how workers sum tensors: by NCCL if each has GPUs of its own, else by a ring.

    gpus: names of this worker's GPUs. addresses: of all workers.
    NCCL refuses workers that share a GPU. AUTO would not choose NCCL without eager execution.
    """
    kinds = tf.distribute.experimental.CollectiveCommunication
    return kinds.NCCL if gpus and not share_a_host(addresses) else kinds.RING


def share_a_host(addresses):
    """Return whether two of the workers' addresses, host:port, name the same host."""
    hosts = [address.rsplit(':', 1)[0] for address in addresses]
    hosts = ['localhost' if host in ('127.0.0.1', '[::1]') else host for host in hosts]
    return len(set(hosts)) < len(hosts)


def check_names(names, gpus, cluster):
    """Raise ValueError unless devices exist and can share a batch; gpus: names of all GPUs."""
    if cluster and names:
        raise ValueError('devices are for a single machine: with TF_CONFIG, all GPUs are used that '
                         'CUDA_VISIBLE_DEVICES leaves, else the CPU')
    wrong = [name for name in names if name not in gpus and not re.fullmatch(r'CPU:\d{1,3}', name)]
    kinds = {name[:3] for name in names}
    if wrong or len(set(names)) < len(names) or len(kinds) > 1:
        raise ValueError(f'devices {" ".join(names)}: here are {" ".join([*gpus, "CPU:0"])}; name '
                         'each once, GPUs or CPUs, not both')


def for_each_replica(strategy, function, *arguments):
    """Return the per-replica values of function(*arguments), called on each device."""
    # AutoGraph would rewrite the function, and leave a file in the temporary folder.
    function = tf.autograph.experimental.do_not_convert(function)
    with strategy.scope():
        return strategy.extended.call_for_each_replica(function, arguments)


def all_reduce_sum(strategy, part):
    """Return the sum over all replicas, a tensor; part: function of a replica's number."""
    def of_replica():
        context = tf.distribute.get_replica_context()
        return part(int(tf.get_static_value(context.replica_id_in_sync_group)))
    replicas = for_each_replica(strategy, of_replica)
    with strategy.scope():
        return strategy.reduce(tf.distribute.ReduceOp.SUM, replicas, axis=None)


def build_broadcast(strategy, workers) -> list[tf.Operation]:
    """Return one operation per global variable that copies it from worker 0 to all workers.

    strategy: None for one device. workers: SingleWorker or WorkerGroup.
    """
    if workers.size == 1:
        return []
    return [build_variable_broadcast(strategy, variable) for variable in tf.global_variables()]


def broadcast_variables(session: tf.Session, broadcast_ops: list[tf.Operation]):
    """Copy the variables from worker 0 to all workers, one after the other."""
    for operation in broadcast_ops:
        session.run(operation)


def build_variable_broadcast(strategy, variable):
    """Return the operation that copies a variable from worker 0 to all workers."""
    value = all_reduce_sum(strategy, lambda replica: (
        tf.identity(variable) if replica == 0 else tf.zeros(variable.shape, variable.dtype)))
    with strategy.scope():
        return tf.group(variable.assign(value))
