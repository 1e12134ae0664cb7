"""Which keys: the filters that the commands share → one WHERE."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from alphalens_keyctl.models import CURRENT_SQL, RETIRES_SQL, Key, Status, key_table
from alphalens_keyctl.text import fold

_ROWS_AT_ONCE: Final = 2000
_IDS_AT_ONCE: Final = 500
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

    `statuses` empty means all that are not final, unless `final` is set. Spans are positive. `without` are
    names of labels that a key must not have.
    """

    statuses: tuple[Status, ...] = ()
    final: bool = False
    name_glob: str | None = None
    owner: str | None = None
    labels: Mapping[str, str] = {}
    without: tuple[str, ...] = ()
    never_used: bool = False
    unused_for: timedelta | None = None
    expired: bool = False
    expires_within: timedelta | None = None
    older_than: timedelta | None = None
    suspended_for: timedelta | None = None


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
    type = key_table.c.retires_at.type


@compiles(_Retirement)
def _write_retirement(_element: _Retirement, compiler: SQLCompiler, **_: object) -> str:
    return RETIRES_SQL[compiler.dialect.name]


_RETIRES: Final = _Retirement()


class _Labelled(ColumnElement[bool]):
    """Whether a key has a label of this value, as each database can look it up."""

    inherit_cache = False  # holds values of its own
    type = Boolean()

    def __init__(self, name: str, value: str) -> None:
        self.name = bindparam(None, name, Text, unique=True)
        self.value = bindparam(None, value, Text, unique=True)

    def self_group(self, against: object = None) -> ColumnElement[bool]:
        # SQLAlchemy would write "… = 1" behind it for SQLite, which has no booleans, and no index serves that.
        return self


@compiles(_Labelled, "sqlite")
def _look_label_up(element: _Labelled, compiler: SQLCompiler, **how: Any) -> str:
    name, value = (compiler.process(each, **how) for each in (element.name, element.value))
    return f"api_key.id IN (SELECT key_id FROM api_key_label WHERE name = {name} AND value = {value})"  # noqa: S608  # bound


@compiles(_Labelled, "postgresql")
def _contain_label(element: _Labelled, compiler: SQLCompiler, **how: Any) -> str:
    name, value = (compiler.process(each, **how) for each in (element.name, element.value))
    return f"api_key.labels @> jsonb_build_object(CAST({name} AS text), CAST({value} AS text))"


class unindexed(FunctionElement[Any]):  # noqa: N801  # reads as the functions of SQL do
    """A column that SQLite shall not reach through an index. It keeps no statistics unless told to, so it takes a
    status that nearly every key has for a rare one, and walks through all keys in their order rather than sort a few.
    PostgreSQL knows better.
    """

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(unindexed)
def _leave_as_it_is(element: unindexed, compiler: SQLCompiler, **how: Any) -> str:
    return compiler.process(next(iter(element.clauses)), **how)


@compiles(unindexed, "sqlite")
def _keep_from_indexes(element: unindexed, compiler: SQLCompiler, **how: Any) -> str:
    # https://www.sqlite.org/optoverview.html, "Disqualifying WHERE Clause Terms Using Unary +"
    return f"+{compiler.process(next(iter(element.clauses)), **how)}"


# Of which stored statuses the clock makes another.
_STORED: Final = {
    Status.EXPIRED: frozenset({Status.ACTIVE, Status.SUSPENDED, Status.DELIVERING}),
    Status.RETIRED: frozenset({Status.RETIRING, Status.SUSPENDED}),
}


def status_at(now: datetime) -> ColumnElement[str]:
    """A key's status at an instant: the stored one, and what the clock makes of it."""
    c = key_table.c
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
    return connection.scalar(select(func.count()).select_from(key_table).where(_where(wanted, now))) or 0


