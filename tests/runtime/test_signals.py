"""SIGHUP, SIGTERM and Ctrl-C; nohup, trap and a pseudo-terminal are the independent sources."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from runtime.signals import defer_signals
from tests.helpers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('default_signals')]


# Sleeps until a signal, then prints twice as a report does.
SLEEPER = '''
import sys, time
from runtime.command import run_command
def main(arguments):
    try:
        print('begun', flush=True)
        time.sleep(1)
    finally:
        time.sleep(0.2)
        print('saved', flush=True)
        print('saved', file=sys.stderr, flush=True)
        open('saved', 'w').close()
    return 0
run_command(main)
'''
# Defers signals as a training run does: looks for them between two steps.
TRAINER = SLEEPER.replace('''print('begun', flush=True)
        time.sleep(1)''', '''
        from runtime.signals import Interrupted, defer_signals
        with defer_signals() as caught:
            print('begun', flush=True)
            for step in range(40):
                time.sleep(0.02)
                if caught and step > 25:
                    raise Interrupted(caught[0], 'to resume')
''')


def start(folder, code, prefix=''):
    """Start code by bash after a command such as nohup or trap; return the process."""
    (folder / 'script.py').write_text(code)
    process = subprocess.Popen(
        ['bash', '-c', f'{prefix} exec "{sys.executable}" script.py'], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': ROOT})
    assert process.stdout.readline() == 'begun\n'
    return process


@pytest.mark.parametrize('number, status, words', [
    (signal.SIGHUP, 129, 'terminal closed'), (signal.SIGTERM, 143, 'terminated'),
    (signal.SIGINT, 130, 'interrupted')])
def test_a_signal_ends_a_command_with_its_status(number, status, words, tmp_path):
    process = start(tmp_path, SLEEPER)
    process.send_signal(number)
    assert process.communicate(timeout=20) == ('saved\n', f'saved\n{words}\n')
    assert process.returncode == status == 128 + number  # as a shell counts


@pytest.mark.parametrize('code', [SLEEPER, TRAINER], ids=['command', 'training'])
@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_an_ignored_signal_stays_ignored(code, number, tmp_path):
    process = start(tmp_path, code, f"trap '' {number.name[3:]};")
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize('code', [SLEEPER, TRAINER], ids=['command', 'training'])
def test_a_terminal_that_hangs_up_twice_still_saves(code, tmp_path):
    process = start(tmp_path, code)
    for _ in range(20):  # until it has saved
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
    process.communicate(timeout=20)
    assert process.returncode == 129 and (tmp_path / 'saved').exists()


@pytest.mark.parametrize('first, second, status', [
    (signal.SIGHUP, signal.SIGTERM, -signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP, 143),
    (signal.SIGTERM, signal.SIGTERM, -signal.SIGTERM)])
def test_a_second_signal_but_sighup_ends_at_once(first, second, status, tmp_path):
    process = start(tmp_path, TRAINER)
    process.send_signal(first)
    time.sleep(0.3)
    process.send_signal(second)
    process.communicate(timeout=20)
    assert process.returncode == status


@pytest.mark.parametrize('ignored, status', [(False, 129), (True, 0)])
def test_a_lost_terminal_costs_nothing_but_its_lines(ignored, status, tmp_path):
    (tmp_path / 'script.py').write_text(TRAINER)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        os.execve(sys.executable, [sys.executable, 'script.py'], {**os.environ, 'PYTHONPATH': ROOT})
    assert b'begun' in os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
    assert (tmp_path / 'saved').exists()


def test_handlers_are_restored_and_foreign_ones_kept():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with defer_signals() as caught:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
    assert caught == [signal.SIGHUP]
    assert before == [signal.getsignal(number)
                      for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
