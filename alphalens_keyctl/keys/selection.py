"""Which keys: the filters that the commands share → one WHERE, and the keys that it selects."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    func,
    or_,
    select,
    text,
    true,
)

from alphalens_keyctl.damage import key_of
from alphalens_keyctl.database.instants import stored_text
from alphalens_keyctl.database.streaming import pages
from alphalens_keyctl.keys.conditions import (
    NOW,
    RETIRES,
    contains,
    has_label,
    holds_any,
    matches,
    one_of,
    status_at,
    unindexed,
)
from alphalens_keyctl.keys.within import Within
from alphalens_keyctl.models import CURRENT_SQL, FINAL, Key, KeyFields, Status, key_table
from alphalens_keyctl.scopes import covering, covers
from alphalens_keyctl.text import fold

_IDS_AT_ONCE: Final = 5000
_MOST_OWNERS: Final = 10_000  # to compare more would take longer than a second
TIMES: Final = frozenset(name for name in Key._fields if name.endswith("_at"))
_JSON: Final = frozenset({"labels", "scopes", "allow_from"})
# The stored statuses that a status which the clock adds can come from.
_STORED: Final = {
    Status.EXPIRED: frozenset({Status.ACTIVE, Status.SUSPENDED, Status.DELIVERING}),
    Status.RETIRED: frozenset({Status.RETIRING, Status.SUSPENDED}),
}


class Sort(StrEnum):
    """What orders a list of keys, in the direction that a reader expects first: names from A, the latest, the most."""

    CREATED = "created"
    NAME = "name"
    OWNER = "owner"
    LAST_USED = "last-used"
    EXPIRES = "expires"
    USES = "uses"


# The orders in which the most or the latest comes first.
_FALLING: Final = frozenset({Sort.CREATED, Sort.LAST_USED, Sort.USES})


class Selection(NamedTuple):
    """Filters, joined by AND. None, () and False mean: no restriction.

    Without `statuses` the filters select keys of every status that is not final (revoked, retired), and of those too
    where `final` is set. Spans are positive; a key unused `unused_for` a span counts from its activation where it was
    never used. `without` are names of labels that a key must not have. Each text of `containing` must be a part of
    the key's name, id or owner, whatever the case of its letters. A key must cover each of `scopes`, by itself, by a
    wildcard or, but for a reserved scope, by being unrestricted. `within` is what whoever selects may
    see.
    """

    statuses: tuple[Status, ...] = ()
    final: bool = False
    name_glob: str | None = None
    owner: str | None = None
    unowned: bool = False
    labels: Mapping[str, str] = {}
    without: tuple[str, ...] = ()
    never_used: bool = False
    unused_for: timedelta | None = None
    expired: bool = False
    expires_within: timedelta | None = None
    never_expires: bool = False
    older_than: timedelta | None = None
    suspended_for: timedelta | None = None
    containing: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    within: Within | None = None


class KeyDocument(KeyFields[str, str, str]):
    """A key on its way to a machine format: times, labels, scopes and networks are the text that the database writes
    (times in UTC, date and time of day first). Turning a million keys into values would take longer than the query, so
    whoever writes the document finds out what a damaged row holds."""

    __slots__ = ()


def read(connection: Connection, wanted: Selection, *, sort: Sort, limit: int | None, now: datetime) -> list[Key]:
    """The keys that match, in order, `limit` at most."""
    query = _query([_column(name, now) for name in Key._fields], wanted, sort, limit, now)
    return [key_of(row) for row in connection.execute(query)]


def stream(connection: Connection, wanted: Selection, *, sort: Sort, limit: int | None, now: datetime) -> Iterator[Key]:
    """The keys that match, in order, `limit` at most: read a page at a time, in constant memory."""
    query = _query([_column(name, now) for name in Key._fields], wanted, sort, limit, now)
    return map(key_of, chain.from_iterable(pages(connection, query)))


def documents(
    connection: Connection, wanted: Selection, *, sort: Sort, limit: int | None, now: datetime
) -> Iterator[KeyDocument]:
    """The keys that match, in order, `limit` at most, for a machine format: streamed in constant memory."""
    columns = [_document_column(name, now) for name in Key._fields]
    query = _query(columns, wanted, sort, limit, now)
    return map(KeyDocument._make, chain.from_iterable(pages(connection, query, plain=True)))


def page(
    connection: Connection, wanted: Selection, *, sort: Sort, after: "Place | None", limit: int, now: datetime
) -> list[KeyDocument]:
    """The first `limit` documents behind the place `after`, or from the start where that is None."""
    columns = [_document_column(name, now) for name in Key._fields]
    query = _query(columns, wanted, sort, limit, now)
    if after is not None:
        query = query.where(_behind(after, sort))
    return [KeyDocument._make(row) for row in connection.execute(query)]


class Place(NamedTuple):
    """The place of a key in a list: its value in the column that orders the list, and its id."""

    value: str | int | datetime | None
    key_id: str


def place(document: KeyDocument, sort: Sort) -> Place:
    """The place of a document in a list of this order."""
    if sort is Sort.NAME:
        return Place(fold(str(document.name)), document.id)
    if sort is Sort.OWNER:
        return Place(document.owner, document.id)
    if sort is Sort.USES:
        return Place(document.use_count, document.id)
    moment = {
        Sort.CREATED: document.created_at, Sort.LAST_USED: document.last_used_at, Sort.EXPIRES: document.expires_at
    }[sort]  # fmt: skip
    try:
        found = None if moment is None else datetime.fromisoformat(moment)
    except (TypeError, ValueError):
        return Place(None, document.id)  # a damaged row: what follows it stands where keys without a value do
    return Place(found if found is None or found.tzinfo else found.replace(tzinfo=UTC), document.id)


def _behind(after: Place, sort: Sort) -> ColumnElement[bool]:
    """The condition for a key that comes after a place, in the order of `_query`."""
    by = _sorted_by(sort)
    falling = sort in _FALLING
    next_id = key_table.c.id < after.key_id if sort is Sort.CREATED else key_table.c.id > after.key_id
    if after.value is None:
        return and_(by.is_(None), next_id)
    beyond = by < after.value if falling else by > after.value
    behind = or_(beyond, and_(by == after.value, next_id))
    return or_(behind, by.is_(None)) if by.nullable else behind


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
    """The ids of the keys that match, `limit` at most. `also` is one more condition. With `among`, only these ids are
    asked about, and the result keeps their order."""
    # Sorting a million ids takes less time than finding a million rows in the order of an index.
    query = select(key_table.c.id).where(_where(wanted, now)).order_by(unindexed(key_table.c.id)).limit(limit)
    if also is not None:
        query = query.where(also)
    if among is None:
        return list(connection.scalars(query).all())
    fitting: set[str] = set()
    for some_ids in few_at_once(among):
        fitting.update(connection.scalars(query.where(one_of(connection, key_table.c.id, some_ids))))
    return [key_id for key_id in among if key_id in fitting]


def owners_like(connection: Connection, owner: str, *, within: Within | None = None) -> list[str]:
    """Owners of keys that are spelled almost as `owner` is, the nearest first; none where a key has this owner. Only
    keys `within` are looked at."""
    from difflib import get_close_matches  # no command but one that found nothing needs it

    query = select(key_table.c.owner).where(key_table.c.owner.is_not(None)).distinct().limit(_MOST_OWNERS)
    if within is not None:
        query = query.where(within.condition())
    owners = connection.scalars(query).all()
    folded = {fold(each): each for each in owners}
    return [] if owner in owners else [folded[each] for each in get_close_matches(fold(owner), folded)]


def leaves_any_out(connection: Connection, wanted: Selection, *, now: datetime) -> bool:
    """Whether there is a key, within what may be seen, that `wanted` does not select and whose status is not final."""
    there = _where(Selection(within=wanted.within), now)
    query = select(key_table.c.id).where(there, _where(wanted, now).is_not(true())).limit(1)
    return connection.scalar(query) is not None


def used_since(
    connection: Connection, wanted: Selection, since: datetime, *, also: ColumnElement[bool], limit: int, now: datetime
) -> list[Key]:
    """The keys that match, and `also` applies to, that were used after `since`: the latest first, `limit` at most."""
    query = select_keys(now).where(_where(wanted, now), also, key_table.c.last_used_at > since)
    return [key_of(row) for row in connection.execute(query.order_by(key_table.c.last_used_at.desc()).limit(limit))]


def some(connection: Connection, key_ids: Sequence[str], *, now: datetime) -> list[Key]:
    """The keys with these ids, in this order. An id that no key has is left out."""
    found: dict[str, Key] = {}
    for some_ids in few_at_once(key_ids):
        query = select_keys(now).where(one_of(connection, key_table.c.id, some_ids))
        found |= {row.id: key_of(row) for row in connection.execute(query)}
    return [found[key_id] for key_id in key_ids if key_id in found]


def documents_of(connection: Connection, key_ids: Sequence[str], *, now: datetime) -> Iterator[KeyDocument]:
    """The keys with these ids, in this order, for a machine format: streamed in constant memory."""
    columns = [_document_column(name, now) for name in Key._fields]
    for some_ids in few_at_once(key_ids):
        query = select(*columns).where(one_of(connection, key_table.c.id, some_ids))
        found = {row[0]: row for page in pages(connection, query, plain=True) for row in page}
        for key_id in some_ids:
            if key_id in found:
                yield KeyDocument._make(found[key_id])


def get(connection: Connection, key_id: str, *, now: datetime) -> Key | None:
    """The key with exactly this id, or None."""
    row = connection.execute(key_of_id(), {"now": now, "key_id": key_id}).first()
    return key_of(row) if row else None


@cache
def key_of_id() -> Select[Any]:
    """The statement of `get`, with the parameters `now` and `key_id`. Made once: SQLAlchemy takes several times as long
    to make a statement as to execute it."""
    return select_keys(NOW).where(key_table.c.id == bindparam("key_id"))


def few_at_once(key_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids in parts, each of which `one_of` takes and whose rows fit into memory."""
    return (key_ids[start : start + _IDS_AT_ONCE] for start in range(0, len(key_ids), _IDS_AT_ONCE))


