"""Fine-tunes fc6 to fc8 in a careful PyTorch script, which also computes the frozen layers once.

    python -m benchmarks.pytorch_features TRAIN_LIST VAL_LIST WEIGHTS EPOCHS CACHE

Adam in its fused form, learning rate 1e-4, batches of 64, no mirror images. Outputs of the frozen
layers are kept in the file CACHE, and read from there by a later run. Prints a line per epoch.
Needs `torch`.
"""

import os
import sys
from collections import namedtuple

import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.pytorch_finetune import Photos, alexnet, assign_values, batch_sums, means

FC_LAYERS = ('fc6', 'fc7', 'fc8')
Features = namedtuple('Features', 'values labels')  # float32 [n, 9216], int64 [n]


def compute_features(convolutions, photos):
    """Return the Features of the images of a list."""
    loader = DataLoader(photos, batch_size=128, num_workers=os.cpu_count())
    values, labels = [], []
    with torch.inference_mode():
        for images, batch_labels in loader:
            values.append(convolutions(images))
            labels.append(batch_labels)
    return Features(torch.cat(values), torch.cat(labels))


def load_features(convolutions, lists, cache):
    """Return the Features of each list, computed or read from the file `cache`."""
    if os.path.exists(cache):
        return [Features(*pair) for pair in torch.load(cache)]
    features = [compute_features(convolutions, photos) for photos in lists]
    torch.save([tuple(part) for part in features], cache)
    return features


def train_epoch(classifier, features, optimizer, batch_size=64):
    """Train on all batches; return (mean loss, accuracy)."""
    classifier.train()
    results = []
    for rows in torch.randperm(len(features.labels)).split(batch_size):
        labels = features.labels[rows]
        logits = classifier(features.values[rows])
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        results.append(batch_sums(loss.detach(), logits, labels))
    return means(results)


def evaluate(classifier, features):
    """Return (mean loss, accuracy) over all images."""
    classifier.eval()
    with torch.inference_mode():
        logits = classifier(features.values)
        loss = nn.functional.cross_entropy(logits, features.labels)
    return means([batch_sums(loss, logits, features.labels)])


def main(train_file, val_file, weights_path, epochs, cache):
    """Fine-tune fc6 to fc8 and print a line per epoch."""
    lists = Photos(train_file), Photos(val_file)
    torch.manual_seed(0)
    model, layers = alexnet(1 + int(lists[0].list.labels.max()))
    assign_values(layers, weights_path, FC_LAYERS)
    convolutions, classifier = model
    train, val = load_features(convolutions, lists, cache)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-4, fused=True)
    for epoch in range(1, int(epochs) + 1):
        loss, accuracy = train_epoch(classifier, train, optimizer)
        val_loss, val_accuracy = evaluate(classifier, val)
        print(f'epoch {epoch} train {loss:.4f} {accuracy:.4f} '
              f'val {val_loss:.4f} {val_accuracy:.4f}', flush=True)
    torch.save(model.state_dict(), os.devnull)


if __name__ == '__main__':
    main(*sys.argv[1:])
