"""README.md and docs/ name files, tests, flags and settings that exist.

`python -m tests.test_docs` prints the tables of docs/settings.md.
"""

import dataclasses
import itertools
import pathlib
import re
import typing

import cv2
import pytest

from finetune import Settings
from runtime.flags import flag_text
from runtime.legal_values import describe_legal, value_type

ROOT = pathlib.Path(__file__).parent.parent
TABLE_HEAD = ['| setting | default | legal values | meaning |', '|---|---|---|---|']
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
EACH_PAGE = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)


def test_settings_page_has_every_setting():
    lines = (ROOT / 'docs' / 'settings.md').read_text(encoding='utf-8').splitlines()
    documented = [line for line in lines if line.startswith(('## ', '|'))]
    assert documented == settings_lines(), (
        'docs/settings.md differs from finetune.Settings: put the headings and tables that '
        '`python -m tests.test_docs` prints in place of its own; the notes between them stay')


def settings_lines():
    """Return the headings and table lines of docs/settings.md."""
    lines = []
    for field in dataclasses.fields(Settings):
        if field.metadata['group']:
            lines += [f'## {field.metadata["group"]}', *TABLE_HEAD]
        default, meaning = flag_text(field.default), field.metadata['help'].replace('<', '&lt;')
        lines.append(f'| `{field.name}` | `{default}` | {legal(field)} | {meaning} |')
    return lines


def legal(field):
    """Return the legal values of a setting in words, as describe_legal does, for words too."""
    kind, optional = value_type(field)
    if typing.get_origin(kind) is not tuple:
        return describe_legal(field)
    choices = field.metadata['choices']
    text = f'some of {", ".join(choices)}' if choices else 'names'
    return f'{text}, or None' if optional else text


def test_readme_is_short_and_its_settings_are_right():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 100 and len(text.encode()) <= 12_000
    rows = re.findall(r'^\| `(\w+)` \| `([^`]+)` \|', section(text, 'Settings'), re.M)
    defaults = {field.name: flag_text(field.default) for field in dataclasses.fields(Settings)}
    assert len(rows) >= 8
    assert rows == [(name, defaults.get(name)) for name, _ in rows]


def section(text, title):
    """Return the lines of a page from one heading of the second level to the next."""
    return text.split(f'\n## {title}\n')[1].split('\n## ')[0]


@EACH_PAGE
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text(encoding='utf-8')):
        path, _, anchor = target.partition('#')
        file = page.parent / path if path else page
        if '://' not in target and not (file.exists() and (not anchor or anchor in anchors(file))):
            broken.append(target)
    assert broken == []


def anchors(page):
    """Return the anchors that GitHub gives the headings of a page."""
    titles = re.findall(r'^#+ (.*)$', page.read_text(encoding='utf-8'), re.M)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@EACH_PAGE
def test_named_files_exist(page):
    names = re.findall(r'`([\w./-]+\.(?:py|md|txt))`', page.read_text(encoding='utf-8'))
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_every_module_is_on_the_map():
    text = (ROOT / 'docs' / 'development.md').read_text(encoding='utf-8')
    rooms = ('.', 'runtime', 'inputs', 'weight_files', 'run_folder', 'training', 'reports')
    modules = [str(path.relative_to(ROOT)) for room in rooms for path in ROOT.glob(f'{room}/*.py')
               if path.name != '__init__.py']
    assert [module for module in modules if f'| `{module}` |' not in text] == []


@EACH_PAGE
def test_commands_run_files_that_exist(page):
    text = page.read_text(encoding='utf-8')
    modules = re.findall(r'python3? -m (?!venv|pytest)([\w.]+)', text)
    files = [module.replace('.', '/') + '.py' for module in modules]
    files += re.findall(r'python ([\w/]+\.py)', text)
    assert [file for file in files if not (ROOT / file).is_file()] == []


@EACH_PAGE
def test_flags_of_our_commands_exist(page):
    code = '\n'.join(path.read_text(encoding='utf-8') for path in ROOT.glob('*.py'))
    text = page.read_text(encoding='utf-8')
    names = set(re.findall(r'(?<![\w-])--(?:no-)?([a-z]\w+)(?![\w-])', text))
    others = {'help', 'logdir'}  # argparse's own; TensorBoard's
    unknown = [name for name in names - others
               if not re.search(rf"'--{name}'|^    {name}: ", code, re.M)]
    assert unknown == []


def test_named_tests_exist():
    named = [(file, name) for page in PAGES
             for file, names in re.findall(r'`(tests/[\w/]+\.py)`: ((?:`\w+`(?:, )?)+)',
                                           page.read_text(encoding='utf-8'))
             for name in re.findall(r'`(\w+)`', names)]
    missing = {name: files_with_test(name) for file, name in named
               if file not in files_with_test(name)}
    assert missing == {}, 'these tests are now in the files shown, or have another name'
    assert len(named) >= 20


def files_with_test(part):
    """Return the test files that have a test with this part of a name."""
    return [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob('tests/**/test_*.py'))
            if re.search(rf'^def test_\w*{part}', path.read_text(encoding='utf-8'), re.M)]


def test_the_picture_of_a_report_is_a_picture():
    assert cv2.imread(str(ROOT / 'docs' / 'report.jpg')) is not None


if __name__ == '__main__':
    for line, after in itertools.zip_longest(settings_lines(), settings_lines()[1:]):
        print(line + '\n' * (line.startswith('## ') or (after or '').startswith('## ')))
