"""Which keys: the filters that the commands share → one WHERE; and KEY → the one key it names."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Text, and_, case, cast, func, or_, select, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey, is_id, same_digest
from alphalens_keyctl.models import CURRENT_SQL, RETIRES_SQL, Key, Status, keys
from alphalens_keyctl.text import fold

SHORTEST_ID_START: Final = 6  # design, section 5
_ROWS_AT_ONCE: Final = 2000
TIMES: Final = frozenset(name for name in Key._fields if name.endswith("_at"))
# Final states: they open nothing and nothing brings them back, so a list leaves them out unless asked.
_FINAL: Final = (Status.REVOKED, Status.RETIRED)


class Sort(StrEnum):
    """By what a list is ordered, each in the direction a reader expects first."""

    CREATED = "created"
    NAME = "name"
    OWNER = "owner"
    LAST_USED = "last-used"
    EXPIRES = "expires"
    USES = "uses"


class Selection(NamedTuple):
    """Filters, joined by AND. None, () and False mean: no restriction.

    `statuses` empty means all that are not final, unless `final` is set. Spans are positive.
    """

    statuses: tuple[Status, ...] = ()
    final: bool = False
    name_glob: str | None = None
    owner: str | None = None
    labels: Mapping[str, str] = {}
    never_used: bool = False
    unused_for: timedelta | None = None
    expires_within: timedelta | None = None
    older_than: timedelta | None = None


class KeyDocument(NamedTuple):
    """K on its way to a machine format: times and labels are text as the database writes it (times in UTC,
    date and time of day first). To make values of a million of them would take longer than the query. Fields
    as in `Key`."""

    id: str
    name: str
    status: str
    owner: str | None
    purpose: str | None
    labels: str
    created_at: str
    created_by: str
    activated_at: str | None
    expires_at: str | None
    retires_at: str | None
    suspended_at: str | None
    last_used_at: str | None
    use_count: int
    revoked_at: str | None
    revoked_by: str | None
    revoke_reason: str | None
    replaces: str | None
    replaced_by: str | None
    delivering_to: str | None


class _Retirement(ColumnElement[datetime]):
    """When a key retires, as far as the database knows: `RETIRES_SQL`."""

    inherit_cache = True
    type = keys.c.retires_at.type


@compiles(_Retirement)
def _write_retirement(_element: _Retirement, compiler: SQLCompiler, **_: object) -> str:
    return RETIRES_SQL[compiler.dialect.name]


_RETIRES: Final = _Retirement()


def status_at(now: datetime) -> ColumnElement[str]:
    """A key's status at an instant: the stored one, and what the clock makes of it."""
    c = keys.c
    return case(
        (c.status.in_([Status.PENDING, Status.REVOKED]), c.status),
        # A key rotated out has given its name up: past its end it is retired, whichever end came first.
        (and_(c.retires_at.is_not(None), or_(now >= _RETIRES, c.expires_at <= now)), Status.RETIRED.value),
        (c.expires_at <= now, Status.EXPIRED.value),
        else_=c.status,
    )


def read(connection: Connection, wanted: Selection, *, sort: Sort, limit: int | None, now: datetime) -> list[Key]:
    """The keys that match, in order, as values."""
    query = _query([_column(name, now) for name in Key._fields], wanted, sort, limit, now)
    return [Key._make(row) for row in connection.execute(query)]


def documents(
    connection: Connection, wanted: Selection, *, sort: Sort, limit: int | None, now: datetime
) -> Iterator[KeyDocument]:
    """The same for machines, streamed in constant memory."""
    columns = [_document_column(name, now) for name in Key._fields]
    query = _query(columns, wanted, sort, limit, now)
    for rows in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query).partitions():
        # A row is a tuple in the order of the fields; naming it again would cost as much as reading it.
        yield from rows  # type: ignore[misc]


def count(connection: Connection, wanted: Selection, *, now: datetime) -> int:
    """How many keys match."""
    return connection.scalar(select(func.count()).select_from(keys).where(_where(wanted, now))) or 0


def get(connection: Connection, key_id: str, *, now: datetime) -> Key | None:
    """The key with exactly this id."""
    row = connection.execute(_keys(now).where(keys.c.id == key_id)).first()
    return Key._make(row) if row else None


