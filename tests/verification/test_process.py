"""SIGTERM belongs to the program: a verifier installs a handler when it is asked to, and only where there is none."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphalens_keyctl import KeyVerifier
from tests.support.commands import Keyctl

# Verifies once, with a verifier of the given options, then gets SIGTERM.
SERVICE = """
import os, signal, sys
from alphalens_keyctl import KeyVerifier
{before}
verifier = KeyVerifier({options})
assert verifier.verify(sys.stdin.readline().strip())
os.kill(os.getpid(), signal.SIGTERM)
"""
OWN_HANDLER = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))"


@pytest.fixture
def database_file(tmp_path: Path) -> str:
    return str(tmp_path / "keys.db")


@pytest.fixture
def default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def end_by_sigterm(keyctl: Keyctl, raw_key: str, options: str, before: str = "") -> int:
    """The exit status of such a service."""
    script = SERVICE.format(options=options, before=before)
    done = subprocess.run(
        [sys.executable, "-c", script], input=raw_key, env=keyctl.environment, text=True, check=False,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode


def use_count(keyctl: Keyctl) -> int:
    """How often the one key was used."""
    (key,) = keyctl.keys()
    count: int = key["use_count"]
    return count


@pytest.mark.usefixtures("default_handler")
def test_a_verifier_leaves_sigterm_alone_unless_asked(database_file: str) -> None:
    with KeyVerifier(database_file):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with KeyVerifier(database_file, flush_on_sigterm=True):
        assert callable(signal.getsignal(signal.SIGTERM))


def test_asked_to_it_writes_the_last_uses_and_the_process_ends_by_the_signal(keyctl: Keyctl) -> None:
    """Promise 8."""
    raw_key, _ = keyctl.create("ci")
    assert end_by_sigterm(keyctl, raw_key, "flush_on_sigterm=True") == -signal.SIGTERM
    assert use_count(keyctl) == 1


# That a normal end writes on both databases shows where nobody refers to the verifier any more (test_recording).
@pytest.mark.one_database
def test_a_handler_of_the_program_stays_and_its_normal_end_writes_the_last_uses(keyctl: Keyctl) -> None:
    """Promise 8: `sys.exit` in the handler is a normal end."""
    raw_key, _ = keyctl.create("ci")
    for options in ("", "flush_on_sigterm=True"):
        assert end_by_sigterm(keyctl, raw_key, options, OWN_HANDLER) == 9
    assert use_count(keyctl) == 2


def test_outside_the_main_thread_a_handler_is_refused_and_nothing_else(database_file: str) -> None:
    found: list[object] = []

    def make() -> None:
        KeyVerifier(database_file).close()
        try:
            KeyVerifier(database_file, flush_on_sigterm=True)
        except ValueError as error:
            found.append(str(error))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert found == ["a handler of SIGTERM can only be installed in the main thread"]