def ids(
    connection: Connection,
    wanted: Selection,
    *,
    also: ColumnElement[bool] | None = None,
    among: Sequence[str] | None = None,
    limit: int | None = None,
    now: datetime,
) -> list[str]:
    """The ids of the keys that match, of those in `among` where it is given, in that order."""
    query = select(key_table.c.id).where(_where(wanted, now)).order_by(_in_order(key_table.c.id, wanted)).limit(limit)
    if also is not None:
        query = query.where(also)
    if among is None:
        return list(connection.scalars(query).all())
    fitting: set[str] = set()
    for some_ids in _few_at_once(among):
        fitting.update(connection.scalars(query.where(key_table.c.id.in_(some_ids))))
    return [key_id for key_id in among if key_id in fitting]


def leaves_any_out(connection: Connection, wanted: Selection, *, now: datetime) -> bool:
    """Whether there is a key that is not final and does not match."""
    query = select(key_table.c.id).where(_where(Selection(), now), _where(wanted, now).is_not(true())).limit(1)
    return connection.scalar(query) is not None


def used_since(
    connection: Connection, wanted: Selection, since: datetime, *, also: ColumnElement[bool], limit: int, now: datetime
) -> list[Key]:
    """The keys that match and were used after an instant, the latest first."""
    query = select_keys(now).where(_where(wanted, now), also, key_table.c.last_used_at > since)
    return [Key._make(row) for row in connection.execute(query.order_by(key_table.c.last_used_at.desc()).limit(limit))]


def some(connection: Connection, key_ids: Sequence[str], *, now: datetime) -> list[Key]:
    """The keys with these ids, in this order."""
    found: dict[str, Key] = {}
    for some_ids in _few_at_once(key_ids):
        query = select_keys(now).where(key_table.c.id.in_(some_ids))
        found |= {row.id: Key._make(row) for row in connection.execute(query)}
    return [found[key_id] for key_id in key_ids if key_id in found]


def documents_of(connection: Connection, key_ids: Sequence[str], *, now: datetime) -> Iterator[KeyDocument]:
    """The keys with these ids for machines, in this order, a few at a time."""
    columns = [_document_column(name, now) for name in Key._fields]
    for some_ids in _few_at_once(key_ids):
        found = {row.id: row for row in connection.execute(select(*columns).where(key_table.c.id.in_(some_ids)))}
        for key_id in some_ids:
            if key_id in found:
                yield KeyDocument._make(found[key_id])


def get(connection: Connection, key_id: str, *, now: datetime) -> Key | None:
    """The key with exactly this id."""
    row = connection.execute(select_keys(now).where(key_table.c.id == key_id)).first()
    return Key._make(row) if row else None


def digests(connection: Connection, members: Sequence[Key]) -> dict[str, bytes]:
    """What is kept at rest of the raw keys, by id."""
    found: dict[str, bytes] = {}
    for some_ids in _few_at_once([key.id for key in members]):
        query = select(key_table.c.id, key_table.c.digest).where(key_table.c.id.in_(some_ids))
        found |= {key_id: bytes(digest) for key_id, digest in connection.execute(query)}
    return found


