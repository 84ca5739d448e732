"""How far rounding carries training: fc6 by its weights, in its dual form, and by other kernels, against float64.

`python benchmarks/rounding.py TRAIN_LIST VAL_LIST CONV_WEIGHTS` fine-tunes fc6 to fc8 with momentum and with sgd, 10
epochs, batches of 128, no mirroring: once a row, and once by NumPy in double precision, from the same first values,
order and dropout. It prints the largest differences of the losses of all epochs, and writes them to
benchmarks/rounding.md.
"""

import csv
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from alexnet import open_session, set_values, tf  # noqa: E402
from bottlenecks import prepare_batches  # noqa: E402
from distribution import Distribution  # noqa: E402
from finetune import Settings  # noqa: E402
from lists import read_data  # noqa: E402
from optimization import Plan, build_network, initialize  # noqa: E402

FC_LAYERS = ('fc6', 'fc7', 'fc8')
ROWS = {  # name: (flags, environment)
    'weights': (['--dual_fc6', 'off'], {}), 'dual form': (['--dual_fc6', 'on'], {}),
    'weights, nothing stored': (['--cache_features', 'off'], {}),
    "weights, TensorFlow's own products": (['--dual_fc6', 'off'], {'TF_ENABLE_ONEDNN_OPTS': '0'}),
    "weights, oneDNN's products for AVX2": (['--dual_fc6', 'off'], {'ONEDNN_MAX_CPU_ISA': 'AVX2'})}


def losses(settings, run_dir, flags, environment):
    """Run finetune.py; return its losses, float [epochs, 2], of training and validation."""
    words = ['--train_file', settings.train_file, '--val_file', settings.val_file, '--weights_path',
             settings.weights_path, '--cache_dir', settings.cache_dir, '--train_layers', *FC_LAYERS, '--batch_size', '128',
             '--learning_rate', '0.001', '--no-horizontal_flip', '--optimizer', settings.optimizer, '--run_dir', run_dir,
             *flags]
    subprocess.run([sys.executable, os.path.join(ROOT, 'finetune.py'), *words], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, **environment})
    with open(os.path.join(run_dir, 'metrics.csv'), newline='') as file:
        return np.array([[float(row['train_loss']), float(row['val_loss'])] for row in csv.DictReader(file)])


def exact_losses(settings):
    """Return what `losses` does, computed by NumPy in float64; TensorFlow gives first values, features and masks."""
    data = read_data(settings.train_file, settings.val_file)[0]
    with tf.Graph().as_default(), Distribution(settings) as distribution, open_session() as session:
        tf.set_random_seed(settings.seed)
        plan = Plan(settings, data, settings.weights_path, FC_LAYERS, FC_LAYERS)
        model = build_network(plan).model
        masks = [model.dropout(layer, tf.ones_like(model.outputs[layer])) for layer in ('fc6', 'fc7')]
        initialize(session, model)
        _, ((_, train), (_, val)) = prepare_batches(plan, session, model, distribution)
        layers = [[np.float64(value) for value in pair]
                  for pair in session.run([model.variables[layer] for layer in FC_LAYERS])]
        velocities = [[np.zeros_like(value) for value in pair] for pair in layers]
        step, rows = tf.train.get_global_step(), []
        for epoch in range(settings.num_epochs):
            train.start_epoch(epoch)
            loss_sum = 0
            for features, labels in train.batches(settings.batch_size):
                zeros = np.zeros((len(labels), 4096), np.float32)
                kept = session.run(masks, {model.outputs['fc6']: zeros, model.outputs['fc7']: zeros,
                                           model.keep_prob: 1 - settings.dropout_rate})
                loss_sum += learn(layers, velocities, features, labels, kept, settings)
                set_values(session, [step], [session.run(step) + 1])
            val.start_epoch(0)
            val_sum = sum(forward(layers, features, labels, (1, 1))[0] for features, labels in val.batches(256))
            rows.append([loss_sum / train.data_size, val_sum / val.data_size])
    return np.array(rows)


def forward(layers, features, labels, masks):
    """Return (cross-entropy summed over the images, inputs of the layers, gradient of the logits)."""
    inputs = [np.float64(features.reshape(len(labels), -1))]
    for (weights, biases), mask in zip(layers, masks):
        inputs.append(np.maximum(inputs[-1] @ weights + biases, 0) * mask)
    logits = inputs[-1] @ layers[-1][0] + layers[-1][1]
    logits -= logits.max(1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -(labels * logs).sum(), inputs, np.exp(logs) - labels


def learn(layers, velocities, features, labels, masks, settings):
    """Change the layers, and their velocities, by a step; return the loss before it, summed over the images."""
    loss_sum, inputs, upstream = forward(layers, features, labels, masks)
    upstream /= len(labels)
    share = settings.momentum if settings.optimizer == 'momentum' else 0
    for number in (2, 1, 0):
        gradients = inputs[number].T @ upstream, upstream.sum(0)
        if number:
            upstream = upstream @ layers[number][0].T * masks[number - 1] * (inputs[number] > 0)
        for value, velocity, gradient in zip(layers[number], velocities[number], gradients):
            velocity *= share
            velocity += settings.learning_rate * gradient
            value -= velocity
    return loss_sum


def main(train_list, val_list, weights):
    lines = ['Largest difference of the losses over 10 epochs; fc6 fc7 fc8, batches of 128, flowers17.', '',
             '| optimizer | fc6 by | from float64: training | validation | from weights: training | validation |',
             '|---|---|---|---|---|---|']
    for optimizer in ('momentum', 'sgd'):
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(
                train_file=train_list, val_file=val_list, weights_path=weights, optimizer=optimizer, batch_size=128,
                learning_rate=0.001, horizontal_flip=False, train_layers=FC_LAYERS,
                cache_dir=os.path.join(folder, 'cache'))
            found = {name: losses(settings, os.path.join(folder, name), *row) for name, row in ROWS.items()}
            exact = exact_losses(settings)
        for name, values in found.items():
            cells = [f'{value:.0e}' for other in (exact, found['weights']) for value in np.abs(values - other).max(0)]
            lines.append(f'| {optimizer} | {name} | {" | ".join(cells)} |')
    print('\n'.join(lines))
    with open(os.path.join(ROOT, 'benchmarks', 'rounding.md'), 'w') as file:
        file.write('\n'.join(lines) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
