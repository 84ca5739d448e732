import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from datagenerator import ImageDataGenerator
from inputs.prefetch import prefetch_map
from tests.helpers import ROOT, write_list


def numbers(images):
    """Return which of the pictures of `picture_folder` the rows show."""
    return [round((blue + 104) / 20) for blue in images[:, 0, 0, 0]]


def test_every_image_once_an_epoch_and_a_short_last_batch(picture_list):
    data = ImageDataGenerator(picture_list, shuffle=True, nb_classes=3, seed=5)
    orders = []
    for _ in range(3):
        batches = list(data.batches(5))
        assert [len(images) for images, _ in batches] == [5, 5, 2]
        orders.append([n for images, _ in batches for n in numbers(images)])
        assert sorted(orders[-1]) == list(range(12))
        for images, labels in batches:
            assert labels.dtype == np.float32 and (labels.sum(1) == 1).all()
            assert [n % 3 for n in numbers(images)] == labels.argmax(1).tolist()
        data.reset_pointer()
    assert orders[0] != orders[1] != orders[2]


def test_order_and_flips_follow_from_seed_and_epoch_alone(picture_list):
    first = ImageDataGenerator(picture_list, True, True, nb_classes=3, seed=5)
    again = ImageDataGenerator(picture_list, True, True, nb_classes=3, seed=5)
    other = ImageDataGenerator(picture_list, True, True, nb_classes=3, seed=6)
    np.random.seed(0)
    first.reset_pointer()
    again.start_epoch(1)
    np.testing.assert_array_equal(first.order, again.order)
    np.testing.assert_array_equal(first.flipped, again.flipped)
    assert other.order.tolist() != ImageDataGenerator(picture_list, True, True, nb_classes=3, seed=5).order.tolist()


def test_without_shuffle_the_order_is_the_lists(picture_list):
    data = ImageDataGenerator(picture_list, nb_classes=3)
    assert numbers(data.next_batch(12)[0]) == list(range(12))


def test_horizontal_flip_mirrors_about_half(tmp_path):
    pixels = np.zeros((227, 227, 3), np.uint8)
    pixels[:, :100] = 255
    cv2.imwrite(str(tmp_path / 'half.png'), pixels)
    path = write_list(tmp_path / 'list.txt', ['half.png 0'] * 40)
    images, _ = ImageDataGenerator(path, horizontal_flip=True, nb_classes=2, seed=0).next_batch(40)
    left, right = images[:, 100, 0, 0] > 0, images[:, 100, -1, 0] > 0
    assert (left != right).all() and 8 < left.sum() < 32
    images, _ = ImageDataGenerator(path, nb_classes=2, seed=0).next_batch(40)
    assert (images[:, 100, 0, 0] > 0).all()


def test_known_names_work_as_they_did(picture_list):
    data = ImageDataGenerator(picture_list, horizontal_flip=True, shuffle=True, nb_classes=3)
    assert data.data_size == 12
    images, labels = data.next_batch(4)
    assert images.shape == (4, 227, 227, 3) and labels.shape == (4, 3)
    data.shuffle_data()
    assert sorted(n for batch, _ in data.batches(7) for n in numbers(batch)) == list(range(12))
    with pytest.raises(ValueError, match='reset_pointer'):
        data.next_batch(4)
    data.reset_pointer()
    assert len(data.next_batch(4)[0]) == 4


def test_an_image_that_vanishes_is_an_error_at_its_turn(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((5, 5, 3), np.uint8))
    data = ImageDataGenerator(write_list(tmp_path / 'list.txt', ['a.png 0', 'a.png 1', 'gone.png 1']))
    assert len(data.next_batch(2)[0]) == 2
    with pytest.raises(ValueError, match='gone.png: No such file'):
        data.next_batch(2)


def test_map_ahead_keeps_order_and_stays_within_its_bound():
    started, most, lock = [0], [0], threading.Lock()

    def work(item):
        with lock:
            started[0] += 1
        return item * item
    with ThreadPoolExecutor(4) as pool:
        for done, value in enumerate(prefetch_map(work, range(200), pool, ahead=10)):
            assert value == done * done
            most[0] = max(most[0], started[0] - done)
    assert most[0] <= 11


def test_memory_does_not_grow_with_the_list(tmp_path, picture_folder):
    code = ('import resource, sys\nfrom inputs.checks import find_broken\nfrom datagenerator import *\n'
            'image_list = read_list(sys.argv[1])\nfind_broken([image_list], load_image, sys.argv[2])\n'
            'data = ImageDataGenerator(image_list, True, True, seed=0)\n'
            'for _ in range(6): data.next_batch(128)\n'
            'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)')
    peaks = []
    for count in (1000, 100_000):
        path = write_list(tmp_path / f'{count}.txt', [f'{picture_folder}/{n % 12:02d}.png {n % 2}' for n in range(count)])
        done = subprocess.run([sys.executable, '-c', code, path, tmp_path / 'cache'], cwd=ROOT,
                              capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 100, peaks


@pytest.fixture
def place_list(tmp_path):
    """A list of a picture of 256x256 pixels that tell their own place: blue is the column, green the row."""
    rows, columns = np.mgrid[:256, :256].astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'places.png'), np.stack([columns, rows, np.zeros_like(rows)], -1))
    return write_list(tmp_path / 'list.txt', ['places.png 0'] * 200)


def corners(images):
    """Return (left, top) of what each image shows of the picture of `place_list`."""
    return [tuple(np.int32(image[0, 0, :2] + (104, 117))) for image in images]


def test_crops_are_central_or_anywhere(place_list):
    options = {'scale_size': (256, 256), 'crop_size': (227, 227), 'mean': (104, 117, 124)}
    image = ImageDataGenerator(place_list, **options).next_batch(1)[0][0]
    assert corners([image]) == [(14, 14)] and image.shape == (227, 227, 3)  # 14 is (256 - 227) // 2, as in Caffe
    data = ImageDataGenerator(place_list, random_crop=True, seed=1, **options)
    first, second = ([*corners(data.next_batch(200)[0]), data.reset_pointer()][:-1] for _ in range(2))
    assert first != second
    for numbers_of_a_side in zip(*first):
        assert min(numbers_of_a_side) == 0 and max(numbers_of_a_side) == 29  # all 30 places, the last one too
    data.start_epoch(0)
    assert corners(data.next_batch(200)[0]) == first