def current(connection: Connection, name: str, *, now: datetime) -> Key | None:
    """The key that a name means, however the name is cased, or None."""
    row = connection.execute(select_keys(now).where(key_table.c.name_folded == fold(name), text(CURRENT_SQL))).first()
    return key_of(row) if row else None


def select_keys(now: datetime | BindParameter[datetime]) -> Select[Any]:
    """A SELECT of every key, its columns in the order of `Key`, for the caller to narrow down."""
    return select(*(_column(name, now) for name in Key._fields))


def _column(name: str, now: datetime | BindParameter[datetime]) -> ColumnElement[Any]:
    if name == "status":
        return status_at(now).label("status")
    return RETIRES.label("retires_at") if name == "retires_at" else key_table.c[name]


def _document_column(name: str, now: datetime) -> ColumnElement[Any]:
    if name in TIMES:
        return stored_text(_column(name, now))
    return cast(key_table.c[name], Text) if name in _JSON else _column(name, now)


def _query(
    columns: Sequence[ColumnElement[Any]], wanted: Selection, sort: Sort, limit: int | None, now: datetime
) -> Select[Any]:
    by = _sorted_by(sort)
    order = _in_order(by, wanted)
    if sort in _FALLING:
        order = order.desc()
    if by.nullable:
        order = order.nulls_last()
    tie = key_table.c.id.desc() if sort is Sort.CREATED else key_table.c.id
    return select(*columns).where(_where(wanted, now)).order_by(order, tie).limit(limit)


