import collections
import subprocess
import sys

import cv2
import numpy as np
import pytest

from datagenerator import ImageDataGenerator, draw_epoch
from inputs.views import views_of
from tests.helpers import ROOT, write_list


def numbers(images):
    """Return the numbers of the pictures of `picture_folder` that the rows show.

    images: uint8 pixels, or float32 minus the mean.
    """
    mean = 0 if images.dtype == np.uint8 else 104
    return [round((float(blue) + mean) / 20) for blue in images[:, 0, 0, 0]]


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


def test_an_epoch_follows_from_its_seed_and_number_alone(picture_list):
    first = ImageDataGenerator(picture_list, True, True, nb_classes=3, seed=5)
    again = ImageDataGenerator(picture_list, True, True, nb_classes=3, seed=5)
    np.random.seed(0)
    first.reset_pointer()
    again.start_epoch(1)
    np.testing.assert_equal(first.epoch_order, again.epoch_order)
    np.testing.assert_equal(first.epoch_order, draw_epoch(5, 1, 12, True, 2))
    other = draw_epoch(6, 1, 12, True, 2)
    assert other.order.tolist() != first.epoch_order.order.tolist()
    assert other.views.tolist() != first.epoch_order.views.tolist()


def test_epochs_are_those_of_runs_made_before():
    """A resumed run reads the rest of its epoch: these numbers were drawn by the first edition."""
    order, views = draw_epoch(5, 3, 8, True, 2)
    assert order.tolist() == [6, 1, 5, 0, 4, 7, 2, 3]
    assert views.tolist() == [0, 1, 0, 1, 1, 1, 0, 0]


def test_without_shuffle_and_flips_nothing_changes():
    order, views = draw_epoch(5, 3, 8, False, 1)
    assert order.tolist() == list(range(8)) and not views.any()


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


def test_the_well_known_methods_work(picture_list):
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


def test_next_batch_is_next_pixels_minus_the_mean(picture_list):
    """Exactly: pixels and mean are whole numbers."""
    options = {'horizontal_flip': True, 'shuffle': True, 'nb_classes': 3, 'seed': 5}
    images, labels = ImageDataGenerator(picture_list, **options).next_batch(5)
    pixels, same_labels = ImageDataGenerator(picture_list, **options).next_pixels(5)
    assert images.dtype == np.float32 and pixels.dtype == np.uint8
    assert (images == pixels.astype(float) - [104, 117, 124]).all()
    assert (labels == same_labels).all()


def test_the_size_of_a_batch_may_change_within_an_epoch(picture_list):
    data = ImageDataGenerator(picture_list, nb_classes=3)
    got = [numbers(data.next_pixels(size)[0]) for size in (2, 5, 1, 64)]
    assert got == [[0, 1], [2, 3, 4, 5, 6], [7], [8, 9, 10, 11]]


def test_an_image_that_vanishes_is_an_error_at_its_turn(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((5, 5, 3), np.uint8))
    path = write_list(tmp_path / 'list.txt', ['a.png 0', 'a.png 1', 'gone.png 1'])
    data = ImageDataGenerator(path)
    assert len(data.next_batch(2)[0]) == 2
    with pytest.raises(ValueError, match='gone.png: No such file'):
        data.next_batch(2)


MEMORY_TRIAL = '''
import resource, sys
from datagenerator import ImageDataGenerator
from inputs.checks import find_broken
from inputs.images import load_image
from inputs.lists import read_list
image_list = read_list(sys.argv[1])
find_broken([image_list], load_image, sys.argv[2])
data = ImageDataGenerator(image_list, True, True, seed=0)
for _ in range(6):
    data.next_batch(128)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
'''


def test_memory_does_not_grow_with_the_list(tmp_path, picture_folder):
    peaks = []
    for count in (1000, 100_000):
        lines = [f'{picture_folder}/{n % 12:02d}.png {n % 2}' for n in range(count)]
        path = write_list(tmp_path / f'{count}.txt', lines)
        done = subprocess.run([sys.executable, '-c', MEMORY_TRIAL, path, tmp_path / 'cache'],
                              cwd=ROOT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 100, peaks


def test_a_broken_image_can_be_asked_for_again(picture_folder, tmp_path):
    """Each time it is the same error; then a new epoch begins as ever."""
    path = write_list(tmp_path / 'list.txt', [f'{picture_folder}/00.png 0', 'gone.png 1'])
    data = ImageDataGenerator(path)
    with pytest.raises(ValueError, match='gone.png'):
        data.next_batch(2)
    data.start_epoch(0, pointer=1)
    with pytest.raises(ValueError, match='gone.png'):
        data.next_batch(1)
    data.start_epoch(1)
    assert len(data.next_batch(1)[0]) == 1


@pytest.fixture
def place_list(tmp_path):
    """A list of a picture of 256x256 pixels; blue is the column of a pixel, green its row."""
    rows, columns = np.mgrid[:256, :256].astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'places.png'), np.stack([columns, rows, np.zeros_like(rows)], -1))
    return write_list(tmp_path / 'list.txt', ['places.png 0'] * 200)


