"""Write a finished run as SavedModel or TensorFlow Lite: `python export.py RUN --saved_model DIR`.

Both take images as a client has them; the preprocessing is inside. Signatures of the SavedModel:
  serving_default  images: uint8 RGB [n, 227, 227, 3]
  encoded          image_bytes: string [n], the contents of JPEG or PNG files of any size
Both return probabilities, float32 [n, classes], and class_names, string [n, classes]. The names are
repeated per image, because TensorFlow Serving needs the same number of rows in every output. The
TensorFlow Lite file takes `images` and returns `probabilities`; the class names are its associated
file labels.txt, which unzip extracts.
"""

import dataclasses
import os
import tempfile
import zipfile
from typing import Any, NamedTuple

from alexnet import IMAGE_SIZE
from run_folder.trained_run import read_run, rebuild_network
from runtime.command import run_command
from runtime.files import new_file
from runtime.flags import CheckedSettings, flag, parse_settings, positional
from runtime.tf1 import error_line, open_session, quiet_startup, tf


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Write a finished run as a model that needs nothing of this project."""

    run: str = positional(
        'run folder, or one of its checkpoints: runs/x/checkpoints/best-7', is_path=True)
    saved_model: str | None = flag(
        None, 'a new folder for a SavedModel; for TensorFlow Serving a number: flowers/1',
        is_path=True)
    tflite: str | None = flag(
        None, 'a new file for TensorFlow Lite: flowers.tflite', is_path=True)
    checkpoint: str | None = flag(
        None, 'best, last, or the number of an epoch that has one; None: best')


class ServingTensors(NamedTuple):
    """The inputs and outputs of an exported model."""

    image_bytes: Any    # string [n], JPEG or PNG files
    images: Any         # uint8 RGB [n, 227, 227, 3]; decoded from image_bytes, or fed
    probabilities: Any  # float32 [n, classes]
    class_names: Any    # string [n, classes]


def export(settings: Settings) -> list[str]:
    """Write what the settings ask for; return the paths.

    Raises ValueError for a run that does not work, and for a target that exists.
    """
    targets = find_targets(settings)
    run = read_run(settings.run, settings.checkpoint)
    for path in targets:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with tf.Graph().as_default():
        tensors, restore = build_serving_graph(run)
        with open_session() as session:
            restore(session)
            if settings.saved_model:
                write_saved_model(settings.saved_model, session, signatures(tensors))
            if settings.tflite:
                write_tflite(settings.tflite, session, tensors.images, tensors.probabilities,
                             run.class_names)
    return targets


def find_targets(settings):
    """Return the paths to write; raise ValueError if there are none, or if one exists."""
    targets = [path for path in (settings.saved_model, settings.tflite) if path]
    if not targets:
        raise ValueError('nothing to write: give --saved_model DIR, --tflite FILE, or both')
    for path in targets:
        if os.path.lexists(path) or targets.count(path) > 1:
            raise ValueError(f'{path} exists already: name another one, or delete it')
    return targets


def build_serving_graph(run):
    """Add a run's network with its preprocessing to the graph; return (ServingTensors, restore).

    restore: function of a session that loads the run's checkpoint.
    """
    image_bytes = tf.placeholder(tf.string, [None], 'image_bytes')
    # AutoGraph would rewrite the function, and leave the file that it is written to.
    decode_one = tf.autograph.experimental.do_not_convert(
        lambda content: decode(content, run.views[0].scale_size))
    decoded = tf.map_fn(decode_one, image_bytes, fn_output_signature=tf.uint8)
    images = tf.ensure_shape(decoded, [None, IMAGE_SIZE, IMAGE_SIZE, 3], 'images')
    bgr = tf.cast(tf.reverse(images, [3]), tf.float32)
    model, restore = rebuild_network(run, bgr - run.image_mean)
    probabilities = tf.nn.softmax(model.fc8, name='probabilities')
    class_names = tf.tile(tf.constant(run.class_names)[None], [tf.shape(probabilities)[0], 1])
    return ServingTensors(image_bytes, images, probabilities, class_names), restore


def signatures(tensors):
    """Return {signature: ({name: input}, {name: output})} of the SavedModel.

    Feeding `images` replaces decoding, so that one network serves both signatures.
    """
    outputs = {'probabilities': tensors.probabilities, 'class_names': tensors.class_names}
    return {'serving_default': ({'images': tensors.images}, outputs),
            'encoded': ({'image_bytes': tensors.image_bytes}, outputs)}


def decode(content, scale_size):
    """Return the image in the content of a JPEG or PNG file as load_image has it.

    content: string tensor []. scale_size: (width, height) that the whole picture is scaled to; the
    centre is cut out. Returns uint8 RGB [227, 227, 3]. Unlike load_image, TensorFlow ignores the
    camera's orientation in EXIF data.
    """
    is_png = tf.equal(tf.strings.substr(content, 0, 4), b'\x89PNG')
    picture = tf.cond(is_png, lambda: decode_png(content), lambda: decode_jpeg(content))[None]
    size = scale_size[::-1]
    shrinks = tf.reduce_all(tf.shape(picture)[1:3] >= size)
    scaled = tf.cond(shrinks, lambda: tf.image.resize_area(picture, size),
                     lambda: tf.image.resize_bilinear(picture, size, half_pixel_centers=True))[0]
    top, left = ((side - IMAGE_SIZE) // 2 for side in size)
    cropped = scaled[top:top + IMAGE_SIZE, left:left + IMAGE_SIZE]
    return tf.cast(tf.round(cropped), tf.uint8)


def decode_jpeg(content):
    """Return the picture in a JPEG file, float32 RGB [height, width, 3], 0..255."""
    picture = tf.io.decode_jpeg(content, channels=3, dct_method='INTEGER_ACCURATE')
    return tf.cast(picture, tf.float32)


def decode_png(content):
    """Return the picture in a PNG file on white, float32 RGB [height, width, 3], 0..255.

    It is rounded as load_image does before scaling.
    """
    picture = tf.cast(tf.io.decode_png(content, channels=4), tf.float32)
    colour, alpha = picture[:, :, :3], picture[:, :, 3:]
    # TensorFlow fills in 2^depth - 1 for the alpha of a file without, also of 1, 2 or 4 bits.
    depth = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 24, 1), tf.uint8), tf.float32)
    is_filled = tf.reduce_all(tf.equal(alpha, 2 ** depth - 1))
    alpha = tf.where(is_filled, tf.fill(tf.shape(alpha), 255.), alpha)
    return tf.round(colour * alpha / 255) + 255 - alpha


def write_saved_model(folder, session, signatures):
    """Write the session's graph and variables as SavedModel into a new folder.

    signatures: {name: ({name: input}, {name: output})}. The folder appears when it is complete.
    """
    parent = os.path.dirname(os.path.abspath(folder))
    os.makedirs(parent, exist_ok=True)
    definitions = {name: tf.saved_model.predict_signature_def(*tensors)
                   for name, tensors in signatures.items()}
    with tempfile.TemporaryDirectory(dir=parent, prefix='.export-') as unfinished:
        path = os.path.join(unfinished, 'model')
        builder = tf.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], definitions)
        builder.save()
        os.rename(path, folder)


def write_tflite(path, session, images, probabilities, class_names):
    """Write the graph from `images` to `probabilities` as float32 TensorFlow Lite file.

    The class names are appended as labels.txt, one per line, in the way of TensorFlow Lite's
    associated files: as a ZIP archive.
    """
    model = tf.lite.TFLiteConverter.from_session(session, [images], [probabilities]).convert()
    with new_file(path, 'wb') as file:
        file.write(model)
        with zipfile.ZipFile(file, 'a') as archive:
            archive.writestr('labels.txt', ''.join(f'{name}\n' for name in class_names))


def main(arguments):
    """Run the command line; return the exit status."""
    settings = parse_settings(Settings, arguments)
    tf.logging.set_verbosity(tf.logging.ERROR)  # half of the functions used are deprecated
    try:
        with quiet_startup():
            targets = export(settings)
        print('\n'.join(f'wrote {path}' for path in targets))
        return 0
    except tf.errors.OpError as error:  # the disk or the memory is exhausted
        raise OSError(error_line(error)) from error


if __name__ == '__main__':
    run_command(main)
