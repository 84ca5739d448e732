import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from conftest import ROOT, write_list

import datagenerator
from datagenerator import (ImageDataGenerator, check_images, check_labels, load_image, map_ahead, read_class_names,
                           read_list)


def numbers(images):
    """Return which of the pictures of `picture_folder` the rows show."""
    return [round((blue + 104) / 20) for blue in images[:, 0, 0, 0]]


def test_read_list_gives_paths_from_its_folder_labels_and_line_numbers(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes(b'\xef\xbb\xbfa b.jpg 0\r\n\r\n# a comment 3\r\n/abs/c.jpg\t2\r\n  \r\n\xc3\xa9 \t d.jpg   1')
    got = read_list(str(path))
    assert got.paths == [str(tmp_path / 'a b.jpg'), '/abs/c.jpg', str(tmp_path / 'é \t d.jpg')]
    assert got.labels.tolist() == [0, 2, 1] and got.lines.tolist() == [1, 4, 6]


def test_read_list_takes_class_names(tmp_path):
    got = read_list(write_list(tmp_path / 'list.txt', ['a.jpg bee', 'b.jpg 0', 'c.jpg ant']), ['ant', 'bee'])
    assert got.labels.tolist() == [1, 0, 0]


def test_read_list_names_all_bad_lines_the_first_20_in_full(tmp_path):
    path = write_list(tmp_path / 'list.txt', ['a.jpg 0', 'alone.jpg', 'b.jpg -1', 'c.jpg 1.5', 'd.jpg wasp'])
    with pytest.raises(ValueError) as error:
        read_list(path)
    lines = str(error.value).splitlines()
    assert [line.split(': ')[0] for line in lines] == [f'{path}:{n}' for n in (2, 3, 4, 5)]
    with pytest.raises(ValueError) as error:
        read_list(write_list(tmp_path / 'long.txt', ['x'] * 50))
    assert len(str(error.value).splitlines()) == 21 and '50 such lines' in str(error.value)


@pytest.mark.parametrize('content', [b'', b'\n\n', b'# nothing\n'])
def test_a_list_without_images_is_an_error(tmp_path, content):
    (tmp_path / 'list.txt').write_bytes(content)
    with pytest.raises(ValueError, match='no image is listed'):
        read_list(str(tmp_path / 'list.txt'))


def test_class_names(tmp_path):
    (tmp_path / 'labels.txt').write_bytes('\ufeffred ant\r\nbee\r\n\r\n'.encode())
    assert read_class_names(str(tmp_path / 'labels.txt')) == ['red ant', 'bee']
    for content, message in (('', 'no class name'), ('a\nb\na\n', 'a more than once')):
        (tmp_path / 'labels.txt').write_text(content)
        with pytest.raises(ValueError, match=message):
            read_class_names(str(tmp_path / 'labels.txt'))


def test_labels_outside_the_classes_are_named_with_their_lines(tmp_path):
    image_list = read_list(write_list(tmp_path / 'list.txt', ['a.jpg 0', '', 'b.jpg 2', 'c.jpg 1', 'd.jpg 7']))
    with pytest.raises(ValueError) as error:
        check_labels(image_list, 2)
    assert ':3: label 2' in str(error.value) and ':5: label 7' in str(error.value)


def test_unreadable_images_are_named_with_their_lines(tmp_path, picture_folder):
    (tmp_path / 'text.jpg').write_text('not a picture')
    good = picture_folder / '00.png'
    image_list = read_list(write_list(tmp_path / 'list.txt', [f'{good} 0', 'text.jpg 0', f'{good} 1', 'gone.jpg 1']))
    with pytest.raises(ValueError) as error:
        check_images([image_list])
    lines = str(error.value).splitlines()
    assert len(lines) == 2 and ':2: ' in lines[0] and ':4: ' in lines[1] and 'does not exist' in lines[1]
    check_images([read_list(write_list(tmp_path / 'good.txt', [f'{good} 0']))])


def test_load_image_is_bgr_minus_the_mean(picture_folder):
    image = load_image(str(picture_folder / '03.png'))
    assert image.shape == (227, 227, 3) and image.dtype == np.float32
    np.testing.assert_array_equal(image, np.broadcast_to(np.float32([60 - 104, 10 - 117, 200 - 124]), image.shape))


def test_load_image_shrinks_by_area_and_scales_each_side_by_itself(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (681, 454, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    expected = pixels.reshape(227, 3, 227, 2, 3).mean((1, 3))  # 3 x 2 blocks, by NumPy
    np.testing.assert_allclose(load_image(str(tmp_path / 'a.png'), mean=np.zeros(3, np.float32)), expected, atol=0.51)


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
    with pytest.raises(ValueError, match='gone.png does not exist'):
        data.next_batch(2)


def test_map_ahead_keeps_order_and_stays_within_its_bound():
    started, most, lock = [0], [0], threading.Lock()

    def work(item):
        with lock:
            started[0] += 1
        return item * item
    with datagenerator.ThreadPoolExecutor(4) as pool:
        for done, value in enumerate(map_ahead(work, range(200), pool, ahead=10)):
            assert value == done * done
            most[0] = max(most[0], started[0] - done)
    assert most[0] <= 11


def test_memory_does_not_grow_with_the_list(tmp_path, picture_folder):
    code = ('import resource, sys\nfrom datagenerator import *\nimage_list = read_list(sys.argv[1])\n'
            'check_images([image_list])\ndata = ImageDataGenerator(image_list, True, True, seed=0)\n'
            'for _ in range(6): data.next_batch(128)\n'
            'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)')
    peaks = []
    for count in (1000, 100_000):
        path = write_list(tmp_path / f'{count}.txt', [f'{picture_folder}/{n % 12:02d}.png {n % 2}' for n in range(count)])
        done = subprocess.run([sys.executable, '-c', code, path], cwd=ROOT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 100, peaks


def test_large_jpegs_are_decoded_small_and_change_little(tmp_path):
    """Mean difference to a whole decoding under 1 of 255, on a photo-like picture of 4000 x 3000 with fine detail."""
    random = np.random.RandomState(0)
    pixels = sum(cv2.resize(random.uniform(0, 255 / 4, (3 * n, 4 * n, 3)), (4000, 3000), interpolation=cv2.INTER_CUBIC)
                 for n in (2, 10, 50, 300))
    cv2.imwrite(str(tmp_path / 'a.jpg'), np.clip(pixels, 0, 255))
    content = (tmp_path / 'a.jpg').read_bytes()
    assert datagenerator.jpeg_size(content) == (3000, 4000)
    assert datagenerator.decoding_flag(content, (227, 227)) == cv2.IMREAD_REDUCED_COLOR_4
    whole = cv2.resize(cv2.imread(str(tmp_path / 'a.jpg')), (227, 227), interpolation=cv2.INTER_AREA)
    difference = np.abs(load_image(str(tmp_path / 'a.jpg'), mean=np.zeros(3, np.float32)) - whole)
    assert difference.mean() < 1


@pytest.mark.parametrize('shape, flag', [((907, 2000), cv2.IMREAD_COLOR), ((908, 2000), cv2.IMREAD_REDUCED_COLOR_2),
                                         ((3632, 3632), cv2.IMREAD_REDUCED_COLOR_8), ((5, 5), cv2.IMREAD_COLOR)])
def test_twice_the_size_that_is_needed_is_kept(shape, flag):
    content = cv2.imencode('.jpg', np.zeros((*shape, 3), np.uint8))[1].tobytes()
    assert datagenerator.jpeg_size(content) == shape
    assert datagenerator.decoding_flag(content, (227, 227)) == flag


def test_other_content_has_no_jpeg_size():
    jpeg = cv2.imencode('.jpg', np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    for content in (b'', b'\xff', b'\xff\xd8', b'\xff\xd8' + b'\xff' * 50, b'\x89PNG\r\n', jpeg[:100], b'\xff\xd8\xff\xe0\0'):
        assert datagenerator.jpeg_size(content) is None


def test_a_million_lines_are_read_without_exploding(tmp_path):
    with open(tmp_path / 'list.txt', 'w') as file:
        file.writelines(f'folder/picture {n}.jpg {n % 10}\n' for n in range(1_000_000))
    code = ('import resource, sys, time\nfrom datagenerator import read_list\n'
            'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nimage_list = read_list(sys.argv[1])\n'
            'print(len(image_list.paths), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)')
    done = subprocess.run([sys.executable, '-c', code, tmp_path / 'list.txt'], cwd=ROOT, capture_output=True, text=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 1_000_000 and kilobytes < 400_000