def _sorted_by(sort: Sort) -> Any:
    c = key_table.c
    return {
        Sort.CREATED: c.created_at,
        Sort.NAME: c.name_folded,
        Sort.OWNER: c.owner,
        Sort.LAST_USED: c.last_used_at,
        Sort.EXPIRES: c.expires_at,
        Sort.USES: c.use_count,
    }[sort]


def _in_order(column: ColumnElement[Any], wanted: Selection) -> ColumnElement[Any]:
    """`column`, to order by. Where the filters select few keys the order must not come from an index: SQLite would
    walk through all keys in that order instead of finding the few and sorting them."""
    narrow = wanted._replace(
        final=False,
        without=(),
        statuses=() if Status.ACTIVE in wanted.statuses else wanted.statuses,
        scopes=tuple(scope for scope in wanted.scopes if not covers(None, scope)),
    )
    if column is key_table.c.created_at:
        # One index serves both this filter and this order.
        narrow = narrow._replace(older_than=None)
    return column if narrow == Selection() else unindexed(column)


def _where(wanted: Selection, now: datetime) -> ColumnElement[bool]:
    """The filters as one condition. Each filter is a predicate that an index serves, on both databases."""
    c = key_table.c
    conditions = [*_of_status(wanted, now), *_of_times(wanted, now)]
    if wanted.name_glob is not None:
        conditions.append(matches(c.name_folded, fold(wanted.name_glob)))
    if wanted.owner is not None:
        conditions.append(c.owner == wanted.owner)
    if wanted.unowned:
        conditions.append(c.owner.is_(None))
    conditions += [
        or_(c.name_folded.contains(fold(part), autoescape=True), contains(c.id, part), contains(c.owner, part))
        for part in wanted.containing
    ]
    conditions += [has_label(name, value) for name, value in wanted.labels.items()]
    conditions += [c.labels[name].as_string().is_(None) for name in wanted.without]
    conditions += [_covers(scope) for scope in wanted.scopes]
    if wanted.within is not None:
        conditions.append(wanted.within.condition())
    return and_(True, *conditions)


