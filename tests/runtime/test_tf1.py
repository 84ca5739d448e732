"""TensorFlow's import, in processes of their own."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest

from runtime.tf1 import (
    assign_values,
    check_precision,
    error_line,
    find_gpus,
    op_determinism,
    open_session,
    session_config,
    tf,
)
from tests.helpers import ROOT

A_REAL_ERROR = 'E0000 00:00:1 2 x.cc:1] a real error\n'
START_UP = f'''
import os
from runtime.tf1 import quick_import
with quick_import():
    import tensorflow.compat.v1 as tf
    tf.Session(graph=tf.Graph())
    os.write(2, {A_REAL_ERROR.encode()!r})
'''
IMPORT = '''
import gc, os, sys
from runtime.tf1 import quick_import
with quick_import():
    import tensorflow.compat.v1 as tf
    during = gc.isenabled()
print(during, gc.isenabled(), gc.get_freeze_count() > 100_000, "keras" in sys.modules,
      "TF_USE_LEGACY_KERAS" in os.environ)
gc.disable()
with quick_import():
    pass
print(gc.isenabled())
'''


def run_code(code):
    """Run Python code in a process without TensorFlow's environment variables.

    Only the one stays that lets test processes share a GPU.
    """
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith('TF_') or name == 'TF_FORCE_GPU_ALLOW_GROWTH'}
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=environment,
                          capture_output=True, text=True)


@pytest.mark.slow
def test_start_up_is_quiet_and_errors_still_show():
    done = run_code(START_UP)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', A_REAL_ERROR)


@pytest.mark.slow
def test_the_import_leaves_out_keras_and_garbage_collection():
    """Afterwards, garbage collection and the environment are as before."""
    assert run_code(IMPORT).stdout == 'False True True False False\nFalse\n'


def test_values_are_assigned_without_new_operations():
    with tf.Graph().as_default() as graph, tf.Session() as session:
        variables = [tf.get_variable(name, initializer=0.0) for name in 'ab']
        graph.finalize()
        assign_values(session, variables, [np.float32(1.5), np.float32(-2)])
        assert session.run(variables) == [1.5, -2]


def test_num_threads_limits_both_kinds_of_threads():
    config = session_config(num_threads=3)
    assert config.intra_op_parallelism_threads == config.inter_op_parallelism_threads == 3


def test_the_line_of_an_error_says_what_happened_not_where(tmp_path):
    (tmp_path / 'file').touch()
    with tf.Graph().as_default(), tf.Session() as session:
        save = tf.raw_ops.SaveV2(prefix=f'{tmp_path}/file/x', tensor_names=['a'],
                                 shape_and_slices=[''], tensors=[tf.constant(1)])
        with pytest.raises(tf.errors.OpError) as caught:
            session.run(save)
    assert caught.value.message.startswith('Graph execution error:')
    assert 'Not a directory' in error_line(caught.value)
    assert error_line(ValueError('one\ntwo')) == 'one'


@pytest.mark.parametrize('precision, capabilities, message', [
    ('float32', [], None), ('float32', [(9, 0)], None), ('bfloat16', [], None),
    ('tensorfloat32', [(7, 5), (8, 0)], None),
    ('tensorfloat32', [(7, 5)], 'precision tensorfloat32: it needs a GPU'),
    ('tensorfloat32', [], 'precision tensorfloat32: it needs a GPU'),
    ('bfloat16', [(9, 0)], 'precision bfloat16: .* here is a GPU')])
def test_a_precision_fits_the_gpus(precision, capabilities, message):
    """capabilities: (9, 0) is an H100, (8, 0) an A100, (7, 5) a T4, without TensorFloat-32."""
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        check_precision(precision, capabilities)


def test_float32_is_not_tensorfloat32():
    tf.config.experimental.enable_tensor_float_32_execution(True)  # TensorFlow's default
    session_config('float32')
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize('capabilities, use_gpus, device_count', [
    ([(9, 0)], True, {}), ([(9, 0)], False, {'GPU': 0}), ([], True, {'GPU': 0})])
def test_a_session_grows_on_gpus_or_sees_none(capabilities, use_gpus, device_count, monkeypatch):
    monkeypatch.setattr('runtime.tf1.find_gpus', lambda: capabilities)
    config = session_config(use_gpus=use_gpus)
    assert config.gpu_options.allow_growth and dict(config.device_count) == device_count


@pytest.mark.cpu
def test_tests_for_the_cpu_see_no_gpu():
    """Neither does a process that such a test starts."""
    assert find_gpus() == [] and os.environ['CUDA_VISIBLE_DEVICES'] == ''
    with tf.Graph().as_default(), open_session() as session:
        assert {device.device_type for device in session.list_devices()} == {'CPU'}


def test_determinism_holds_for_a_block():
    """TensorFlow itself shows it: a random operation without a seed is an error."""
    with tf.Graph().as_default():
        with op_determinism(True), pytest.raises(RuntimeError, match='require a seed'):
            tf.random_uniform([])
        with op_determinism(False):
            tf.random_uniform([])
        tf.random_uniform([])
