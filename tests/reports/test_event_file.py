import json
import os
from types import SimpleNamespace

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from alexnet import LAYERS
from reports.event_file import EventFile
from runtime.tf1 import tf
from training.histograms import dead_fraction, step_summaries, subsample


def toy_model():
    variables, outputs = {}, {}
    for layer in LAYERS:
        with tf.variable_scope(layer):
            variables[layer] = (tf.get_variable('weights', [50, 4096]), tf.get_variable('biases', [4096]))
        outputs[layer] = tf.constant([[0, 0, 1, 0], [0, 2, 0, 0]], tf.float32)
    return SimpleNamespace(variables=variables, outputs=outputs)


def written(folder, summary):
    """Return TensorBoard's reader of an event file that holds a serialized summary."""
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
        events = written(tmp_path, session.run(summary))
        weights = session.run(model.variables['fc8'][0])
    names = [f'weights/{layer}/{name}{kind}' for layer in ('fc7', 'fc8') for name in ('weights', 'biases')
             for kind in ('', '_gradient')]
    assert sorted(events.Tags()['histograms']) == sorted(names)
    histogram, gradient = (events.Histograms(f'weights/fc8/weights{kind}')[0].histogram_value
                           for kind in ('', '_gradient'))
    # The mean is that of the whole matrix, though only a sample of it is written.
    assert 5_000 < histogram.num <= 20_000 and abs(histogram.sum / histogram.num - weights.mean()) < 0.01
    np.testing.assert_allclose([gradient.sum, gradient.num], [2 * histogram.sum, histogram.num], rtol=1e-5)
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
        gradients = {variable.op.name: tf.constant([np.nan, np.inf, 1]) for variable in model.variables['fc8']}
        summary = step_summaries(model, ('fc8',), gradients)
        session.run(tf.global_variables_initializer())
        events = written(tmp_path, session.run(summary))
    assert events.Histograms('weights/fc8/biases_gradient')[0].histogram_value.sum == 1


def test_settings_are_text_and_hyperparameters_and_curves_are_overlaid(tmp_path):
    settings = {'learning_rate': 0.5, 'horizontal_flip': True, 'num_epochs': 10, 'patience': None, 'run_dir': 'runs/1',
                'train_layers': ('fc7', 'fc8'), 'train_file': 'l\udcffst.txt'}
    with tf.Graph().as_default():
        events = EventFile(str(tmp_path))
    events.add_settings(settings)
    events.close()
    reader = EventAccumulator(str(tmp_path)).Reload()
    [shown] = reader.Tensors('settings/text_summary')[0].tensor_proto.string_val
    assert json.loads(shown) == json.loads(json.dumps(settings))

    def hparams(name):
        content = reader.SummaryMetadata(f'_hparams_/{name}').plugin_data.content
        return HParamsPluginData.FromString(content)
    values = hparams('session_start_info').session_start_info.hparams
    assert values['learning_rate'].number_value == 0.5 and values['horizontal_flip'].bool_value
    assert values['train_layers'].string_value == 'fc7 fc8' and values['patience'].string_value == 'None'
    assert 'run_dir' not in values  # every run would differ from every other
    assert 'val/accuracy' in [metric.name.tag for metric in hparams('experiment').experiment.metric_infos]
    assert 'custom_scalars__config__' in reader.Tags()['tensors']


def test_runs_of_one_process_within_a_second_have_a_file_each(tmp_path):
    for step in (0, 8, 16):
        EventFile(str(tmp_path), step).close()
    assert len(os.listdir(tmp_path)) == 3
