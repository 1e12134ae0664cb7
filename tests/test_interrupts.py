"""Ctrl-C between an effect and its being known (promises 2 and 3), by real signals."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from alphalens_keyctl.interrupts import held, let_in


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def as_python_handles_it() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_waits_for_the_next_wait_of_the_block() -> None:
    done = []

    @held()
    def job() -> None:
        ctrl_c()
        done.append("effect known")
        with let_in():
            done.append("waited")

    with pytest.raises(KeyboardInterrupt):
        job()
    assert done == ["effect known"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_ends_a_wait_at_once() -> None:
    threading.Timer(0.1, ctrl_c).start()
    with pytest.raises(KeyboardInterrupt), held(), let_in():
        signal.sigtimedwait([signal.SIGUSR1], 10)


def test_ctrl_c_after_the_last_wait_leaves_a_job_done_and_ends_the_next() -> None:
    with held():
        with let_in():
            pass
        ctrl_c()
    with pytest.raises(KeyboardInterrupt), held():
        raise AssertionError("the next job began")
    with held(), let_in():
        pass


def test_a_block_inside_a_wait_holds_ctrl_c_back_again() -> None:
    done = []

    def inner() -> None:
        with held():
            ctrl_c()
            done.append("effect known")
        with let_in():
            done.append("waited")

    with pytest.raises(KeyboardInterrupt), held(), let_in():
        inner()
    assert done == ["effect known"]


def test_outside_a_held_block_and_in_other_threads_nothing_changes() -> None:
    with pytest.raises(KeyboardInterrupt), let_in():
        ctrl_c()
    handlers = []

    def elsewhere() -> None:
        with held(), let_in():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_a_handler_of_the_caller_stays() -> None:
    program = (
        "import signal\nfrom alphalens_keyctl.interrupts import held\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwith held():\n  signal.raise_signal(signal.SIGINT)\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
