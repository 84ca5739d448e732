import dataclasses
import os
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

import console
from console import argument, command_line, new_file, parse_settings, run_command, setting


@dataclasses.dataclass(frozen=True)
class Example:
    """An example."""

    rate: float = setting(0.5, 'a share, 0 to 100 %')
    count: int | None = setting(None, 'how many')
    names: tuple[str, ...] = setting(('a', 'b'), 'what they are called')
    others: tuple[str, ...] | None = setting(None, 'or none')
    mirror: bool = setting(False, 'yes or no')
    shown: bool = setting(True, 'no or yes')


def test_defaults_are_those_of_the_lines():
    assert parse_settings(Example, []) == Example()


@pytest.mark.parametrize('settings', [
    Example(), Example(2.5, 3, ('x y', "it's"), ('q',), True), Example(others=('a',), shown=False)])
def test_a_command_line_reads_back_as_the_settings(settings):
    words = shlex.split(command_line('finetune.py', settings))
    assert words[:2] == ['python', 'finetune.py'] and parse_settings(Example, words[2:]) == settings


def test_each_flag_sets_the_field_of_its_name():
    words = '--rate 2 --count 3 --names x y z --others q --mirror'.split()
    assert parse_settings(Example, words) == Example(2.0, 3, ('x', 'y', 'z'), ('q',), True)


def test_none_and_no_take_a_value_back():
    words = '--count None --others None --no-mirror'.split()
    assert parse_settings(Example, words) == Example()


@pytest.mark.parametrize('words, named', [
    ('--size 3', '--size'), ('--rate fast', "invalid float value: 'fast'"), ('--count 1.5', 'invalid int'),
    ('--rat 3', '--rat 3; did you mean --rate?'), ('--mirr=1', 'mean --mirror'), ('--names', '--names'),
    ('stray', 'stray')])
def test_wrong_flags_are_value_errors_that_name_them(words, named):
    with pytest.raises(ValueError, match=named):
        parse_settings(Example, words.split())


def test_help_shows_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parse_settings(Example, ['--help'])
    shown = capsys.readouterr().out
    assert 'a share, 0 to 100 % [0.5]' in shown and '--no-mirror' in shown and 'what they are called [a b]' in shown


@pytest.mark.parametrize('error, status, line', [
    (ValueError('wrong'), 2, 'error: wrong\n'),
    (FileNotFoundError(2, 'No such file', 'x y'), 2, 'error: x y: No such file\n'),
    (KeyboardInterrupt(), 130, 'interrupted\n'), (BrokenPipeError(32, 'Broken pipe'), 141, '')])
def test_errors_end_in_one_line_and_their_status(error, status, line, capsys, monkeypatch):
    def main(arguments):
        raise error
    statuses = []
    monkeypatch.setattr(console, 'leave', statuses.append)  # the real one would end the tests
    run_command(main, [])
    shown = capsys.readouterr().err
    assert statuses == [status] and shown == line


def test_sigterm_ends_with_blocks_and_the_process_with_143(tmp_path):
    code = ('import time\nfrom console import run_command\ndef main(arguments):\n    try:\n'
            '        print("begun", flush=True)\n        time.sleep(60)\n    finally:\n        print("saved")\n'
            'run_command(main)')
    process = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'begun\n'
    process.terminate()
    assert process.communicate(timeout=20) == ('saved\n', 'terminated\n') and process.returncode == 143


def test_a_screen_that_lacks_a_letter_is_no_error():
    code = r'from console import run_command; run_command(lambda arguments: print("K\xe4fer \udcff") or 0)'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env={**os.environ, 'PYTHONIOENCODING': 'ascii'},
                          capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('K\\xe4fer \\udcff\n', '')


def test_programming_errors_keep_their_traceback():
    def main(arguments):
        raise KeyError('a bug')
    with pytest.raises(KeyError):
        run_command(main, [])


def test_start_up_is_quiet_and_errors_still_show():
    code = ('import os\nfrom console import quick_import\n'
            'with quick_import():\n    import tensorflow.compat.v1 as tf\n    tf.Session(graph=tf.Graph())\n'
            '    os.write(2, b"E0000 00:00:1 2 x.cc:1] a real error\\n")\n')
    environment = {name: value for name, value in os.environ.items() if not name.startswith('TF_')}
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr == 'E0000 00:00:1 2 x.cc:1] a real error\n'


def test_importing_leaves_out_keras_and_the_garbage_collector_and_leaves_no_trace():
    code = ('import gc, os, sys\nfrom console import quick_import\n'
            'with quick_import():\n    import tensorflow.compat.v1 as tf\n    during = gc.isenabled()\n'
            'print(during, gc.isenabled(), gc.get_freeze_count() > 100_000, "keras" in sys.modules,'
            ' "TF_USE_LEGACY_KERAS" in os.environ)\n'
            'gc.disable()\nwith quick_import():\n    pass\nprint(gc.isenabled())')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == 'False True True False False\nFalse\n'


def test_none_is_a_word_where_no_value_is_not_allowed():
    assert parse_settings(Example, ['--names', 'None']).names == ('None',)


@dataclasses.dataclass(frozen=True)
class Placed:
    """Arguments told by their place."""

    source: str = argument('where from, all of 100 %')
    targets: tuple[str, ...] = argument('where to')
    depth: int = setting(1, 'how deep')


def test_arguments_are_told_by_their_place_and_must_be_there(capsys):
    assert parse_settings(Placed, '--depth 2 a b c'.split()) == Placed('a', ('b', 'c'), 2)
    assert parse_settings(Placed, 'a --depth 2 None'.split()) == Placed('a', ('None',), 2)
    with pytest.raises(ValueError, match='required: targets'):
        parse_settings(Placed, ['a'])
    with pytest.raises(SystemExit):
        parse_settings(Placed, ['--help'])
    assert 'where from, all of 100 %' in capsys.readouterr().out


def test_a_new_file_is_there_whole_or_not_at_all(tmp_path):
    with new_file(str(tmp_path / 'a.txt')) as file:
        file.write('whole')
        assert not (tmp_path / 'a.txt').exists()
    with pytest.raises(ZeroDivisionError), new_file(str(tmp_path / 'b.txt')) as file:
        file.write('half')
        1 / 0
    with pytest.raises(ValueError, match='a.txt exists already'), new_file(str(tmp_path / 'a.txt')):
        pass
    assert os.listdir(tmp_path) == ['a.txt'] and (tmp_path / 'a.txt').read_text() == 'whole'
    for path in (tmp_path / 'gone' / 'c.txt', tmp_path / 'a.txt' / 'c.txt'):
        with pytest.raises(OSError) as error, new_file(str(path)):
            pass
        assert error.value.filename == str(path)
