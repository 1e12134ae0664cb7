"""The words on stdin → the lines on stdout: the protocol that this package's docstring tells."""

import faulthandler
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

from alphalens_keyctl.cli.complete import values
from alphalens_keyctl.cli.complete.cursor import Cursor, find
from alphalens_keyctl.output.inert import for_terminal

_LIMIT: Final = 3.0  # seconds, the start of the interpreter left out: a person takes a longer TAB for a hang
_LARGEST_REQUEST: Final = 1 << 20  # bytes; Linux takes no longer command line


def answer(root: Any) -> None:
    """Read the request and write the answer. `root` is the program's command. Writes all or nothing, raises nothing."""
    with open(os.devnull, "w") as nowhere:
        # A thread of C, which ends the process also while a name server or a network drive does not answer.
        faulthandler.dump_traceback_later(_LIMIT, exit=True, file=nowhere)
        try:
            words = _read()
            lines = "".join(_lines(find(root, words))) if words else ""
            os.write(1, lines.encode("utf-8"))  # in one piece: of a half list a shell would complete the half
        except Exception:  # noqa: BLE001, S110  # promise 12: TAB says nothing of what is wrong; the command will
            pass
        faulthandler.cancel_dump_traceback_later()


def _read() -> list[str]:
    if sys.stdin is None or sys.stdin.isatty():
        return []
    request = sys.stdin.buffer.read(_LARGEST_REQUEST)
    # Behind the last NUL stands nothing that counts: PowerShell ends what it pipes with a newline.
    return request.decode("utf-8", "surrogateescape").split("\0")[:-1]


def _lines(cursor: Cursor) -> Iterator[str]:
    for name, summary in cursor.commands.items():
        if name.startswith(cursor.word):
            yield _line(name, summary)
    for name, option in cursor.options.items() if _options_fit(cursor) else ():
        # Of an option that has a long name the short one is offered only to whoever has typed it.
        if name.startswith(cursor.word or "--") and (name.startswith("--") or name == cursor.word):
            yield _line(name, option.help or "")
    if cursor.value_of is not None:
        for value in values.of(cursor.value_of, cursor):
            yield ":files\n" if value is values.FILES else _line(cursor.behind + value.text, value.description)


def _options_fit(cursor: Cursor) -> bool:
    """Whether options are offered: to whoever has begun one, and where there is nothing else to write, or nothing that
    must be."""
    value_of = cursor.value_of
    return bool(cursor.word) or value_of is None or (value_of.nargs == -1 and value_of.metavar not in values.kinds())


def _line(text: str, description: str) -> str:
    return f"{text}\t{for_terminal(' '.join(description.split()))}\n"
