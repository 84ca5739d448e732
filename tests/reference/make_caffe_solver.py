"""Trains a small network with Caffe's own solvers, for the tests of training/optimizer.py.

    pip install kendryte-caffe==1.0.0.20210829 'protobuf<3.21'        (Python 3.8)
    python -m tests.reference.make_caffe_solver

Writes caffe_solver.npz beside this script: the losses of 20 steps per optimizer and lr_mult.
"""

import os
import tempfile

import caffe
import numpy as np

NETWORK = """
input: "data" input_shape {{ dim: 12 dim: 10 }} input: "label" input_shape {{ dim: 12 }}
layer {{ name: "hidden" type: "InnerProduct" bottom: "data" top: "hidden"
  param {{ lr_mult: {lr_mult} decay_mult: 1 }} param {{ lr_mult: {lr_mult} decay_mult: 0 }}
  inner_product_param {{ num_output: 8 }} }}
layer {{ name: "relu" type: "ReLU" bottom: "hidden" top: "hidden" }}
layer {{ name: "out" type: "InnerProduct" bottom: "hidden" top: "out"
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 1 decay_mult: 0 }}
  inner_product_param {{ num_output: 3 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "out" bottom: "label" top: "loss" }}
"""
# stepsize 7: the test's run has 20 steps, and a third of them, rounded up, is 7.
SOLVER = """
net: "{net}" type: "{type}" base_lr: {rate} {momentum} weight_decay: 0.05
lr_policy: "step" gamma: 0.1 stepsize: 7 max_iter: 20 display: 0 solver_mode: CPU
"""
# optimizer: (type of solver, learning rate, its other settings)
CASES = {'momentum': ('SGD', 0.1, 'momentum: 0.9'),
         'sgd': ('SGD', 0.1, 'momentum: 0'),
         'adam': ('Adam', 0.01, 'momentum: 0.9 momentum2: 0.999 delta: 1e-8')}
TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'caffe_solver.npz')


def draw_values():
    """Return {name: float32 array} of data, labels and initial values."""
    random = np.random.RandomState(3)
    values = {'data': random.randn(12, 10), 'label': random.randint(0, 3, 12),
              'hidden_weights': random.randn(10, 8) * 0.4, 'hidden_biases': random.randn(8) * 0.1,
              'out_weights': random.randn(8, 3) * 0.4, 'out_biases': random.randn(3) * 0.1}
    return {name: np.float32(value) for name, value in values.items()}


def write_files(folder, lr_mult, kind, rate, momentum):
    """Write the files of network and solver into a folder; return the solver's path."""
    net, solver = os.path.join(folder, 'net.prototxt'), os.path.join(folder, 'solver.prototxt')
    with open(net, 'w') as file:
        file.write(NETWORK.format(lr_mult=lr_mult))
    with open(solver, 'w') as file:
        file.write(SOLVER.format(net=net, type=kind, rate=rate, momentum=momentum))
    return solver


def main():
    """Run every case with equal learning rates, and with a tenth for the hidden layer."""
    values = draw_values()
    with tempfile.TemporaryDirectory() as folder:
        for optimizer, (kind, rate, momentum) in CASES.items():
            for lr_mult in (1, 0.1):
                solver = write_files(folder, lr_mult, kind, rate, momentum)
                values[f'{optimizer}_{lr_mult}'] = run(solver, values)
    np.savez(TARGET, **values)


def run(solver_path, values):
    """Return the losses before each of 20 steps, and after the last."""
    solver = caffe.get_solver(solver_path)
    for layer in ('hidden', 'out'):
        solver.net.params[layer][0].data[...] = values[f'{layer}_weights'].T
        solver.net.params[layer][1].data[...] = values[f'{layer}_biases']
    solver.net.blobs['data'].data[...] = values['data']
    solver.net.blobs['label'].data[...] = values['label']
    losses = []
    for _ in range(20):
        solver.step(1)
        losses.append(float(solver.net.blobs['loss'].data))
    solver.net.forward()
    return np.array(losses + [float(solver.net.blobs['loss'].data)])


if __name__ == '__main__':
    main()
