"""Events that are written together are, to the byte, those that would be written one by one. Promises 6 and 7."""

import json
from datetime import UTC, datetime
from typing import Final

import pytest
from sqlalchemy import select

from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.logs import audit, bound_rows
from alphalens_keyctl.models import Action, event_table
from alphalens_keyctl.provenance import Act, origin
from tests.support import key_rows

ACT = Act(datetime(2026, 11, 26, 9, 0, 0, 123456, UTC), 'ánn "x"', origin(host="h", os_user="ü", ci=None, claims={}))
# As values, and as arrays on PostgreSQL; one more than two statements of SQLite hold.
NUMBERS = (7, 201)


SHARED = {"reason": 'a\\b"c\u2028', "left_out": None}
# Python takes the first three for equal, and JSON does not.
OWN: tuple[dict[str, object], ...] = ({"n": True}, {"n": 1}, {"n": 1.0}, {"labels": {"b": "ö", "a": "\x7f"}})


@pytest.mark.parametrize("number", NUMBERS)
def test_events_written_together_say_what_each_would_say_alone(database: Database, number: int) -> None:
    ids = [key_rows.put(database, f"key-{each}", owner="zoë", purpose='"') for each in range(3)]
    about = [
        (ids[place % 3] if place % 4 else None, f"Été {place}", SHARED if place % 5 else OWN[place % 4])
        for place in range(number)
    ]
    with database.writing() as tx:
        before = audit.head(tx)
        audit.append_each(tx, ACT, Action.REVOKE, about)
        digests = bound_rows.digests(tx, ids)
        where = {**ACT.origin._asdict(), "database_user": tx.info.get("database_user")}
        written = tx.execute(
            select(event_table).where(event_table.c.seq > before.seq).order_by(event_table.c.seq)
        ).all()
    assert [event.seq for event in written] == list(range(before.seq + 1, before.seq + number + 1))
    said_from = {name: value for name, value in where.items() if value is not None}
    for event, (key_id, key_name, detail) in zip(written, about, strict=True):
        said = {name: value for name, value in detail.items() if value is not None} | {"origin": said_from}
        row = {} if key_id is None else {"row": digests[key_id]}
        assert event.detail == json.dumps(said | row, sort_keys=True, separators=(",", ":"))
        assert (event.at, event.actor, event.action) == (ACT.at, ACT.actor, Action.REVOKE)
        assert (event.key_id, event.key_name) == (key_id, key_name)
    assert audit.verify(database, log_only=True).broken is None


def test_of_no_key_nothing_is_written(database: Database) -> None:
    """A change that found all as it should be is no error."""
    with database.writing() as tx:
        audit.append_each(tx, ACT, Action.REVOKE, [])
        assert audit.head(tx).seq == 0


# On PostgreSQL without the guard of the chain, which refuses most of this before the program looks.
SWALLOWING: Final = {
    "sqlite": [
        "CREATE TRIGGER eat BEFORE INSERT ON audit_event WHEN NEW.key_name = 'n{}' BEGIN SELECT RAISE(IGNORE); END",
    ],
    "postgresql": [
        "ALTER TABLE audit_event DISABLE TRIGGER audit_event_next_link",
        "CREATE FUNCTION eat() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER e BEFORE INSERT ON audit_event FOR EACH ROW WHEN (NEW.key_name = 'n{}') EXECUTE FUNCTION eat()",
    ],
}


def test_an_event_that_a_trigger_swallows_undoes_all(database: Database) -> None:
    """Promise 6: also in the middle of a statement that writes many."""
    for number in NUMBERS:
        for place in (0, 1, number - 2, number - 1):
            with pytest.raises(KeyctlError):
                write_swallowed(database, number, place)
            with database.reading() as connection:
                assert audit.head(connection).seq == 0


def write_swallowed(database: Database, number: int, place: int) -> None:
    with database.writing() as tx:
        for statement in SWALLOWING[tx.dialect.name]:
            tx.exec_driver_sql(statement.format(place))
        audit.append_each(tx, ACT, Action.REVOKE, [(None, f"n{each}", {}) for each in range(number)])
