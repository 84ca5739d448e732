"""TensorFlow 1, as TensorFlow 2 contains it: a quiet import, sessions, variables, errors.

`from runtime.tf1 import tf` is the only import of TensorFlow.
"""

import contextlib
import gc
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence

from runtime.streams import flush, open_standard_streams

# Messages of TensorFlow's libraries before its log level applies; none is an error of the run.
CHATTER = re.compile(
    rb'I0000 |WARNING: All log messages before absl|E0000 .*failed call to cuInit|'
    rb'.*Unable to register cu(FFT|DNN|BLAS) factory|'
    rb".*Init node .* doesn't exist|W0000 .*Ignored (output_format|drop_control_dependency)")


@contextlib.contextmanager
def quiet_startup() -> Iterator[None]:
    """Hold back standard error while TensorFlow starts, then print all but CHATTER.

    TF_CPP_MIN_LOG_LEVEL alone is not enough: CHATTER comes before the log level applies. Errors
    are still shown, except for the last words of a process that aborts meanwhile.
    """
    # 2: errors. 3: none, because a worker that loses another one would print a dozen of them
    # before the one line that it ends with.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3' if os.environ.get('TF_CONFIG') else '2')
    open_standard_streams()
    held = open_hidden_file()
    if not held:
        yield
        return
    flush(sys.stderr)
    saved = os.dup(2)
    with held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            flush(sys.stderr)
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            kept = [line for line in held if not CHATTER.match(line)]
            if kept:
                os.write(2, b''.join(kept))


def open_hidden_file():
    """Return a new file without a name, None where there is neither memory nor a folder for it."""
    try:
        if hasattr(os, 'memfd_create'):  # Linux: needs no folder that can be written to
            return open(os.memfd_create('stderr'), 'w+b')
        return tempfile.TemporaryFile()
    except OSError:
        return None


@contextlib.contextmanager
def temporary_environment(**values: str) -> Iterator[None]:
    """Set environment variables for a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def quick_import():
    """Import TensorFlow quietly, in half of the time: without Keras and garbage collection.

    Where TF_USE_LEGACY_KERAS is set, TensorFlow looks for an older Keras, which is missing, and
    imports none; `tf.keras` works later nevertheless. The hundreds of thousands of objects that
    the import makes are never searched for garbage. TEST_TMPDIR is for absl, which TensorFlow
    imports: it fails without a temporary folder, which it would not use.
    """
    collects, folder = gc.isenabled(), os.environ.get('TEST_TMPDIR') or os.curdir
    gc.disable()
    try:
        with temporary_environment(TF_USE_LEGACY_KERAS='1', TEST_TMPDIR=folder), quiet_startup():
            yield
    finally:
        gc.freeze()  # these objects stay to the end
        if collects:
            gc.enable()


with quick_import():
    import tensorflow.compat.v1 as tf
    from tensorflow.python.framework.config import disable_op_determinism  # has no public name
    tf.logging.set_verbosity(tf.logging.WARN)  # in a notebook, the default is INFO


def assign_values(session: tf.Session, variables: Sequence, values: Sequence):
    """Assign values to variables by running their initializers.

    An initial value is a tensor like any other: feeding it needs no new operation, and leaves the
    graph definition small.
    """
    initializers = [variable.initializer for variable in variables]
    feed = {initializer.inputs[1]: value
            for initializer, value in zip(initializers, values, strict=True)}
    session.run(initializers, feed)


def session_config(precision: str = 'float32', num_threads: int | None = None,
                   use_gpus: bool = True) -> tf.ConfigProto:
    """Return the tf.ConfigProto of a session, and switch TensorFloat-32 on or off.

    precision: of matrix products, 'float32', 'tensorfloat32' or 'bfloat16'.
    num_threads: that compute; None: one per core.
    use_gpus: let the session see the GPUs; it takes their memory as it needs it.
    Raises ValueError if this machine cannot compute with this precision.
    """
    gpus = find_gpus() if use_gpus else []
    check_precision(precision, gpus)
    # This holds for the process; TensorFlow's default is on, with 10 bits of the 23 of float32.
    tf.config.experimental.enable_tensor_float_32_execution(precision == 'tensorfloat32')
    threads = num_threads or 0  # 0: one per core
    config = tf.ConfigProto(intra_op_parallelism_threads=threads,
                            inter_op_parallelism_threads=threads, allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    if not gpus:
        config.device_count['GPU'] = 0
    if precision == 'bfloat16':  # TensorFlow's own rewriting of the graph; variables stay float32
        config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    return config


def find_gpus() -> list[tuple[int, int]]:
    """Return the compute capability of each visible GPU; (0, 0) if it has none."""
    with quiet_startup():
        details = [tf.config.experimental.get_device_details(gpu)
                   for gpu in tf.config.list_physical_devices('GPU')]
    return [detail.get('compute_capability', (0, 0)) for detail in details]


def check_precision(precision: str, capabilities: Sequence[tuple[int, int]]):
    """Raise ValueError if a precision needs other devices; capabilities: one per GPU in use."""
    if precision == 'bfloat16' and capabilities:
        raise ValueError('precision bfloat16: TensorFlow rewrites graphs for CPUs only, and here '
                         'is a GPU; take tensorfloat32 or float32')
    if precision == 'tensorfloat32' and max(capabilities, default=(0, 0)) < (8, 0):
        raise ValueError('precision tensorfloat32: it needs a GPU of compute capability 8.0 or '
                         'more, and here is none; take float32')


@contextlib.contextmanager
def op_determinism(is_on: bool) -> Iterator[None]:
    """Let TensorFlow choose, for a block, operations whose results are equal bit for bit.

    It is for GPUs: on CPUs results are equal without it, and with it they differ from those in the
    last bits. A random operation without a seed is an error.
    """
    if not is_on:
        yield
        return
    tf.compat.v2.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        disable_op_determinism()


def open_session(precision: str = 'float32', num_threads: int | None = None) -> tf.Session:
    """Return a session of the current graph; see session_config."""
    config = session_config(precision, num_threads)
    with quiet_startup():
        return tf.Session(config=config)


def error_line(error: Exception) -> str:
    """Return the first line of a TensorFlow error, without its place in the graph."""
    text = getattr(error, 'message', None) or str(error)
    text = re.sub(r"(?s)\AGraph execution error:.*\nNode: '[^\n]*\n", '', text)
    return text.splitlines()[0]
