import os
import subprocess
import sys

import numpy as np
import pytest

from reports import figures, image_grids
from reports.figures import Mistake, draw_figures, explain_mistakes
from tests.helpers import ROOT

ROWS = [{'epoch': n, 'train_loss': 1 / n, 'train_accuracy': 0.5, 'val_loss': 2 / n,
         'val_accuracy': 0.5} for n in (1, 2)]
MATRIX = np.array([[3, 1], [0, 4]])
# What matplotlib draws after reading MPLBACKEND and MATPLOTLIBRC of the environment.
DRAW = f'''
import hashlib, numpy, sys
from reports.figures import draw_figures
files = draw_figures({ROWS!r}, 2, numpy.array({MATRIX.tolist()!r}), ['a', 'b'], [])
for name, content in files.items():
    print(name, hashlib.sha256(content).hexdigest())
import matplotlib
print(matplotlib.rcParams._get('backend'), 'matplotlib.pyplot' in sys.modules, file=sys.stderr)
'''
USER_STYLE = '''
text.usetex: True
savefig.bbox: tight
savefig.dpi: 30
figure.facecolor: red
font.size: 30
axes.prop_cycle: cycler('color', ['k'])
'''


def draw_in(folder, **variables):
    """Draw in a new process with these variables; return (standard output, standard error)."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('MPLBACKEND', 'MATPLOTLIBRC')}
    done = subprocess.run([sys.executable, '-c', DRAW], cwd=folder, capture_output=True, text=True,
                          env={**environment, 'PYTHONPATH': ROOT, **variables}, check=True)
    return done.stdout, done.stderr


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """What is drawn without any setting of the user."""
    out, _ = draw_in(tmp_path_factory.mktemp('plain'))
    assert [line.split()[0] for line in out.splitlines()] == ['curves.png', 'confusion_matrix.png']
    return out


@pytest.mark.slow
def test_a_matplotlibrc_changes_nothing(tmp_path, plain):
    (tmp_path / 'rc').write_text(USER_STYLE)
    assert draw_in(tmp_path, MATPLOTLIBRC=str(tmp_path / 'rc'))[0] == plain


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['module://not_installed.backend', 'tkagg'])
def test_a_backend_is_not_loaded_and_left_to_the_user(tmp_path, plain, backend):
    out, err = draw_in(tmp_path, MPLBACKEND=backend)
    assert out == plain and err.lower() == f'{backend} false\n'  # matplotlib 3.8 has TkAgg


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['nonsense', 'module://matplotlib_inline.backend_inline'])
def test_an_unknown_backend_changes_nothing(tmp_path, plain, backend):
    """Jupyter sets the second one, which is unknown where matplotlib_inline is not installed."""
    out, err = draw_in(tmp_path, MPLBACKEND=backend)
    assert out == plain and 'Error' not in err


def test_the_environment_and_rcparams_are_as_before(monkeypatch):
    import matplotlib
    monkeypatch.setenv('MPLBACKEND', 'nonsense')
    with matplotlib.rc_context({'font.size': 30, 'savefig.bbox': 'tight'}):
        before = dict(matplotlib.rcParams.copy())
        draw_figures(ROWS, 2, MATRIX, ['a', 'b'], [])
        assert dict(matplotlib.rcParams.copy()) == before
    assert os.environ['MPLBACKEND'] == 'nonsense'


def mistakes(count):
    return [Mistake(np.full((227, 227, 3), (200, 30 * n, 0), np.uint8), 'ant', 'bee', 0.5)
            for n in range(count)]


def test_a_figure_that_fails_costs_that_figure_alone(capsys):
    rows = [{'epoch': 1}]  # no loss to draw
    files = draw_figures(rows, 1, MATRIX, ['a', 'b'], mistakes(1))
    assert list(files) == ['confusion_matrix.png', 'mistakes.jpg']
    shown = capsys.readouterr().err
    assert shown.startswith('error: the report has no curves.png') and shown.count('\n') == 1
    assert 'train_loss' in shown


def test_without_matplotlib_the_mistakes_are_drawn(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'reports.plots', None)  # importing it raises ImportError
    monkeypatch.delattr('reports.plots', raising=False)
    assert list(draw_figures(ROWS, 1, MATRIX, ['a', 'b'], mistakes(1))) == ['mistakes.jpg']
    assert capsys.readouterr().err.count('\n') == 2


def test_there_is_no_figure_of_what_does_not_exist():
    assert list(draw_figures(ROWS, 1, None, ['a', 'b'], [])) == ['curves.png']


@pytest.mark.parametrize('count', [1, 4, 7])
def test_sheet_of_mistakes_shows_the_images_pixel_by_pixel(count):
    sheet = figures.mistakes_sheet(mistakes(count))
    sheet = image_grids.decode(image_grids.encode_jpeg(sheet))
    assert sheet.shape[1] == min(count, 4) * 229 - 2
    for n in range(count):  # BGR in the middle of each
        top, left = n // 4 * (227 + 3 * 18 + 2) + 113, n % 4 * 229 + 113
        np.testing.assert_allclose(sheet[top, left], [200, 30 * n, 0], atol=6)


def test_mistakes_are_explained_by_both_of_their_classes(capsys):
    """Heat at the class's row of cells: overlays come in the order predicted class, true class."""
    asked = []

    def explain(images, classes):
        asked.append((images.dtype, images[:, 0, 0].tolist(), classes))
        heat = np.zeros((len(images), 2, 13, 13), np.float32)
        for maps, pair in zip(heat, classes, strict=True):
            maps[(0, 1), pair] = 1
        return heat
    given = [mistake._replace(numbers=(n, 12)) for n, mistake in enumerate(mistakes(2))]
    explained = explain_mistakes(given, explain)
    assert asked == [(np.uint8, [[200, 0, 0], [200, 30, 0]], [(0, 12), (1, 12)])]
    for n, mistake in enumerate(explained):
        assert mistake[:4] == given[n][:4] and len(mistake.overlays) == 2
        for row, shown in zip((n, 12), mistake.overlays, strict=True):
            redness = shown[..., 2].astype(int).mean(1) - shown[..., 0].mean(1)
            assert int(redness.argmax() * 13 // 227) == row
    assert capsys.readouterr().err == ''


def test_heatmaps_that_fail_cost_themselves_alone(capsys):
    def explain(images, classes):
        raise ValueError('no gradient\nat all')
    given = mistakes(2)
    assert explain_mistakes(given, explain) == given
    shown = capsys.readouterr().err
    assert shown == ('error: the report has no heatmaps, which could not be computed: '
                     'no gradient\n')
    assert explain_mistakes([], explain) == []
    assert explain_mistakes(given, None) == given
