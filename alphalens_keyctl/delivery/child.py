"""Processes of this package's own modules, which end when this process ends, however it ends.

A process that outlived a killed attempt could store a key after the next attempt has stored a newer one. So each
process reads a pipe, its lifeline, whose other end this process alone has: the kernel closes it with the process. And
each process inherits what marks the attempt as running, so that nobody takes the attempt for dead before the process
has ended.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import alphalens_keyctl
from alphalens_keyctl import interrupts

# Of the environment and the folder of the user nothing is believed (-I): a keyring.py in the current folder must not be
# loaded and given a key. What `site` would find (-S) this process has found already, and hands on where it is needed.
_PYTHON: Final = ("-I", "-S")
_BOOT: Final = "import sys; sys.path[:0] = sys.argv.pop(1).split('\\n'); from {} import main; sys.exit(main())"


def module(name: str) -> tuple[str, ...]:
    """Return the words after `python` that run `main` of a module, which finds every package that this process finds:
    this process may run from an archive."""
    return ("-c", _BOOT.format(name), "\n".join(_search_path()))


def script(name: str) -> tuple[str, ...]:
    """Return the words after `python` that run a module of this folder which imports the standard library alone. Its
    file is run without the packages around it, where it is a file."""
    path = Path(__file__).with_name(f"{name.rpartition('.')[2]}.py")
    return (str(path),) if path.is_file() else module(name)


class Started:
    """A running process, and this process's end of its lifeline."""

    def __init__(self, process: "subprocess.Popen[bytes]", lifeline: int) -> None:
        self.process = process
        self._lifeline = lifeline

    def end(self) -> None:
        """Kill the process, with all that it started, unless it has ended. Called once."""
        try:
            end(self.process)
        finally:
            os.close(self._lifeline)


def start(
    words: Sequence[str],
    *arguments: str,
    stdin: int,
    stderr: int,
    inherited: Sequence[int] = (),
    environment: Mapping[bytes, bytes] | None = None,
) -> Started:
    """Run what `module` or `script` returned in a process, with the number of its lifeline, and then `arguments`.

    The process leads a session of its own: Ctrl-C reaches this process alone. It inherits the descriptors `inherited`.
    The caller ends it, and holds Ctrl-C back (`interrupts.held`) until it knows what to end. Raises OSError when the
    process cannot be started.
    """
    lifeline, ours = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, *_PYTHON, *words, str(lifeline), *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            pass_fds=(lifeline, *inherited),
            start_new_session=True,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(lifeline)
    return Started(process, ours)


@contextmanager
def running(
    words: Sequence[str],
    *arguments: str,
    stdin: int,
    stderr: int,
    inherited: Sequence[int] = (),
    environment: Mapping[bytes, bytes] | None = None,
) -> "Iterator[subprocess.Popen[bytes]]":
    """The process of `start` while the block lasts; it is killed at the end of the block, unless it has ended. Ctrl-C
    is held back (`interrupts.held`)."""
    with interrupts.held():
        started = start(words, *arguments, stdin=stdin, stderr=stderr, inherited=inherited, environment=environment)
        try:
            yield started.process
        finally:
            started.end()


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process and its process group, unless the process has ended by itself, and return once it has ended.

    The process must lead a session of its own.
    """
    # A process that was killed has ended nothing of what it started.
    if (process.poll() or 0) < 0 or process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _search_path() -> list[str]:
    """Where this process finds packages, without what Python puts first unless it is told not to: the current folder,
    or the folder of the script. An archive there is the program itself."""
    own = str(Path(alphalens_keyctl.__file__).parents[1])
    known = list(sys.path)
    if known and not sys.flags.safe_path and not os.path.isfile(known[0]):
        del known[0]
    return [own, *filter(None, known)]
