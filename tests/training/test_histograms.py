from types import SimpleNamespace

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet import LAYERS
from reports.event_file import EventFile
from runtime.tf1 import tf
from training.histograms import dead_fraction, step_summaries, subsample


def toy_model():
    variables, outputs = {}, {}
    for layer in LAYERS:
        with tf.variable_scope(layer):
            variables[layer] = (tf.get_variable('weights', [50, 4096]),
                                tf.get_variable('biases', [4096]))
        outputs[layer] = tf.constant([[0, 0, 1, 0], [0, 2, 0, 0]], tf.float32)
    return SimpleNamespace(variables=variables, outputs=outputs)


def write_summary(folder, summary):
    """Write a serialized summary to an event file; return TensorBoard's reader of it."""
    events = EventFile(str(folder))
    events.add_serialized(7, summary)
    events.close()
    return EventAccumulator(str(folder)).Reload()


def test_the_state_of_trained_layers_is_read_back_by_tensorboard(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        model = toy_model()
        gradients = {variable.op.name: subsample(2 * variable) for layer in ('fc7', 'fc8')
                     for variable in model.variables[layer]}
        summary = step_summaries(model, ('fc7', 'fc8'), gradients)
        session.run(tf.global_variables_initializer())
        events = write_summary(tmp_path, session.run(summary))
        weights = session.run(model.variables['fc8'][0])
    names = [f'weights/{layer}/{name}{kind}' for layer in ('fc7', 'fc8')
             for name in ('weights', 'biases') for kind in ('', '_gradient')]
    assert sorted(events.Tags()['histograms']) == sorted(names)
    histogram, gradient = (events.Histograms(f'weights/fc8/weights{kind}')[0].histogram_value
                           for kind in ('', '_gradient'))
    # Only a sample is written, of nearly the same mean as the whole matrix.
    assert 5_000 < histogram.num <= 20_000
    assert abs(histogram.sum / histogram.num - weights.mean()) < 0.01
    np.testing.assert_allclose([gradient.sum, gradient.num],
                               [2 * histogram.sum, histogram.num], rtol=1e-5)
    assert events.Tags()['scalars'] == ['weights/fc7/dead_relus']  # fc8 has no ReLU
    assert events.Scalars('weights/fc7/dead_relus')[0].value == 0.5


def test_a_unit_is_dead_if_it_is_0_everywhere_in_the_batch():
    output = np.zeros((2, 3, 3, 4), np.float32)
    output[1, 2, 0, 1] = 0.5
    with tf.Session() as session:
        assert session.run(dead_fraction(tf.constant(output))) == 0.75


def test_a_histogram_of_nan_does_not_stop_the_run(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        model = toy_model()
        gradients = {variable.op.name: tf.constant([np.nan, np.inf, 1])
                     for variable in model.variables['fc8']}
        summary = step_summaries(model, ('fc8',), gradients)
        session.run(tf.global_variables_initializer())
        events = write_summary(tmp_path, session.run(summary))
    assert events.Histograms('weights/fc8/biases_gradient')[0].histogram_value.sum == 1
