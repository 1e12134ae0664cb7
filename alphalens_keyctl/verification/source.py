"""A database's key records, and whether a record that was read earlier still stands in the database."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

from alphalens_keyctl.address import Address, PostgreSQLAddress, SQLiteAddress
from alphalens_keyctl.columns import texts_of
from alphalens_keyctl.damage import is_sound
from alphalens_keyctl.keyformat import DIGEST_LENGTH
from alphalens_keyctl.values import Key
from alphalens_keyctl.verification.judgement import Record
from alphalens_keyctl.vocabulary import RETIRES_SQL

_COLUMN: Final = {"retires_at": "{0}", **{name: f"CAST(api_key.{name} AS text)" for name in ("scopes", "allow_from")}}
# The columns of a record, by dialect. When a key retires is worked out by the database: its successor's first use
# may decide it.
# The driver of PostgreSQL would make None of JSON's own null, and None lifts a restriction: lists come as text.
COLUMNS: Final = {
    dialect: ", ".join([*(_COLUMN.get(name, name).format(retires) for name in Key._fields), "digest, digest_scheme"])
    for dialect, retires in RETIRES_SQL.items()
}


class Sighting(NamedTuple):
    """A record (None: there is no such key), the source's generation before the read, and the read's time (monotonic
    seconds). The generation tells the source, too, whether the record was read where changes are announced."""

    record: Record | None
    generation: int
    read_at: float


class Source(Protocol):
    """The keys of one database. Every method may be called from any thread."""

    @property
    def heard_at(self) -> float | None:
        """When the database last answered a question that was waited for (monotonic seconds); None if it never did."""

    @property
    def listens(self) -> bool | None:
        """Whether a connection listens for changes; None where the database announces none."""

    def refresh(self) -> bool:
        """Learn, without waiting, of every change up to now. Returns False where the source cannot."""

    def vouches(self, generation: int, read_at: float) -> bool:
        """Whether a record of this generation, read at `read_at` (monotonic seconds), still stood in the database at
        the last refresh."""

    def fetch(self, key_id: str) -> Sighting:
        """Read the record of a key, within the source's time limit. Raises `KeyctlError`."""

    def replaced(self) -> bool:
        """Whether other files than those that are open lie at the path, so that a write would be lost. Does not
        wait."""

    def prepare(self) -> None:
        """Have what lies at the path open before a write: waits until every verifier of the process has closed what
        is gone. Raises `KeyctlError`."""

    def before_fork(self) -> None:
        """Close what a child process must not inherit."""

    def after_fork(self, *, child: bool) -> None:
        """Go on: in the parent as before, in the child with connections of its own."""

    def close(self) -> None:
        """Close every connection."""


def record_of(row: tuple[Any, ...]) -> Record:
    """Turn a row of `COLUMNS` into a record. Raises ValueError or TypeError for a row that this program cannot have
    written."""
    *values, digest, scheme = row
    for place in _TIMES:
        if (stored := values[place]) is not None:
            values[place] = _moment(stored)
    values[_LABELS] = _labels(values[_LABELS])
    for place in _TEXTS:
        values[place] = texts_of(values[place])
    key = Key._make(values)
    if not is_sound(key):
        raise ValueError
    if not isinstance(digest, bytes | memoryview) or len(digest) != DIGEST_LENGTH:
        raise ValueError
    return Record(key, bytes(digest), scheme)


# Positions in a row. A value replaced by name, with `_replace`, would cost a copy of the record each time.
_TIMES: Final = tuple(place for place, name in enumerate(Key._fields) if name.endswith("_at"))
_LABELS: Final = Key._fields.index("labels")
_TEXTS: Final = (Key._fields.index("scopes"), Key._fields.index("allow_from"))


def _moment(stored: object) -> datetime:
    """Turn PostgreSQL's time, in any zone, or SQLite's text, which is UTC, into a time in UTC."""
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


def of(address: Address, written: Address, connect_timeout: float, timeout: float, max_staleness: float) -> Source:
    """The source of a database; `written` is where uses are written. Nothing connects yet. The rest is as in
    `KeyVerifier`, in seconds."""
    if isinstance(address, SQLiteAddress):
        from alphalens_keyctl.verification.sqlite_source import SQLiteSource

        return SQLiteSource(address, timeout=timeout)
    from alphalens_keyctl.verification.postgresql_source import PostgreSQLSource

    return PostgreSQLSource(
        address,
        written if isinstance(written, PostgreSQLAddress) and written != address else None,
        connect_timeout=min(connect_timeout, timeout),
        timeout=timeout,
        max_staleness=max_staleness,
    )
