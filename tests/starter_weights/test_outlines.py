import cv2
import numpy as np

from sample.draw import SHAPES, outline
from starter_weights.outlines import make_shapes


def cover(contours, degrees=0):
    """Return the pixels that a shape covers, bool [100, 100]: of fixed area and centre, rotated."""
    contours = [np.float32(contour) for contour in contours]
    area = cv2.contourArea(contours[0]) - sum(cv2.contourArea(hole) for hole in contours[1:])
    moments = cv2.moments(contours[0])
    centre = np.array([moments['m10'], moments['m01']]) / moments['m00']
    matrix = cv2.getRotationMatrix2D((0, 0), degrees, 30 / np.sqrt(area))[:, :2]
    points = [np.int32(np.round(16 * ((contour - centre) @ matrix + 50))) for contour in contours]
    return cv2.fillPoly(np.zeros((100, 100), np.uint8), points, 1, cv2.LINE_8, 4) > 0


def test_no_shape_is_one_of_the_samples_five():
    """Intersection over union is below 0.95, however one of the two shapes is rotated."""
    theirs = [cover([outline(shape)]) for shape in SHAPES]
    ours = [cover(shape, degrees) for shape in make_shapes() for degrees in range(0, 360, 5)]
    assert len(ours) == 64 * 72 and len(theirs) == 5
    assert max((one & other).sum() / (one | other).sum() for one in ours for other in theirs) < 0.95


def test_shapes_have_one_size():
    for shape in make_shapes():
        np.testing.assert_allclose(shape[0].mean(0), 0, atol=1e-5)
        assert np.isclose((shape[0] ** 2).sum(1).mean(), 1, rtol=1e-5)
