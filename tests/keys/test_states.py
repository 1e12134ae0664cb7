"""What a key is at an instant: `Key` in Python and the conditions in SQL agree about every combination of times, on
both databases. Promises 2, 3 and 5: whoever asks which key a name means and whether the key opens gets one answer."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from alphalens_keyctl import glance
from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import DIGEST_SCHEME, generate
from alphalens_keyctl.keys import glimpses, selection
from alphalens_keyctl.keys.selection import Selection, Sort
from alphalens_keyctl.models import CURRENT_SQL, Key, Status, key_table

NOW = datetime(2026, 11, 23, 6, 34, 0, 123456, tzinfo=UTC)
TICK = timedelta(microseconds=1)
ENDS = (None, NOW - TICK, NOW, NOW + TICK)


def rows() -> Iterator[dict[str, Any]]:
    """A row for every combination of times that the database accepts, each with a name of its own. The rows that
    replace a key come after the keys that they replace."""
    combinations = product((False, True), ENDS, ENDS, (False, True), (False, True), (None, "vault"), (False, True))
    for number, (active, expires, retires, revoked, suspended, destination, follows) in enumerate(
        sorted(combinations, key=lambda combination: combination[-1])
    ):
        if retires is not None and not active:
            continue
        raw = generate()
        yield {
            "id": raw.id, "name": f"key-{number}", "name_folded": f"key-{number}", "labels": {}, "created_at": NOW,
            "created_by": "root", "use_count": 0, "digest": raw.digest(), "digest_scheme": DIGEST_SCHEME,
            "activated_at": NOW if active else None, "expires_at": expires, "retires_at": retires,
            "suspended_at": NOW if suspended else None, "delivering_to": destination,
            "revoked_at": NOW if revoked else None, "revoked_by": "root" if revoked else None, "follows": follows,
        }  # fmt: skip


@pytest.fixture
def keys(database: Database) -> dict[str, Key]:
    """The keys of `rows` as the program reads them, by id."""
    made = list(rows())
    first = [row for row in made if not row["follows"]]
    with database.writing() as tx:
        for row in made:
            row["replaces"] = first.pop()["id"] if row.pop("follows") else None
        tx.execute(insert(key_table), made)
    with database.reading() as connection:
        found = selection.read(connection, Selection(final=True), sort=Sort.NAME, limit=None, now=NOW)
    assert len(found) == len(made) == 320
    return {key.id: key for key in found}


def test_python_and_the_database_agree_which_key_a_name_means(database: Database, keys: dict[str, Key]) -> None:
    """Promise 2: a name is free exactly where `Key.is_current` and `CURRENT_SQL`, which an index enforces, say so."""
    with database.reading() as connection:
        current = set(connection.scalars(select(key_table.c.id).where(text(CURRENT_SQL))))
        meant = {key.id for key in keys.values() if selection.current(connection, key.name, now=NOW) is not None}
    assert {key.id for key in keys.values() if key.is_current} == current == meant
    assert 0 < len(current) < len(keys)


def test_python_and_the_database_agree_what_the_clock_makes_of_a_key(database: Database, keys: dict[str, Key]) -> None:
    """Promise 5: what opens for a verifier, which judges in Python, is what `list` shows as open."""
    with database.reading() as connection:
        stored = {row.id: row.status for row in connection.execute(select(key_table.c.id, key_table.c.status))}
    for key in keys.values():
        status, until = key._replace(status=stored[key.id]).status_at(NOW.timestamp())
        assert status == key.status, key
        assert key.opens is (status in (Status.ACTIVE, Status.RETIRING, Status.DELIVERING))
        if until != float("inf"):  # holds until then, and no longer
            assert key._replace(status=stored[key.id]).status_at(until)[0] in (Status.EXPIRED, Status.RETIRED)
    assert {key.status for key in keys.values()} == set(Status) - {Status.DAMAGED}  # which no clock makes


def test_tab_tells_the_status_that_list_tells(database: Database, keys: dict[str, Key]) -> None:
    """Promise 5: TAB asks the database without SQLAlchemy, in words of its own."""
    stored = frozenset(Status)
    with glance.at(database.address) as look:
        told = {
            key.id: key.status for start in "123456789" for key in glimpses.names(look, f"key-{start}", stored, NOW)
        }
        by_id = {key.id: key.status for key_id in keys for key in glimpses.ids(look, key_id, stored, NOW)}
    assert by_id == {key.id: key.status for key in keys.values()}
    assert told.items() <= by_id.items()
    assert len(told) > len(keys) / 2