def _few_at_once(key_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    # A statement takes 32,766 parameters on SQLite and 65,535 on PostgreSQL.
    return (key_ids[start : start + _IDS_AT_ONCE] for start in range(0, len(key_ids), _IDS_AT_ONCE))


def current(connection: Connection, name: str, *, now: datetime) -> Key | None:
    """The key that a name means at present, if any."""
    row = connection.execute(select_keys(now).where(key_table.c.name_folded == fold(name), text(CURRENT_SQL))).first()
    return Key._make(row) if row else None


def select_keys(now: datetime) -> Select[Any]:
    """Every key, its columns in the order of `Key`, to be narrowed down."""
    return select(*(_column(name, now) for name in Key._fields))


def _column(name: str, now: datetime) -> ColumnElement[Any]:
    if name == "status":
        return status_at(now).label("status")
    return _RETIRES.label("retires_at") if name == "retires_at" else key_table.c[name]


def _document_column(name: str, now: datetime) -> ColumnElement[Any]:
    if name in TIMES:
        return cast(_column(name, now), Text)
    return cast(key_table.c.labels, Text) if name == "labels" else _column(name, now)


def _query(
    columns: Sequence[ColumnElement[Any]], wanted: Selection, sort: Sort, limit: int | None, now: datetime
) -> Select[Any]:
    c = key_table.c
    by = {
        Sort.CREATED: c.created_at,
        Sort.NAME: c.name_folded,
        Sort.OWNER: c.owner,
        Sort.LAST_USED: c.last_used_at,
        Sort.EXPIRES: c.expires_at,
        Sort.USES: c.use_count,
    }[sort]
    order = _in_order(by, wanted)
    if sort in (Sort.CREATED, Sort.LAST_USED, Sort.USES):
        order = order.desc()
    if by.nullable:
        order = order.nulls_last()
    tie = c.id.desc() if sort is Sort.CREATED else c.id
    return select(*columns).where(_where(wanted, now)).order_by(order, tie).limit(limit)


def _in_order(column: ColumnElement[Any], wanted: Selection) -> ColumnElement[Any]:
    """What to order by: all keys stream out of the index in their order, a few are found first and then sorted."""
    narrow = wanted._replace(
        final=False, without=(), statuses=() if Status.ACTIVE in wanted.statuses else wanted.statuses
    )
    if column is key_table.c.created_at:
        # One index serves this filter and this order.
        narrow = narrow._replace(older_than=None)
    return column if narrow == Selection() else unindexed(column)


def _where(wanted: Selection, now: datetime) -> ColumnElement[bool]:
    """Each filter as one predicate that an index serves, on both databases."""
    c = key_table.c
    conditions = [*_of_status(wanted, now), *_of_times(wanted, now)]
    if wanted.name_glob is not None:
        conditions.append(_matches(c.name_folded, fold(wanted.name_glob)))
    if wanted.owner is not None:
        conditions.append(c.owner == wanted.owner)
    conditions += [_Labelled(name, value) for name, value in wanted.labels.items()]
    conditions += [c.labels[name].as_string().is_(None) for name in wanted.without]
    return and_(True, *conditions)


def _of_status(wanted: Selection, now: datetime) -> Iterator[ColumnElement[bool]]:
    if wanted.statuses:
        # What the clock adds no index knows; what it can come from, the index of the stored status does.
        stored = {status for asked in wanted.statuses for status in _STORED.get(asked, {asked})}
        status = unindexed(key_table.c.status) if Status.ACTIVE in stored else key_table.c.status
        yield status.in_(sorted(stored))
        if set(wanted.statuses) == {Status.EXPIRED}:
            yield key_table.c.expires_at <= now
        yield status_at(now).in_([status.value for status in wanted.statuses])
    elif not wanted.final:
        yield status_at(now).not_in([status.value for status in _FINAL])


def _of_times(wanted: Selection, now: datetime) -> Iterator[ColumnElement[bool]]:
    c = key_table.c
    if wanted.never_used:
        yield c.last_used_at.is_(None)
    if wanted.unused_for is not None:
        # A key nobody has used yet counts from its activation: one made yesterday is not "unused".
        yield func.coalesce(c.last_used_at, c.activated_at) <= now - wanted.unused_for
    if wanted.suspended_for is not None:
        yield c.suspended_at <= now - wanted.suspended_for
    if wanted.expired:
        yield c.expires_at <= now
        yield status_at(now) == Status.EXPIRED.value
    if wanted.expires_within is not None:
        yield c.expires_at > now
        yield c.expires_at <= now + wanted.expires_within
    if wanted.older_than is not None:
        yield c.created_at <= now - wanted.older_than


def _matches(column: ColumnElement[str], glob: str) -> ColumnElement[bool]:
    """`*` and `?` as a shell reads them. The fixed start is a range, which an index serves on both databases."""
    pattern = "".join({"*": "%", "?": "_", "%": r"\%", "_": r"\_"}.get(c, c) for c in glob)
    start = glob[: min((glob.index(c) for c in "*?" if c in glob), default=len(glob))]
    like = column.like(pattern, escape="\\")
    return and_(starts_with(column, start), like) if start else like


def starts_with(column: ColumnElement[str], start: str) -> ColumnElement[bool]:
    """Whether a column in byte order begins so: a range, which an index serves."""
    # In byte order everything that begins with `start` lies before `start` and the last code point.
    return and_(column >= start, column < start + "\U0010ffff")
