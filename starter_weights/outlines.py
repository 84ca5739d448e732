"""Outlines of the 64 shapes in the pretraining images; none is one of the sample's five shapes."""

import cv2
import numpy as np

TURN = 2 * np.pi
ANGLES = np.linspace(0, TURN, 96, endpoint=False)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)


def polar(radii):
    """Return the outline with these radii at ANGLES, float64 [96, 2], corners (x, y)."""
    return np.stack([radii * COS, radii * SIN], 1)


def polygon(sides):
    """Return the outline of a regular polygon."""
    part = TURN / sides
    return polar(np.cos(part / 2) / np.cos(ANGLES % part - part / 2))


def petals(count, depth):
    """Return the outline of a flower."""
    return polar(1 - depth + depth * np.abs(np.cos(ANGLES * count / 2)) ** 0.7)


def crescent():
    """Return the outline of a crescent moon."""
    outer, inner = np.linspace(0.7, TURN - 0.7, 48), np.linspace(TURN - 1.1, 1.1, 48)
    return np.concatenate([np.stack([np.cos(outer), np.sin(outer)], 1),
                           np.stack([0.4 + 0.75 * np.cos(inner), 0.75 * np.sin(inner)], 1)])


def heart():
    """Return the outline of a heart."""
    y = 13 * COS - 5 * np.cos(2 * ANGLES) - 2 * np.cos(3 * ANGLES) - np.cos(4 * ANGLES)
    return np.stack([16 * SIN ** 3, y], 1)


def spiral():
    """Return the outline of a band that winds twice around the centre."""
    angles = np.linspace(0.5, 2 * TURN, 96)
    outer, inner = (np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
                    for radii in (angles / 12.5, angles / 12.5 - 0.22))
    return np.concatenate([outer, inner[::-1]])


def corners(text):
    """Return an outline from its corners, given as pairs of digits x and y."""
    return np.array([(int(x), int(y)) for x, y in text.split()], np.float64)


def smooth_blob(random):
    """Return a smooth outline without symmetry."""
    waves = np.arange(2, 7)[:, None]
    sizes, turns = random.normal(0, 0.5, (5, 1)) / waves, random.uniform(0, TURN, (5, 1))
    return polar(0.75 + (sizes * np.cos(waves * ANGLES + turns)).sum(0).clip(-0.65, 0.65))


def jagged_polygon(random):
    """Return an outline of 5 to 8 straight sides without symmetry.

    It is so dented that it resembles no regular polygon.
    """
    while True:
        count = random.integers(5, 9)
        angles = (np.arange(count) + random.uniform(-0.35, 0.35, count)) * TURN / count
        radii = random.uniform(0.25, 1.2, count)
        outline = np.float32([radii * np.cos(angles), radii * np.sin(angles)]).T
        if cv2.contourArea(outline) < 0.8 * cv2.contourArea(cv2.convexHull(outline)):
            return outline


def fixed_outlines():
    """Return the outlines of the 30 shapes that are drawn by rules or from corners."""
    disc = polar(np.ones(96))
    return [
        polygon(5), polygon(6), petals(7, 0.4), petals(3, 0.5), petals(4, 0.5), petals(6, 0.5),
        petals(10, 0.25), crescent(), heart(), spiral(), disc * (1, 0.45), disc[:48],
        np.stack([COS, 0.5 * SIN * np.abs(SIN)], 1),          # leaf
        np.stack([COS, SIN * np.sin(ANGLES / 2) ** 2], 1),    # drop
        polar(np.where(ANGLES * 8 % TURN < np.pi, 1, 0.75)),  # gear
        polar(np.where(np.abs(ANGLES - np.pi) > 2.6, 0.02, 1)),  # cake, a piece cut out
        corners('84 41 43 03 05 45 47'),                      # arrow
        corners('40 70 53 73 28 35 15'),                      # lightning
        corners('18 10 30 33 53 50 70 78 58 55 35 38'),       # H
        corners('00 80 82 52 58 38 32 02'),                   # T
        corners('10 40 45 75 78 18'),                         # L
        corners('10 30 36 56 50 70 78 18'),                   # U
        corners('08 00 20 26 60 80 88 68 62 28'),             # N
        corners('00 70 72 22 23 53 55 25 26 76 78 08'),       # E
        corners('08 40 88 68 45 28'),                         # tent
        corners('02 82 86 06'), corners('18 32 62 88'),       # quadrangles
        corners('07 27 81 61'), corners('40 64 48 24'),
        corners('00 80 44 88 08 44')]                         # hourglass


def make_shapes() -> list[list[np.ndarray]]:
    """Return 64 shapes, each a list of outlines, float64 [n, 2]; a second outline is a hole.

    The corners of the first outline have their mean at (0, 0) and RMS distance 1 from it.
    """
    random, disc = np.random.default_rng(1), polar(np.ones(96))
    shapes = [[disc, 0.6 * disc]]  # ring
    shapes += [[outline] for outline in fixed_outlines()]
    shapes += [[smooth_blob(random)] for _ in range(16)]
    shapes += [[jagged_polygon(random)] for _ in range(17)]
    return [normalized(outlines) for outlines in shapes]


def normalized(outlines):
    """Return outlines moved and scaled by the mean and RMS distance of the first one's corners."""
    moved = [outline - outlines[0].mean(0) for outline in outlines]
    size = np.sqrt((moved[0] ** 2).sum(1).mean())
    return [outline / size for outline in moved]
