"""Tries thirty cases that people reported of tools like this one; prints a table of what happens.

`python -m benchmarks.public_cases HYMENOPTERA CONV_WEIGHTS [PROJECT [NUMBER...]]` makes lists of the
photos in the folder HYMENOPTERA, trains fc6 to fc8 for an epoch, and tries the cases on the scripts
in the folder PROJECT, by default this one. Each case is decided by an independent source: Pillow, the
shell, NumPy, the bytes of a file. An older copy of the project as PROJECT gives the column `before`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
from PIL import Image

CASES = {}


def case(number, title):
    """Return a decorator that registers a function of a Trial as a case."""
    def register(function):
        CASES[number] = title, function
        return function
    return register


class Trial:
    """A folder with lists, weights and a run; commands are run in it."""

    def __init__(self, project, photos, weights, folder):
        self.project, self.photos, self.folder = os.path.abspath(project), photos, folder
        self.weights = os.path.abspath(weights)
        self.run('make_lists.py', os.path.abspath(photos), '--output', folder)
        self.small_list('train.txt', 'small.txt', 8)
        self.small_list('val.txt', 'few.txt', 4)

    def small_list(self, source, target, count):
        """Write a list of the first and last images of another list."""
        lines = self.read(source).splitlines()
        chosen = lines[2:2 + count] + lines[-count:]
        self.write(target, ''.join(f'{line}\n' for line in chosen))

    def path(self, *names):
        """Return a path in the folder."""
        return os.path.join(self.folder, *names)

    def read(self, name):
        """Return the text of a file."""
        with open(self.path(name), encoding='utf-8', errors='surrogateescape') as file:
            return file.read()

    def write(self, name, content):
        """Write a file; return its path."""
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        content = content.encode('utf-8', 'surrogateescape') if isinstance(content, str) else content
        with open(self.path(name), 'wb') as file:
            file.write(content)
        return self.path(name)

    def exists(self, name):
        """Return whether something of this name is in the folder."""
        return os.path.lexists(self.path(name))

    def run(self, script, *arguments, cwd=None, shell='', timeout=200, **environment):
        """Run a script of the project, or python with `-c`; return (status, output, errors)."""
        program = [script] if script == '-c' else [os.path.join(self.project, script)]
        words = [sys.executable, *program, *map(str, arguments)]
        environment = {**os.environ, 'PYTHONPATH': self.project, **environment}
        command = ['bash', '-c', f'exec "$@" {shell}', 'bash', *words]
        done = subprocess.run(command, cwd=cwd or self.folder, capture_output=True, text=True,
                              errors='replace', timeout=timeout, env=environment)
        return done.returncode, done.stdout, done.stderr

    def flags(self, *more):
        """Return the flags of a short run."""
        return ['--train_file', 'small.txt', '--val_file', 'few.txt', '--weights_path', self.weights,
                '--train_layers', 'fc6', 'fc7', 'fc8', '--num_epochs', '1', '--cache_dir',
                self.path('cache'), *more]

    def finetune(self, *more, **options):
        """Run finetune.py for an epoch."""
        return self.run('finetune.py', *self.flags(*more), **options)

    def trained(self):
        """Return the folder of a run, made once."""
        if not self.exists('trained'):
            status, _, errors = self.finetune('--run_dir', 'trained')
            assert status == 0, errors
        return self.path('trained')

    def predict(self, *arguments, **options):
        """Run predict.py on the trained run."""
        return self.run('predict.py', self.trained(), *arguments, **options)

    def probabilities(self, picture):
        """Return the probabilities that predict.py gives for a picture, {class: probability}."""
        name = f'{os.path.basename(picture)}.json'
        if self.exists(name):
            os.remove(self.path(name))
        self.predict(picture, '--output', name)
        [record] = json.loads(self.read(name))['images']
        return {guess['class']: guess['probability'] for guess in record['predictions']}

    def same_answer(self, picture, reference):
        """Return whether a picture gets the probabilities of pixels, uint8 RGB, as a PNG file."""
        Image.fromarray(reference).save(self.path('reference.png'))
        got, wanted = self.probabilities(picture), self.probabilities(self.path('reference.png'))
        return max(abs(got[name] - wanted[name]) for name in wanted) < 0.01


def one_line(shown):
    """Return whether text is one line that reports an error without a traceback."""
    return len(shown.strip().splitlines()) == 1 and 'error:' in shown and 'Traceback' not in shown


def refused(result, *words):
    """Return whether a command ended with status 2 and one line that has these words."""
    status, _, errors = result
    return status == 2 and one_line(errors) and all(word in errors for word in words)


def photo(trial):
    """Return a photo of the set, uint8 RGB [300, 400, 3]."""
    path = trial.read('val.txt').splitlines()[-1].rsplit(maxsplit=1)[0]
    return np.array(Image.open(path).convert('RGB').resize((400, 300)))


@case(1, 'values of Settings are checked as flags are')
def settings_in_the_file(trial):
    code = ('import finetune, sys\n'
            'def works(**values):\n'
            '    try:\n        settings = finetune.Settings(**values)\n'
            '        getattr(finetune, "check_settings", lambda settings: None)(settings)\n'
            '    except ValueError:\n        return False\n'
            '    return True\n'
            'wrong = [dict(optimizer="Momentum"), dict(lr_schedule="Cosine"), dict(cache_features=False),\n'
            '         dict(class_weights="Balanced"), dict(precision="fp16"), dict(batch_size=None)]\n'
            'right = [dict(train_layers=["fc8", "fc7"]), dict(train_layers="fc8")]\n'
            'print(sum(map(lambda v: works(**v), wrong)), finetune.Settings(**right[0]).train_layers,'
            ' finetune.Settings(**right[1]).train_layers)')
    _, out, _ = trial.run('-c', code)
    return out.strip() == "0 ('fc8', 'fc7') ('fc8',)"


@case(2, '~ in a path setting')
def tilde(trial):
    os.makedirs(trial.path('home'), exist_ok=True)
    status, _, _ = trial.finetune('--run_dir', '~/run2', HOME=trial.path('home'))
    return status == 0 and trial.exists('home/run2/metrics.csv') and not trial.exists('~')


@case(3, '--resume "" and --cache_dir "" (an unset shell variable)')
def empty_value(trial):
    before = set(os.listdir(trial.folder))
    resume = trial.finetune('--resume', '')
    cache = trial.finetune('--run_dir', 'run3', '--cache_dir', '')
    return (refused(resume, 'resume') and refused(cache, 'cache_dir')
            and set(os.listdir(trial.folder)) == before)


@case(4, '--run_dir s3://bucket/x')
def remote_folder(trial):
    result = trial.finetune('--run_dir', 's3://bucket/x')
    return refused(result, 's3://bucket/x') and not trial.exists('s3:') and not result[1]


@case(5, 'resume from another folder')
def resume_elsewhere(trial):
    trial.finetune('--run_dir', 'run5')
    result = trial.run('finetune.py', '--resume', trial.path('run5'), '--num_epochs', '2', cwd='/')
    return result[0] == 0 and '(epoch' in result[1]


@case(6, 'MPLBACKEND of a notebook, matplotlibrc of a user')
def matplotlib_of_a_user(trial):
    trial.write('rc/matplotlibrc', 'text.usetex: True\nsavefig.bbox: tight\n')
    status, _, errors = trial.finetune(
        '--run_dir', 'run6', MPLBACKEND='module://matplotlib_inline.backend_inline',
        MATPLOTLIBRC=trial.path('rc'))
    return status == 0 and 'report' not in errors and all(
        trial.exists(f'run6/{name}') for name in ('report.html', 'curves.png'))


@case(7, 'run within a notebook: a screen without reconfigure, a session that goes on')
def notebook(trial):
    code = ('import builtins, io, runpy, sys\n'
            'builtins.get_ipython = lambda: None\n'
            'class OutStream(io.TextIOBase):\n'
            '    def write(self, text): return sys.__stdout__.write(text)\n'
            'sys.stdout = OutStream()\n'
            f'sys.argv = ["finetune.py", *{trial.flags("--run_dir", "run7")!r}]\n'
            'try:\n'
            f'    runpy.run_path({os.path.join(trial.project, "finetune.py")!r}, run_name="__main__")\n'
            'except SystemExit as end:\n    print("ended", end.code)\n'
            'print("the session goes on")\n')
    status, out, errors = trial.run('-c', code)
    return status == 0 and 'the session goes on' in out and 'Traceback' not in errors


@case(8, 'closed standard output or standard error')
def closed_streams(trial):
    results = [trial.finetune('--run_dir', 'run8', shell='>&-'),
               trial.finetune('--resume', 'run8', '--num_epochs', '2', shell='2>&-'),
               trial.finetune('--resume', 'run8', '--num_epochs', '3', shell='>&- 2>&-')]
    return [status for status, _, _ in results] == [0, 0, 0] and not any(
        'Traceback' in errors for _, _, errors in results)


@case(9, 'SIGHUP saves, status 129; nohup goes on')
def hangup(trial):
    command = [sys.executable, os.path.join(trial.project, 'finetune.py'),
               *trial.flags('--run_dir', 'run9', '--num_epochs', '100000')]
    process = subprocess.Popen(command, cwd=trial.folder, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    while '3/100000' not in process.stdout.readline():
        if process.poll() is not None:
            return False
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    return process.returncode == 129 and 'to resume' in errors and trial.exists('run9/checkpoints/last')


@case(10, 'no writable temporary folder')
def no_temporary_folder(trial):
    code = ('import tempfile\n'
            'def gone(*a, **o): raise FileNotFoundError(2, "No usable temporary directory found")\n'
            'tempfile.TemporaryFile = tempfile.gettempdir = tempfile.mkstemp = gone\n'
            'import finetune\nprint("imported")')
    status, out, _ = trial.run('-c', code)
    return status == 0 and 'imported' in out


@case(11, "TF_CONFIG of one process: '{}', an empty cluster, master")
def single_cluster(trial):
    configs = ['{}', '{"cluster": {}}', json.dumps(
        {'cluster': {'master': ['localhost:2222']}, 'task': {'type': 'master', 'index': 0}})]
    statuses = [trial.finetune('--run_dir', f'run11-{n}', TF_CONFIG=text)[0]
                for n, text in enumerate(configs)]
    return statuses == [0, 0, 0]


@case(12, 'a file system without flock')
def without_flock(trial):
    trial.write('site/sitecustomize.py', 'import errno, fcntl, os\ndef flock(*arguments):\n'
                '    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))\nfcntl.flock = flock\n')
    shutil.copytree(trial.trained(), trial.path('run12'))
    shutil.copytree(trial.path('cache'), trial.path('cache12'))
    for folder, _, _ in os.walk(trial.path('cache12')):
        open(os.path.join(folder, 'lock'), 'w').close()
    start = time.monotonic()
    status, _, errors = trial.finetune(
        '--resume', 'run12', '--num_epochs', '2', '--cache_dir', 'cache12',
        PYTHONPATH=f'{trial.path("site")}{os.pathsep}{trial.project}')
    return status == 0 and 'Traceback' not in errors and time.monotonic() - start < 60


@case(13, '[ ] * ? in the path of a run folder')
def pattern_in_a_path(trial):
    name = trial.path('run [13] *?')
    shutil.copytree(trial.trained(), name)
    return (trial.run('predict.py', name, 'few.txt')[0] == 0
            and trial.run('finetune.py', '--resume', name, '--num_epochs', '2')[0] == 0)


@case(14, 'BMP of 32 bits whose fourth byte is unused')
def bmp_without_alpha(trial):
    pixels = photo(trial)
    rows = np.zeros((300, 400, 4), np.uint8)
    rows[..., :3] = pixels[::-1, :, ::-1]
    header = b'BM' + np.array([54 + rows.nbytes, 0, 54, 40, 400, 300], '<u4').tobytes()
    header += np.array([1, 32], '<u2').tobytes() + np.array([0, rows.nbytes, 0, 0, 0, 0], '<u4').tobytes()
    return trial.same_answer(trial.write('x.bmp', header + rows.tobytes()), pixels)


@case(15, 'TIFF with a fourth band that is not alpha')
def tiff_with_infrared(trial):
    pixels = photo(trial)
    bands = np.dstack([pixels, np.full((300, 400), 60, np.uint8)])
    trial.write('x.tif', tiff_bytes(bands, {338: 0}))
    return trial.same_answer(trial.path('x.tif'), pixels)


@case(16, 'TIFF of 16 bits with separate planes; with white as 0')
def tiff_of_16_bits(trial):
    pixels = photo(trial)
    trial.write('planes.tif', tiff_bytes(np.uint16(pixels) * 257, {284: 2}))
    gray = np.array(Image.fromarray(pixels).convert('L'))
    trial.write('white0.tif', tiff_bytes(65535 - np.uint16(gray)[..., None] * 257, {262: 0}))
    return (trial.same_answer(trial.path('planes.tif'), pixels)
            and trial.same_answer(trial.path('white0.tif'), np.dstack([gray] * 3)))


def tiff_bytes(pixels, changed):
    """Return an uncompressed TIFF file of pixels, [height, width, bands] (TIFF 6.0, section 2)."""
    height, width, bands = pixels.shape
    planes = changed.get(284) == 2
    data = (pixels.transpose(2, 0, 1) if planes else pixels).astype(pixels.dtype.newbyteorder('<'))
    tags = {256: width, 257: height, 258: [8 * pixels.itemsize] * bands, 259: 1,
            262: 2 if bands > 2 else 1, 273: 0, 277: bands, 278: height, 279: 0, 284: 1, **changed}
    size = data.nbytes // bands if planes else data.nbytes
    count = bands if planes else 1
    start, extra, entries = 8, data.tobytes(), []
    tags[273] = [start + n * size for n in range(count)]
    tags[279] = [size] * count
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        kind = 'u4' if tag in (273, 279) else 'u2'
        content = np.array(values, f'<{kind}').tobytes()
        if len(content) > 4:
            offset = start + len(extra)
            extra += content
            content = np.uint32(offset).astype('<u4').tobytes()
        entries.append(np.array([tag, 4 if kind == 'u4' else 3], '<u2').tobytes()
                       + np.array([len(values)], '<u4').tobytes() + content.ljust(4, b'\0'))
    directory = np.array([len(entries)], '<u2').tobytes() + b''.join(entries) + bytes(4)
    return b'II*\0' + np.array([start + len(extra)], '<u4').tobytes() + extra + directory


@case(17, 'PNG with a broken colour profile: no lines of libpng')
def png_with_broken_profile(trial):
    Image.fromarray(photo(trial)).save(trial.path('x.png'), icc_profile=b'broken profile' * 20)
    status, out, errors = trial.predict('x.png')
    return status == 0 and 'libpng' not in errors and 'iCCP' not in errors


@case(18, 'predict.py FOLDER takes .jfif, .JPE and names without an ending')
def endings(trial):
    for name in ('a.jfif', 'b.JPE', 'c', 'd.jpg'):
        Image.fromarray(photo(trial)).save(trial.path('endings') if False else make(trial, name), 'JPEG')
    trial.write('endings/notes.doc', 'no picture')
    _, out, errors = trial.predict('endings')
    return len(out.strip().splitlines()) == 4 and '1' in errors


def make(trial, name):
    """Return the path of a file in the folder endings, which is made."""
    os.makedirs(trial.path('endings'), exist_ok=True)
    return trial.path('endings', name)


@case(19, 'thumbnail folders of a NAS are no photos')
def nas_folders(trial):
    for class_name in ('ants', 'bees'):
        for number in range(4):
            for inner in ('', '@eaDir/', '#recycle/', '__MACOSX/'):
                noise = np.random.default_rng(number).integers(0, 255, (50, 50, 3), np.uint8)
                trial.write(f'nas/{class_name}/{inner}{number}.png', cv2.imencode('.png', noise)[1].tobytes())
    os.makedirs(trial.path('lists19'), exist_ok=True)
    status, _, _ = trial.run('make_lists.py', 'nas', '--output', 'lists19')
    text = trial.read('lists19/train.txt') + trial.read('lists19/val.txt')
    return status == 0 and not any(name in text for name in ('@eaDir', '#recycle', '__MACOSX'))


def write_classes(trial, top, parts):
    """Write two small pictures into each class folder of {part: class names}."""
    for part, names in parts.items():
        for n, name in enumerate(names):
            for number in range(2):
                noise = np.random.default_rng([n, number, len(part)]).integers(0, 255, (50, 50, 3), np.uint8)
                trial.write(os.path.join(top, part, name, f'{number}.png'), cv2.imencode('.png', noise)[1].tobytes())
    os.makedirs(trial.path(f'lists-{top}'), exist_ok=True)


@case(20, 'one class name in NFC and NFD')
def composed_names(trial):
    write_classes(trial, 'nfc', {'train': ['K\u00e4fer', 'Ameise'], 'val': ['Ka\u0308fer', 'Ameise']})
    trial.run('make_lists.py', 'nfc', '--output', 'lists-nfc')
    return len(trial.read('lists-nfc/labels.txt').split()) == 2


@case(21, "the order of classes '1' and '01'")
def numbers_as_names(trial):
    write_classes(trial, 'numbers', {'': ['1', '01', '2', '02']})
    texts = set()
    for seed in range(6):
        trial.run('make_lists.py', 'numbers', '--output', 'lists-numbers', '--force', PYTHONHASHSEED=str(seed))
        texts.add(trial.read('lists-numbers/labels.txt'))
    return len(texts) == 1


@case(22, "make_lists.py '# photos'")
def folder_like_a_comment(trial):
    write_classes(trial, '# photos', {'': ['ants', 'bees']})
    trial.run('make_lists.py', '# photos', '--output', '.', '--force')
    lines = [line for line in trial.read('train.txt').splitlines() if not line.startswith('# ')]
    trial.run('make_lists.py', os.path.abspath(trial.photos), '--output', trial.folder, '--force')
    return len(lines) == 2


@case(23, 'class names with U+200C, U+200D, U+00A0; a number and a tab in labels.txt')
def unusual_letters(trial):
    write_classes(trial, 'letters', {'': ['\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645', 'a\u00a0b']})
    status, _, errors = trial.run('make_lists.py', 'letters', '--output', 'lists-letters')
    trial.write('lists23/labels.txt', '0\tants\n1\tbees\n')
    _, _, shown = trial.finetune('--labels_file', 'lists23/labels.txt', '--run_dir', 'run23')
    return status == 0 and 'not UTF-8' not in errors + shown and 'labels.txt:1' in shown


@case(24, "'ants,bees' on one line of labels.txt")
def names_on_one_line(trial):
    trial.write('lists24/labels.txt', 'ants,bees\n')
    result = trial.finetune('--labels_file', 'lists24/labels.txt', '--run_dir', 'run24')
    return result[0] == 2 and 'lists24/labels.txt' in result[2] and 'small.txt' not in result[2]


@case(25, 'predict.py on a list whose labels the run does not know')
def unknown_labels(trial):
    path = trial.read('few.txt').splitlines()[0].rsplit(maxsplit=1)[0]
    trial.write('unknown.txt', f'{path} -1\n{path} wasps\n')
    _, _, errors = trial.predict('unknown.txt')
    return 'No such file' not in errors and 'unknown.txt:1' in errors and 'label' in errors


@case(26, 'predict.py runs/x/checkpoints/last')
def text_file_of_a_checkpoint(trial):
    return trial.run('predict.py', os.path.join(trial.trained(), 'checkpoints', 'last'), 'few.txt')[0] == 0


@case(27, 'a bad label in a short list is named by its line')
def bad_line_first(trial):
    lines = trial.read('few.txt').splitlines()
    trial.write('bad.txt', f'{lines[0]}\n{lines[1].rsplit(maxsplit=1)[0]} 77777\nx.jpg wasp\n')
    _, _, errors = trial.finetune('--train_file', 'bad.txt', '--labels_file', 'None', '--run_dir', 'run27')
    return 'bad.txt:3' in errors


@case(28, '.caffemodel of NVIDIA Caffe: raw_data')
def raw_data(trial):
    weights = np.float16(np.random.default_rng(0).random((96, 3, 11, 11)))
    biases = np.float16(np.arange(96))
    blobs = [field(7, field(7, field(1, b''.join(map(varint, array.shape)))) + field(10, 2)
                   + field(12, array.tobytes())) for array in (weights, biases)]
    content = field(100, field(1, 'conv1') + field(2, 'Convolution') + b''.join(blobs))
    trial.write('nvidia.caffemodel', content)
    script = 'convert_weights.py' if os.path.exists(
        os.path.join(trial.project, 'convert_weights.py')) else 'weights.py'
    trial.run(script, 'nvidia.caffemodel', 'nvidia.npy')
    if not trial.exists('nvidia.npy'):
        return False
    got = np.load(trial.path('nvidia.npy'), allow_pickle=True).item()['conv1']
    return np.array_equal(got[0], np.float32(weights).transpose(2, 3, 1, 0))


def varint(number):
    """Return protobuf's encoding of a number: 7 bits per byte, lowest first."""
    head = b''
    while number > 127:
        head += bytes([number & 127 | 128])
        number >>= 7
    return head + bytes([number])


