"""How the databases look keys up: whatever selects a few keys must not read the table.

The statements are those that the program really sends, taken down on their way to the driver, and each is put to
the database's own EXPLAIN in a table of 2,000 keys.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, insert, true, update
from sqlalchemy.engine import Engine

from alphalens_keyctl.address import PostgreSQLAddress
from alphalens_keyctl.database import Database, Limits, Writing, parse_address, postgresql, sqlite
from alphalens_keyctl.database.schema import SchemaState
from alphalens_keyctl.keyformat import ALPHABET, DIGEST_SCHEME
from alphalens_keyctl.keys import lookup, policy, revocation, selection
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.keys.selection import Selection, Sort
from alphalens_keyctl.keys.within import Within
from alphalens_keyctl.models import Status, key_table
from alphalens_keyctl.provenance import Act, Origin
from alphalens_keyctl.settings import Thresholds
from tests.support.databases import dialect

NOW: Final = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
DAY: Final = timedelta(days=1)
KEYS: Final = 2000
# SQLite's name for the index of a primary key of text, and PostgreSQL's.
BY_ID: Final = r"sqlite_autoindex_api_key_1|api_key_pkey"
ACT: Final = Act(NOW, "tester", Origin(None, None, None, None))

Lookup = Callable[[Connection], object]


class Sent(NamedTuple):
    """A statement as the driver got it."""

    statement: str
    parameters: Any


class Case(NamedTuple):
    """What is looked up, and the index that has to serve it."""

    look_up: Lookup
    by: str


def rows() -> Iterator[dict[str, Any]]:
    """Keys of years: of a hundred one is suspended, one expired, one about to, one never will, one is idle for long,
    and one has no owner."""
    chance = random.Random(5)
    for number in range(KEYS):
        key_id = "".join(chance.choices(ALPHABET, k=12))
        created = NOW - (KEYS - number) * timedelta(hours=12)
        name = f"service-{number}"
        yield {
            "id": key_id, "name": name, "name_folded": name,
            "owner": None if number % 100 == 8 else f"team-{number % 200}",
            "labels": {"team": f"team-{number % 200}", "env": "prod"}, "created_at": created, "created_by": "sql",
            "activated_at": created, "use_count": 1,
            "expires_at": None if number % 100 == 9
            else NOW + {2: -DAY, 3: DAY}.get(number % 100, number % 300 * DAY + 60 * DAY),
            "suspended_at": NOW - number % 60 * DAY if number % 100 == 1 else None,
            "last_used_at": None if number % 100 == 5 else NOW - (400 * DAY if number % 100 == 4 else 3 * DAY),
            "digest": bytes(32), "digest_scheme": DIGEST_SCHEME,
        }  # fmt: skip


def scoped(keys: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The keys, of which one of a hundred is restricted, and one of five hundred administers keys."""
    scopes = {7: ("keyctl:admin",)} | dict.fromkeys((107, 207, 307, 407), ("prices:read",))
    return [key | {"scopes": scopes.get(number % 500)} for number, key in enumerate(keys)]


@pytest.fixture
def large(database: Database) -> Database:
    with database.writing() as tx:
        tx.execute(insert(key_table), scoped(rows()))
        if dialect(database) == "postgresql":
            # What autovacuum does by itself, a minute later.
            tx.exec_driver_sql("ANALYZE api_key")
    return database


@contextmanager
def taken_down() -> Iterator[list[Sent]]:
    """The statements that name keys, as they go to the driver while the block lasts."""
    sent: list[Sent] = []

    def take(
        _connection: Connection, _cursor: object, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        if "api_key" in statement and not many and not statement.startswith(("INSERT", "EXPLAIN")):
            sent.append(Sent(statement, parameters))

    event.listen(Engine, "before_cursor_execute", take)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", take)


def plan(connection: Connection, sent: Sent) -> str:
    if connection.dialect.name == "sqlite":
        explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sent.statement}", sent.parameters)
        return "\n".join(row.detail for row in explained)
    # 2,000 keys fit into a few pages, which PostgreSQL is right to read in one go. The point is that the index
    # can serve the predicate, as it will at a million.
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN {sent.statement}", sent.parameters).scalars())


def trouble(found: str, index: str) -> str | None:
    """What is wrong with a plan: it reads every key, or another index than was meant serves it."""
    if re.search(r"\bSCAN api_key\b|Seq Scan on api_key\b", found):
        return f"reads the table:\n{found}"
    # To walk through a whole index in its order is to read every key as well.
    if re.search(r"Index (Only )?Scan( Backward)? using \w+ on api_key (?!api_key_)[^\n]*\n(?!\s+Index Cond)", found):
        return f"walks through an index:\n{found}"
    return None if re.search(rf"\b({index})\b", found) else f"does not use {index}:\n{found}"


