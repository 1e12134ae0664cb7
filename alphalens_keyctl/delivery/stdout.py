"""Standard output, the one destination that does not outlive the process: it has the key for certain when the
function returns, or that raises."""

import os
import stat
import sys
from collections.abc import Sequence

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.output import channel


def name() -> str:
    """What standard output is called in `delivered_to`."""
    return "terminal" if channel.is_terminal(sys.stdout) else "stdout"


def write(text: str, raw: RawKey, *, mask: bool) -> list[str]:
    """Write `text`, which shows `raw`, to standard output and flush it; returns where it went.

    With `mask`, first tell GitHub Actions on standard error to hide the key in its log (`::add-mask::`).
    Raises `KeyctlError` (delivery_failed) when either stream is closed, full or no longer read.
    """
    return write_all([text], [raw], mask=mask)


def write_all(texts: Sequence[str], raws: Sequence[RawKey], *, mask: bool) -> list[str]:
    """`write` for several texts that show several raw keys."""
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
    """A file may take what is written and lose it later, when the disk turns out to be full or the power goes."""
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
