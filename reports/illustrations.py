"""Pictures of predictions: thumbnails and heatmaps for a page, files of heatmaps in a folder."""

import os
import re
from collections.abc import Callable, Sequence

import numpy as np

from inputs.arguments import Inputs
from reports.heatmaps import heatmap_sheet
from reports.image_grids import encode_jpeg
from reports.predictions_page import add_thumbnails
from runtime.files import new_file, printable

LONGEST_STEM = 100  # letters of an image's name in that of its heatmap file


class Illustrator:
    """Makes the pictures of predictions that are asked for, batch by batch.

    inputs: of predict.py.
    class_names: in the order of the numbers.
    explain: function ('conv5', values, class numbers) that returns heatmaps; None: none are made.
    folder: of the files of heatmaps.
    for_page: whether records get `thumbnail` and `heatmaps` for reports/predictions_page.py.
    """

    def __init__(self, inputs: Inputs, class_names: Sequence[str],
                 explain: Callable | None, folder: str | None, for_page: bool):
        self.inputs, self.class_names = inputs, class_names
        self.explain, self.folder, self.for_page = explain, folder, for_page

    def illustrate(self, records: Sequence[dict], batch, predicted: np.ndarray,
                   probabilities: np.ndarray):
        """Write heatmaps of a batch, and complete its records for the page, as far as asked for.

        batch: its positions in the inputs, images (uint8 BGR) and outputs of conv5.
        predicted: class numbers, int [n]. probabilities: float64 [n, classes].
        """
        if not (self.explain or self.for_page):
            return
        images = batch.images
        if self.for_page:
            add_thumbnails(records, images)
        if not self.explain:
            return
        explained = self.explained_classes(batch.positions, predicted)
        heatmaps = self.compute_heatmaps(batch.conv5, explained)
        for n, position in enumerate(batch.positions):
            texts = [f'{self.class_names[number]} {probabilities[n, number]:.2f}'
                     for number in explained[n]]
            pairs = list(zip(texts, heatmaps[n], strict=True))
            self.write_sheet(position, images[n], pairs)
            if self.for_page:
                records[n]['heatmaps'] = heatmaps[n]

    def explained_classes(self, positions, predicted):
        """Return per image [its predicted class], and its true class if that is another."""
        explained = [[number] for number in predicted]
        if self.inputs.labels is not None:
            for numbers, label in zip(explained, self.inputs.labels[positions], strict=True):
                if label not in numbers:
                    numbers.append(label)
        return explained

    def compute_heatmaps(self, conv5, explained):
        """Return per image a heatmap for each of its classes."""
        first = self.explain('conv5', conv5, [numbers[0] for numbers in explained])
        heatmaps = [[heatmap] for heatmap in first]
        rows = [n for n, numbers in enumerate(explained) if len(numbers) == 2]
        if rows:
            second = self.explain('conv5', conv5[rows], [explained[n][1] for n in rows])
            for n, heatmap in zip(rows, second, strict=True):
                heatmaps[n].append(heatmap)
        return heatmaps

    def write_sheet(self, position, image, pairs):
        """Write the picture of one image, which is named after its position and its file."""
        os.makedirs(self.folder, exist_ok=True)
        path = self.inputs.paths[position]
        with new_file(os.path.join(self.folder, sheet_name(position, path)), 'wb') as file:
            name = os.path.basename(path)
            file.write(encode_jpeg(heatmap_sheet(name, image, pairs)))


def sheet_name(position: int, path: str) -> str:
    """Return the name of an image's heatmap file: 00017-rose.jpg is of the 17th input."""
    stem = os.path.splitext(os.path.basename(path))[0]
    stem = re.sub(r'[^\w.-]+', '_', printable(stem, LONGEST_STEM))
    return f'{position + 1:05d}-{stem}.jpg'
