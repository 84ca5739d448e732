import cv2
import numpy as np
import pytest

from alexnet import LAYERS, AlexNet
from reports.figures import Mistake, explain_mistakes
from reports.heatmaps import (
    Heatmaps,
    grad_cam,
    heatmap_sheet,
    make_report_functions,
    overlay,
    scale_up,
)
from runtime.tf1 import assign_values, open_session, tf

pytestmark = pytest.mark.cpu  # heat of single images and of batches is compared within 1e-5

PAIRS = (2, 0), (0, 1), (1, 2)  # of classes, one per image of `network`


def by_hand(features, weights, number):
    """Grad-CAM in NumPy for the logits sum(features ** 2 * weights), float64 [height, width]."""
    gradients = 2 * features * weights[..., number]
    channel_weights = gradients.mean((0, 1))
    heat = np.maximum((features * channel_weights).sum(2), 0)
    return heat / heat.max()


def test_grad_cam_follows_the_paper():
    """Formulas (1) and (2) of Selvaraju et al. (2017), for logits with a known gradient."""
    draw = np.random.RandomState(0)
    features, weights = draw.randn(3, 4, 5, 6), draw.randn(4, 5, 6, 2)
    with tf.Graph().as_default(), open_session() as session:
        x = tf.placeholder(tf.float32, [None, 4, 5, 6])
        logits = tf.tensordot(x ** 2, tf.constant(weights, tf.float32), 3)
        maps = session.run(grad_cam(logits, x, tf.constant([1, 0, 1])), {x: features})
    assert maps.shape == (3, 4, 5) and maps.min() == 0
    for n, number in enumerate((1, 0, 1)):
        np.testing.assert_allclose(maps[n], by_hand(features[n], weights, number), atol=1e-5)


def test_without_anything_for_a_class_there_is_no_heat():
    """The one channel is positive, and speaks against class 0 alone."""
    with tf.Graph().as_default(), open_session() as session:
        x = tf.ones([2, 3, 3, 1])
        total = tf.reduce_sum(x, [1, 2])
        maps = session.run(grad_cam(tf.concat([-total, total], 1), x, tf.constant([0, 1])))
    assert (maps[0] == 0).all() and (maps[1] == 1).all()


@pytest.fixture(scope='module')
def network():
    """(session, uint8 images, AlexNet of random weights for 3 classes, its Heatmaps)."""
    with tf.Graph().as_default() as graph, open_session() as session:
        tf.set_random_seed(0)
        model = AlexNet(tf.placeholder(tf.uint8, [None, 227, 227, 3]), 1.0, 3, LAYERS)
        heatmaps = Heatmaps(model)
        session.run(tf.global_variables_initializer())
        graph.finalize()  # no operation is made later
        images = np.random.RandomState(0).randint(0, 256, (3, 227, 227, 3)).astype(np.uint8)
        yield session, images, model, heatmaps


def one_by_one(network):
    """Return the heatmaps for PAIRS, float32 [3, 2, 13, 13], each computed from pixels alone."""
    session, images, _, heatmaps = network
    return np.array([[heatmaps.compute(session, 'images', images[n:n + 1], [number])[0]
                      for number in pair] for n, pair in enumerate(PAIRS)])


def test_each_input_gives_the_same_heat(network):
    session, images, model, heatmaps = network
    expected = heatmaps.compute(session, 'images', images, [2, 0, 1])
    assert expected.shape == (3, 13, 13) and expected.max() == 1
    conv5 = session.run(model.outputs['conv5'], {model.images: images})
    for name, values in (('x', images - np.float32([104, 117, 124])), ('conv5', conv5)):
        np.testing.assert_allclose(heatmaps.compute(session, name, values, [2, 0, 1]), expected,
                                   atol=1e-5)


