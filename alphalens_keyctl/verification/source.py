"""Where records come from, and whether one that was read earlier still holds."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

from alphalens_keyctl.damage import is_sound
from alphalens_keyctl.keyformat import DIGEST_LENGTH
from alphalens_keyctl.models import RETIRES_SQL, Key
from alphalens_keyctl.verification.judgement import Record

# In either dialect; a key retires when the database says, which another key's first use may move.
COLUMNS: Final = {
    dialect: ", ".join([*(retires if name == "retires_at" else name for name in Key._fields), "digest, digest_scheme"])
    for dialect, retires in RETIRES_SQL.items()
}


class Sighting(NamedTuple):
    """A record as it was read, the source's generation before it was read, and when (monotonic seconds)."""

    record: Record | None
    generation: int
    read_at: float


class Source(Protocol):
    """A database's keys. Every method may be called from any thread."""

    def refresh(self) -> bool:
        """Learn whether anything has changed, without waiting. False where it cannot be learned now."""

    def vouches(self, generation: int, read_at: float) -> bool:
        """Whether what was read then is what stood in the database at the last refresh."""

    def fetch(self, key_id: str) -> Sighting:
        """Read a key's record. Bounded in time. Raises `KeyctlError`."""

    def before_fork(self) -> None:
        """Let go of what a child process must not inherit."""

    def after_fork(self, *, child: bool) -> None:
        """Go on, in the child with connections of its own."""

    def close(self) -> None:
        """Let go of every connection."""


def record_of(row: tuple[Any, ...]) -> Record:
    """A row of `COLUMNS` → a record. Raises ValueError or TypeError for what no program of ours wrote."""
    *values, digest, scheme = row
    for place in _TIMES:
        if (stored := values[place]) is not None:
            values[place] = _moment(stored)
    values[_LABELS] = _labels(values[_LABELS])
    key = Key._make(values)
    if not is_sound(key):
        raise ValueError
    if not isinstance(digest, bytes | memoryview) or len(digest) != DIGEST_LENGTH:
        raise ValueError
    return Record(key, bytes(digest), scheme)


# By place: every column that is changed by name would be another copy of the record.
_TIMES: Final = tuple(place for place, name in enumerate(Key._fields) if name.endswith("_at"))
_LABELS: Final = Key._fields.index("labels")


def _moment(stored: object) -> datetime:
    """PostgreSQL's time in whatever zone, or SQLite's text, which is UTC → UTC."""
    if isinstance(stored, datetime):
        return stored if stored.tzinfo is UTC else stored.astimezone(UTC)
    if not isinstance(stored, str):
        raise TypeError
    return datetime.fromisoformat(stored).replace(tzinfo=UTC)


def _labels(stored: object) -> Mapping[str, str]:
    labels = json.loads(stored) if isinstance(stored, str) else stored
    if not isinstance(labels, dict):
        raise TypeError
    return labels