def troubles(database: Database, cases: dict[str, Case]) -> dict[str, str]:
    """What is wrong with the plans, by case; empty when every statement is served by its index."""
    wrong = {}
    for name, case in cases.items():
        with database.reading() as connection, taken_down() as sent:
            case.look_up(connection)
        assert sent, name
        with database.reading() as connection:
            for number, each in enumerate(sent):
                if found := trouble(plan(connection, each), case.by):
                    wrong[f"{name}, statement {number}"] = found
    return wrong


def ways(wanted: Selection) -> Lookup:
    """Every way in which a command asks for what filters select."""

    def look_up(connection: Connection) -> object:
        assert selection.ids(connection, wanted, limit=101, now=NOW)
        assert selection.ids(connection, wanted, also=revocation.applies_to(Revocation.REVOKE, now=NOW), now=NOW)
        for limit in (None, 10):
            assert list(selection.documents(connection, wanted, sort=Sort.CREATED, limit=limit, now=NOW))
        return selection.count(connection, wanted, now=NOW)

    return look_up


FILTERS: Final = {
    "owner": Case(ways(Selection(owner="team-7")), "api_key_owner"),
    "label": Case(ways(Selection(labels={"team": "team-7"})), "api_key_labels?"),
    "two labels": Case(ways(Selection(labels={"team": "team-7", "env": "prod"})), "api_key_labels?"),
    "name": Case(ways(Selection(name_glob="service-12*")), "api_key_name|api_key_current_name"),
    "whole name": Case(ways(Selection(name_glob="service-12")), "api_key_name|api_key_current_name"),
    "suspended": Case(ways(Selection((Status.SUSPENDED,))), "api_key_status"),
    "expired": Case(ways(Selection(expired=True)), "api_key_expires"),
    "never expires": Case(ways(Selection(never_expires=True)), "api_key_expires"),
    "no owner": Case(ways(Selection(unowned=True)), "api_key_owner"),
    "active, no owner": Case(ways(Selection((Status.ACTIVE,), unowned=True)), "api_key_owner"),
    "no owner, older than": Case(ways(Selection(unowned=True, older_than=995 * DAY)), "api_key_owner|api_key_created"),
    "expires within": Case(ways(Selection(expires_within=14 * DAY)), "api_key_expires"),
    "suspended for so long": Case(
        ways(Selection((Status.SUSPENDED,), suspended_for=30 * DAY)), "api_key_suspended|api_key_status"
    ),
    "active of an owner": Case(ways(Selection((Status.ACTIVE,), owner="team-7")), "api_key_owner"),
    "active, expires within": Case(ways(Selection((Status.ACTIVE,), expires_within=14 * DAY)), "api_key_expires"),
    "expired by status": Case(ways(Selection((Status.EXPIRED,))), "api_key_expires"),
    "suspended for": Case(ways(Selection(suspended_for=30 * DAY)), "api_key_suspended"),
    "unused for": Case(ways(Selection(unused_for=300 * DAY)), "api_key_idle"),
    "never used": Case(ways(Selection(never_used=True)), "api_key_last_used"),
    # A scope that every key covers which is not restricted selects nearly all: no index could help.
    "reserved scope": Case(ways(Selection(scopes=("keyctl:admin",))), "api_key_scopes"),
    "older than": Case(ways(Selection(older_than=995 * DAY)), "api_key_created"),
    "owner and label": Case(
        ways(Selection(owner="team-7", labels={"team": "team-7"})), "api_key_owner|api_key_labels?"
    ),
}  # fmt: skip


def test_every_filter_that_selects_a_few_keys_is_served_by_its_index(large: Database) -> None:
    assert troubles(large, FILTERS) == {}


def test_every_filter_is_served_by_its_index_with_statistics_of_sqlite_too(large: Database) -> None:
    """Nobody has to run ANALYZE, as the test above holds; where somebody did, it must not be worse."""
    if dialect(large) == "sqlite":
        with large.writing() as tx:
            tx.exec_driver_sql("ANALYZE")
    assert troubles(large, FILTERS) == {}


