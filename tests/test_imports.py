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


def source_files():
    """Return the paths of the scripts and of the modules in the rooms."""
    return [*ROOT.glob('*.py'), *(path for room in ALLOWED for path in ROOT.glob(f'{room}/*.py'))]


def imported_names():
    """Return [(room of a file, the file, first name of a module that it imports)]."""
    found = []
    for path in source_files():
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


def module_imports():
    """Return {module: modules of the project that it imports}, names such as 'inputs.lists'."""
    modules = {'.'.join(path.relative_to(ROOT).with_suffix('').parts) for path in source_files()}
    imports = {}
    for module in modules:
        nodes = ast.walk(ast.parse((ROOT / f'{module.replace(".", "/")}.py').read_text()))
        names = set()
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                names |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        imports[module] = names & modules
    return imports


def test_no_module_imports_itself_in_a_circle():
    imports, ended = module_imports(), set()

    def follow(module, path):
        assert module not in path, [*path, module]
        if module not in ended:
            for imported in imports[module]:
                follow(imported, [*path, module])
            ended.add(module)
    for module in imports:
        follow(module, [])


def test_files_and_functions_stay_short():
    long = []
    for path in [*source_files(), *ROOT.glob('tests/**/*.py'), *ROOT.glob('benchmarks/**/*.py')]:
        text = path.read_text()
        if len(text.splitlines()) > 250:
            long.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 45:
                long.append(f'{path}:{node.name}')
    assert long == [str(ROOT / 'finetune.py') + ':finetune']  # the story of a run


def test_a_room_is_one_sentence():
    for room in (room for room in ALLOWED if (ROOT / room).is_dir()):
        sentence = ast.get_docstring(ast.parse((ROOT / room / '__init__.py').read_text()))
        assert sentence.count('.') == 1 and ' and ' not in sentence, room
