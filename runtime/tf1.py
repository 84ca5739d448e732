"""TensorFlow 1 as TensorFlow 2 has it: a quiet import, sessions, values of variables, errors in one line."""

import contextlib
import gc
import os
import re
import sys
import tempfile

# What TensorFlow's libraries write before their own log level applies; nothing here is an error of the run.
CHATTER = re.compile(rb'I0000 |WARNING: All log messages before absl|E0000 .*failed call to cuInit|'
                     rb".*Unable to register cu(FFT|DNN|BLAS) factory|"
                     rb".*Init node .* doesn't exist|W0000 .*Ignored (output_format|drop_control_dependency)")


@contextlib.contextmanager
def quiet_startup():
    """Hold back standard error while TensorFlow is imported or makes its first session, then print all but chatter.

    TF_CPP_MIN_LOG_LEVEL alone does not do it: the lines come before the log level is in force. Errors still show, but
    for the last words of a process that is aborted in the meantime.
    """
    # 2: errors. A worker that loses another one has a dozen of these to say, and then says it once.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3' if os.environ.get('TF_CONFIG') else '2')
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            kept = [line for line in held if not CHATTER.match(line)]
            if kept:
                os.write(2, b''.join(kept))


@contextlib.contextmanager
def quick_import():
    """Import TensorFlow quietly, and in half of its time: without Keras, which nothing here uses, and without looking
    for garbage among its hundreds of thousands of objects, neither now nor later.

    TensorFlow looks for an older Keras, which is not there, where this variable is set; `tf.keras` still works later.
    """
    before, collects = os.environ.get('TF_USE_LEGACY_KERAS'), gc.isenabled()
    os.environ['TF_USE_LEGACY_KERAS'] = '1'
    gc.disable()
    try:
        with quiet_startup():
            yield
    finally:
        gc.freeze()  # what is here now stays to the end
        if collects:
            gc.enable()
        del os.environ['TF_USE_LEGACY_KERAS']
        if before is not None:
            os.environ['TF_USE_LEGACY_KERAS'] = before


with quick_import():
    import tensorflow.compat.v1 as tf


def assign_values(session, variables, values):
    """Give variables their values, by their initializers.

    An initial value is a tensor like any other: fed, it takes no new operation and leaves the graph definition small.
    """
    initializers = [variable.initializer for variable in variables]
    session.run(initializers, {initializer.inputs[1]: value for initializer, value in zip(initializers, values)})


def session_config(precision='float32', num_threads=None):
    """Return the tf.ConfigProto of a session.

    precision: of products, 'float32' or 'bfloat16'. num_threads: that compute; None takes one a core. Raises ValueError
    if it could not compute with this precision.
    """
    threads = num_threads or 0  # 0: one a core
    config = tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads,
                            allow_soft_placement=True)
    if precision == 'bfloat16':  # TensorFlow's own rewriting of the graph; variables stay float32
        with quiet_startup():
            if tf.config.list_physical_devices('GPU'):
                raise ValueError('precision bfloat16: TensorFlow rewrites what runs on CPUs only, and here is a GPU; '
                                 'take float32')
        config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    return config


def open_session(precision='float32', num_threads=None, make=lambda config: tf.Session(config=config)):
    """Return a session of the current graph; make: function of the tf.ConfigProto that returns it."""
    config = session_config(precision, num_threads)
    with quiet_startup():
        return make(config)


def error_line(error):
    """Return the line of an error of TensorFlow that says what happened; before it can stand where, in the graph."""
    text = re.sub(r"(?s)\AGraph execution error:.*\nNode: '[^\n]*\n", '', getattr(error, 'message', None) or str(error))
    return text.splitlines()[0]
