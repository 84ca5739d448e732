"""Textures of the pretraining images: patterns in many scales, and mixtures of two of them."""

import cv2
import numpy as np

TURN = 2 * np.pi
TILE = 384  # height and width of a texture, in pixels


def make_textures(count: int) -> list[np.ndarray]:
    """Return `count` textures, uint8 [TILE, TILE], always the same."""
    return [make_texture(number) for number in range(count)]


def noise(random, period):
    """Return noise of one scale, float32 [TILE, TILE]; period in pixels."""
    count = max(int(TILE * 2 / period), 2)
    values = random.standard_normal((count, count), np.float32)
    return cv2.resize(values, (TILE, TILE), interpolation=cv2.INTER_CUBIC)


def clouds(random, roughness=1.0):
    """Return noise of all scales, float32 [TILE, TILE].

    Each octave has 2 ** -roughness of the amplitude of the octave before it.
    """
    return sum(2 ** (-roughness * octave) * noise(random, TILE / 2 ** octave)
               for octave in range(7))


def cells(random, period):
    """Return the distance of each pixel to the nearest of random points, and that point's number.

    Distances are in periods; both arrays are [TILE, TILE].
    """
    count = max(int((TILE / period) ** 2), 3)
    free = np.ones((TILE, TILE), np.uint8)
    free[tuple(random.integers(0, TILE, (2, count)))] = 0
    distances, numbers = cv2.distanceTransformWithLabels(
        free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return distances / np.float32(period), numbers


def bricks(u, v):
    """Return 1 inside bricks, 0 between them."""
    row = np.floor(v)
    return (v - row > 0.15) & ((u / 2 + row / 2) % 1 > 0.1)


def strokes(u, v, random):
    """Return random values stretched along v."""
    values = random.standard_normal((32, 32), np.float32)
    return cv2.remap(values, 2 * u, v / 4, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def cos(x):
    """Return the wave of period 1."""
    return np.cos(np.float32(TURN) * x)


# Functions of coordinates u and v in periods, random generator, period in pixels.
PATTERNS = (
    lambda u, v, random, period: cos(u),
    lambda u, v, random, period: np.sign(cos(u / 2)) * np.sign(cos(v / 2)),
    lambda u, v, random, period: cos(u) + cos(v),
    lambda u, v, random, period: cos(u) + cos(v) > 1,
    lambda u, v, random, period: cos(u) + cos(u / 2 + 0.866 * v) + cos(u / 2 - 0.866 * v),
    lambda u, v, random, period: bricks(u, v),
    lambda u, v, random, period: cos(u + 0.4 * cos(v / 2)),
    lambda u, v, random, period: cos(u + np.abs(v / 2 % 2 - 1)),
    lambda u, v, random, period: cos(u / 2 + 2 * clouds(random, 1.2)),
    lambda u, v, random, period: cos(np.hypot(u, v)),
    lambda u, v, random, period: cos(random.integers(5, 20) / TURN * np.arctan2(v, u)),
    lambda u, v, random, period: clouds(random, random.uniform(0.5, 1.5)),
    lambda u, v, random, period: noise(random, period),
    lambda u, v, random, period: np.abs(noise(random, period)),
    lambda u, v, random, period: np.minimum(cells(random, period)[0], 0.5),
    lambda u, v, random, period: cells(random, period)[1] * 0.618 % 1,
    lambda u, v, random, period: strokes(u, v, random))


def warp(first, second, random):
    """Return the first pattern, displaced along its rows by the second one."""
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32)
    return cv2.remap(first, x + random.uniform(4, 20) * second, y, cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REFLECT_101)


# Functions of two patterns and a random generator.
MIXTURES = (
    lambda first, second, random: first + second * random.uniform(0.4, 1),
    lambda first, second, random: first * second,
    lambda first, second, random: np.where(clouds(random) > 0, first, second + random.normal()),
    lambda first, second, random: np.maximum(first, second),
    warp)


def standardized(field):
    """Return the field with mean 0 and standard deviation 1, float32."""
    return np.float32((field - field.mean()) / (field.std() + 1e-3))


def make_pattern(random, number):
    """Return pattern `number` in random scale, orientation and unevenness, standardized."""
    period, angle = 2 ** random.uniform(2.5, 5), random.uniform(0, np.pi)
    y, x = np.mgrid[:TILE, :TILE] - random.uniform(0, TILE, (2, 1, 1))
    x, y = np.float32(x / period), np.float32(y / period)
    if random.random() < 0.6:
        uneven, scale = np.float32(random.uniform(0.05, 0.5)), TILE / random.uniform(1, 8)
        x, y = x + uneven * noise(random, scale), y + uneven * noise(random, scale)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = x * cosine + y * sine, y * cosine - x * sine
    return standardized(PATTERNS[number](u, v, random, period))


def make_texture(number):
    """Return texture `number`, uint8 [TILE, TILE].

    The first 5 textures per pattern show it alone, the others mix two patterns.
    """
    random = np.random.default_rng([2, number])
    if number < 5 * len(PATTERNS):
        field = make_pattern(random, number % len(PATTERNS))
    else:
        first = make_pattern(random, random.integers(len(PATTERNS)))
        second = make_pattern(random, random.integers(len(PATTERNS)))
        field = MIXTURES[random.integers(len(MIXTURES))](first, second, random)
    return np.uint8(127.5 + 127.5 * np.tanh(standardized(field) * random.uniform(0.7, 2)))
