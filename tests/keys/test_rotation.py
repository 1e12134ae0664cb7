"""How one key follows another, below the commands: the migration that made room for it, what verifiers are told
of a first use, and the steps of `succession` themselves. Promises 3, 4, 5 and 8."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, select

from alphalens_keyctl import KeyVerifier, migrations
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey, generate
from alphalens_keyctl.keys import lifecycle, rotation, selection
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.models import Key, key_table
from alphalens_keyctl.provenance import Act, origin
from tests.services.postgresql import Databases
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, on_postgresql, stored
from tests.support.freshness import NEVER, wait_until_told
from tests.support.uses import use

CHANNEL = "alphalens_keyctl"
HOUR = timedelta(hours=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def earlier_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that a program with schema 0002 made."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'earlier.db'}"
    else:
        databases: Databases = request.getfixturevalue("databases")
        url = databases.create()
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    # Not by the program's own connection: that makes no SQLite file but one of the latest schema.
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    engine.dispose()
    if request.param == "sqlite":
        (tmp_path / "earlier.db").chmod(0o600)
    return url


def one(url: str, query: str) -> Any:
    with closing(Database.connect(parse_address(url), Limits())) as database, database.reading() as connection:
        return connection.exec_driver_sql(query).all()


def test_a_database_of_the_schema_before_is_upgraded_with_when_its_keys_were_first_used(
    fresh_keyctl: Keyctl, earlier_url: str
) -> None:
    """Promise 8: what the log has, else what the key's record has; a key that was never used has none."""
    now = datetime.now(UTC).replace(microsecond=0)
    times = {name: now - timedelta(days=days) for name, days in (("old", 9), ("first", 5), ("last", 1))}
    raws: dict[str, RawKey] = {}
    for name, last in (("logged", "last"), ("pruned", "last"), ("refused", None), ("unused", None)):
        raws[name] = raw = generate()
        by_hand(
            earlier_url,
            "INSERT INTO api_key (id, name, name_folded, labels, created_at, created_by, activated_at, use_count,"
            " last_used_at, digest, digest_scheme) VALUES (%s, %s, %s, '{}', %s, 'sql', %s, %s, %s, %s, 'sha256')",
            raw.id, name, name, stored(earlier_url, times["old"]), stored(earlier_url, times["old"]),
            2 if last else 0, stored(earlier_url, times[last]) if last else None, raw.digest(),
        )  # fmt: skip
    for name, at, outcome in (
        ("logged", "first", "ok"), ("logged", "last", "ok"), ("logged", "old", "expired"),
        ("refused", "first", "expired"),
    ):  # fmt: skip
        by_hand(
            earlier_url,
            "INSERT INTO usage_event (at, key_id, outcome, count) VALUES (%s, %s, %s, 1)",
            stored(earlier_url, times[at].replace(second=0)), raws[name].id, outcome,
        )  # fmt: skip
    environment = {"ALPHALENS_KEYCTL_DATABASE_URL": earlier_url}
    refused = fresh_keyctl("list", "--json", environment=environment)
    if refused.status:  # a server's schema is an administrator's to change; a file is brought up to date at once
        assert refused.error["code"] == "schema_outdated"
        fresh_keyctl.ok("db", "upgrade", environment=environment)
    with closing(Database.connect(parse_address(earlier_url), Limits())) as database, database.reading() as connection:
        found = {
            row.name: row.first_used_at
            for row in connection.execute(select(key_table.c.name, key_table.c.first_used_at))
        }
    assert found == {
        "logged": times["first"].replace(second=0), "pruned": times["last"], "refused": None, "unused": None,
    }  # fmt: skip
    # And it is a database like any other: a key in use counts as in use, an unused one waits for its use.
    for name in raws:
        fresh_keyctl.ok("rotate", name, "--until-used", "--no-print", "--pipe-to", "cat", environment=environment)
    assert fresh_keyctl.ok("audit", "verify", environment=environment).status == 0
    assert one(earlier_url, "SELECT count(*) FROM api_key WHERE awaits_use_of IS NOT NULL") == [(4,)]


