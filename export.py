"""Write a finished run as SavedModel or TensorFlow Lite: `python export.py RUN --saved_model DIR --tflite FILE`.

Either takes images as a client has them, with the preprocessing inside. Signatures of the SavedModel:
  serving_default  images: uint8 RGB [n, 227, 227, 3]
  encoded          image_bytes: string [n], the contents of JPEG or PNG files of any size
Both answer probabilities, float32 [n, classes], and class_names, string [n, classes]: a row an image, because
TensorFlow Serving wants as many rows of every output. The TensorFlow Lite file takes `images` and answers
`probabilities`; the class names are in it as labels.txt, in the way of its associated files: unzip takes them out.
"""

import dataclasses
import os
import tempfile
import zipfile

from alexnet import IMAGE_SIZE
from run_folder.trained_run import read_run, rebuild_network
from runtime.command import run_command
from runtime.files import new_file
from runtime.flags import CheckedSettings, flag, parse_settings, positional
from runtime.tf1 import error_line, open_session, quiet_startup, tf


@dataclasses.dataclass(frozen=True)
class Settings(CheckedSettings):
    """Write a finished run as a model that needs nothing of this project."""

    run: str = positional('run folder, or one of its checkpoints: runs/x/checkpoints/best-7')
    saved_model: str | None = flag(None, 'a new folder for a SavedModel; for TensorFlow Serving a number: flowers/1')
    tflite: str | None = flag(None, 'a new file for TensorFlow Lite: flowers.tflite')
    checkpoint: str | None = flag(None, 'best, last, or the number of an epoch that has one; None: best')


def export(settings):
    """Write what the settings ask for; raises ValueError for a run that does not work or a target that is there."""
    targets = [path for path in (settings.saved_model, settings.tflite) if path]
    if not targets:
        raise ValueError('nothing to write: give --saved_model DIR, --tflite FILE, or both')
    for path in targets:
        if os.path.lexists(path) or targets.count(path) > 1:
            raise ValueError(f'{path} exists already: name another one, or delete it')
    run = read_run(settings.run, settings.checkpoint)
    for path in targets:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with tf.Graph().as_default():
        image_bytes = tf.placeholder(tf.string, [None], 'image_bytes')
        # AutoGraph would write the function anew, and leave the file that it is written to.
        decode_one = tf.autograph.experimental.do_not_convert(lambda content: decode(content, run.scale_size))
        decoded = tf.map_fn(decode_one, image_bytes, fn_output_signature=tf.uint8)
        images = tf.ensure_shape(decoded, [None, IMAGE_SIZE, IMAGE_SIZE, 3], 'images')
        model, restore = rebuild_network(run, tf.cast(tf.reverse(images, [3]), tf.float32) - run.image_mean)
        probabilities = tf.nn.softmax(model.fc8, name='probabilities')
        names = tf.tile(tf.constant(run.class_names)[None], [tf.shape(probabilities)[0], 1])
        with open_session() as session:
            restore(session)
            # The decoded images are fed in place of being computed: one network serves both signatures.
            if settings.saved_model:
                answers = {'probabilities': probabilities, 'class_names': names}
                write_saved_model(settings.saved_model, session, {
                    'serving_default': ({'images': images}, answers),
                    'encoded': ({'image_bytes': image_bytes}, answers)})
            if settings.tflite:
                write_tflite(settings.tflite, session, images, probabilities, run.class_names)
    return targets


def decode(content, scale_size):
    """Return the picture in a JPEG or PNG file's content, a string, as uint8 RGB [227, 227, 3], as load_image has it.

    scale_size: (width, height) that the picture is scaled to; of larger ones the centre is cut out. Unlike OpenCV,
    TensorFlow leaves a photo as it is stored, whatever its EXIF data say of the camera's orientation.
    """
    picture = tf.io.decode_jpeg(content, channels=3, dct_method='INTEGER_ACCURATE')[None]  # it takes PNG as well
    size = scale_size[::-1]
    shrinks = tf.reduce_all(tf.shape(picture)[1:3] >= size)
    scaled = tf.cond(shrinks, lambda: tf.image.resize_area(picture, size),
                     lambda: tf.image.resize_bilinear(picture, size, half_pixel_centers=True))[0]
    top, left = ((side - IMAGE_SIZE) // 2 for side in size)
    return tf.cast(tf.round(scaled[top:top + IMAGE_SIZE, left:left + IMAGE_SIZE]), tf.uint8)


def write_saved_model(folder, session, signatures):
    """Write the session's graph and variables; signatures: {name: ({name: input}, {name: output})}."""
    parent = os.path.dirname(os.path.abspath(folder))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix='.export-') as unfinished:
        builder = tf.saved_model.Builder(os.path.join(unfinished, 'model'))
        builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], {
            name: tf.saved_model.predict_signature_def(*tensors) for name, tensors in signatures.items()})
        builder.save()
        os.rename(os.path.join(unfinished, 'model'), folder)


def write_tflite(path, session, images, probabilities, class_names):
    """Write the part of the session's graph between two tensors, float32, with the class names in labels.txt."""
    model = tf.lite.TFLiteConverter.from_session(session, [images], [probabilities]).convert()
    with new_file(path, 'wb') as file:
        file.write(model)
        with zipfile.ZipFile(file, 'a') as archive:
            archive.writestr('labels.txt', ''.join(f'{name}\n' for name in class_names))


def main(arguments):
    """Run the command line; returns the exit status."""
    settings = parse_settings(Settings, arguments)
    tf.logging.set_verbosity(tf.logging.ERROR)  # half of what this is made of is called deprecated
    try:
        with quiet_startup():
            targets = export(settings)
        print('\n'.join(f'wrote {path}' for path in targets))
        return 0
    except tf.errors.OpError as error:  # a full disk or memory, as TensorFlow says it
        raise OSError(error_line(error)) from error


if __name__ == '__main__':
    run_command(main)