def field(number, value):
    """Return a protobuf field: a whole number (wire type 0), or text or bytes (wire type 2)."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


@case(29, 'the V0 format of 2013 is named')
def v0_format(trial):
    inner = field(1, 'conv1') + field(2, 'conv')
    trial.write('v0.caffemodel', field(1, 'CaffeNet') + field(2, field(1, inner)))
    script = 'convert_weights.py' if os.path.exists(
        os.path.join(trial.project, 'convert_weights.py')) else 'weights.py'
    result = trial.run(script, 'v0.caffemodel')
    return refused(result, 'upgrade_net_proto')


@case(30, 'the exported signature `encoded` lays transparency on white')
def exported_transparency(trial):
    pixels = photo(trial)
    alpha = np.uint8(255 * (np.indices((300, 400)).sum(0) % 200 > 100))
    Image.fromarray(np.dstack([pixels, alpha])).save(trial.path('alpha.png'))
    shutil.rmtree(trial.path('model30'), ignore_errors=True)
    trial.run('export.py', trial.trained(), '--saved_model', 'model30')
    code = ('import json, tensorflow as tf\nmodel = tf.saved_model.load("model30")\n'
            'got = model.signatures["encoded"](image_bytes=tf.constant([open("alpha.png", "rb").read()]))\n'
            'names = [name.decode() for name in got["class_names"].numpy()[0]]\n'
            'print(json.dumps(dict(zip(names, got["probabilities"].numpy()[0].tolist()))))')
    _, out, _ = trial.run('-c', code)
    wanted = trial.probabilities(trial.path('alpha.png'))
    got = json.loads(out.splitlines()[-1])
    return max(abs(got[name] - wanted[name]) for name in wanted) < 0.005


def attempt(trial, function):
    """Return 'right', 'wrong', or the error that a case ended with."""
    try:
        return 'right' if function(trial) else 'wrong'
    except Exception as error:  # a case that cannot even be tried is wrong
        return f'wrong ({type(error).__name__})'


def main(photos, weights, project='.', *numbers):
    """Print a row per case."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(project, photos, weights, folder)
        trial.trained()
        for number, (title, function) in sorted(CASES.items()):
            if not numbers or str(number) in numbers:
                print(f'| {number} | {title} | {attempt(trial, function)} |', flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