def test_a_key_is_found_by_its_name_and_by_its_id_without_reading_the_others(large: Database) -> None:
    with large.reading() as connection:
        names = {key.name: key.id for key in selection.read(connection, Selection(), sort=Sort.NAME, limit=9, now=NOW)}
    name, key_id = next(iter(names.items()))
    ids = list(names.values())
    assert troubles(large, {
        "current": Case(lambda c: selection.current(c, name, now=NOW), "api_key_name|api_key_current_name"),
        "name": Case(lambda c: lookup.find(c, name, now=NOW), f"api_key_name|api_key_current_name|{BY_ID}"),
        "start": Case(lambda c: lookup.find(c, key_id[:8], now=NOW), f"api_key_name|api_key_current_name|{BY_ID}"),
        "name, within": Case(
            lambda c: lookup.find(c, name, now=NOW, within=Within("team-7", frozenset(ids))),
            f"api_key_name|api_key_current_name|{BY_ID}",
        ),
        "beside": Case(
            lambda c: lookup.beside(c, ids[1], key_id[:8], now=NOW), f"api_key_name|api_key_current_name|{BY_ID}"
        ),
        "id": Case(lambda c: selection.get(c, key_id, now=NOW), BY_ID),
        "ids": Case(lambda c: selection.some(c, ids, now=NOW), BY_ID),
        "documents": Case(lambda c: list(selection.documents_of(c, ids, now=NOW)), BY_ID),
        "among": Case(lambda c: selection.ids(c, Selection(final=True), among=ids, now=NOW), BY_ID),
        "still opening": Case(
            lambda c: list(lookup.still_opening(c, ids, now=NOW)), f"api_key_name|api_key_current_name|{BY_ID}"
        ),
        "TAB": Case(lambda c: lookup.ids_starting_with(c, key_id[:3], limit=50), BY_ID),
        "used since": Case(
            lambda c: selection.used_since(
                c, Selection(owner="team-7"), NOW - timedelta(hours=1), also=true(), limit=10, now=NOW
            ),
            "api_key_last_used|api_key_owner",
        ),
        "used since, of all": Case(
            lambda c: selection.used_since(c, Selection(), NOW - timedelta(hours=1), also=true(), limit=10, now=NOW),
            "api_key_last_used",
        ),
    }) == {}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "index"),
    [
        ("expiring", "api_key_expires"),
        ("suspended-long", "api_key_suspended"),
        ("unused", "api_key_last_used"),
        ("retiring-in-use", "api_key_status"),
    ],
)
def test_a_rule_that_few_keys_break_is_checked_without_reading_the_others(
    large: Database, rule: str, index: str
) -> None:
    rules = policy.chosen([rule], ignored=[])
    found = troubles(large, {rule: Case(lambda c: list(policy.check(c, rules, Thresholds(), now=NOW)), index)})
    assert found == {}


@pytest.mark.parametrize("what", Revocation)
def test_a_revocation_of_a_few_keys_touches_no_other(large: Database, what: Revocation) -> None:
    with large.reading() as connection:
        status = Status.SUSPENDED if what is Revocation.RESUME else Status.ACTIVE
        wanted = Selection((status,))
        few = selection.ids(connection, wanted, limit=5, now=NOW)
    with large.writing() as tx:
        with taken_down() as sent:
            assert revocation.apply(Writing(tx), what, few, ACT, reason=None).changed == sorted(few)
        written = [each for each in sent if each.statement.lstrip().startswith("UPDATE")]
        assert len(written) == 1
        # SQLite's own number of a row counts as well.
        index = f"{BY_ID}|INTEGER PRIMARY KEY"
        wrong = [found for each in sent if (found := trouble(plan(tx, each), index))]
    assert wrong == []


@pytest.fixture(params=["sqlite", "postgresql"])
def older_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the revision before this one, with keys in it that have labels."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'keys.db'}"
        (tmp_path / "keys.db").touch(mode=0o600)
        engine = sqlite.make_engine(tmp_path / "keys.db", lock_timeout=5)
    else:
        url = request.getfixturevalue("databases").create()
        address = parse_address(url)
        assert isinstance(address, PostgreSQLAddress)
        engine = postgresql.make_engine(address, connect_timeout=5, lock_timeout=5, query_timeout=60)
    config = Config()
    config.set_main_option("script_location", "alphalens_keyctl:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.execute(insert(key_table), list(rows())[:200])
    engine.dispose()
    return url


def test_the_migration_takes_up_the_labels_of_the_keys_that_are_there(older_url: str) -> None:
    before = Database.connect(parse_address(older_url), Limits())
    assert before.schema().state is SchemaState.OUTDATED
    before.upgrade()
    before.close()
    database = Database.open(parse_address(older_url), Limits())
    wanted = Selection(labels={"team": "team-7", "env": "prod"})
    with database.reading() as connection:
        (found,) = selection.read(connection, wanted, sort=Sort.NAME, limit=None, now=NOW)
        assert found.labels == wanted.labels
        assert selection.count(connection, Selection(labels={"env": "prod"}), now=NOW) == 200
        assert len(list(selection.ids(connection, Selection(suspended_for=DAY), now=NOW))) == 2
    with database.writing() as tx:
        tx.execute(update(key_table).where(key_table.c.id == found.id).values(labels={"team": "team-8"}))
    with database.reading() as connection:
        assert selection.ids(connection, wanted, now=NOW) == []
        assert found.id in selection.ids(connection, Selection(labels={"team": "team-8"}), now=NOW)
    with database.writing() as tx:
        tx.execute(insert(key_table), scoped(list(rows()))[200:])
        if dialect(database) == "postgresql":
            tx.exec_driver_sql("ANALYZE api_key")
    assert troubles(database, FILTERS) == {}
    database.close()
