"""Rows that hold what no program of ours wrote: they are shown as damaged, and harm themselves alone (promise 14)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from alphalens_keyctl import networks, scopes
from alphalens_keyctl.columns import UNREADABLE_LABELS
from alphalens_keyctl.moments import UNREADABLE
from alphalens_keyctl.values import Key
from alphalens_keyctl.vocabulary import Status


def key_of(row: Sequence[Any]) -> Key:
    """A row in the order of `Key`'s fields → the key, which is `damaged_key` where the row is not sound."""
    key = Key._make(row)
    return key if is_sound(key) else damaged_key(row)


def damaged_key(row: Sequence[Any]) -> Key:
    """A row in the order of `Key`'s fields → a key of the status `damaged`.

    What cannot be read is None, 0 or empty, or a text with its stray bytes spelled out; `created_at` is `UNREADABLE`.
    """
    key = Key._make(row)
    times: dict[str, Any] = {
        name: value if isinstance(value, datetime) and value != UNREADABLE else None
        for name, value in key._asdict().items()
        if name.endswith("_at")
    }
    texts: dict[str, Any] = {
        name: value if value is None else legible(value)
        for name, value in key._asdict().items()
        if name not in times and name not in ("labels", "use_count", "scopes", "allow_from")
    }
    rest: dict[str, Any] = {
        "status": Status.DAMAGED.value,
        "created_at": times["created_at"] or UNREADABLE,
        "labels": key.labels if are_labels(key.labels) else {},
        "use_count": key.use_count if type(key.use_count) is int else 0,
        # Never None, which lifts a restriction.
        "scopes": key.scopes if key.scopes is None or scopes.are_sound(key.scopes) else (),
        "allow_from": key.allow_from if key.allow_from is None or networks.are_sound(key.allow_from) else (),
    }
    return key._replace(**texts | times | rest)


def is_sound(key: Key) -> bool:
    """Whether every value of a key is one that a program of ours may have written."""
    # Loops and no generators: each first sight of a key asks this.
    needed = (key.id, key.name, key.status, key.created_by, key.created_at)
    if None in needed or type(key.use_count) is not int:
        return False
    for text in (*needed[:4], *_texts(key)):
        if text is not None and not _is_text(text):
            return False
    for time in (key.created_at, *_times(key)):
        if time is not None and (not isinstance(time, datetime) or time == UNREADABLE):
            return False
    if key.scopes is not None and not scopes.are_sound(key.scopes):
        return False
    if key.allow_from is not None and not networks.are_sound(key.allow_from):
        return False
    return are_labels(key.labels)


def are_labels(labels: object) -> bool:
    """Whether labels are an object of texts."""
    return (
        isinstance(labels, Mapping)
        and labels is not UNREADABLE_LABELS
        and all(_is_text(name) and _is_text(value) for name, value in labels.items())
    )


def legible(text: object) -> str:
    """What stands in a text column as text that can be stored and shown, its stray bytes spelled out.

    SQLite lets anything stand there; text that is not UTF-8 arrives as surrogates.
    """
    if isinstance(text, bytes | memoryview):
        return bytes(text).decode("utf-8", "backslashreplace")
    given = text if isinstance(text, str) else str(text)
    return given.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if is_escaped(given) else given


def _texts(key: Key) -> tuple[object, ...]:
    return (key.owner, key.purpose, key.revoked_by, key.revoke_reason, key.replaces, key.replaced_by, key.delivering_to)


def _times(key: Key) -> tuple[object, ...]:
    return (
        key.activated_at, key.expires_at, key.retires_at, key.suspended_at, key.last_used_at, key.revoked_at
    )  # fmt: skip


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not is_escaped(value)


def is_escaped(text: str) -> bool:
    """Whether a text holds what was not UTF-8, which arrives as surrogates."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
