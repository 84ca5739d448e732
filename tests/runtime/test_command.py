import os
import subprocess
import sys

import pytest

from runtime import command
from runtime.command import run_command
from tests.helpers import ROOT


@pytest.mark.parametrize('error, status, line', [
    (ValueError('wrong'), 2, 'error: wrong\n'),
    (FileNotFoundError(2, 'No such file', 'x y'), 2, 'error: x y: No such file\n'),
    (KeyboardInterrupt(), 130, 'interrupted\n'), (BrokenPipeError(32, 'Broken pipe'), 141, '')])
def test_errors_end_in_one_line_and_their_status(error, status, line, capsys, monkeypatch):
    def main(arguments):
        raise error
    statuses = []
    monkeypatch.setattr(command, 'exit_now', statuses.append)  # the real one would end the tests
    run_command(main, [])
    shown = capsys.readouterr().err
    assert statuses == [status] and shown == line


def test_sigterm_ends_with_blocks_and_the_process_with_143(tmp_path):
    code = ('import time\nfrom runtime.command import run_command\ndef main(arguments):\n    try:\n'
            '        print("begun", flush=True)\n        time.sleep(60)\n    finally:\n        print("saved")\n'
            'run_command(main)')
    process = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'begun\n'
    process.terminate()
    assert process.communicate(timeout=20) == ('saved\n', 'terminated\n') and process.returncode == 143


def test_a_screen_that_lacks_a_letter_is_no_error():
    code = r'from runtime.command import run_command; run_command(lambda arguments: print("K\xe4fer \udcff") or 0)'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env={**os.environ, 'PYTHONIOENCODING': 'ascii'},
                          capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('K\\xe4fer \\udcff\n', '')


def test_programming_errors_keep_their_traceback():
    def main(arguments):
        raise KeyError('a bug')
    with pytest.raises(KeyError):
        run_command(main, [])


def test_start_up_is_quiet_and_errors_still_show():
    code = ('import os\nfrom runtime.tf1 import quick_import\n'
            'with quick_import():\n    import tensorflow.compat.v1 as tf\n    tf.Session(graph=tf.Graph())\n'
            '    os.write(2, b"E0000 00:00:1 2 x.cc:1] a real error\\n")\n')
    environment = {name: value for name, value in os.environ.items() if not name.startswith('TF_')}
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '')
    assert done.stderr == 'E0000 00:00:1 2 x.cc:1] a real error\n'


def test_importing_leaves_out_keras_and_the_garbage_collector_and_leaves_no_trace():
    code = ('import gc, os, sys\nfrom runtime.tf1 import quick_import\n'
            'with quick_import():\n    import tensorflow.compat.v1 as tf\n    during = gc.isenabled()\n'
            'print(during, gc.isenabled(), gc.get_freeze_count() > 100_000, "keras" in sys.modules,'
            ' "TF_USE_LEGACY_KERAS" in os.environ)\n'
            'gc.disable()\nwith quick_import():\n    pass\nprint(gc.isenabled())')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == 'False True True False False\nFalse\n'
