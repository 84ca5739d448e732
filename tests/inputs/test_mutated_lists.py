import re

import numpy as np

from inputs.lists import read_list

ORIGINAL = 'a b.jpg 0\nc.jpg\tred bee\r\n# no\n\nö.png ant\nd 2\n'.encode() * 2
PIECES = [b' ', b'\t', b'\n', b'\r', b'\0', b'\xff', b'-1', b'3', b'9' * 11, b'\xef\xbb\xbf', b'# ',
          '\u0663'.encode()]
ENDINGS = {0: r'\s0+|\sant', 1: r'\s0*1|\tred bee'}  # label: how its line may end


def mutated(random):
    """Return ORIGINAL with 1 to 5 random changes."""
    content = ORIGINAL
    for _ in range(random.randint(1, 6)):
        start, stop = sorted(random.randint(0, len(content) + 1, 2))
        piece = PIECES[random.randint(len(PIECES))] if random.rand() < 0.7 else random.bytes(3)
        rest = stop if random.rand() < 0.3 else start
        content = content[:start] + piece + content[rest:]
    return content


def check_reading(image_list, content):
    """Assert that each label stands at the end of its line, and that no line is lost."""
    text = content.removeprefix(b'\xef\xbb\xbf').decode(errors='surrogateescape')
    lines = re.split('\r\n|\r|\n', text)
    for line, label in zip(image_list.lines, image_list.labels, strict=True):
        ending = ENDINGS.get(label, rf'\s0*{label}')
        assert re.search(rf'\S.*(?:{ending})\s*$', lines[line - 1]), content
    listed = [line for line in lines if line.strip() and not line.startswith('# ')]
    assert len(image_list.paths) == len(listed)


def test_mutated_lists_are_read_right_or_refused(tmp_path):
    """2,000 lists with random changes."""
    random, path, refused = np.random.RandomState(0), tmp_path / 'list.txt', 0
    for _ in range(2000):
        content = mutated(random)
        path.write_bytes(content)
        try:
            image_list = read_list(str(path), ['ant', 'red bee'])
        except ValueError as error:
            refused += 1
            assert str(error).startswith(str(path))
        else:
            check_reading(image_list, content)
    assert 200 < refused < 1900
