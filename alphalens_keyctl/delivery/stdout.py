"""stdout, the one destination that does not outlive the process: it has the key when a function here returns."""

import os
import stat
import sys
from collections.abc import Sequence

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.output import channel


def name() -> str:
    """Return the name of stdout in `delivered_to`: "terminal" or "stdout"."""
    return "terminal" if channel.is_terminal(sys.stdout) else "stdout"


def write(text: str, raw: RawKey, *, mask: bool) -> list[str]:
    """Write `text`, which shows `raw`, to stdout and flush it; return the names of the destinations written to.

    With `mask`, first tell GitHub Actions on stderr to hide the key in its log (`::add-mask::`). Raises `KeyctlError`
    (delivery_failed) when either stream is closed, full or no longer read.
    """
    return write_all([text], [raw], mask=mask)


def write_all(texts: Sequence[str], raws: Sequence[RawKey], *, mask: bool) -> list[str]:
    """Write several texts that show several raw keys, as `write` does."""
    if mask:
        for raw in raws:
            _mask(raw)
    try:
        channel.write(texts)
        _make_durable(sys.stdout.fileno())
    except channel.ReaderGoneError as error:
        raise _failed("whoever read stdout has gone away") from error
    except KeyctlError as error:
        raise _failed(error.message) from error
    except OSError as error:
        raise _failed(f"stdout cannot be synced: {error.strerror}") from error
    return [name()]


def _make_durable(descriptor: int) -> None:
    """Sync stdout when it is a file: a file may take a key and lose it later, for lack of space or of power."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.fsync(descriptor)


def _mask(raw: RawKey) -> None:
    if sys.stderr is None:
        raise _failed("stderr is closed, so the key cannot be masked in the log")
    try:
        sys.stderr.write(f"::add-mask::{raw.reveal()}\n")
        sys.stderr.flush()
    except OSError as error:
        raise _failed(f"stderr cannot be written, so the key cannot be masked: {error.strerror}") from error


def _failed(problem: str) -> KeyctlError:
    return KeyctlError(Code.DELIVERY_FAILED, f"the key could not be shown: {problem}")
