"""Draws the sample data set: five shapes in random colours, places, sizes and turns, and the lists that name them.

`python sample/draw.py` writes sample/images/, train.txt, val.txt and labels.txt anew, the same on every machine with
the same OpenCV and NumPy.
"""

import os

import cv2
import numpy as np

SHAPES = ('circle', 'cross', 'square', 'star', 'triangle')
COUNTS = {'train': 60, 'val': 20}  # images a class
SIZE = 144  # height and width, in pixels
SEED = 2012
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def outline(shape):
    """Return the corners of a shape around (0, 0), float64 [n, 2], all shapes about equal in area."""
    if shape == 'circle':
        angles = np.arange(64) / 64 * 2 * np.pi
        return np.stack([np.cos(angles), np.sin(angles)], 1)
    if shape == 'cross':
        arm, reach = 0.38, 1.15
        return np.array([(-arm, -reach), (arm, -reach), (arm, -arm), (reach, -arm), (reach, arm), (arm, arm),
                         (arm, reach), (-arm, reach), (-arm, arm), (-reach, arm), (-reach, -arm), (-arm, -arm)])
    if shape == 'star':
        angles = np.arange(10) / 10 * 2 * np.pi
        radii = np.where(np.arange(10) % 2, 0.55, 1.35)
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    corners, radius = {'square': (4, 1.25), 'triangle': (3, 1.5)}[shape]
    angles = np.arange(corners) / corners * 2 * np.pi
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def draw(shape, random):
    """Return one image, uint8 [SIZE, SIZE, 3], BGR: the shape on a shaded, slightly noisy ground."""
    ends = random.uniform(40, 215, (2, 3))
    ramp = (np.mgrid[:SIZE, :SIZE] * random.uniform(-1, 1, (2, 1, 1))).sum(0) / SIZE
    ground = ends[0] + (ends[1] - ends[0]) * (ramp - ramp.min())[..., None] / (np.ptp(ramp) or 1)
    colour = random.uniform(0, 255, 3)
    while np.abs(colour - ground.mean((0, 1))).max() < 90:
        colour = random.uniform(0, 255, 3)
    radius = random.uniform(0.17, 0.28) * SIZE
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    centre = random.uniform(1.5 * radius, SIZE - 1.5 * radius, 2)
    corners = outline(shape) @ turn * radius + centre
    image = np.ascontiguousarray(ground)
    cv2.fillPoly(image, [np.round(corners * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, shift=4)
    image += random.normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def main():
    """Write all images and the three lists."""
    random = np.random.default_rng(SEED)
    for part, count in COUNTS.items():
        lines = []
        for label, shape in enumerate(SHAPES):
            folder = os.path.join('sample', 'images', part, shape)
            os.makedirs(os.path.join(ROOT, folder), exist_ok=True)
            for number in range(count):
                path = f'{folder}/{number:02d}.jpg'
                cv2.imwrite(os.path.join(ROOT, path), draw(shape, random), [cv2.IMWRITE_JPEG_QUALITY, 80])
                lines.append(f'{path} {label}\n')
        with open(os.path.join(ROOT, f'{part}.txt'), 'w') as file:
            file.writelines(lines)
    with open(os.path.join(ROOT, 'labels.txt'), 'w') as file:
        file.writelines(f'{shape}\n' for shape in SHAPES)


if __name__ == '__main__':
    main()
