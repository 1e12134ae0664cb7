"""What TAB offers of the keys in a database: names, ids, owners, labels, scopes, each found by how it begins.

Through a `Glance` alone, without SQLAlchemy. Every list has a limit, and an index serves it on SQLite. Values are as
they are stored: whoever shows them finds out whether they are inert.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from alphalens_keyctl.glance import Glance
from alphalens_keyctl.text import fold
from alphalens_keyctl.vocabulary import CURRENT_SQL, STATUS_AT_SQL, Status

MOST: Final = 200
_LAST: Final = "\U0010ffff"  # in byte order, all that begins with a text lies before the text and this

_SHOWN: Final = "SELECT api_key.id, api_key.name, {status_at}, api_key.owner FROM api_key"
# The key that a name means, as `lookup.find` has it.
_MEANT: Final = (
    "SELECT other.id FROM api_key AS other WHERE other.name_folded = named.name_folded AND {stored}"
    f" ORDER BY CASE WHEN {CURRENT_SQL} THEN 0 WHEN activated_at IS NOT NULL THEN 1 ELSE 2 END,"
    " created_at DESC, id LIMIT 1"
)
_NAMES: Final = (
    f"{_SHOWN} JOIN (SELECT DISTINCT name_folded FROM api_key WHERE name_folded >= :start AND name_folded < :past"
    f" AND {{stored}} ORDER BY name_folded LIMIT :most) AS named ON api_key.id = ({_MEANT}) ORDER BY named.name_folded"
)
_IDS: Final = f"{_SHOWN} WHERE id >= :start AND id < :past AND {{stored}} ORDER BY id LIMIT :most"
_OWNERS: Final = (
    "SELECT DISTINCT owner FROM api_key WHERE {owner} >= :start AND {owner} < :past ORDER BY owner LIMIT :most"
)
_LABELS: Final = {
    "sqlite": "SELECT DISTINCT l.name, l.value FROM api_key_label AS l WHERE {where} ORDER BY 1, 2 LIMIT :most",
    "postgresql": (
        "SELECT DISTINCT l.name, l.value FROM api_key CROSS JOIN LATERAL jsonb_each_text("
        # One damaged row must not hide the labels of all others.
        "CASE WHEN jsonb_typeof(labels) = 'object' THEN labels ELSE jsonb_build_object() END)"
        ' AS each (name, value), LATERAL (SELECT each.name COLLATE "C", each.value COLLATE "C") AS l (name, value)'
        " WHERE {where} ORDER BY 1, 2 LIMIT :most"
    ),
}


_SCOPES: Final = {
    "sqlite": (
        "SELECT DISTINCT each.value FROM api_key, json_each(CASE WHEN json_valid(scopes) THEN scopes ELSE '[]' END)"
        " AS each WHERE scopes IS NOT NULL AND each.value >= :start AND each.value < :past ORDER BY 1 LIMIT :most"
    ),
    "postgresql": (
        "SELECT DISTINCT s.value FROM api_key CROSS JOIN LATERAL jsonb_array_elements_text("
        "CASE WHEN jsonb_typeof(scopes) = 'array' THEN scopes ELSE '[]' END) AS each (value),"
        ' LATERAL (SELECT each.value COLLATE "C") AS s (value)'
        " WHERE scopes IS NOT NULL AND s.value >= :start AND s.value < :past ORDER BY 1 LIMIT :most"
    ),
}


class Seen(NamedTuple):
    """A key as TAB tells of it. Each field is what the database holds, which in a foreign one may be anything."""

    id: Any
    name: Any
    status: Any
    owner: Any


def names(glance: Glance, start: str, stored: frozenset[Status], now: datetime) -> Iterator[Seen]:
    """The keys whose names begin with `start`, letter case apart: for each name the key that the name means. Only keys
    whose stored status is one of `stored`, for commands that would refuse all others."""
    return _keys(glance, _NAMES, fold(start), stored, now)


def ids(glance: Glance, start: str, stored: frozenset[Status], now: datetime) -> Iterator[Seen]:
    """The keys whose ids begin with `start`, of a stored status as for `names`."""
    return _keys(glance, _IDS, start, stored, now)


def owners(glance: Glance, start: str) -> list[Any]:
    """The owners whose names begin with `start`."""
    column = 'owner COLLATE "C"' if glance.dialect == "postgresql" else "owner"
    return [owner for (owner,) in glance.rows(_OWNERS.format(owner=column), _range(start))]


def scopes(glance: Glance, start: str) -> list[Any]:
    """The scopes that keys have and that begin with `start`."""
    return [scope for (scope,) in glance.rows(_SCOPES[glance.dialect], _range(start))]


def labels(glance: Glance, start: str) -> list[tuple[Any, Any]]:
    """The labels, each a name and a value, that written as `name=value` begin with `start`."""
    name, equals, value = start.partition("=")
    if equals:
        where, given = "l.name = :name AND l.value >= :start AND l.value < :past", _range(value) | {"name": name}
    else:
        where, given = "l.name >= :start AND l.name < :past", _range(name)
    return [(name, value) for name, value in glance.rows(_LABELS[glance.dialect].format(where=where), given)]


def _keys(glance: Glance, query: str, start: str, stored: frozenset[Status], now: datetime) -> Iterator[Seen]:
    among = ", ".join(f"'{status}'" for status in sorted(stored))
    sql = query.format(status_at=STATUS_AT_SQL[glance.dialect], stored=f"status IN ({among})")
    return map(Seen._make, glance.rows(sql, _range(start) | {"now": now}))


def _range(start: str) -> dict[str, object]:
    return {"start": start, "past": start + _LAST, "most": MOST}
