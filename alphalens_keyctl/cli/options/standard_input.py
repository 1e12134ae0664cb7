"""Reading stdin: a raw key or a saved head, bounded in size and in time (promise 11)."""

import os
import select
import sys
import time
from typing import Final

import typer

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import LONGEST
from alphalens_keyctl.output import channel

LIMIT: Final = 60.0  # seconds that piped input may take to arrive


def read_line() -> bytes:
    """Return the first line of stdin without its end of line, cut a little past the length of a raw key.

    On a terminal, ask for the line and do not echo it. Raises `KeyctlError` (input_failed) when stdin is closed or
    silent.
    """
    if channel.is_terminal(sys.stdin):
        typed: str = typer.prompt("Raw key", hide_input=True, err=True)
        return typed.strip().encode("utf-8", "replace")
    piped = read(standard_input(), most=LONGEST + 2, until=b"\n")
    return piped.partition(b"\n")[0].removesuffix(b"\r")


def standard_input() -> int:
    """Return the descriptor of stdin. Raises `KeyctlError` (input_failed) when stdin is closed."""
    if sys.stdin is None:
        raise KeyctlError(Code.INPUT_FAILED, "stdin is closed", "Pipe the text in.")
    return 0


def read(descriptor: int, *, most: int, until: bytes | None = None) -> bytes:
    """Read until the end of input, until `until` has come, or until more than `most` bytes have come.

    Raises `KeyctlError` (input_failed) when that takes longer than `LIMIT`.
    """
    deadline = time.monotonic() + LIMIT
    content = b""
    while len(content) <= most and (until is None or until not in content):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise KeyctlError(Code.INPUT_FAILED, f"the input did not come within {LIMIT:.0f} seconds", "Pipe it in.")
        try:
            piece = os.read(descriptor, 4096)
        except OSError as error:
            raise KeyctlError(Code.INPUT_FAILED, f"the input cannot be read: {error.strerror}") from error
        if not piece:
            break
        content += piece
    return content
