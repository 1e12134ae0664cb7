"""A head as a checkpoint of C2SP (c2sp.org/tlog-checkpoint), which the witnesses of other logs read and sign, too.

A checkpoint is text of three lines: the origin, which names the log; the number of events; the root of the tree over
them in base64. As a signed note it goes on with an empty line and a line for each signature.
"""

import re
from base64 import b64decode, b64encode
from typing import Final, NamedTuple

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs.audit import Head

_ORIGIN: Final = re.compile(r"[!-*,-~]{1,200}")  # as the name of a note's key: no white space, no plus
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(NamedTuple):
    """The log's name, the number of its events, and the root of the tree over them."""

    origin: str
    size: int
    root: bytes


def parse_origin(given: str) -> str:
    """Return the origin as it was given. Raises `KeyctlError` (invalid_input) for one that no checkpoint can have."""
    if _ORIGIN.fullmatch(given) is None:
        raise KeyctlError(
            Code.INVALID_INPUT,
            "the origin is not one",
            "Give a name like example.com/keys: ASCII, without white space and plus signs, 200 characters at most.",
        )
    return given


def of(head: Head, origin: str | None = None) -> Checkpoint:
    """Return the checkpoint of a head that has a root. Without `origin` the log goes by its first event's hash."""
    assert head.root is not None  # noqa: S101  # for the types
    assert head.first is not None  # noqa: S101  # the same
    return Checkpoint(origin or f"alphalens-keyctl/{head.first.hex()[:32]}", head.seq, head.root)


def text(checkpoint: Checkpoint) -> str:
    """Return the three lines."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{b64encode(checkpoint.root).decode('ascii')}\n"


def parse(note: str) -> Checkpoint:
    """Return the checkpoint of a text or of a signed note; the note's signatures are not looked at. Raises ValueError
    for anything else, lines behind the third among them."""
    body = note.partition("\n\n")[0].removesuffix("\n")
    origin, size, root = body.split("\n")
    if _ORIGIN.fullmatch(origin) is None or _SIZE.fullmatch(size) is None:
        raise ValueError
    found = Checkpoint(origin, int(size), b64decode(root, validate=True))
    if len(found.root) != 32 or text(found) != f"{body}\n":
        raise ValueError
    return found