def digests(connection: Connection, members: Sequence[Key]) -> dict[str, bytes]:
    """What is kept at rest of the raw keys, by id."""
    query = select(keys.c.id, keys.c.digest).where(keys.c.id.in_([key.id for key in members]))
    return {key_id: bytes(digest) for key_id, digest in connection.execute(query)}


def current(connection: Connection, name: str, *, now: datetime) -> Key | None:
    """The key that a name means at present, if any."""
    row = connection.execute(_keys(now).where(keys.c.name_folded == fold(name), text(CURRENT_SQL))).first()
    return Key._make(row) if row else None


def meant_by(connection: Connection, reference: str | RawKey, *, now: datetime) -> tuple[str, ...]:
    """The ids KEY stands for in the log: by name every key that ever had it, else the one key.

    Raises `KeyctlError` as `find` does.
    """
    key = find(connection, reference, now=now)
    if isinstance(reference, RawKey) or fold(reference) != fold(key.name):
        return (key.id,)
    return tuple(connection.scalars(select(keys.c.id).where(keys.c.name_folded == fold(reference))))


def still_opening(connection: Connection, key_ids: Sequence[str], *, now: datetime) -> list[Key]:
    """Other keys that open and share their name with one of these: a predecessor in its grace, say."""
    names = select(keys.c.name_folded).where(keys.c.id.in_(key_ids))
    opens = status_at(now).in_([Status.ACTIVE, Status.RETIRING, Status.DELIVERING])
    query = _keys(now).where(keys.c.name_folded.in_(names), keys.c.id.not_in(key_ids), opens)
    return [Key._make(row) for row in connection.execute(query)]


def ids_starting_with(connection: Connection, start: str, *, limit: int) -> list[str]:
    """Ids of keys that still matter and begin with `start`, in order."""
    query = select(keys.c.id).where(_starts_with(keys.c.id, start), keys.c.status != Status.REVOKED)
    return list(connection.scalars(query.order_by(keys.c.id).limit(limit)))


def is_id_start(text_: str) -> bool:
    """Whether a text may stand for the id that begins with it."""
    return len(text_) >= SHORTEST_ID_START and text_.isascii() and text_.isalnum()


def begins_id(connection: Connection, name: str) -> str | None:
    """The id of a key that `name` would stand for as its start, if there is one."""
    if not is_id_start(name):
        return None
    return connection.scalar(select(keys.c.id).where(_starts_with(keys.c.id, name)).limit(1))


def lineage(connection: Connection, key: Key, *, now: datetime) -> list[Key]:
    """The line of successors that `key` stands in, oldest first, itself included; at its end those that have not
    become current, where a place may hold them."""
    line = [key]
    seen = {key.id}
    while (older := line[0].replaces) is not None and older not in seen:
        if (found := get(connection, older, now=now)) is None:
            break
        line.insert(0, found)
        seen.add(older)
    while (newer := line[-1].replaced_by or _on_its_way_after(connection, line[-1])) is not None and newer not in seen:
        if (found := get(connection, newer, now=now)) is None:
            break
        line.append(found)
        seen.add(newer)
    return line


def _on_its_way_after(connection: Connection, key: Key) -> str | None:
    # Nothing points at it from before until it is current.
    delivering = and_(keys.c.delivering_to.is_not(None), keys.c.revoked_at.is_(None))
    return connection.scalar(select(keys.c.id).where(keys.c.replaces == key.id, delivering))


def find(connection: Connection, reference: str | RawKey, *, now: datetime) -> Key:
    """The one key that KEY names: an id, a name, a start of an id, or a raw key.

    A name means its current key, else the latest that had it. Where a text fits the name of one key and the
    id of another nothing is guessed: whoever may name keys could otherwise direct a revocation elsewhere.
    Raises `KeyctlError` (key_not_found, ambiguous_key).
    """
    if isinstance(reference, RawKey):
        return _find_raw(connection, reference, now)
    found: dict[str, Key] = {}
    if is_id(reference) and (exact := get(connection, reference, now=now)) is not None:
        found[exact.id] = exact
    by_name = (
        _keys(now)
        .where(keys.c.name_folded == fold(reference))
        # One that was never delivered comes last: it is not what anybody means by the name.
        .order_by(
            case((text(CURRENT_SQL), 0), (keys.c.activated_at.is_not(None), 1), else_=2),
            keys.c.created_at.desc(),
            keys.c.id,
        )
        .limit(1)
    )
    by_start = _keys(now).where(_starts_with(keys.c.id, reference)).limit(2) if is_id_start(reference) else None
    for query in (by_name, by_start):
        if query is not None:
            found |= {row.id: Key._make(row) for row in connection.execute(query)}
    if not found:
        raise KeyctlError(
            Code.KEY_NOT_FOUND,
            f"no key is called '{reference}'",
            "'alphalens-keyctl list --all' shows every key. "
            f"An id may be cut to its first {SHORTEST_ID_START} characters or more.",
        )
    if len(found) > 1:
        raise KeyctlError(
            Code.AMBIGUOUS_KEY,
            f"'{reference}' fits more than one key: {', '.join(sorted(found))}",
            "Write the whole id of the one that is meant.",
        )
    return next(iter(found.values()))


