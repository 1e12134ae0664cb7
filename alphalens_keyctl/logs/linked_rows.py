"""Events that are linked to the chain → rows of the audit log.

Whoever writes reads back, because a trigger or rule that is not ours can swallow a row without an error.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

from alphalens_keyctl.database import Writing
from alphalens_keyctl.database.end_of_log import last_link
from alphalens_keyctl.models import event_table

_FEW: Final = 10  # events, up to which values cost PostgreSQL and its driver less than arrays
_EVENTS_IN_ARRAYS: Final = 5000
_EVENTS_ON_SQLITE: Final = 100  # nine parameters for each: every SQLite takes 999 in a statement
_COLUMNS: Final = ", ".join(event_table.c.keys())
# As one statement, since PostgreSQL looks at the chain once for each. All hashes are one value, 32 bytes each, the
# one that was last before them in front.
_INSERT_ARRAYS: Final = f"""WITH written AS (INSERT INTO audit_event ({_COLUMNS})
    SELECT %(last)s + place, %(at)s, %(actor)s, %(action)s, key_id, key_name, detail,
        substring(CAST(%(hashes)s AS bytea) FROM CAST(place * 32 - 31 AS integer) FOR 32),
        substring(CAST(%(hashes)s AS bytea) FROM CAST(place * 32 + 1 AS integer) FOR 32)
    FROM unnest(CAST(%(key_ids)s AS text[]), CAST(%(key_names)s AS text[]), CAST(%(details)s AS text[]))
        WITH ORDINALITY AS about (key_id, key_name, detail, place) RETURNING seq, hash)
    SELECT max(seq), string_agg(hash, '' ORDER BY seq) FROM written"""  # noqa: S608  # our own columns


class Links(NamedTuple):
    """Events that are written together, each of which follows the one before. `hashes` has the hash of the event before
    the first of them in front, and `last_seq` is the number of that event."""

    last_seq: int
    key_ids: list[str | None]
    key_names: list[str | None]
    details: list[str]
    hashes: list[bytes]

    def part(self, start: int, end: int) -> "Links":
        """The events from `start` to before `end`, counted from 0."""
        about = (self.key_ids[start:end], self.key_names[start:end], self.details[start:end])
        return Links(self.last_seq + start, *about, self.hashes[start : end + 1])

    def end(self) -> tuple[int, bytes]:
        """The number and the hash of the last event."""
        return self.last_seq + len(self.details), self.hashes[-1]


def insert(tx: Writing, at: datetime, actor: str, action: str, links: Links) -> bool:
    """Write the events, of which there is at least one, at the end of the log. `at` is in UTC. Returns whether the
    database took them as they are."""
    if tx.dialect.name != "postgresql":
        said = (at.strftime("%Y-%m-%d %H:%M:%S.%f"), actor, action)
        for some in _parts(links, _EVENTS_ON_SQLITE):
            tx.exec_driver_sql(_insert_values(len(some.details), "?"), _values(said, some))
        return last_link(tx) == links.end()
    if len(links.details) <= _FEW:
        statement = f"{_insert_values(len(links.details), '%s')} RETURNING seq, hash"
        written = tx.exec_driver_sql(statement, _values((at, actor, action), links)).all()
        return sorted(map(tuple, written)) == list(enumerate(links.hashes[1:], links.last_seq + 1))
    return all(_insert_arrays(tx, at, actor, action, some) for some in _parts(links, _EVENTS_IN_ARRAYS))


def _parts(links: Links, size: int) -> Iterator[Links]:
    return (links.part(start, start + size) for start in range(0, len(links.details), size))


@cache
def _insert_values(number: int, mark: str) -> str:
    """The statement that writes so many events. For each statement, and not for each row, SQLite saves the pages of the
    table and its indexes that the statement may have to put back, because a trigger may refuse the row."""
    row = f"({', '.join([mark] * len(event_table.c))})"
    return f"INSERT INTO audit_event ({_COLUMNS}) VALUES {', '.join([row] * number)}"  # noqa: S608  # our own columns


def _values(said: tuple[Any, str, str], links: Links) -> tuple[Any, ...]:
    about = zip(links.key_ids, links.key_names, links.details, links.hashes, links.hashes[1:], strict=False)
    return tuple(chain.from_iterable((seq, *said, *each) for seq, each in enumerate(about, links.last_seq + 1)))


def _insert_arrays(tx: Writing, at: datetime, actor: str, action: str, links: Links) -> bool:
    values = {
        "last": links.last_seq, "at": at, "actor": actor, "action": action, "key_ids": links.key_ids,
        "key_names": links.key_names, "details": links.details, "hashes": b"".join(links.hashes),
    }  # fmt: skip
    # Not an answer a row: of thousands, one value each is a tenth of the work.
    written = tx.exec_driver_sql(_INSERT_ARRAYS, values).one()
    return tuple(written) == (links.end()[0], b"".join(links.hashes[1:]))
