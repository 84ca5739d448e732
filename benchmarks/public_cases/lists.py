"""Cases of folders and lists."""

import os

import cv2
import numpy as np
from PIL import Image

from benchmarks.public_cases.trial import photo


def endings(trial):
    """predict.py FOLDER takes .jfif, .JPE and names without an ending."""
    for name in ('a.jfif', 'b.JPE', 'c', 'd.jpg'):
        Image.fromarray(photo(trial)).save(make(trial, name), 'JPEG')
    trial.write('endings/notes.doc', 'no picture')
    _, out, errors = trial.predict('endings')
    return len(out.strip().splitlines()) == 4 and '1' in errors


def make(trial, name):
    """Return the path of a file in the folder endings, which is made."""
    os.makedirs(trial.path('endings'), exist_ok=True)
    return trial.path('endings', name)


def nas_folders(trial):
    """Thumbnail folders of a NAS are no photos."""
    for class_name in ('ants', 'bees'):
        for number in range(4):
            for inner in ('', '@eaDir/', '#recycle/', '__MACOSX/'):
                trial.write(f'nas/{class_name}/{inner}{number}.png', noise_png(number))
    os.makedirs(trial.path('lists19'), exist_ok=True)
    status, _, _ = trial.run('make_lists.py', 'nas', '--output', 'lists19')
    text = trial.read('lists19/train.txt') + trial.read('lists19/val.txt')
    return status == 0 and not any(name in text for name in ('@eaDir', '#recycle', '__MACOSX'))


def noise_png(seed):
    """Return a small PNG file of noise."""
    noise = np.random.default_rng(seed).integers(0, 255, (50, 50, 3), np.uint8)
    return cv2.imencode('.png', noise)[1].tobytes()


def write_classes(trial, top, parts):
    """Write two small pictures into each class folder of {part: class names}."""
    for part, names in parts.items():
        for n, name in enumerate(names):
            for number in range(2):
                path = os.path.join(top, part, name, f'{number}.png')
                trial.write(path, noise_png([n, number, len(part)]))
    os.makedirs(trial.path(f'lists-{top}'), exist_ok=True)


def composed_names(trial):
    """One class name in NFC and NFD."""
    write_classes(trial, 'nfc', {'train': ['K\u00e4fer', 'Ameise'],
                                 'val': ['Ka\u0308fer', 'Ameise']})
    trial.run('make_lists.py', 'nfc', '--output', 'lists-nfc')
    return len(trial.read('lists-nfc/labels.txt').split()) == 2


def numbers_as_names(trial):
    """The order of classes '1' and '01'."""
    write_classes(trial, 'numbers', {'': ['1', '01', '2', '02']})
    texts = set()
    for seed in range(6):
        trial.run('make_lists.py', 'numbers', '--output', 'lists-numbers', '--force',
                  PYTHONHASHSEED=str(seed))
        texts.add(trial.read('lists-numbers/labels.txt'))
    return len(texts) == 1


def folder_like_a_comment(trial):
    """make_lists.py '# photos'."""
    write_classes(trial, '# photos', {'': ['ants', 'bees']})
    trial.run('make_lists.py', '# photos', '--output', '.', '--force')
    lines = [line for line in trial.read('train.txt').splitlines() if not line.startswith('# ')]
    trial.run('make_lists.py', os.path.abspath(trial.photos), '--output', trial.folder, '--force')
    return len(lines) == 2


def unusual_letters(trial):
    """Class names with U+200C, U+200D, U+00A0; a number and a tab in labels.txt."""
    persian = '\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645'
    write_classes(trial, 'letters', {'': [persian, 'a\u00a0b']})
    status, _, errors = trial.run('make_lists.py', 'letters', '--output', 'lists-letters')
    trial.write('lists23/labels.txt', '0\tants\n1\tbees\n')
    _, _, shown = trial.finetune('--labels_file', 'lists23/labels.txt', '--run_dir', 'run23')
    return status == 0 and 'not UTF-8' not in errors + shown and 'labels.txt:1' in shown


def names_on_one_line(trial):
    """'ants,bees' on one line of labels.txt."""
    trial.write('lists24/labels.txt', 'ants,bees\n')
    result = trial.finetune('--labels_file', 'lists24/labels.txt', '--run_dir', 'run24')
    return result[0] == 2 and 'lists24/labels.txt' in result[2] and 'small.txt' not in result[2]


def unknown_labels(trial):
    """predict.py on a list whose labels the run does not know."""
    path = trial.read('few.txt').splitlines()[0].rsplit(maxsplit=1)[0]
    trial.write('unknown.txt', f'{path} -1\n{path} wasps\n')
    _, _, errors = trial.predict('unknown.txt')
    return 'No such file' not in errors and 'unknown.txt:1' in errors and 'label' in errors


def text_file_of_a_checkpoint(trial):
    """predict.py runs/x/checkpoints/last."""
    last = os.path.join(trial.trained(), 'checkpoints', 'last')
    return trial.run('predict.py', last, 'few.txt')[0] == 0


def bad_line_first(trial):
    """A bad label in a short list is named by its line."""
    lines = trial.read('few.txt').splitlines()
    path = lines[1].rsplit(maxsplit=1)[0]
    trial.write('list27/bad.txt', f'{lines[0]}\n{path} 77777\nx.jpg wasp\n')
    _, _, errors = trial.finetune('--train_file', 'list27/bad.txt', '--labels_file', 'None',
                                  '--run_dir', 'run27')
    return 'bad.txt:3' in errors


CASES = {
    18: endings, 19: nas_folders, 20: composed_names, 21: numbers_as_names, 
    22: folder_like_a_comment, 23: unusual_letters, 24: names_on_one_line, 25: unknown_labels, 
    26: text_file_of_a_checkpoint, 27: bad_line_first}