def test_several_classes_have_the_heat_of_images_one_by_one(network):
    session, images, _, heatmaps = network
    maps = heatmaps.compute_for_classes(session, images, PAIRS)
    np.testing.assert_allclose(maps, one_by_one(network), rtol=0, atol=1e-5)


def test_for_several_classes_an_image_is_fed_once(network, monkeypatch):
    session, images, _, heatmaps = network
    run, fed = session.run, []

    def noted(fetches, feed):
        fed.append([(values.dtype, len(values)) for values in feed.values()])
        return run(fetches, feed)
    monkeypatch.setattr(session, 'run', noted)
    heatmaps.compute_for_classes(session, images, PAIRS)
    assert fed == [[(np.uint8, 3)], [(np.float32, 6), (int, 6)]]


def test_each_class_of_an_image_has_its_own_heat(network):
    session, images, _, heatmaps = network
    maps = [heatmaps.compute(session, 'images', images[:1], [number]) for number in range(3)]
    assert np.abs(maps[0] - maps[1]).max() > 0.1 and np.abs(maps[1] - maps[2]).max() > 0.1


def test_heat_grows_with_its_image_bilinearly():
    """A ramp stays a ramp between the centres of its first and last cell, (n + 0.5) * 20 pixels."""
    heat = scale_up(np.tile(np.arange(4, dtype=np.float32), (3, 1)), 60, 80)
    assert heat.shape == (60, 80)
    np.testing.assert_allclose(heat[7, 10:70], np.arange(0.025, 3, 0.05), atol=1e-5)


def test_an_overlay_is_grey_where_cold_and_yellow_where_hot():
    image = np.full((26, 26, 3), (255, 0, 0), np.uint8)
    heat = np.zeros((13, 13), np.float32)
    heat[:6] = 1
    shown = overlay(image, heat)
    grey = int(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[0, 0])
    assert shown[-1, 0].tolist() == [grey] * 3
    expected = [0.25 * grey, 0.25 * grey + 0.75 * 230, 0.25 * grey + 0.75 * 255]
    np.testing.assert_allclose(shown[0, 0], expected, atol=1)


def test_a_sheet_has_the_image_and_a_tile_per_class():
    image = np.full((227, 227, 3), 90, np.uint8)
    heat = np.ones((13, 13), np.float32)
    sheet = heatmap_sheet('a.jpg', image, [('ant 0.9', heat), ('bee 0.1', 0 * heat)])
    assert sheet.shape == (227 + 18, 3 * 229 - 2, 3)
    assert (sheet[:227, :227] == 90).all() and (sheet[:227, 2 * 229:] == 90).all()
    assert (sheet[:227, 229:229 + 227, 2] > 200).all()


def test_the_report_explains_the_best_epoch(network):
    """Its fc8 is all zeros here, so that nothing speaks for any class."""
    session, images, model, heatmaps = network
    values, loaded = session.run(model.variables['fc8']), []

    def load_best(session):
        assign_values(session, model.variables['fc8'], [0 * value for value in values])
        loaded.append(session)
    assert one_by_one(network).any((2, 3)).all()
    fetch_conv1, explain = make_report_functions(session, heatmaps, load_best)
    assert fetch_conv1().shape == (11, 11, 3, 96) and not loaded
    assert not explain(images, PAIRS).any() and loaded == [session]
    assign_values(session, model.variables['fc8'], values)


def test_mistakes_in_the_report_have_the_heat_of_images_one_by_one(network):
    session, images, _, heatmaps = network
    _, explain = make_report_functions(session, heatmaps, lambda session: None)
    given = [Mistake(image, 'ant', 'bee', 0.5, pair)
             for image, pair in zip(images, PAIRS, strict=True)]
    for mistake, pair in zip(explain_mistakes(given, explain), one_by_one(network), strict=True):
        for shown, heatmap in zip(mistake.overlays, pair, strict=True):
            np.testing.assert_allclose(shown, np.float32(overlay(mistake.image, heatmap)), atol=1)