@pytest.mark.parametrize("made", ["at once", "by upgrade"])
@pytest.mark.parametrize("earlier_url", ["postgresql"], indirect=True)
def test_the_announcing_trigger_fires_on_every_session_whatever_its_replication_role(
    database_url_of_postgresql: str, earlier_url: str, made: str
) -> None:
    """Promise 5: `session_replication_role = replica`, which a restore sets, does not silence it."""
    url = database_url_of_postgresql
    if made == "by upgrade":
        url = earlier_url
        with closing(Database.connect(parse_address(url), Limits())) as database:
            database.upgrade()
    found = one(url, "SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'api_key_announce'")
    assert [how for (how,) in found] == ["A"]


@pytest.fixture
def database_url_of_postgresql(databases: Databases, postgresql_template: str) -> str:
    return databases.create(postgresql_template)


@contextmanager
def listening(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"LISTEN {CHANNEL}".encode())
        yield session


def heard(session: psycopg.Connection[Any]) -> int:
    """How many announcements have come since the last look. One of our own comes last, and ends the wait."""
    session.execute(f"NOTIFY {CHANNEL}, 'mark'".encode())
    for count, notice in enumerate(session.notifies(timeout=10)):
        if notice.payload == "mark":
            return count
    raise AssertionError("the server did not pass the mark on")


