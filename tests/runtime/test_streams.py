"""Closed streams, notebooks, sessions and no temporary folder; the shell closes and starts."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

# Prints on both streams, opens a file, and shows its descriptor by writing to it.
COMMAND = '''
import os, sys
from runtime.command import run_command
def main(arguments):
    print('out')
    print('error', file=sys.stderr)
    with open('file', 'w') as file:
        os.write(file.fileno(), str(file.fileno()).encode())
    return 7
'''


def run_shell(folder, code, redirection='', prefix='', **environment):
    """Run Python code in a folder by bash; return (status, output, errors)."""
    (folder / 'script.py').write_text(code)
    command = f'{prefix} "{sys.executable}" script.py {redirection}'
    done = subprocess.run(['bash', '-c', command], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': ROOT, **environment})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize('redirection, out, errors', [
    ('>&-', '', 'error\n'), ('2>&-', 'out\n', ''), ('>&- 2>&-', '', ''), ('<&- >&- 2>&-', '', ''),
    ('<&-', 'out\n', 'error\n')])
def test_closed_streams_swallow_what_is_printed(redirection, out, errors, tmp_path):
    shown = run_shell(tmp_path, COMMAND + 'run_command(main)', redirection)
    assert shown == (7, out, errors)
    assert int((tmp_path / 'file').read_text()) > 2  # 0 to 2 are not used again


def test_a_stream_that_python_closed_swallows_too(tmp_path):
    code = COMMAND + 'sys.stdout.close()\nsys.stderr = None\nrun_command(main)'
    assert run_shell(tmp_path, code) == (7, '', '')


@pytest.mark.slow
def test_messages_of_tensorflow_do_not_reach_a_file(tmp_path):
    code = ('from runtime.tf1 import quiet_startup\nfile = open("file", "w")\n'
            'with quiet_startup():\n    import os\n    os.write(2, b"chatter")\n'
            'os.write(2, b"more")\nprint(file.fileno(), file=open("number", "w"))\n')
    assert run_shell(tmp_path, code, '>&- 2>&-') == (0, '', '')
    assert (tmp_path / 'file').read_text() == '' and int((tmp_path / 'number').read_text()) > 2


def test_a_full_disk_behind_the_screen_is_one_line(tmp_path):
    code = 'from runtime.command import run_command\nrun_command(lambda words: print(1) or 0)'
    shown = run_shell(tmp_path, code, '>/dev/full')
    assert shown == (2, '', 'error: [Errno 28] No space left on device\n')


# As in IPython's %run: a session with a stream of its own executes the script.
SESSION = '''
import runpy, sys
class OutStream:
    def write(self, text):
        sys.__stdout__.write(text)
sys.stdout, screen = OutStream(), sys.stdout
try:
    runpy.run_path('command.py', run_name='__main__')
except SystemExit as end:
    print('ended with', end.code)
import signal
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, type(sys.stdout).__name__)
sys.stdout = screen
'''


def test_a_session_that_runs_a_command_goes_on(tmp_path):
    (tmp_path / 'command.py').write_text(COMMAND + 'run_command(main)')
    status, out, errors = run_shell(tmp_path, SESSION)
    assert (status, errors) == (0, 'error\n')
    assert out == 'out\nended with 7\nTrue OutStream\n'


def test_a_profiler_gets_its_turn(tmp_path):
    (tmp_path / 'command.py').write_text(COMMAND + 'run_command(main)')
    done = subprocess.run([sys.executable, '-m', 'cProfile', 'command.py'], cwd=tmp_path,
                          capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': ROOT})
    assert 'function calls' in done.stdout


def test_an_interactive_session_goes_on(tmp_path):
    (tmp_path / 'command.py').write_text(COMMAND + 'run_command(main)')
    done = subprocess.run([sys.executable, '-i', 'command.py'], input='print(1 + 1)\n',
                          cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': ROOT})
    assert done.stdout == 'out\n2\n'


@pytest.mark.parametrize('words', [['command.py'], ['-m', 'command']])
def test_a_script_ends_without_waiting_for_threads(words, tmp_path):
    (tmp_path / 'command.py').write_text(
        COMMAND + 'import threading, time\n'
        'threading.Thread(target=time.sleep, args=(100,)).start()\nrun_command(main)')
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True,
                          timeout=30, env={**os.environ, 'PYTHONPATH': ROOT})
    assert (done.returncode, done.stdout, done.stderr) == (7, 'out\n', 'error\n')


def test_a_command_runs_outside_of_the_main_thread(tmp_path):
    code = COMMAND + ('import threading\nthread = threading.Thread(target=run_command, '
                      'args=(main, []))\nthread.start()\nthread.join()\nprint("goes on")')
    assert run_shell(tmp_path, code) == (0, 'out\ngoes on\n', 'error\n')


NO_FOLDER = '''
import tempfile
def fail():
    raise FileNotFoundError(2, 'No usable temporary directory found')
tempfile._get_default_tempdir = fail
'''


@pytest.mark.slow
def test_it_starts_without_a_temporary_folder(tmp_path):
    code = NO_FOLDER + 'import finetune, predict, os\nprint(os.environ.get("TEST_TMPDIR"))'
    assert run_shell(tmp_path, code) == (0, 'None\n', '')


@pytest.mark.slow
def test_it_starts_without_memory_for_held_back_lines(tmp_path):
    code = NO_FOLDER + ('import os\ndel os.memfd_create\nfrom runtime.tf1 import quiet_startup\n'
                        'with quiet_startup():\n    os.write(2, b"a line")\n')
    status, _, errors = run_shell(tmp_path, code)
    assert status == 0 and errors.endswith('a line')
