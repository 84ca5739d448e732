"""The architecture in settings.json of a run folder."""

import json

import pytest

import finetune
from run_folder.trained_run import read_run
from tests.helpers import run_main

pytestmark = pytest.mark.slow


def change(folder, **changes):
    """Change settings.json of a run; None deletes a setting."""
    settings = json.loads((folder / 'settings.json').read_text()) | changes
    kept = {name: value for name, value in settings.items() if value is not None}
    (folder / 'settings.json').write_text(json.dumps(kept))


def test_a_run_has_the_architecture_of_its_settings(run_copy):
    assert json.loads((run_copy / 'settings.json').read_text())['architecture'] == 'alexnet'
    assert read_run(str(run_copy)).architecture == 'alexnet'
    change(run_copy, architecture='caffenet')
    assert read_run(str(run_copy)).architecture == 'caffenet'


def test_a_run_of_before_is_an_alexnet_and_is_resumed(run_copy, capsys):
    change(run_copy, architecture=None)
    assert read_run(str(run_copy)).architecture == 'alexnet'
    status, _, err = run_main(finetune.main, ['--resume', run_copy], capsys)
    assert status == 0, err
    arguments = ['--resume', run_copy, '--architecture', 'caffenet']
    status, _, err = run_main(finetune.main, arguments, capsys)
    assert status == 2 and 'architecture was alexnet, not caffenet' in err


@pytest.mark.parametrize('value', ['auto', 'CaffeNet', '', 1, ['alexnet'], {}])
def test_other_values_are_refused(run_copy, value):
    change(run_copy, architecture=value)
    with pytest.raises(ValueError, match='settings.json has architecture'):
        read_run(str(run_copy))
