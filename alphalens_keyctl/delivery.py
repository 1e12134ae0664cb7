"""The raw key's destinations. Each either has the key for certain when its function returns, or raises."""

import sys

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.output import channel

_UNUSED = "The key was not activated and opens nothing; its name is free."


def stdout_name() -> str:
    """What standard output is called in `delivered_to`."""
    return "terminal" if channel.is_terminal(sys.stdout) else "stdout"


def to_stdout(text: str, raw: RawKey, *, mask: bool) -> list[str]:
    """Write `text`, which shows `raw`, to standard output and flush it; returns where it went.

    With `mask`, first tell GitHub Actions on standard error to hide the key in its log (`::add-mask::`).
    Raises `KeyctlError` (delivery_failed) when either stream is closed, full or no longer read.
    """
    try:
        if mask:
            _mask(raw)
        channel.write([text])
    except channel.ReaderGoneError as error:
        raise _failed("whoever read stdout has gone away") from error
    except KeyctlError as error:
        raise _failed(error.message) from error
    return [stdout_name()]


def _mask(raw: RawKey) -> None:
    try:
        if sys.stderr is None:
            raise _failed("stderr is closed, so the key cannot be masked in the log")
        sys.stderr.write(f"::add-mask::{raw.reveal()}\n")
        sys.stderr.flush()
    except OSError as error:
        raise _failed(f"stderr cannot be written, so the key cannot be masked: {error.strerror}") from error


def _failed(problem: str) -> KeyctlError:
    return KeyctlError(Code.DELIVERY_FAILED, f"the key could not be shown: {problem}", _UNUSED)
