"""A page of predictions: one file with thumbnails, which its script sorts and filters.

predictions.html.j2 is its template, predictions.js its script.
"""

import base64
import hashlib
import os
from collections.abc import Iterable
from typing import TextIO

import cv2
import numpy as np
from markupsafe import Markup

from reports.page import load_template
from runtime.files import printable

THUMBNAIL_SIZE = 128     # pixels per side
THUMBNAIL_QUALITY = 60   # of WebP, at which a photo takes about 3 KB
LONGEST_PATH = 4096


def write_page(file: TextIO, records: Iterable[dict], title: str):
    """Write the page, photo by photo: memory does not grow with their number.

    records: dicts with path, predictions, true_class if it is known, and also
        thumbnail and heatmaps.
    """
    script, digest = read_script()
    file.writelines(load_template('predictions.html.j2').generate(
        title=title, script=script, script_hash=digest, photos=map(photo_of, records)))


def read_script() -> tuple[Markup, str]:
    """Return (the script of the page, its hash as a Content-Security-Policy names it)."""
    path = os.path.join(os.path.dirname(__file__), 'predictions.js')
    with open(path, encoding='utf-8', newline='\n') as file:
        text = file.read()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f'sha256-{digest}'


def photo_of(record: dict) -> dict:
    """Return a record as the script reads it; all of its text is fit for the screen.

    {path, image, heat, top, truth}; image: base64 of a WebP file. heat: base64 of heatmaps for
    the first and for the true class, one byte per cell. top: [[class, probability]]. truth: the
    true class, or None.
    """
    truth = record.get('true_class')
    return {'path': printable(record['path'], LONGEST_PATH),
            'image': to_base64(record['thumbnail']),
            'heat': [to_base64(np.uint8(np.rint(255 * heatmap)).tobytes())
                     for heatmap in record.get('heatmaps', ())],
            'top': [[printable(prediction['class']), round(prediction['probability'], 4)]
                    for prediction in record['predictions']],
            'truth': truth and printable(truth)}


def to_base64(content):
    """Return bytes as base64 text."""
    return base64.b64encode(content).decode()


def add_thumbnails(records: Iterable[dict], images: np.ndarray):
    """Add to each record the thumbnail of its image, uint8 [height, width, 3], as a WebP file."""
    for record, image in zip(records, images, strict=True):
        small = cv2.resize(image, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), interpolation=cv2.INTER_AREA)
        options = [cv2.IMWRITE_WEBP_QUALITY, THUMBNAIL_QUALITY]
        record['thumbnail'] = cv2.imencode('.webp', small, options)[1].tobytes()