def _covers(scope: str) -> ColumnElement[bool]:
    """Whether a key covers a scope: what `scopes.covers` says, to the database."""
    held = holds_any(key_table.c.scopes, covering(scope))
    return or_(key_table.c.scopes.is_(None), held) if covers(None, scope) else held


def _of_status(wanted: Selection, now: datetime) -> Iterator[ColumnElement[bool]]:
    if wanted.statuses:
        # The index knows the stored status alone, so it finds the keys from which the clock then makes the wanted one.
        stored = {status for asked in wanted.statuses for status in _STORED.get(asked, {asked})}
        status = unindexed(key_table.c.status) if Status.ACTIVE in stored else key_table.c.status
        yield status.in_(sorted(stored))
        if set(wanted.statuses) == {Status.EXPIRED}:
            yield key_table.c.expires_at <= now
        yield status_at(now).in_([status.value for status in wanted.statuses])
    elif not wanted.final:
        yield status_at(now).not_in(sorted(FINAL))


def _of_times(wanted: Selection, now: datetime) -> Iterator[ColumnElement[bool]]:
    c = key_table.c
    if wanted.never_used:
        yield c.last_used_at.is_(None)
    if wanted.unused_for is not None:
        # A key that was never used counts from its activation: one made yesterday is not "unused".
        yield func.coalesce(c.last_used_at, c.activated_at) <= now - wanted.unused_for
    if wanted.suspended_for is not None:
        yield c.suspended_at <= now - wanted.suspended_for
    if wanted.expired:
        yield c.expires_at <= now
        yield status_at(now) == Status.EXPIRED.value
    if wanted.expires_within is not None:
        yield c.expires_at > now
        yield c.expires_at <= now + wanted.expires_within
    if wanted.never_expires:
        yield c.expires_at.is_(None)
    if wanted.older_than is not None:
        yield c.created_at <= now - wanted.older_than
