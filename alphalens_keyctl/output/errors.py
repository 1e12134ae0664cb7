"""An error as stderr gets it: lines for people, or under `--json` the one JSON document (promise 10). Loads nothing but
the standard library: a wrong option is told as fast as `--help`, and a broken installation can still be told."""

import json
from typing import Final

from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import redact
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.pages import wrapped

_RED, _DIM, _PLAIN = "\x1b[1;31m", "\x1b[2m", "\x1b[0m"
_ERROR: Final = "error:"
_HINT: Final = "hint:"


def error_document(error: KeyctlError) -> str:
    """`{"error": {"code", "message", "hint"}}` as one line of ASCII without its newline, free of raw keys."""
    told = {"code": error.code.value, "message": redact(error.message), "hint": redact(error.hint)}
    return json.dumps({"error": told})


def error_lines(error: KeyctlError, *, width: int | None, color: bool) -> str:
    """Return message and hint as lines, inert (promise 12) and free of raw keys.

    `width` is the terminal's, at which lines break between words; None leaves each on one line. With `color` the word
    `error:` is red and the hint dim.
    """
    lines = _lines(_ERROR, error.message, width)
    hint = _lines(_HINT, error.hint, width) if error.hint else []
    if color:
        lines[0] = f"{_RED}{_ERROR}{_PLAIN}{lines[0].removeprefix(_ERROR)}"
        hint = [f"{_DIM}{line}{_PLAIN}" for line in hint]
    return "\n".join([*lines, *hint])


def _lines(word: str, text: str, width: int | None) -> list[str]:
    inert = for_terminal(redact(text))
    if width is None:
        return [f"{word} {inert}"]
    return wrapped(inert, width, " " * (len(word) + 1), first=f"{word} ")
