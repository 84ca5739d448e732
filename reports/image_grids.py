"""Images made of arrays: sheets of photos, filters, confusion matrix; uint8 [h, w, 3], BGR."""

import math
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np

from reports.evaluation import row_fractions

GAP = 2               # pixels between the tiles of a sheet
LINE_HEIGHT = 18      # pixels of a line of text below a tile
LETTER_WIDTH = 8      # pixels of a letter, on average
CONFUSION_SIZE = 400  # pixels per side, at least, of the image of a small confusion matrix
# Colours of 0, 1/2 and 1 in a confusion matrix: white, blue, dark blue.
BLUES = (255, 255, 255), (198, 146, 66), (107, 48, 8)


def sheet(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Return images of one size side by side on white, in reading order."""
    height, width = np.array(tiles[0].shape[:2]) + GAP
    rows, columns = math.ceil(len(tiles) / columns), min(columns, len(tiles))
    result = np.full((rows * height - GAP, columns * width - GAP, 3), 255, np.uint8)
    for n, tile in enumerate(tiles):
        top, left = n // columns * height, n % columns * width
        result[top:top + height - GAP, left:left + width - GAP] = tile
    return result


def caption(image: np.ndarray, *lines: str) -> np.ndarray:
    """Return the image above lines of text; text that is too long is cut off."""
    bar = np.full((LINE_HEIGHT * len(lines), image.shape[1], 3), 255, np.uint8)
    for n, line in enumerate(lines):
        text, bottom = drawable(line)[:image.shape[1] // LETTER_WIDTH], LINE_HEIGHT * (n + 1) - 5
        cv2.putText(bar, text, (2, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1,
                    cv2.LINE_AA)
    return np.vstack([image, bar])


def drawable(text: str, opencv_version: str = cv2.__version__) -> str:
    """Return text in letters that OpenCV can draw.

    OpenCV 5 has a font for most languages, but crashes if text is not Unicode. OpenCV 4 draws
    ASCII alone: accents are dropped and other letters become '?'.
    """
    if int(opencv_version.split('.')[0]) >= 5:
        return text.encode('utf-8', 'replace').decode()
    letters = unicodedata.normalize('NFKD', text)
    letters = ''.join(letter for letter in letters if not unicodedata.combining(letter))
    return letters.encode('ascii', 'replace').decode()


def filters(weights: np.ndarray, scale: int = 5) -> np.ndarray:
    """Return a sheet of the filters of a convolution of BGR images, each `scale` times as large.

    weights: float32 [height, width, 3, n]. Each filter is stretched so that 0 is grey, and its
    value farthest from 0 is black or white.
    """
    largest = np.maximum(np.abs(weights).max((0, 1, 2)), np.finfo(np.float32).tiny)
    values = np.uint8(np.rint(127.5 + 127.5 * weights / largest))
    return sheet([magnify(values[..., n], scale) for n in range(values.shape[3])], columns=12)


def confusion_colours(matrix: np.ndarray) -> np.ndarray:
    """Return the colour of each cell of a confusion matrix, uint8 [classes, classes, 3], BGR.

    From white to dark blue by the square root of the fraction of the true class: a few mistakes
    among many images are seen too.
    """
    strength = np.sqrt(row_fractions(matrix))
    channels = [np.interp(strength, (0, 0.5, 1), values) for values in zip(*BLUES, strict=True)]
    return np.uint8(np.rint(np.stack(channels, -1)))


def confusion_image(matrix: np.ndarray) -> np.ndarray:
    """Return a confusion matrix as an image: a row per true class, a column per predicted one."""
    return magnify(confusion_colours(matrix), max(1, CONFUSION_SIZE // len(matrix)))


def magnify(image: np.ndarray, scale: int) -> np.ndarray:
    """Return the image with each pixel repeated `scale` times in both directions."""
    return image.repeat(scale, 0).repeat(scale, 1)


def encode_jpeg(image: np.ndarray) -> bytes:
    """Return a JPEG file of the image: small, for photos."""
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def encode_png(image: np.ndarray) -> bytes:
    """Return a PNG file of the image: exact."""
    return cv2.imencode('.png', image)[1].tobytes()


def decode(content: bytes) -> np.ndarray:
    """Return the image in the content of a JPEG or PNG file."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
