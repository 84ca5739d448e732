import os
import signal
import subprocess
import sys

import pytest

from runtime.command import run_command
from runtime.signals import defer_signals
from tests.helpers import ROOT, run_main

SLEEPER = '''
import time
from runtime.command import run_command
def main(arguments):
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("saved")
run_command(main)
'''
FOREIGN_LETTERS = r'''
from runtime.command import run_command
run_command(lambda arguments: print("K\xe4fer \udcff") or 0)
'''


@pytest.mark.parametrize('error, status, line', [
    (ValueError('wrong'), 2, 'error: wrong\n'),
    (FileNotFoundError(2, 'No such file', 'x y'), 2, 'error: x y: No such file\n'),
    (KeyboardInterrupt(), 130, 'interrupted\n'),
    (BrokenPipeError(32, 'Broken pipe'), 141, '')])
def test_errors_end_in_one_line_and_their_status(error, status, line, capsys):
    def main(arguments):
        raise error
    assert run_main(main, [], capsys) == (status, '', line)


def test_sigterm_ends_with_blocks_and_the_process_with_143():
    process = subprocess.Popen([sys.executable, '-c', SLEEPER], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == 'begun\n'
    process.terminate()
    assert process.communicate(timeout=20) == ('saved\n', 'terminated\n')
    assert process.returncode == 143


@pytest.mark.usefixtures('default_signals')
def test_a_deferred_signal_is_noted_and_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)
    with defer_signals() as caught:
        assert caught == []
        os.kill(os.getpid(), signal.SIGINT)
        assert caught == [signal.SIGINT]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # the next one ends the process
    assert signal.getsignal(signal.SIGINT) == before


def test_a_screen_that_lacks_a_letter_is_no_error():
    done = subprocess.run([sys.executable, '-c', FOREIGN_LETTERS], cwd=ROOT, capture_output=True,
                          text=True, env={**os.environ, 'PYTHONIOENCODING': 'ascii'})
    assert (done.stdout, done.stderr) == ('K\\xe4fer \\udcff\n', '')


def test_programming_errors_keep_their_traceback():
    def main(arguments):
        raise KeyError('a bug')
    with pytest.raises(KeyError):
        run_command(main, [])
