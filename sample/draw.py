"""Draws the sample data set: five shapes in random colours, sizes, places and orientations.

`python -m sample.draw` writes sample/images/, train.txt, val.txt and labels.txt anew, the same on
every machine with the same OpenCV and NumPy.
"""

import os

import cv2
import numpy as np

SHAPES = ('circle', 'cross', 'square', 'star', 'triangle')
COUNTS = {'train': 60, 'val': 20}  # images per class
SIZE = 144  # height and width, in pixels
SEED = 2012


def polar(angles, radii):
    """Return corners at these angles and distances from (0, 0), float64 [n, 2]."""
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def full_turn(count):
    """Return `count` equal steps of a full turn, float64 [count]."""
    return np.arange(count) / count * 2 * np.pi


def outline(shape):
    """Return the corners of a shape around (0, 0), float64 [n, 2]; areas are about equal."""
    arm, reach = 0.38, 1.15
    return {
        'circle': polar(full_turn(64), 1),
        'cross': np.array([(-arm, -reach), (arm, -reach), (arm, -arm), (reach, -arm), (reach, arm),
                           (arm, arm), (arm, reach), (-arm, reach), (-arm, arm), (-reach, arm),
                           (-reach, -arm), (-arm, -arm)]),
        'square': polar(full_turn(4), 1.25),
        'star': polar(full_turn(10), np.where(np.arange(10) % 2, 0.55, 1.35)),
        'triangle': polar(full_turn(3), 1.5)}[shape]


def draw_ground(random):
    """Return a gradient between two colours, float64 [SIZE, SIZE, 3], BGR."""
    first, last = random.uniform(40, 215, (2, 3))
    ramp = (np.mgrid[:SIZE, :SIZE] * random.uniform(-1, 1, (2, 1, 1))).sum(0) / SIZE
    return first + (last - first) * (ramp - ramp.min())[..., None] / (np.ptp(ramp) or 1)


def draw(shape, random):
    """Return an image, uint8 [SIZE, SIZE, 3], BGR: the shape on a gradient, slightly noisy."""
    image = draw_ground(random)
    colour = random.uniform(0, 255, 3)
    while np.abs(colour - image.mean((0, 1))).max() < 90:
        colour = random.uniform(0, 255, 3)
    radius, angle = random.uniform(0.17, 0.28) * SIZE, random.uniform(0, 2 * np.pi)
    rotation = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    centre = random.uniform(1.5 * radius, SIZE - 1.5 * radius, 2)
    corners = np.round((outline(shape) @ rotation * radius + centre) * 16).astype(np.int32)
    cv2.fillPoly(image, [corners], colour.tolist(), cv2.LINE_AA, shift=4)
    image += random.normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_subset(root, subset, random):
    """Write the images of 'train' or 'val' and their list."""
    lines = []
    for label, shape in enumerate(SHAPES):
        folder = f'sample/images/{subset}/{shape}'
        os.makedirs(os.path.join(root, folder), exist_ok=True)
        for number in range(COUNTS[subset]):
            path = f'{folder}/{number:02d}.jpg'
            options = [cv2.IMWRITE_JPEG_QUALITY, 80]
            cv2.imwrite(os.path.join(root, path), draw(shape, random), options)
            lines.append(f'{path} {label}\n')
    with open(os.path.join(root, f'{subset}.txt'), 'w') as file:
        file.writelines(lines)


def write_sample(root):
    """Write all images and the three lists into the folder `root`."""
    random = np.random.default_rng(SEED)
    for subset in COUNTS:
        write_subset(root, subset, random)
    with open(os.path.join(root, 'labels.txt'), 'w') as file:
        file.writelines(f'{shape}\n' for shape in SHAPES)


if __name__ == '__main__':
    write_sample('.')
