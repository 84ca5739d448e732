"""Draws the pretraining images: shapes on grounds, plain or textured, each image once.

Each image comes with its labels: the classes of shape, ground and surface, and numbers such as
colours. The ground is the background, the surface the inside of a shape.
"""

from typing import NamedTuple

import cv2
import numpy as np

from starter_weights.outlines import TURN, make_shapes
from starter_weights.textures import TILE, make_textures

NONE = -1        # class of a plain ground or surface, and of an image without a shape
NUM_NUMBERS = 8  # numbers that label an image


class Bank(NamedTuple):
    """The shapes and textures of all images; the index here is the class."""

    shapes: list[list[np.ndarray]]  # each a list of outlines, float64 [n, 2]
    textures: list[np.ndarray]      # uint8 [TILE, TILE]


def make_bank(num_textures: int = 256) -> Bank:
    """Return the Bank with the first `num_textures` textures."""
    return Bank(make_shapes(), make_textures(num_textures))


def random_colour(random):
    """Return a colour, float [3], BGR, 0..255: mostly dull, as in photos."""
    offset = random.uniform(20, 235)
    return (offset + random.normal(0, 1, 3) * random.choice([10, 40, 80])).clip(0, 255)


def contrasting_colour(random, other):
    """Return a colour that differs from the other by 50 or more in a channel."""
    colour = random_colour(random)
    while np.abs(colour - other).max() < 50:
        colour = random_colour(random)
    return colour


def colour_table(random):
    """Return (table of colours for the values of a texture, uint8 [256, 3], its middle colour)."""
    first = random_colour(random)
    last, contrast = contrasting_colour(random, first), random.uniform(0.35, 1)
    middle, count = (first + last) / 2, random.integers(2, 7) if random.random() < 0.5 else 2
    stops = first + np.linspace(0, 1, count)[:, None] * (last - first)
    stops[1:-1] += random.normal(0, 40, (count - 2, 3))
    levels = np.linspace(0, count - 1, 256)
    table = np.stack([np.interp(levels, np.arange(count), channel) for channel in stops.T], 1)
    return (middle + contrast * (table - middle)).clip(0, 255).astype(np.uint8), middle


