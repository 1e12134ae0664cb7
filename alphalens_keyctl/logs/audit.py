"""The hash-chained audit log: append, read, verify, head.

The hash of an event is SHA-256 over `canonical(...)`, which holds the hash of the event before. Nobody can change what
an event says, where the event stands or which event it follows without changing every later hash too. A log that was
cut off or rewritten whole fails against a head that was saved elsewhere (promise 7).
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from json.encoder import encode_basestring_ascii
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from alphalens_keyctl.database import Database, Writing
from alphalens_keyctl.database.end_of_log import last_link
from alphalens_keyctl.database.instants import microsecond_text
from alphalens_keyctl.database.streaming import pages
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import around_chain, bound_rows, linked_rows
from alphalens_keyctl.logs.around_chain import Trouble
from alphalens_keyctl.logs.bound_rows import RowFault
from alphalens_keyctl.logs.linked_rows import Links
from alphalens_keyctl.models import Action, Event, event_table
from alphalens_keyctl.moments import rfc3339_exact
from alphalens_keyctl.provenance import Act

GENESIS: Final = bytes(32)
_ROWS_AT_ONCE: Final = 2000


class Head(NamedTuple):
    """The place, hash and instant of the last event. The head of an empty log is 0, 32 zero bytes, None.

    Where somebody asked for them (`proof.rooted`), `root` is the root of the tree over all events up to that one, and
    `first` the hash of the first event, by which the log is known.
    """

    seq: int
    hash: bytes
    at: datetime | None
    root: bytes | None = None
    first: bytes | None = None


class BreakKind(StrEnum):
    """How a chain is broken. The words are part of the JSON contract."""

    MISSING = "missing"
    ALTERED = "altered"
    UNLINKED = "unlinked"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"
    DAMAGED = Trouble.DAMAGED.value
    INDEX = Trouble.INDEX.value
    ALTERED_POLICY = Trouble.ALTERED_POLICY.value
    ALTERED_KEY = RowFault.ALTERED.value
    UNKNOWN_KEY = RowFault.UNKNOWN.value
    MISSING_KEY = RowFault.MISSING.value


class Break(NamedTuple):
    """The first event at which the log is not what was written; or, with `seq` None, what is wrong `about` the tables
    and the indexes by which their rows are found, or the id of the key (`about`) whose row is not what the log says."""

    seq: int | None
    kind: BreakKind
    about: str | None = None


class Verdict(NamedTuple):
    """What `verify` found: how many events hold together from the start, the last of them as the head, and the first
    break, if any."""

    events: int
    head: Head
    broken: Break | None


class LogFilter(NamedTuple):
    """Which events to read. None means: any. `since` is included, `until` is not; both are aware. `among` is a query
    for the ids of the keys whose events may be read; events about no key are then left out. Every event is before
    `before_seq`, and behind `after_seq`, from where reading goes on."""

    key_ids: tuple[str, ...] | None = None
    actor: str | None = None
    action: Action | None = None
    since: datetime | None = None
    until: datetime | None = None
    among: Select[tuple[str]] | None = None
    before_seq: int | None = None
    after_seq: int | None = None


COLUMNS_OF_E: Final = [event_table.c[name] for name in Event._fields]
# Stands for the digest of a row until it is known; nobody else can write it.
_ROW: Final = secrets.token_hex(32)


def canonical(
    seq: int, at: str, actor: str, action: str, key_id: str | None, key_name: str | None, detail: str, previous: bytes
) -> bytes:
    """The bytes that are hashed for an event: a compact ASCII JSON array of the arguments in this order.

    `at` is RFC 3339 in UTC with six digits of a second, `detail` the stored JSON text as a string, and `previous` the
    hash of the event before, in hex. JSON marks where each value ends, so no two events have the same bytes.
    """
    quote = encode_basestring_ascii
    return (
        f"[{seq},{quote(at)},{quote(actor)},{quote(action)},"
        f"{'null' if key_id is None else quote(key_id)},{'null' if key_name is None else quote(key_name)},"
        f'{quote(detail)},"{previous.hex()}"]'
    ).encode("ascii")


def append(
    tx: Writing, act: Act, action: Action, *, key_id: str | None, key_name: str | None, **detail: object
) -> None:
    """Write one event at the end of the chain, inside the transaction of the caller (promise 6).

    `detail` is any JSON; a value of None is left out. It must never hold a raw key. Raises `KeyctlError`
    (database_unusable) when the database does not take the event.
    """
    append_each(tx, act, action, [(key_id, key_name, detail)])


def append_each(
    tx: Writing,
    act: Act,
    action: Action,
    about: Iterable[tuple[str | None, str | None, Mapping[str, object]]],
    *,
    bound: Mapping[str, str] | None = None,
) -> None:
    """Write an event for each key at the end of the chain. `about` has the id, the name and the detail of each; events
    that say the same best share one detail.

    The event binds the row of its key as the row is now; with `bound`, to these digests by id, of rows that the caller
    is about to write in the same transaction. Raises as `append` does.
    """
    about = list(about)
    if not about:
        return
    if bound is None:
        bound = bound_rows.digests(tx, [key_id for key_id, _, _ in about if key_id is not None])
    last = last_link(tx)
    seq, previous = (last[0], stored_bytes(last[1])) if last else (0, GENESIS)
    where = {**act.origin._asdict(), "database_user": tx.info.get("database_user")}
    origin = {name: value for name, value in where.items() if value is not None}
    at, actor, doing, sha256 = act.at.astimezone(UTC), act.actor, action.value, hashlib.sha256
    written = rfc3339_exact(at)
    links = Links(seq, [], [], [], [previous])
    texts: dict[int, tuple[str, list[str]]] = {}  # by the identity of a detail, all of which `about` keeps alive
    for key_id, key_name, detail in about:
        if id(detail) not in texts:
            texts[id(detail)] = _texts(detail, origin)
        plain, binding = texts[id(detail)]
        seq += 1
        text = plain if key_id is None else bound[key_id].join(binding)
        previous = sha256(canonical(seq, written, actor, doing, key_id, key_name, text, previous)).digest()
        links.key_ids.append(key_id)
        links.key_names.append(key_name)
        links.details.append(text)
        links.hashes.append(previous)
    if not linked_rows.insert(tx, at, actor, doing, links):
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            "the database did not take the audit event, so the change was not made",
            "Check the database for triggers and rules that are not ours.",
        )


def _texts(detail: Mapping[str, object], origin: Mapping[str, object]) -> tuple[str, list[str]]:
    """The JSON of a detail, and its two parts around the digest of a row."""
    said = {name: value for name, value in detail.items() if value is not None} | {"origin": origin}
    plain, bound = (json.dumps(each, sort_keys=True, separators=(",", ":")) for each in (said, said | {"row": _ROW}))
    return plain, bound.split(_ROW)


def head(connection: Connection) -> Head:
    """The last event of the chain, or `Head(0, GENESIS, None)`."""
    query = select(event_table.c.seq, event_table.c.hash, event_table.c.at).order_by(event_table.c.seq.desc()).limit(1)
    row = connection.execute(query).first()
    return Head(row[0], stored_bytes(row[1]), row[2]) if row else Head(0, GENESIS, None)


def read(
    connection: Connection, wanted: LogFilter, *, limit: int | None = None, reverse: bool = False
) -> Iterator[Event]:
    """The events that match, oldest first, or with `reverse` newest first, streamed; with `limit`, the latest so many,
    or where reading goes on behind an event, the next so many."""
    query = chosen(wanted, limit=limit, reverse=reverse)
    return map(event_of, connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query))


def chosen(wanted: LogFilter, *, limit: int | None = None, reverse: bool = False) -> Select[Any]:
    """The query that `read` streams; `event_of` makes an event of each row."""
    query, seq = select(*COLUMNS_OF_E).where(fits(wanted)), event_table.c.seq
    latest = wanted.after_seq is None
    if limit is not None and latest != reverse:
        some = query.order_by(seq.desc() if latest else seq).limit(limit).subquery()
        query, seq, limit = select(*(some.c[name] for name in Event._fields)), some.c.seq, None
    return query.order_by(seq.desc() if reverse else seq).limit(limit)


def event_of(row: Sequence[Any]) -> Event:
    """The event of a row of `COLUMNS_OF_E`. What somebody made unreadable is told as far as it goes (promise 14)."""
    seq, at, *texts, detail, stored = row
    return Event._make((seq, at, *map(_text, texts), _parsed(_text(detail)), stored_bytes(stored)))


def count(connection: Connection, wanted: LogFilter) -> int:
    """The number of events that match."""
    return connection.scalar(select(func.count()).select_from(event_table).where(fits(wanted))) or 0


def verify(database: Database, saved: Head | None = None, *, log_only: bool = False) -> Verdict:
    """Have the database check its tables and indexes, walk the whole chain in constant memory, up to the first break,
    and, unless `log_only`, compare the row of each key with the newest event about the key, and look at the stored
    policy and the labels by which keys are found. A break of the chain is named before a fault of an index, and that
    before a row.

    With `saved`, a head that was kept elsewhere, the verdict also says whether this log extends the log of that head.
    Raises `KeyctlError`.
    """
    from concurrent.futures import ThreadPoolExecutor  # for speed, as below

    unbound = None
    stopped = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as aside:
        # Beside the walk: the two take about as long, and SQLite's check needs no interpreter.
        aside_found = aside.submit(around_chain.faults, database, stopped.is_set, log_only=log_only)
        try:
            with database.reading() as connection:
                verdict = _walked(connection, saved)
                if verdict.broken is None and not log_only:
                    unbound = bound_rows.first_unbound(connection)
        except KeyctlError:
            if aside_found.result()[0] is None:
                raise
            verdict = _verdict(0, GENESIS, None, None)  # so damaged that the log cannot be read
        except BaseException:
            stopped.set()
            raise
    if verdict.broken is not None:
        return verdict
    # Faulty indexes can make a row look unbound.
    fault, unlike = aside_found.result()
    found = fault or unbound or unlike
    return verdict if found is None else verdict._replace(broken=Break(None, BreakKind(found[0]), found[1]))


def _walked(connection: Connection, saved: Head | None) -> Verdict:
    query = select(
        event_table.c.seq,
        microsecond_text(event_table.c.at),
        event_table.c.actor,
        event_table.c.action,
        event_table.c.key_id,
        event_table.c.key_name,
        event_table.c.detail,
        event_table.c.previous_hash,
        event_table.c.hash,
    ).order_by(event_table.c.seq)
    last_seq, last_hash, last_at = 0, GENESIS, None
    sha256 = hashlib.sha256
    for rows in pages(connection, query, plain=True):
        for row in rows:
            seq, at, actor, action, key_id, key_name, detail, previous_hash, stored = row
            if seq != last_seq + 1:
                return _verdict(last_seq, last_hash, last_at, Break(last_seq + 1, BreakKind.MISSING))
            if previous_hash != last_hash:
                return _verdict(last_seq, last_hash, last_at, Break(seq, BreakKind.UNLINKED))
            try:
                form = canonical(seq, at, actor, action, key_id, key_name, detail, last_hash)
            except TypeError:  # SQLite stores a value of any type in any column, and text that is none
                return _verdict(last_seq, last_hash, last_at, Break(seq, BreakKind.ALTERED))
            if sha256(form).digest() != stored:
                return _verdict(last_seq, last_hash, last_at, Break(seq, BreakKind.ALTERED))
            last_seq, last_hash, last_at = seq, stored, at
            if saved is not None and seq == saved.seq and last_hash != saved.hash:
                return _verdict(last_seq, last_hash, last_at, Break(seq, BreakKind.REWRITTEN))
    broken = Break(last_seq + 1, BreakKind.TRUNCATED) if saved is not None and saved.seq > last_seq else None
    return _verdict(last_seq, last_hash, last_at, broken)


def _verdict(seq: int, last_hash: bytes, at: str | None, broken: Break | None) -> Verdict:
    return Verdict(seq, Head(seq, last_hash, datetime.fromisoformat(at) if at else None), broken)


def fits(wanted: LogFilter) -> ColumnElement[bool]:
    """The condition of the rows that match."""
    column = event_table.c
    conditions = [
        column.key_id.in_(wanted.key_ids) if wanted.key_ids is not None else None,
        column.key_id.in_(wanted.among) if wanted.among is not None else None,
        column.actor == wanted.actor if wanted.actor is not None else None,
        column.action == wanted.action.value if wanted.action is not None else None,
        column.at >= wanted.since if wanted.since is not None else None,
        column.at < wanted.until if wanted.until is not None else None,
        column.seq < wanted.before_seq if wanted.before_seq is not None else None,
        column.seq > wanted.after_seq if wanted.after_seq is not None else None,
    ]
    return and_(True, *(condition for condition in conditions if condition is not None))


def _text(value: object) -> str | None:
    """The value of a text column as text. SQLite stores any type there, and only a log that can be read can be
    judged."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value if value is None else str(value)


def stored_bytes(value: object) -> bytes:
    """The value of a column of bytes, as far as it can be told."""
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode("utf-8", "surrogateescape")


def _parsed(detail: str | None) -> Mapping[str, Any]:
    """The detail as an object. Text that somebody made unreadable is shown under `unreadable` rather than lost."""
    try:
        parsed = json.loads(detail or "")
    except (ValueError, RecursionError):
        return {"unreadable": detail}
    return parsed if isinstance(parsed, dict) else {"unreadable": detail}
