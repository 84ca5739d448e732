"""Predictions per image as a line on the screen, CSV, JSON, or a page with thumbnails."""

import csv
import json

from reports.predictions_page import write_page
from runtime.files import new_file, printable


def record_line(record: dict) -> str:
    """Return a record as a line: the path and, after tabs, each class with its probability."""
    texts = [f'{prediction["class"]} {prediction["probability"]:.4f}'
             for prediction in record['predictions']]
    return '\t'.join([printable(record['path'], 4096), *texts])


def write_records(path: str, records, top: int, evaluation, run: str):
    """Write records, an iterable of dicts, to a new .csv, .json or .html file.

    top: number of predictions per record.
    evaluation: the Evaluation that collects them, or None without labels.
    run: path of the run, for the page's title.
    """
    with new_file(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
        if path.endswith('.csv'):
            write_csv(file, records, top, evaluation is not None)
        elif path.endswith('.json'):
            write_json(file, records, evaluation)
        else:
            write_page(file, records, run)


def write_csv(file, records, top, has_true_class):
    """Write a row per record: path, true_class if known, class_1, probability_1, class_2, ..."""
    writer = csv.writer(file)
    numbered = [f'{name}_{n}' for n in range(1, top + 1) for name in ('class', 'probability')]
    writer.writerow(['path', 'true_class', *numbered] if has_true_class else ['path', *numbered])
    for record in records:
        predictions = record.pop('predictions')
        cells = [value for prediction in predictions for value in prediction.values()]
        writer.writerow([*record.values(), *cells])


def write_json(file, records, evaluation):
    """Write {"images": [records, one per line], "evaluation": Evaluation.evaluate() or null}."""
    file.write('{"images": [')
    for number, record in enumerate(records):
        file.write((',\n' if number else '\n') + json.dumps(record))
    has_images = evaluation is not None and evaluation.batches
    result = evaluation.evaluate() if has_images else None
    file.write(f'\n],\n"evaluation": {json.dumps(result)}}}\n')
