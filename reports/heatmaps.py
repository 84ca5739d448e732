"""Heatmaps: what in a photo spoke for a class, by Grad-CAM.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization" (2017).
"""

import os
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from alexnet import AlexNet
from reports.image_grids import caption, sheet
from runtime.files import printable
from runtime.tf1 import tf

STRONGEST = 0.75  # opacity of the colour where the heat is 1


class Heatmaps:
    """The operations that compute heatmaps of a network; make it before the graph is finalized.

    model: the AlexNet.
    """

    def __init__(self, model: AlexNet):
        self.model = model
        self.classes = tf.placeholder(tf.int32, [None], 'heatmap_classes')
        self.maps = grad_cam(model.fc8, model.outputs['conv5'], self.classes)

    def compute(self, session: tf.Session, input_name: str, values: np.ndarray,
                classes: Sequence[int]) -> np.ndarray:
        """Return a heatmap per image, float32 [n, 13, 13], 0..1; zeros if nothing spoke for it.

        input_name: 'images' for pixels, 'x' for images minus the mean; 'conv5' for its outputs,
            which saves most of the time.
        values: of this input, [n, ...], uint8 for 'images', else float32.
        classes: class numbers, int [n].
        """
        return session.run(self.maps, {self.model.tensor(input_name): values,
                                       self.classes: classes})

    def compute_for_classes(self, session: tf.Session, images: np.ndarray,
                            classes: Sequence[Sequence[int]]) -> np.ndarray:
        """Return k heatmaps per image, float32 [n, k, 13, 13]; see compute.

        images: uint8 [n, 227, 227, 3], BGR, each of which goes through the convolutions once.
        classes: class numbers, int [n, k].
        """
        conv5 = session.run(self.model.outputs['conv5'], {self.model.tensor('images'): images})
        n, k = np.shape(classes)
        maps = self.compute(session, 'conv5', np.repeat(conv5, k, 0), np.ravel(classes))
        return maps.reshape(n, k, *maps.shape[1:])


def grad_cam(logits: tf.Tensor, features: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Add the operations of Grad-CAM; return float32 [n, height, width], 0..1.

    logits: float32 [n, num_classes]. features: float32 [n, height, width, channels], from which
    they are computed. classes: int32 [n].

    A channel's weight is the mean gradient of the class's logit by it. Of the weighted sum of the
    channels, the positive part is divided by its maximum.
    """
    one_hot = tf.one_hot(classes, int(logits.shape[1]))
    [gradients] = tf.gradients(tf.reduce_sum(logits * one_hot), features)
    weights = tf.reduce_mean(gradients, [1, 2], keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(weights * features, 3))
    return tf.math.divide_no_nan(maps, tf.reduce_max(maps, [1, 2], keepdims=True))


def make_report_functions(session: tf.Session, heatmaps: Heatmaps,
                          load_best: Callable[[tf.Session], None]) -> tuple[Callable, Callable]:
    """Return the functions that RunLog.begin takes, (fetch_conv1, explain).

    load_best: function that assigns the values of the best epoch. They stay: call explain when the
        run has ended.
    """
    def explain(images, classes):
        load_best(session)
        return heatmaps.compute_for_classes(session, images, classes)
    return lambda: session.run(heatmaps.model.variables['conv1'][0]), explain


def scale_up(heatmap: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a heatmap scaled bilinearly to the size of its image, float32 [height, width]."""
    return cv2.resize(heatmap, (width, height), interpolation=cv2.INTER_LINEAR)


def overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Return the image in grey under the heatmap in colour, from red to yellow, uint8 BGR.

    image: uint8 [height, width, 3], BGR. heatmap: float32 [13, 13], 0..1.
    reports/predictions.js draws the same colours.
    """
    heat = scale_up(heatmap, *image.shape[:2])[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
    colour = np.concatenate([np.zeros_like(heat), 230 * heat, np.full_like(heat, 255)], 2)
    opacity = STRONGEST * heat
    return np.uint8(np.rint(grey * (1 - opacity) + colour * opacity))


def heatmap_sheet(name: str, image: np.ndarray, heatmaps: Sequence[tuple]) -> np.ndarray:
    """Return the image, and beside it each heatmap over it, with captions, uint8 BGR.

    name: of the image. heatmaps: pairs (what it spoke for, heatmap).
    """
    tiles = [caption(image, printable(name))]
    tiles += [caption(overlay(image, heatmap), text) for text, heatmap in heatmaps]
    return sheet(tiles, len(tiles))


def check_heatmap_folder(path: str):
    """Raise ValueError for a folder that holds something already, and for a file."""
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise ValueError(f'heatmaps {path} exists already: name a new folder, or delete it')
