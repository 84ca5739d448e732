"""report.html: a run on one page, self-contained; report.html.j2 is its template."""

import base64
import os
from collections.abc import Sequence
from typing import NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from inputs.lists import Datasets
from reports.evaluation import Predictions, class_recall, majority_accuracy, most_confused_with
from reports.figures import Mistake
from reports.image_grids import encode_jpeg
from reports.screen import class_counts
from runtime.files import printable
from runtime.flags import flag_text

LONGEST_LINE = 2000  # letters of a line of text on the page


class RunRecord(NamedTuple):
    """A run and its results, as the report shows them."""

    run_dir: str
    command: str
    settings: dict            # the effective settings
    layers: Sequence[str]     # lines of the layer table
    datasets: Datasets
    rows: Sequence[dict]      # of metrics.csv
    best: dict | None         # of these, the row of the best epoch
    predictions: Predictions | None  # of the best epoch for the validation list
    warnings: dict[str, str]  # {problem: advice}

    @property
    def matrix(self) -> np.ndarray | None:
        """The confusion matrix of the best epoch; None with too many classes."""
        return self.predictions.confusion_matrix(len(self.datasets.class_names))

    @property
    def guessing(self) -> float:
        """The validation accuracy of always predicting the largest training class, 0..1."""
        return majority_accuracy(*class_counts(self.datasets))[1]


def make_page(record: RunRecord, images: dict[str, bytes], mistakes: Sequence[Mistake]) -> str:
    """Return the text of report.html.

    images: {name: content of a PNG or JPEG file}; the page shows curves, confusion_matrix,
        first_batch and conv1_filters, as far as there are any.
    mistakes: most confident first.
    """
    return load_template('report.html.j2').render(
        record=record, classes=class_rows(record),
        images={name: data_url(content) for name, content in images.items()},
        mistakes=[([data_url(encode_jpeg(image)) for image in (mistake.image, *mistake.overlays)],
                   mistake) for mistake in mistakes],
        settings=[(name, flag_text(value)) for name, value in record.settings.items()])


def load_template(name: str) -> jinja2.Template:
    """Return a template of this folder; it escapes all text that it is given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(__file__)), autoescape=True,
        finalize=clean, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(name)


def clean(value):
    """Return a value for the template to escape: text without control characters."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return '\n'.join(printable(line, LONGEST_LINE) for line in value.split('\n'))


def data_url(content: bytes) -> Markup:
    """Return a PNG or JPEG file, given by its content, as a URL that holds it."""
    kind = 'png' if content.startswith(b'\x89PNG') else 'jpeg'
    return Markup(f'data:image/{kind};base64,{base64.b64encode(content).decode()}')


def class_rows(record: RunRecord) -> list[dict]:
    """Return {name, train, val, recall, confusion} per class.

    train, val: numbers of images. recall: 0..1, None for a class without validation images.
    confusion: the class that its images are most often taken for and how often, or ''.
    """
    names, (train, val) = record.datasets.class_names, class_counts(record.datasets)
    rows = [{'name': name, 'train': train[number], 'val': val[number],
             'recall': None, 'confusion': ''} for number, name in enumerate(names)]
    matrix = record.matrix
    if matrix is None:
        return rows
    for number, recall in enumerate(class_recall(matrix)):
        if not np.isnan(recall):
            other, times = most_confused_with(matrix, number)
            rows[number]['recall'] = recall
            rows[number]['confusion'] = f'{names[other]} ({times})' if times else ''
    return rows
