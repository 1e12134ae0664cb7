"""Writing to stdout, which holds the result alone, and to stderr, which holds the rest (promise 10)."""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Final, TextIO

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import redact
from alphalens_keyctl.output.inert import for_terminal

# Unbuffered streams (PYTHONUNBUFFERED, common in containers) would make a system call of every piece.
_BLOCK: Final = 1 << 16


class ReaderGoneError(Exception):
    """The reader of stdout has stopped reading, as in `list | head`."""


def write(pieces: Iterable[str], *, utf8: bool = False) -> None:
    """Write a result to stdout and flush it; with `utf8`, in UTF-8 whatever the locale.

    Raises `ReaderGoneError`, or `KeyctlError` (output_failed) when stdout is closed or full.
    """
    stream = sys.stdout
    if stream is None:
        raise KeyctlError(Code.OUTPUT_FAILED, "stdout is closed", "Run the command with a stdout.")
    if utf8 and isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8")
    try:
        for block in _blocks(pieces):
            stream.write(block)
        stream.flush()
    except BrokenPipeError as error:
        abandon(stream)
        raise ReaderGoneError from error
    except OSError as error:
        abandon(stream)
        raise KeyctlError(
            Code.OUTPUT_FAILED, f"stdout cannot be written: {error.strerror}", "Check where it leads."
        ) from error


def _blocks(pieces: Iterable[str]) -> Iterator[str]:
    block: list[str] = []
    size = 0
    for piece in pieces:
        block.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield "".join(block)
            block.clear()
            size = 0
    yield "".join(block)


def note(text: str) -> None:
    """Write lines to stderr, inert (promise 12) and with raw keys redacted. A failed write is no error."""
    note_drawn("\n".join(map(for_terminal, redact(text).split("\n"))))


def note_drawn(text: str) -> None:
    """Write to stderr what was made inert before colours came to it. A failed write is no error."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError:
        abandon(stream)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a standard stream is a terminal."""
    return stream is not None and stream.isatty()


def abandon(stream: TextIO) -> None:
    """Send the rest of the stream's buffer to /dev/null: Python would write it again at exit, fail, and exit 120."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