def textured(random, texture, size):
    """Return (image, its middle colour) of a texture, rotated, scaled and in random colours.

    image: uint8 [size, size, 3].
    """
    table, middle = colour_table(random)
    matrix = cv2.getRotationMatrix2D(
        (TILE / 2, TILE / 2), random.uniform(0, 360), random.uniform(0.8, 1.3))
    matrix[:, 2] += (size - TILE) / 2 + random.uniform(-60, 60, 2)
    field = cv2.warpAffine(texture, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    return cv2.LUT(cv2.merge([field] * 3), table[None]), middle


def shaded(random, size):
    """Return (image, its middle colour) of a gradient between two colours.

    image: uint8 [size, size, 3].
    """
    first = random_colour(random)
    last = first + (random_colour(random) - first) * random.choice([0.1, 0.6])
    ends = first + random.random((2, 2, 1)) * (last - first)
    return cv2.resize(ends, (size, size)).astype(np.uint8), (first + last) / 2


def place(shape, random, radius, size):
    """Return the outlines of a shape, rotated, flattened and moved into the image.

    int32 [n, 2], in sixteenths of a pixel, as OpenCV's shift=4 takes them.
    """
    angle, flat = random.uniform(0, TURN), random.uniform(0.75, 1)
    matrix = radius * np.array([(np.cos(angle), np.sin(angle)),
                                (-np.sin(angle) * flat, np.cos(angle) * flat)])
    margin = 0.9 * radius if random.random() < 0.8 else 0
    centre = random.uniform(margin, size - margin, 2)
    return [np.int32(np.round(16 * (outline @ matrix + centre))) for outline in shape]


def draw_shape(image, shape, random, radius, surface, shadow):
    """Draw a shape into the image, sometimes with a shadow.

    radius: in pixels. surface: uint8 [size, size, 3], or a colour. shadow: a colour.
    """
    points = place(shape, random, radius, len(image))
    if random.random() < 0.2:
        offset = np.int32(random.normal(0, 80, 2))
        moved = [outline + offset for outline in points]
        cv2.fillPoly(image, moved, shadow.tolist(), cv2.LINE_AA, 4)
    if surface.ndim == 3:
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.copyTo(surface, cv2.fillPoly(mask, points, 255, cv2.LINE_8, 4), image)
    elif random.random() < 0.12:
        width = int(random.integers(2, 7))
        cv2.polylines(image, points, True, surface.tolist(), width, cv2.LINE_AA, 4)
    else:
        colour = surface + random.normal(0, 10, 3)
        cv2.fillPoly(image, points, colour.tolist(), cv2.LINE_AA, 4)


def draw_clutter(image, random):
    """Draw a few lines and ellipses into the image."""
    for _ in range(random.integers(1, 4)):
        ends = [tuple(point) for point in random.integers(0, len(image), (2, 2)).tolist()]
        if random.random() < 0.5:
            colour = random_colour(random).tolist()
            cv2.line(image, *ends, colour, int(random.integers(1, 6)), cv2.LINE_AA)
        else:
            axes, angle = random.integers(2, 14, 2).tolist(), random.uniform(0, 180)
            colour = random_colour(random).tolist()
            cv2.ellipse(image, ends[0], axes, angle, 0, 360, colour, -1, cv2.LINE_AA)


def degrade(image, random, difficulty):
    """Return the image with uneven light, blur and noise, each with some probability."""
    size = len(image)
    if random.random() < 0.5 * difficulty:
        light = random.uniform(0.5, 1.1, (2, 2)).astype(np.float32)
        light = cv2.resize(light, (size, size))
        image = cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U)
    if random.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.5))
    if random.random() < 0.6:
        strength = random.integers(1, 12)
        noise = random.integers(-strength, strength + 1, image.shape, np.int8)
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    return image


def draw_ground(bank, random, size, difficulty):
    """Return (image, its middle colour, class) of a background."""
    if random.random() < 0.55 * difficulty:
        number = random.integers(len(bank.textures))
        return *textured(random, bank.textures[number], size), number
    return *shaded(random, size), NONE


def draw_surface(bank, random, size, difficulty, ground):
    """Return (surface, its middle colour, class); the surface is an image or a colour."""
    colour = contrasting_colour(random, ground)
    if random.random() < 0.4 * difficulty:
        number = random.integers(len(bank.textures))
        return *textured(random, bank.textures[number], size), number
    return colour, colour, NONE


def draw(bank: Bank, random: np.random.Generator, size: int, difficulty: float = 1.0):
    """Return (image, classes, numbers) of a new image.

    image: uint8 [size, size, 3], BGR.
    classes: of shape, ground and surface, int [3].
    numbers: float [NUM_NUMBERS], about -2..2: the middle colours of ground and surface, the number
        of shapes, and their radius.
    difficulty: 0 for plain shapes on plain grounds, up to 1 with textures on half of them.
    """
    shape = random.integers(len(bank.shapes))
    image, ground, ground_class = draw_ground(bank, random, size, difficulty)
    surface, middle, surface_class = draw_surface(bank, random, size, difficulty, ground)
    count = 1 if random.random() < 0.6 else random.integers(2, 7)
    radius = size * 2 ** (random.uniform(-2.4, -1.35) - 0.35 * np.log2(count))
    classes = [shape, ground_class, surface_class]
    if random.random() < 0.12 * difficulty:
        classes, count = [NONE, ground_class, NONE], 0
    for _ in range(count):
        each_radius = radius * random.uniform(0.85, 1.15)
        draw_shape(image, bank.shapes[shape], random, each_radius, surface, ground / 2)
    if random.random() < 0.3 * difficulty:
        draw_clutter(image, random)
    sizes = [np.log2(max(count, 1)), 4 * np.log2(radius / size) + 7]
    numbers = [*(ground / 64 - 2), *(middle / 64 - 2), *sizes]
    return degrade(image, random, difficulty), classes, numbers
