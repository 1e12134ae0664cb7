"""Reading stdin, or the file that stands for it: a raw key, a saved head, keys to create.

Bounded in size and in time (promise 11).
"""

import errno
import os
import select
import stat
import sys
import time
from typing import Final

import typer

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import LONGEST
from alphalens_keyctl.output import channel

LIMIT: Final = 60.0  # seconds that piped input may take to arrive
_MOST_AT_ONCE: Final = 1 << 16


def read_line() -> bytes:
    """Return the first line of stdin without its end of line, cut a little past the length of a raw key.

    On a terminal, ask for the line and do not echo it. Raises `KeyctlError` (input_failed) when stdin is closed or
    silent.
    """
    if channel.is_terminal(sys.stdin):
        typed: str = typer.prompt("Raw key", hide_input=True, err=True)
        return typed.strip().encode("utf-8", "replace")
    return _read(_stdin(), "stdin", most=LONGEST + 2, until=b"\n").partition(b"\n")[0].removesuffix(b"\r")


def read_all(source: str, *, most: int) -> bytes:
    """Return the content of the file `source`, `-` meaning stdin; a little more than `most` bytes where it has more.

    Raises OSError or ValueError for a file that cannot be opened, and `KeyctlError` (input_failed) when the content
    does not come whole within `LIMIT`.
    """
    if source == "-":
        return _read(_stdin(), "stdin", most=most)
    # Not blocking: to open a FIFO would wait for its writer.
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return _read(descriptor, source, most=most)
    finally:
        os.close(descriptor)


def _stdin() -> int:
    if sys.stdin is None:
        raise KeyctlError(Code.INPUT_FAILED, "stdin is closed", "Pipe the text in.")
    return 0


def _read(descriptor: int, name: str, *, most: int, until: bytes | None = None) -> bytes:
    """Read until the end of input, until `until` has come, or until more than `most` bytes have come."""
    deadline = time.monotonic() + LIMIT
    content = bytearray()
    while len(content) <= most and (until is None or until not in content):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise _too_late(name, came=bool(content), ends=until is None)
        try:
            piece = os.read(descriptor, _MOST_AT_ONCE)
        except BlockingIOError:
            continue  # another reader of the FIFO was faster
        except OSError as error:
            raise KeyctlError(Code.INPUT_FAILED, f"{name} cannot be read: {error.strerror}") from error
        if not piece:
            break
        content += piece
    return bytes(content)


def _too_late(name: str, *, came: bool, ends: bool) -> KeyctlError:
    missing = ("its end" if ends else "the end of the line") if came else "a writer or its first byte"
    hint = "Write it to a file first, and give the file." if came else "See whether what should write it runs."
    return KeyctlError(Code.INPUT_FAILED, f"{name}: {missing} did not come within {LIMIT:.0f} seconds", hint)
