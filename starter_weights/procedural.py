"""Draws the pictures that the starter weights are pretrained on: shapes on grounds, plain or textured, no two alike.

Each picture comes with what was drawn, for the network to tell: the classes of shape, ground and surface, and numbers
such as colours.
"""

from typing import NamedTuple

import cv2
import numpy as np

from starter_weights.outlines import TURN, make_shapes
from starter_weights.textures import TILE, make_textures

NONE = -1        # class of a plain ground or surface, and of a picture without a shape
NUM_NUMBERS = 8  # that go with a picture


class Bank(NamedTuple):
    """What all pictures are made of; the class of a shape or texture is its number here."""

    shapes: list    # of lists of outlines, float64 [n, 2]
    textures: list  # uint8 [TILE, TILE]


def make_bank(num_textures=256):
    """Return the Bank; with fewer textures, they are the first of these."""
    return Bank(make_shapes(), make_textures(num_textures))


def colour(random):
    """Return a colour, float [3], BGR, 0..255: mostly dull, as in photos."""
    return (random.uniform(20, 235) + random.normal(0, 1, 3) * random.choice([10, 40, 80])).clip(0, 255)


def colour_unlike(random, other):
    """Return a colour that differs from the other by 50 or more in a channel."""
    new = colour(random)
    while np.abs(new - other).max() < 50:
        new = colour(random)
    return new


def textured(random, texture, size):
    """Return (part of a texture, turned, scaled and in random colours, uint8 [size, size, 3], its middle colour)."""
    first = colour(random)
    last, contrast = colour_unlike(random, first), random.uniform(0.35, 1)
    middle, count = (first + last) / 2, random.integers(2, 7) if random.random() < 0.5 else 2
    stops = first + np.linspace(0, 1, count)[:, None] * (last - first)
    stops[1:-1] += random.normal(0, 40, (count - 2, 3))
    levels = np.linspace(0, count - 1, 256)
    table = np.stack([np.interp(levels, np.arange(count), channel) for channel in stops.T], 1)
    matrix = cv2.getRotationMatrix2D((TILE / 2, TILE / 2), random.uniform(0, 360), random.uniform(0.8, 1.3))
    matrix[:, 2] += (size - TILE) / 2 + random.uniform(-60, 60, 2)
    field = cv2.warpAffine(texture, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    table = (middle + contrast * (table - middle)).clip(0, 255).astype(np.uint8)
    return cv2.LUT(cv2.merge([field] * 3), table[None]), middle


def shaded(random, size):
    """Return (a smooth passage between two colours, uint8 [size, size, 3], its middle colour)."""
    first = colour(random)
    last = first + (colour(random) - first) * random.choice([0.1, 0.6])
    ends = first + random.random((2, 2, 1)) * (last - first)
    return cv2.resize(ends, (size, size)).astype(np.uint8), (first + last) / 2


def lay_shape(image, shape, random, radius, surface, shadow):
    """Draw a turned and flattened shape: filled with a surface, uint8 as the image is, or with a colour."""
    size, angle, flat = len(image), random.uniform(0, TURN), random.uniform(0.75, 1)
    matrix = radius * np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle) * flat, np.cos(angle) * flat)])
    margin = 0.9 * radius if random.random() < 0.8 else 0
    centre = random.uniform(margin, size - margin, 2)
    points = [np.int32(np.round(16 * (outline @ matrix + centre))) for outline in shape]
    if random.random() < 0.2:
        offset = np.int32(random.normal(0, 80, 2))
        cv2.fillPoly(image, [outline + offset for outline in points], shadow.tolist(), cv2.LINE_AA, 4)
    if surface.ndim == 3:
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.copyTo(surface, cv2.fillPoly(mask, points, 255, cv2.LINE_8, 4), image)
    elif random.random() < 0.12:
        cv2.polylines(image, points, True, surface.tolist(), int(random.integers(2, 7)), cv2.LINE_AA, 4)
    else:
        cv2.fillPoly(image, points, (surface + random.normal(0, 10, 3)).tolist(), cv2.LINE_AA, 4)


def clutter(image, random):
    """Draw a few lines and spots."""
    for _ in range(random.integers(1, 4)):
        ends = [tuple(point) for point in random.integers(0, len(image), (2, 2)).tolist()]
        if random.random() < 0.5:
            cv2.line(image, *ends, colour(random).tolist(), int(random.integers(1, 6)), cv2.LINE_AA)
        else:
            axes = random.integers(2, 14, 2).tolist()
            cv2.ellipse(image, ends[0], axes, random.uniform(0, 180), 0, 360, colour(random).tolist(), -1, cv2.LINE_AA)


def spoil(image, random, difficulty):
    """Return the image in uneven light, out of focus, with noise: each of it sometimes."""
    size = len(image)
    if random.random() < 0.5 * difficulty:
        light = cv2.resize(random.uniform(0.5, 1.1, (2, 2)).astype(np.float32), (size, size))
        image = cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U)
    if random.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.5))
    if random.random() < 0.6:
        strength = random.integers(1, 12)
        image = cv2.add(image, random.integers(-strength, strength + 1, image.shape, np.int8), dtype=cv2.CV_8U)
    return image


def draw(bank, random, size, difficulty=1.0):
    """Return (picture, uint8 [size, size, 3], BGR; classes of shape, ground, surface, int [3]; numbers, about -2..2).

    difficulty: 0 for plain shapes on plain grounds, up to 1: half of the grounds and surfaces have a texture.
    numbers: float [NUM_NUMBERS], the middle colours of ground and surface, how many shapes there are, and their radius.
    """
    classes = [random.integers(len(bank.shapes)), NONE, NONE]
    if random.random() < 0.55 * difficulty:
        classes[1] = random.integers(len(bank.textures))
        image, ground = textured(random, bank.textures[classes[1]], size)
    else:
        image, ground = shaded(random, size)
    surface = middle = colour_unlike(random, ground)
    if random.random() < 0.4 * difficulty:
        classes[2] = random.integers(len(bank.textures))
        surface, middle = textured(random, bank.textures[classes[2]], size)
    count = 1 if random.random() < 0.6 else random.integers(2, 7)
    radius = size * 2 ** (random.uniform(-2.4, -1.35) - 0.35 * np.log2(count))
    if random.random() < 0.12 * difficulty:
        classes[0] = classes[2] = NONE
        count = 0
    for _ in range(count):
        lay_shape(image, bank.shapes[classes[0]], random, radius * random.uniform(0.85, 1.15), surface, ground / 2)
    if random.random() < 0.3 * difficulty:
        clutter(image, random)
    numbers = [*(ground / 64 - 2), *(middle / 64 - 2), np.log2(max(count, 1)), 4 * np.log2(radius / size) + 7]
    return spoil(image, random, difficulty), classes, numbers
