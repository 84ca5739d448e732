"""Pictures made of arrays: images as the network sees them, filters, a matrix; uint8 [height, width, 3], BGR."""

import cv2
import numpy as np

GAP = 2              # pixels between the tiles of a sheet
HEAT_SIZE = 400      # pixels a side, at least, of the picture of a small matrix


def visible(image, mean):
    """Return what the network sees, float32 BGR minus `mean`, as a picture again."""
    return np.clip(np.rint(image + mean), 0, 255).astype(np.uint8)


def sheet(tiles, columns):
    """Return pictures of one size side by side, `columns` in a row, on white."""
    height, width = np.array(tiles[0].shape[:2]) + GAP
    rows = -(-len(tiles) // columns)
    result = np.full((rows * height - GAP, min(columns, len(tiles)) * width - GAP, 3), 255, np.uint8)
    for n, tile in enumerate(tiles):
        top, left = n // columns * height, n % columns * width
        result[top:top + height - GAP, left:left + width - GAP] = tile
    return result


def labelled(image, text):
    """Return the picture over a line of text; letters beyond ASCII become '?': OpenCV draws no other."""
    bar = np.full((18, image.shape[1], 3), 255, np.uint8)
    shown = text.encode('ascii', 'replace').decode()[:image.shape[1] // 8]
    cv2.putText(bar, shown, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([image, bar])


def filters(weights, scale=5):
    """Return a sheet of the filters of a convolution that sees colours, float32 [height, width, 3, n].

    Each is stretched so that 0 is grey and its value farthest from 0 is black or white.
    """
    largest = np.maximum(np.abs(weights).max((0, 1, 2)), np.finfo(np.float32).tiny)
    values = np.uint8(np.rint(127.5 + 127.5 * weights / largest))
    return sheet([values[..., n].repeat(scale, 0).repeat(scale, 1) for n in range(values.shape[3])], columns=12)


def heat(matrix):
    """Return a confusion matrix as a picture: a row a true class, brighter for a larger share of its images."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    scale = max(1, HEAT_SIZE // len(matrix))
    colours = cv2.applyColorMap(np.uint8(np.rint(255 * shares)), cv2.COLORMAP_VIRIDIS)
    return colours.repeat(scale, 0).repeat(scale, 1)


def encode_jpeg(picture):
    """Return the bytes of a JPEG file of the picture: small, for photos."""
    return cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def encode_png(picture):
    """Return the bytes of a PNG file of the picture: exact."""
    return cv2.imencode('.png', picture)[1].tobytes()


def decode(content):
    """Return the picture that a file's bytes hold."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