PLACES = [(14, 14), (0, 0), (29, 0), (0, 29), (29, 29)]  # (left, top) of the crops


def corners(images):
    """Return (left, top) of each image in the picture of `place_list`."""
    return [tuple(np.int32(image[0, 0, :2] + (104, 117))) for image in images]


def test_an_epoch_takes_one_view_of_each_image(place_list):
    data = ImageDataGenerator(place_list, views=views_of('crops', False), seed=1)
    first = corners(data.next_batch(200)[0])
    assert first == [PLACES[number] for number in data.epoch_order.views]
    counts = collections.Counter(first)
    assert set(counts) == set(PLACES)
    assert 20 < min(counts.values()) and max(counts.values()) < 60  # of 200, 40 each on average
    data.reset_pointer()
    assert corners(data.next_batch(200)[0]) != first
    data.start_epoch(0)
    assert corners(data.next_batch(200)[0]) == first


def test_all_views_of_an_image_follow_each_other(place_list):
    data = ImageDataGenerator(place_list, views=views_of('crops', False), all_views=True)
    pixels, labels = data.next_pixels(3)
    assert pixels.shape == (15, 227, 227, 3) and labels.shape == (3, 2)
    assert data.rows_per_image == 5 and data.pointer == 3
    assert corners(pixels - data.mean) == 3 * PLACES


def test_whole_pictures_are_scaled_to_any_size(place_list):
    data = ImageDataGenerator(place_list, horizontal_flip=True, scale_size=(100, 50), seed=1)
    pixels, _ = data.next_pixels(8)
    assert pixels.shape == (8, 50, 100, 3)
    is_mirrored = pixels[:, 0, 0, 0] > pixels[:, 0, -1, 0]  # blue is the column
    assert is_mirrored.tolist() == data.epoch_order.views[:8].astype(bool).tolist()


def test_shards_yield_the_batches_of_the_whole_list(picture_list):
    options = {'shuffle': True, 'nb_classes': 3, 'seed': 5}
    whole = ImageDataGenerator(picture_list, **options)
    shards = [ImageDataGenerator(picture_list, **options, shard=(index, 2)) for index in (0, 1)]
    for images, _ in whole.batches(5):
        even, odd = (numbers(shard.next_batch(5)[0]) for shard in shards)
        assert all(n % 2 == 0 for n in even) and all(n % 2 == 1 for n in odd)
        assert sorted(even + odd) == sorted(numbers(images))


def test_another_order_cancels_what_was_prefetched(picture_list):
    data = ImageDataGenerator(picture_list, shuffle=True, nb_classes=3, seed=5)
    data.next_batch(4)
    data.start_epoch(1, pointer=3)
    got = numbers(data.next_batch(9)[0])
    assert got == draw_epoch(5, 1, 12, True, 1).order[3:].tolist()


@pytest.mark.parametrize('shard', [(0, 1), (1, 2)])
def test_drawn_views_are_those_that_the_first_epochs_take(picture_list, shard):
    options = {'views': views_of('crops', True), 'shuffle': True, 'seed': 3, 'shard': shard,
               'nb_classes': 3}
    generator = ImageDataGenerator(picture_list, **options)
    taken = np.zeros((10, generator.data_size), bool)
    for epoch in range(4):
        generator.start_epoch(epoch)
        for index in range(generator.data_size):
            taken[generator.epoch_order.views[index], index] = True
    index, count = shard
    drawn = generator.drawn_views(4)
    np.testing.assert_array_equal(drawn, taken[:, index::count])
    assert 0 < drawn.mean() < 1 and generator.drawn_views(10**9).all()
    assert ImageDataGenerator(picture_list, all_views=True, **options).drawn_views(1).all()