@on_postgresql
def test_verifiers_are_told_of_a_keys_first_use_and_not_of_later_ones(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5, at a price that a busy service can pay: recording does not make anybody forget what it knows."""
    raw, other = successor(keyctl, "ci"), successor(keyctl, "other")
    with listening(database_url) as session:
        use(keyctl, raw)
        assert heard(session) == 1
        use(keyctl, raw, times=3)
        assert heard(session) == 0
        # A key's first use in a batch with a later use of another.
        with KeyVerifier(database_url) as service:
            assert service.verify(raw)
            assert service.verify(other)
            service.flush()
        assert heard(session) == 1
        use(keyctl, other)
        assert not KeyVerifier(database_url, usage="off").verify("nonsense")
        assert heard(session) == 0


def successor(keyctl: Keyctl, name: str) -> str:
    """A key whose first use may set another's end: of no other is it written down."""
    keyctl.create(name)
    return keyctl.ok("rotate", name).stdout.strip()


@on_postgresql
def test_a_warm_verifier_reads_a_key_again_after_a_first_use_and_not_after_later_ones(
    keyctl: Keyctl, database_url: str
) -> None:
    raw = successor(keyctl, "ci")
    with KeyVerifier(database_url, max_staleness=NEVER, usage="off") as service:
        assert service.verify(raw)
        wait_until_told(service, database_url, raw)
        use(keyctl, raw)
        deadline = time.monotonic() + 10
        while (known := service.verify(raw).key) is None or known.last_used_at is None:
            assert time.monotonic() < deadline, "it did not hear of the first use"
            time.sleep(0.02)
        use(keyctl, raw, times=2)
        time.sleep(0.3)  # three times what the promise allows for being told
        # What it says of the key is what it read before: nothing made it read anew.
        again = service.verify(raw).key
        assert again == known


def draft_act(at: datetime | None = None) -> Act:
    return Act(at=at or datetime.now(UTC), actor="test", origin=origin(host="test", os_user="test", ci=None))


def made(database: Database, name: str = "ci") -> Key:
    """A current key."""
    act = draft_act()
    raw = generate()
    with database.writing() as tx:
        lifecycle.create_pending(tx, Draft(name), raw, act, lease=None)
        return lifecycle.activate(tx, raw.id, act, at=act.at, delivered_to=["test"])


def begun(database: Database, key_id: str) -> Key:
    """A successor that is on its way to a destination. No lock is held for it, so that it counts as left behind."""
    act = draft_act()
    raw = generate()
    with database.writing() as tx:
        lineage = rotation.rotatable(tx, database.attempts, key_id, act)
        rotation.succeed_pending(tx, lineage, raw, None, act, lease=None)
        lifecycle.begin_delivering(tx, raw.id, act, destinations=["a destination"], lease=None)
        return lifecycle.require(tx, raw.id, act.at)


def handed_over(database: Database, key_id: str, *, at: datetime | None = None, asked: datetime | None = None) -> Key:
    act = draft_act(asked)
    with database.writing() as tx:
        return rotation.hand_over_name(
            tx, key_id, act, at=at or act.at, retirement=Retirement(HOUR), delivered_to=["a destination"]
        )


def now_is(database: Database, key_id: str) -> Key:
    with database.reading() as connection:
        found = selection.get(connection, key_id, now=datetime.now(UTC))
    assert found is not None
    return found


def test_the_grace_counts_from_what_was_promised_unless_the_delivery_took_its_time(database: Database) -> None:
    """Promise 3: waiting for a slow destination does not eat the grace."""
    asked = datetime.now(UTC)
    for late, since in ((timedelta(milliseconds=500), asked), (HOUR, asked + HOUR)):
        old = made(database, f"late {late}")
        new = begun(database, old.id)
        handed_over(database, new.id, at=asked, asked=asked + late)
        assert now_is(database, old.id).retires_at == since + HOUR


def test_an_attempt_that_was_taken_over_cannot_become_current(database: Database) -> None:
    """Promise 4: its lease ended, another went on, and then it came back."""
    old = made(database)
    slow = begun(database, old.id)
    quick = begun(database, old.id)
    assert quick.replaces == slow.id
    with pytest.raises(KeyctlError) as refused:
        handed_over(database, slow.id)
    assert refused.value.code is Code.CONFLICT
    assert quick.id in refused.value.message
    handed_over(database, quick.id)
    states = [now_is(database, key.id).status for key in (old, slow, quick)]
    assert states == ["retiring", "retiring", "active"]


def test_one_that_took_over_goes_on_after_the_slow_one_gave_up(database: Database) -> None:
    """The slow one discards itself on its way out; the line skips it."""
    old = made(database)
    slow = begun(database, old.id)
    quick = begun(database, old.id)
    with database.writing() as tx:
        assert lifecycle.discard(tx, slow.id, draft_act(), reason=lifecycle.DELIVERY_FAILED)
    handed_over(database, quick.id)
    assert [now_is(database, key.id).status for key in (old, slow, quick)] == ["retiring", "revoked", "active"]
    assert now_is(database, old.id).replaced_by == quick.id


def test_a_rotation_taken_back_leaves_every_earlier_key_as_it_was(database: Database) -> None:
    """Promise 3."""
    old = made(database)
    dead = begun(database, old.id)
    new = begun(database, old.id)
    before = [now_is(database, key.id) for key in (old, dead)]
    current = handed_over(database, new.id)
    with database.writing() as tx:
        again = rotation.take_back(tx, current, draft_act(), destinations="a destination", reason=rotation.TRIAL_FAILED)
    assert again == before[0]
    assert [now_is(database, key.id) for key in (old, dead)] == before
    assert now_is(database, new.id).status == "delivering"
    current = now_is(database, old.id)
    with pytest.raises(KeyctlError) as twice, database.writing() as tx:
        rotation.take_back(tx, current, draft_act(), destinations=None, reason=rotation.ABORTED)
    assert twice.value.code is Code.WRONG_STATE


def test_a_suspended_key_is_not_rotated_and_a_suspended_predecessor_stops_the_handover(database: Database) -> None:
    """Promise 5: a rotation does not undo what an admin decided meanwhile."""
    old = made(database)
    new = begun(database, old.id)
    with database.writing() as tx:
        lifecycle.change(tx, old.id, datetime.now(UTC), suspended_at=datetime.now(UTC))
    with pytest.raises(KeyctlError) as refused:
        handed_over(database, new.id)
    assert refused.value.code is Code.CONFLICT
    with pytest.raises(KeyctlError) as refused, database.writing() as tx:
        rotation.rotatable(tx, database.attempts, old.id, draft_act())
    assert refused.value.code is Code.WRONG_STATE
    assert [now_is(database, key.id).status for key in (old, new)] == ["suspended", "delivering"]
