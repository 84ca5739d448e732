"""The map of the house: which room may import which."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
# A room may import itself and the rooms named here; scripts may import all of them.
ALLOWED = {
    'runtime': '',
    'inputs': 'runtime',
    'weight_files': 'runtime',
    'alexnet': 'runtime weight_files',
    'datagenerator': 'runtime inputs',
    'run_folder': 'runtime inputs weight_files alexnet datagenerator',
    'training': 'runtime inputs weight_files alexnet datagenerator run_folder',
    'reports': 'runtime inputs weight_files alexnet datagenerator run_folder'}
SCRIPTS = {'finetune', 'predict', 'export', 'make_lists', 'convert_weights'}


def imported_names():
    """Return [(room of a file, the file, first name of a module that it imports)]."""
    found = []
    for path in [*ROOT.glob('*.py'), *(file for room in ALLOWED for file in ROOT.glob(f'{room}/*.py'))]:
        room = path.stem if path.parent == ROOT else path.parent.name
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found += [(room, str(path.relative_to(ROOT)), name.split('.')[0]) for name in names]
    return found


def test_rooms_import_one_way():
    ours = {*ALLOWED, *SCRIPTS, 'starter_weights', 'sample', 'benchmarks', 'tests'}
    wrong = [(file, name) for room, file, name in imported_names()
             if room not in SCRIPTS and name in ours and name not in {room, *ALLOWED[room].split()}]
    assert wrong == []


def test_only_tf1_imports_tensorflow():
    files = {file for _, file, name in imported_names() if name == 'tensorflow'}
    assert files == {'runtime/tf1.py'}


def test_inputs_and_weight_files_do_not_reach_tensorflow():
    wrong = [file for room, file, _ in imported_names() if room in ('inputs', 'weight_files')
             and 'tf1' in (ROOT / file).read_text()]
    assert wrong == []


def test_the_top_has_the_scripts_of_the_plan():
    assert {path.stem for path in ROOT.glob('*.py')} == SCRIPTS | {'alexnet', 'datagenerator'}
