import os

import cv2
import numpy as np

from sample.draw import write_sample
from tests.helpers import ROOT


def test_the_sample_is_what_the_script_draws(tmp_path):
    """Lists are equal; images nearly, since OpenCV's versions can write JPEGs of other bytes."""
    write_sample(tmp_path)
    for name in ('train.txt', 'val.txt', 'labels.txt'):
        with open(os.path.join(ROOT, name)) as file:
            assert (tmp_path / name).read_text() == file.read()
    lines = [line for name in ('train.txt', 'val.txt')
             for line in (tmp_path / name).read_text().splitlines()]
    assert len(lines) == 400
    for line in lines[::20]:
        path = line.split()[0]
        drawn, stored = (np.float32(cv2.imread(os.path.join(folder, path)))
                         for folder in (tmp_path, ROOT))
        assert drawn.shape == (144, 144, 3) and np.abs(drawn - stored).mean() < 2
