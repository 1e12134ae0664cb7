"""Rows as the database writes them → JSON objects, a million in seconds."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache, lru_cache
from itertools import islice
from json.encoder import encode_basestring_ascii
from types import CodeType
from typing import Any, Final, cast

from alphalens_keyctl import networks, scopes
from alphalens_keyctl.damage import are_labels

Writer = Callable[[Iterable[Sequence[Any]]], Iterator[list[str]]]
# So few that the processor has them at hand until they are written.
_ROWS_AT_ONCE: Final = 100


def writer(
    members: tuple[tuple[str, str], ...], written: tuple[str, ...], otherwise: Callable[[Sequence[Any]], str]
) -> Writer:
    """Return a function that streams rows as JSON objects, a page of them at a time.

    `members` are the columns in the order of a row: the name of each, and the Python expression that makes JSON of its
    value. `written` are the names of those that the objects have. `otherwise` writes a row with a value that has
    another type.
    """
    known = {"quote": encode_basestring_ascii, "instant": datetime.fromisoformat, "spelled": labels_spelled}
    known |= {"otherwise": otherwise, "page_of": lambda rows: list(islice(rows, _ROWS_AT_ONCE))}
    # None of these names may be a column's, which would hide it.
    known |= {"spelled_scopes": scopes_spelled, "spelled_networks": networks_spelled}
    exec(_compiled(members, written), known)  # noqa: S102  # of the names in this program's own field lists
    return cast("Writer", known["write"])


@cache
def _compiled(members: tuple[tuple[str, str], ...], written: tuple[str, ...]) -> CodeType:
    """What `writer` runs, compiled from the names, as `namedtuple` compiles a class.

    Without that each row of a million would ask for every value how to write it, which takes half as long again;
    `json.dumps` of a dict takes twice as long.
    """
    forms = {name: f'"{name}": {{{form.format(name)}}}' for name, form in members}
    # What is not written is read all the same: a key is damaged whichever of its columns are asked for.
    unwritten = "".join(form for name, form in forms.items() if name not in written)
    source = f"""
def write(rows):
    rows = iter(rows)
    while page := page_of(rows):
        texts = []
        for row in page:
            try:
                {", ".join(forms)} = row
                f'''{unwritten}'''
                texts.append(f'''{{{{{", ".join(forms[name] for name in written)}}}}}''')
            except (TypeError, ValueError, RecursionError):
                texts.append(otherwise(row))
        yield texts
"""
    return compile(source, "<rows as JSON>", "exec")


def time_spelled(stored: str) -> str:
    """`2026-11-23 06:34:00.123456`, and what PostgreSQL adds, as `rfc3339` writes it. ValueError for no time."""
    datetime.fromisoformat(stored)
    return f"{stored[:10]}T{stored[11:19]}Z"


@lru_cache(maxsize=4096)
def labels_spelled(stored: str) -> str:
    """The stored JSON of labels in one spelling: PostgreSQL orders and spaces it in its own way, in UTF-8."""
    labels = json.loads(stored)
    if not are_labels(labels):
        raise ValueError
    return json.dumps(labels, sort_keys=True, allow_nan=False)


@lru_cache(maxsize=4096)
def scopes_spelled(stored: str) -> str:
    """The stored JSON of scopes in one spelling. ValueError or TypeError for what no key has."""
    return _list_spelled(stored, scopes.are_sound)


@lru_cache(maxsize=4096)
def networks_spelled(stored: str) -> str:
    """The stored JSON of networks in one spelling. ValueError or TypeError for what no key has."""
    return _list_spelled(stored, networks.are_sound)


def _list_spelled(stored: str, are_sound: Callable[[Sequence[object]], bool]) -> str:
    found = json.loads(stored)
    if not isinstance(found, list) or not are_sound(found):
        raise ValueError
    return json.dumps(found)


# How the text is spelled of each column that holds JSON.
SPELLED: Final = {"labels": labels_spelled, "scopes": scopes_spelled, "allow_from": networks_spelled}