def _find_raw(connection: Connection, raw: RawKey, now: datetime) -> Key:
    digest = connection.scalar(select(keys.c.digest).where(keys.c.id == raw.id))
    key = get(connection, raw.id, now=now)
    # A made-up secret behind a real id must not be enough to name the key.
    if digest is None or key is None or not same_digest(bytes(digest), raw.digest()):
        raise KeyctlError(Code.KEY_NOT_FOUND, "no such raw key was issued here", "Check that it is the right database.")
    return key


def _keys(now: datetime) -> Select[Any]:
    return select(*(_column(name, now) for name in Key._fields))


def _column(name: str, now: datetime) -> ColumnElement[Any]:
    if name == "status":
        return status_at(now).label("status")
    return _RETIRES.label("retires_at") if name == "retires_at" else keys.c[name]


def _document_column(name: str, now: datetime) -> ColumnElement[Any]:
    if name in TIMES:
        return cast(_column(name, now), Text)
    return cast(keys.c.labels, Text) if name == "labels" else _column(name, now)


def _query(
    columns: Sequence[ColumnElement[Any]], wanted: Selection, sort: Sort, limit: int | None, now: datetime
) -> Select[Any]:
    c = keys.c
    order = {
        Sort.CREATED: c.created_at.desc(),
        Sort.NAME: c.name_folded,
        Sort.OWNER: c.owner.nulls_last(),
        Sort.LAST_USED: c.last_used_at.desc().nulls_last(),
        Sort.EXPIRES: c.expires_at.nulls_last(),
        Sort.USES: c.use_count.desc(),
    }[sort]
    tie = c.id.desc() if sort is Sort.CREATED else c.id
    return select(*columns).where(_where(wanted, now)).order_by(order, tie).limit(limit)


def _where(wanted: Selection, now: datetime) -> ColumnElement[bool]:
    c = keys.c
    conditions: list[ColumnElement[bool]] = []
    if wanted.statuses:
        conditions.append(status_at(now).in_([status.value for status in wanted.statuses]))
    elif not wanted.final:
        conditions.append(status_at(now).not_in([status.value for status in _FINAL]))
    if wanted.name_glob is not None:
        conditions.append(_matches(c.name_folded, fold(wanted.name_glob)))
    if wanted.owner is not None:
        conditions.append(c.owner == wanted.owner)
    conditions += [c.labels[key].as_string() == value for key, value in wanted.labels.items()]
    if wanted.never_used:
        conditions.append(c.last_used_at.is_(None))
    if wanted.unused_for is not None:
        # A key nobody has used yet counts from its activation: one made yesterday is not "unused".
        limit = now - wanted.unused_for
        conditions.append(or_(c.last_used_at <= limit, and_(c.last_used_at.is_(None), c.activated_at <= limit)))
    if wanted.expires_within is not None:
        conditions += [c.expires_at > now, c.expires_at <= now + wanted.expires_within]
    if wanted.older_than is not None:
        conditions.append(c.created_at <= now - wanted.older_than)
    return and_(True, *conditions)


def _matches(column: ColumnElement[str], glob: str) -> ColumnElement[bool]:
    """`*` and `?` as a shell reads them. The fixed start is a range, which an index serves on both databases."""
    pattern = "".join({"*": "%", "?": "_", "%": r"\%", "_": r"\_"}.get(c, c) for c in glob)
    start = glob[: min((glob.index(c) for c in "*?" if c in glob), default=len(glob))]
    like = column.like(pattern, escape="\\")
    return and_(_starts_with(column, start), like) if start else like


def _starts_with(column: ColumnElement[str], start: str) -> ColumnElement[bool]:
    # In byte order everything that begins with `start` lies before `start` and the last code point.
    return and_(column >= start, column < start + "\U0010ffff")
