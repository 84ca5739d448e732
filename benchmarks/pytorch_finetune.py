"""Fine-tunes AlexNet as finetune.py does, in a plain PyTorch script of the usual kind, to compare.

    python -m benchmarks.pytorch_finetune TRAIN_LIST VAL_LIST WEIGHTS EPOCHS LAYER...

It has the same network, frozen and trained layers, spread of initial values, epochs, batch size and
optimizer. A DataLoader with one worker per core decodes and scales images with the same functions.
A checkpoint is saved at the end. Prints a line per epoch. Needs `torch`.
"""

import os
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from inputs.images import load_image
from inputs.lists import read_list
from weight_files.reader import read_weights


class Photos(Dataset):
    """The images of a list file, float32 [3, 227, 227], with their labels."""

    def __init__(self, list_file):
        self.list = read_list(list_file)

    def __len__(self):
        return len(self.list.paths)

    def __getitem__(self, index):
        image = load_image(self.list.paths[index]).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(image)), int(self.list.labels[index])


def alexnet(num_classes):
    """Return (network, {layer: module}), layers by Caffe's names."""
    conv = {'conv1': nn.Conv2d(3, 96, 11, 4),
            'conv2': nn.Conv2d(96, 256, 5, padding=2, groups=2),
            'conv3': nn.Conv2d(256, 384, 3, padding=1),
            'conv4': nn.Conv2d(384, 384, 3, padding=1, groups=2),
            'conv5': nn.Conv2d(384, 256, 3, padding=1, groups=2)}
    fc = {'fc6': nn.Linear(9216, 4096), 'fc7': nn.Linear(4096, 4096),
          'fc8': nn.Linear(4096, num_classes)}
    features = nn.Sequential(
        conv['conv1'], nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2),
        conv['conv2'], nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2),
        conv['conv3'], nn.ReLU(), conv['conv4'], nn.ReLU(),
        conv['conv5'], nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten())
    classifier = nn.Sequential(
        fc['fc6'], nn.ReLU(), nn.Dropout(), fc['fc7'], nn.ReLU(), nn.Dropout(), fc['fc8'])
    return nn.Sequential(features, classifier), {**conv, **fc}


def assign_values(layers, weights_path, trained):
    """Copy the file's values into the frozen layers, and draw the initial values of the others."""
    pretrained = read_weights(weights_path)
    for name, layer in layers.items():
        layer.requires_grad_(name in trained)
        with torch.no_grad():
            if name in trained:
                nn.init.trunc_normal_(layer.weight, std=0.005, a=-0.01, b=0.01)
                layer.bias.fill_(0 if name == 'fc8' else 0.1)
            else:
                weights, biases = pretrained[name]
                order = (3, 2, 0, 1) if weights.ndim == 4 else (1, 0)
                layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights.transpose(order))))
                layer.bias.copy_(torch.from_numpy(biases.copy()))


def train_epoch(model, loader, optimizer):
    """Train on all batches; return (mean loss, accuracy)."""
    model.train()
    results = []
    for images, labels in loader:
        logits = model(images)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        results.append(batch_sums(loss, logits, labels))
    return means(results)


def evaluate(model, loader):
    """Return (mean loss, accuracy) over all batches."""
    model.eval()
    results = []
    with torch.no_grad():
        for images, labels in loader:
            logits = model(images)
            loss = nn.functional.cross_entropy(logits, labels)
            results.append(batch_sums(loss, logits, labels))
    return means(results)


def batch_sums(loss, logits, labels):
    """Return (summed loss, correct images, images) of a batch."""
    correct = (logits.argmax(1) == labels).sum().item()
    return loss.item() * len(labels), correct, len(labels)


def means(results):
    """Return (mean loss, accuracy) from the sums of all batches."""
    loss_sum, correct, count = np.sum(results, 0)
    return loss_sum / count, correct / count


def main(train_file, val_file, weights_path, epochs, *trained):
    """Fine-tune the layers `trained` and print a line per epoch."""
    train, val = Photos(train_file), Photos(val_file)
    torch.manual_seed(0)
    model, layers = alexnet(1 + int(train.list.labels.max()))
    assign_values(layers, weights_path, trained)
    parameters = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.001, momentum=0.9)
    options = {'batch_size': 128, 'num_workers': os.cpu_count(), 'persistent_workers': True}
    train_loader = DataLoader(train, shuffle=True, **options)
    val_loader = DataLoader(val, **options)
    for epoch in range(1, int(epochs) + 1):
        loss, accuracy = train_epoch(model, train_loader, optimizer)
        val_loss, val_accuracy = evaluate(model, val_loader)
        print(f'epoch {epoch} train {loss:.4f} {accuracy:.4f} '
              f'val {val_loss:.4f} {val_accuracy:.4f}', flush=True)
    torch.save(model.state_dict(), os.devnull)


if __name__ == '__main__':
    main(*sys.argv[1:])
