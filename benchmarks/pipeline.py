"""Measures the pipeline from image files to batches of pixels against decoding and scaling alone.

`python -m benchmarks.pipeline LIST [IMAGES [ROUNDS]]` prints, per image of the list (repeated up to
IMAGES), the microseconds of each step on one core; then the rates of OpenCV's decoding and scaling
alone and of ImageDataGenerator, with a thread per core; then the pipeline with both replaced by
waits of 2.5 ms that hold no lock. With 16 threads 6,400 images/s would come. What is missing are
the steps that run under Python's lock, one image at a time: the limit on a machine of many cores.
"""

import io
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from datagenerator import ImageDataGenerator
from inputs import decoders
from inputs.image_headers import read_header
from inputs.lists import ImageList, read_list

WAIT, THREADS = 0.0025, 16
BATCH_SIZE = 128


def seconds_of(function):
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def read_file(path):
    """Return the bytes of a file."""
    with open(path, 'rb') as file:
        return file.read()


def print_steps(paths):
    """Print the microseconds per image of each step, on one core."""
    contents = [read_file(path) for path in paths]
    headers = [read_header(io.BytesIO(content)) for content in contents]
    images = [decoders.decode(*pair, (227, 227)) for pair in zip(contents, headers, strict=True)]
    out = np.empty((227, 227, 3), np.uint8)
    steps = {
        'read the file': lambda n: read_file(paths[n]),
        'read the header': lambda n: read_header(io.BytesIO(contents[n])),
        'decode': lambda n: decoders.decode(contents[n], headers[n], (227, 227)),
        'scale': lambda n: cv2.resize(images[n], (227, 227), dst=out, interpolation=cv2.INTER_AREA),
        'mirror': lambda n: cv2.flip(out, 1)}
    for name, step in steps.items():
        seconds = seconds_of(lambda step=step: [step(n) for n in range(len(paths))])
        print(f'{name}: {1e6 * seconds / len(paths):.0f} microseconds per image')


def decode_and_scale(path):
    """Decode and scale an image by OpenCV, with nothing beside it."""
    image = cv2.imread(path)
    cv2.resize(image, (227, 227), interpolation=cv2.INTER_AREA)


def opencv_rate(paths, num_threads):
    """Return the images/s that OpenCV decodes and scales in threads."""
    parts = [paths[start::num_threads] for start in range(num_threads)]
    with ThreadPoolExecutor(num_threads) as pool:
        seconds = seconds_of(lambda: list(pool.map(
            lambda part: [decode_and_scale(path) for path in part], parts)))
    return len(paths) / seconds


def pipeline_rate(image_list, num_threads):
    """Return the images/s of an epoch of ImageDataGenerator, mirrored at random."""
    data = ImageDataGenerator(image_list, horizontal_flip=True, seed=0, num_threads=num_threads,
                              nb_classes=1 + int(max(image_list.labels)))
    seconds = seconds_of(lambda: sum(len(labels) for _, labels in data.batches(BATCH_SIZE)))
    return data.data_size / seconds


def waiting_rate(image_list):
    """Return the images/s with THREADS threads that wait in place of decoding and scaling."""
    image = np.zeros((300, 400, 3), np.uint8)

    def imdecode(content, flag):
        time.sleep(WAIT / 2)
        return image

    def resize(source, size, dst, interpolation):
        time.sleep(WAIT / 2)
        return np.zeros((*size[::-1], 3), np.uint8) if dst is None else dst
    saved = cv2.imdecode, cv2.resize
    cv2.imdecode, cv2.resize = imdecode, resize
    try:
        return pipeline_rate(image_list, THREADS)
    finally:
        cv2.imdecode, cv2.resize = saved


def main(list_file, count=6000, rounds=3):
    """Print the steps, then the rates as medians of interleaved rounds."""
    cv2.setNumThreads(1)
    image_list = read_list(list_file)
    chosen = np.arange(count) % len(image_list.paths)
    image_list = ImageList(list_file, [image_list.paths[n] for n in chosen],
                           image_list.labels[chosen], chosen)
    print_steps(image_list.paths[:200])
    cores, rows = os.cpu_count(), []
    for _ in range(rounds):
        rows.append((opencv_rate(image_list.paths[:1000], cores),
                     pipeline_rate(ImageList(list_file, *(part[:1000] for part in image_list[1:])),
                                   cores), waiting_rate(image_list)))
    opencv, pipeline, waiting = (statistics.median(column) for column in zip(*rows, strict=True))
    share = statistics.median(row[1] / row[0] for row in rows)
    print(f'{cores} threads: OpenCV alone {opencv:.0f} images/s, pipeline {pipeline:.0f}: '
          f'{share:.2f}')
    print(f'{THREADS} threads that wait: {waiting:.0f} of {THREADS / WAIT:.0f} images/s')
    print(f'share of the limit with {THREADS} threads: {waiting / (THREADS / WAIT):.2f}')


if __name__ == '__main__':
    main(sys.argv[1], *map(int, sys.argv[2:]))
