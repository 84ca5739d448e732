import numpy as np
import pytest

from starter_weights.procedural import NONE, NUM_NUMBERS, draw, make_bank


@pytest.fixture(scope='module')
def bank():
    return make_bank(18)


def test_textures_differ(bank):
    textures = np.stack(bank.textures)
    assert textures.shape == (18, 384, 384) and textures.dtype == np.uint8
    assert (textures.std((1, 2)) > 20).all()
    assert len({texture.tobytes() for texture in bank.textures}) == 18


def test_labels_have_the_shapes_of_the_docstring(bank):
    image, classes, numbers = draw(bank, np.random.default_rng(0), 100)
    assert image.shape == (100, 100, 3) and image.dtype == np.uint8
    assert len(classes) == 3 and len(numbers) == NUM_NUMBERS
    assert NONE <= classes[0] < 64 and all(NONE <= number < 18 for number in classes[1:])


def test_numbers_say_what_is_in_the_image(bank):
    """The median of a plain image, by NumPy, is near the ground's colour among the numbers."""
    random, errors = np.random.default_rng(0), []
    for _ in range(60):
        image, (shape, ground, _), numbers = draw(bank, random, 100)
        if shape == ground == NONE:
            colour = 64 * (np.array(numbers[:3]) + 2)
            errors.append(np.abs(np.median(image, (0, 1)) - colour).max())
    assert len(errors) > 1 and np.median(errors) < 60
