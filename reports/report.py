"""The report of a run: the files of its folder that show it as a whole."""

import contextlib
import os
from collections.abc import Sequence

from reports.evaluation import write_matrix, write_predictions
from reports.figures import Mistake
from reports.page import RunRecord, make_page
from runtime.files import new_file

FIGURE_FILES = 'curves.png', 'confusion_matrix.png', 'mistakes.jpg'


def write_report(record: RunRecord, images: dict[str, bytes], figures: dict[str, bytes],
                 mistakes: Sequence[Mistake]):
    """Write val_predictions.csv, confusion_matrix.csv, the figures and report.html.

    images: {name: content} of JPEG files for the page alone, such as first_batch.
    figures: {file name: content}, as draw_figures returns it.
    mistakes: most confident first.
    """
    folder, names = record.run_dir, record.datasets.class_names
    with open_text(folder, 'val_predictions.csv') as file:
        write_predictions(file, record.datasets.val.paths, record.predictions, names)
    if record.matrix is not None:
        with open_text(folder, 'confusion_matrix.csv') as file:
            write_matrix(file, record.matrix, names)
    write_figures(folder, figures)
    shown = images | {os.path.splitext(name)[0]: content for name, content in figures.items()}
    with open_text(folder, 'report.html') as file:
        file.write(make_page(record, shown, mistakes))


def write_figures(folder: str, figures: dict[str, bytes]):
    """Write {file name: content}; delete other figures of an earlier report in the folder."""
    for name in FIGURE_FILES:
        path = os.path.join(folder, name)
        if name in figures:
            with new_file(path, 'wb', replace=True) as file:
                file.write(figures[name])
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)


def open_text(folder, name):
    """Open a text file of the run folder for writing; it has its name only once it is whole."""
    return new_file(os.path.join(folder, name), replace=True, newline='', encoding='utf-8',
                    errors='surrogateescape')
