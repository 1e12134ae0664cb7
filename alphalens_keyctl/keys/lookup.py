"""KEY, as the command line takes it → the one key that it means; and the lineage of a key."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    case,
    false,
    select,
    text,
    true,
    union_all,
)

from alphalens_keyctl.damage import key_of
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey, same_digest
from alphalens_keyctl.keys import within as sight
from alphalens_keyctl.keys.conditions import NOW, one_of, starts_with, status_at
from alphalens_keyctl.keys.selection import few_at_once, get, select_keys
from alphalens_keyctl.keys.within import Within
from alphalens_keyctl.models import CURRENT_SQL, FINAL, OPENING, Key, Status, key_table
from alphalens_keyctl.text import fold, plainly

SHORTEST_ID_START: Final = 6  # characters; a part of the command line's contract


class DigestedKey(NamedTuple):
    """A raw key of which only the digest is known here: whoever holds the raw key asks from elsewhere, and keeps it."""

    id: str
    sha256: bytes

    def digest(self) -> bytes:
        """SHA-256 of the whole raw key, as `RawKey.digest`."""
        return self.sha256


_NOT_ASKED: Final[Mapping[str, str | None]] = MappingProxyType({})
# KEY, as whoever asks gives it.
Reference = str | RawKey | DigestedKey


def meant_by(
    connection: Connection, reference: Reference, *, now: datetime, within: Within | None = None
) -> tuple[str, ...]:
    """The ids that KEY stands for in a log: given a name, every key within that ever had it; given anything else, one
    key.

    Raises `KeyctlError` as `find` does.
    """
    key = find(connection, reference, now=now, within=within)
    if not isinstance(reference, str) or fold(reference) != fold(key.name):
        return (key.id,)
    query = _narrowed(select(key_table.c.id).where(key_table.c.name_folded == fold(reference)), within)
    return tuple(connection.scalars(query))


def all_meant_by(
    connection: Connection, reference: Reference, *, now: datetime, within: Within | None = None
) -> list[Key]:
    """The keys that KEY means for a revocation, the one that `find` returns first: given a name, also every other key
    of that name that opens or could come to open (retiring, delivering, pending, suspended), within or not; given
    anything else, one key.

    Raises `KeyctlError` as `find` does.
    """
    key = find(connection, reference, now=now, within=within)
    if not isinstance(reference, str) or fold(reference) != fold(key.name):
        return [key]
    # A leaked key is revoked by its name: its predecessor would go on opening for its grace (promise 5).
    return [key, *namesakes(connection, key, now=now)]


def namesakes(connection: Connection, key: Key, *, now: datetime) -> list[Key]:
    """The other keys of the name of `key` that open or could come to open, oldest first."""
    others = (
        select_keys(now)
        .where(
            key_table.c.name_folded == fold(key.name),
            key_table.c.id != key.id,
            status_at(now).not_in(sorted(FINAL)),
        )
        .order_by(key_table.c.created_at, key_table.c.id)
    )
    return [key_of(row) for row in connection.execute(others)]


def still_opening(connection: Connection, key_ids: Sequence[str], *, now: datetime) -> Iterator[Key]:
    """The other keys that open at `now` and share a name with one of these: a predecessor in its grace, for example."""
    left_out, said = frozenset(key_ids), set[str]()
    for some_ids in few_at_once(key_ids):
        names = select(key_table.c.name_folded).where(one_of(connection, key_table.c.id, some_ids))
        opens = status_at(now).in_(sorted(OPENING))
        for row in connection.execute(select_keys(now).where(key_table.c.name_folded.in_(names), opens)).all():
            if row.id not in left_out and row.id not in said:
                said.add(row.id)
                yield key_of(row)


def ids_starting_with(connection: Connection, start: str, *, limit: int) -> list[str]:
    """The ids that begin with `start` and belong to a key that is not revoked, in order, `limit` at most."""
    query = select(key_table.c.id).where(starts_with(key_table.c.id, start), key_table.c.status != Status.REVOKED)
    return list(connection.scalars(query.order_by(key_table.c.id).limit(limit)))


def is_id_start(text_: str) -> bool:
    """Whether KEY may be this text, as the start of an id."""
    return len(text_) >= SHORTEST_ID_START and text_.isascii() and text_.isalnum()


def begins_id(connection: Connection, name: str) -> str | None:
    """The id of a key that KEY would mean by its start, were KEY this name; None where there is no such key."""
    if not is_id_start(name):
        return None
    return connection.scalar(select(key_table.c.id).where(starts_with(key_table.c.id, name)).limit(1))


def lineage(
    connection: Connection, key: Key, *, now: datetime, delivering: Mapping[str, str | None] = _NOT_ASKED
) -> list[Key]:
    """The lineage of `key`, oldest first, itself included. It ends with the successors that never became current and
    that destinations may hold. `delivering` is what `beside` found."""
    members = [key]
    seen = {key.id}
    while (older := members[0].replaces) is not None and older not in seen:
        if (found := get(connection, older, now=now)) is None:
            break
        members.insert(0, found)
        seen.add(older)
    while (newer := _successor(connection, members[-1], delivering)) is not None and newer not in seen:
        if (found := get(connection, newer, now=now)) is None:
            break
        members.append(found)
        seen.add(newer)
    return members


def _successor(connection: Connection, key: Key, delivering: Mapping[str, str | None]) -> str | None:
    """The id of the successor of a key, also of one that never became current and that destinations may hold."""
    if key.replaced_by is not None:
        return key.replaced_by
    return (
        delivering[key.id] if key.id in delivering else connection.scalar(_successor_in_delivery(), {"key_id": key.id})
    )


@cache
def _successor_in_delivery() -> Select[Any]:
    return select(key_table.c.id).where(_delivering(key_table), key_table.c.replaces == bindparam("key_id"))


def _delivering(keys: FromClause) -> ColumnElement[bool]:
    """The condition for a key that is no current one, and that destinations may hold."""
    return and_(keys.c.delivering_to.is_not(None), keys.c.revoked_at.is_(None))


class Beside(NamedTuple):
    """What one statement found: a caller's own key, None where there is none; the keys that a text may mean, by id,
    whoever may see them; and the successor that is being delivered of each of these, by the same id."""

    caller: Key | None
    fitting: Mapping[str, Key]
    delivering: Mapping[str, str | None]


def beside(connection: Connection, caller: str, reference: str, *, now: datetime) -> Beside:
    """The key with the id `caller`, and what `find` chooses from for a caller who sees every key."""
    query = _query_fitting(id_start=is_id_start(reference), caller=True)
    values = {"now": now, "folded": fold(reference), "start": reference, "caller": caller}
    own, fitting, delivering = None, dict[str, Key](), dict[str, str | None]()
    for row in connection.execute(query, values):
        key = key_of(row[:-2])
        if row.is_caller:
            own = key
        else:
            fitting[key.id], delivering[key.id] = key, row.delivering
    return Beside(own, fitting, delivering)


def find(
    connection: Connection,
    reference: Reference,
    *,
    now: datetime,
    within: Within | None = None,
    found: Mapping[str, Key] | None = None,
) -> Key:
    """The one key that KEY means: an id, a name, the start of an id, or a raw key. `found` is what `beside` found for
    it; None where nobody has looked yet.

    A name means its current key, else the latest key that had the name. A text that fits the name of one key and the id
    of another is refused, because whoever may name keys could otherwise direct a revocation to another key. With
    `within`, only the keys within are looked among. Raises `KeyctlError`: key_not_found, ambiguous_key; forbidden for
    a KEY that only fits keys that are not within.
    """
    if not isinstance(reference, str):
        return _find_raw(connection, reference, now, within)
    if found is None:
        found = _fitting(connection, reference, now, within)
    if not found:
        if within is not None and _fitting(connection, reference, now, None):
            raise sight.refusal(f"the key that '{reference}' means")
        plain = plainly(reference)
        raise KeyctlError(
            Code.KEY_NOT_FOUND,
            f"no key is called '{reference}'",
            ("" if plain == reference else f"In plain letters it is '{plain}'. ")
            + "'alphalens-keyctl list --all' shows every key, 'alphalens-keyctl list TEXT' finds keys by a part of the "
            f"name. An id may be cut to its first {SHORTEST_ID_START} characters or more.",
        )
    if len(found) > 1:
        raise KeyctlError(
            Code.AMBIGUOUS_KEY,
            f"'{reference}' fits more than one key: {', '.join(sorted(found))}",
            "Write the whole id of the one that is meant.",
        )
    return next(iter(found.values()))


def _fitting(connection: Connection, reference: str, now: datetime, within: Within | None) -> dict[str, Key]:
    """The keys that a text may mean, by id: one by its whole id, one by its name, two at most by the start of its
    id."""
    query = _query_fitting(
        id_start=is_id_start(reference), seen=within is not None, team=within is not None and within.owner is not None
    )
    values = {"now": now, "folded": fold(reference), "start": reference}
    if within is not None:
        values |= within.parameters()
    return {row.id: key_of(row) for row in connection.execute(query, values)}


@cache
def _query_fitting(*, id_start: bool, seen: bool = False, team: bool = False, caller: bool = False) -> Select[Any]:
    """The one statement that finds what fits a text, which may be the start of an id. `seen`: only keys that the
    caller may see, among them with `team` those of an owner. `caller`: the caller's own key too; behind the columns of
    a key stands whether it is that one, and its successor that is being delivered.

    Made once: SQLAlchemy takes several times as long to make a statement as to execute it.
    """
    c = key_table.c
    by_name = (
        select(c.id)
        .where(c.name_folded == bindparam("folded"))
        # A key that was never delivered comes last: nobody means it by the name.
        .order_by(case((text(CURRENT_SQL), 0), (c.activated_at.is_not(None), 1), else_=2), c.created_at.desc(), c.id)
        .limit(1)
    )
    # A whole id is the start of itself alone.
    by_id = select(c.id).where(starts_with(c.id, bindparam("start", type_=c.id.type))).limit(2)
    wanted = [by_name, by_id] if id_start else [by_name]
    if seen:
        wanted = [each.where(sight.bound(owner=team)) for each in wanted]
    # SQLite takes no LIMIT inside a UNION, but inside a table of one.
    parts = [select(each.subquery().c.id) for each in wanted]
    if not caller:
        return select_keys(NOW).where(c.id.in_(union_all(*parts)))
    own = select(c.id, true().label("is_caller")).where(c.id == bindparam("caller"))
    either = union_all(own, *(part.add_columns(false().label("is_caller")) for part in parts)).subquery()
    successor = key_table.alias("successor")
    delivering = select(successor.c.id).where(_delivering(successor), successor.c.replaces == c.id).limit(1)
    more = either.c.is_caller, delivering.scalar_subquery().label("delivering")
    return select_keys(NOW).add_columns(*more).join(either, either.c.id == c.id)


def _find_raw(connection: Connection, raw: RawKey | DigestedKey, now: datetime, within: Within | None) -> Key:
    digest = connection.scalar(select(key_table.c.digest).where(key_table.c.id == raw.id))
    key = get(connection, raw.id, now=now)
    # A made-up secret behind a real id must not be enough to mean the key.
    if digest is None or key is None or not same_digest(bytes(digest), raw.digest()):
        raise KeyctlError(Code.KEY_NOT_FOUND, "no such raw key was issued here", "Check that it is the right database.")
    if within is not None:
        of_this_id = select(key_table.c.id).where(key_table.c.id == raw.id)
        if connection.scalar(_narrowed(of_this_id, within)) is None:
            raise sight.refusal("the key of this raw key")
    return key


def _narrowed(query: Select[Any], within: Within | None) -> Select[Any]:
    return query if within is None else query.where(within.condition())
