"""`audit prune`: old rows of the usage log go, on record, and nothing else does. Promises 6, 8 and 11."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import select, text, update

from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.models import key_table, usage_table
from alphalens_keyctl.moments import rfc3339
from tests.services.postgresql import Databases
from tests.support.commands import Keyctl
from tests.support.key_rows import put
from tests.support.moments import DAY, start_of_minute
from tests.support.terminal import CTRL_C, CTRL_D, Session, on_terminal
from tests.support.usage_rows import conninfo, make_partition, record, usage_row


def aged(database: Database) -> str:
    """A key with uses 1, 89, 91 and 400 days old, and refused attempts 2 and 100 days old. Returns its id."""
    now, key_id = datetime.now(UTC), put(database, "ci")
    record(database, [usage_row(now - age * DAY, key_id) for age in (1, 89, 91, 400)])
    record(database, [usage_row(start_of_minute(now - age * DAY), None, "unknown", count=age) for age in (2, 100)])
    with database.writing() as tx:
        tx.execute(update(key_table).values(last_used_at=now - DAY, use_count=4))
    return key_id


def ages(database: Database) -> list[int]:
    """How many days old the rows are that are left."""
    now = datetime.now(UTC)
    with database.reading() as connection:
        return sorted((now - at) // DAY for at in connection.scalars(select(usage_table.c.at)))


def log(keyctl: Keyctl) -> str:
    return keyctl.ok("audit", "--jsonl").stdout


def test_what_is_older_goes_with_an_event_and_the_keys_keep_what_they_know(keyctl: Keyctl, database: Database) -> None:
    """Promise 6."""
    key_id = aged(database)
    before = keyctl.ok("show", key_id, "--json").json
    pruned = keyctl.ok("--actor", "jo", "audit", "prune", "--usage", "--older-than", "90d", "--json")
    assert pruned.stderr == ""
    document = pruned.json
    assert list(document) == ["pruned", "before", "dry_run"]
    assert (document["pruned"], document["dry_run"]) == (3, False)
    edge = datetime.fromisoformat(document["before"])
    assert timedelta(0) <= datetime.now(UTC) - 90 * DAY - edge < timedelta(minutes=2)
    assert ages(database) == [1, 2, 89]
    (event,) = keyctl.ok("audit", "--action", "usage.prune", "--json").json
    assert (event["actor"], event["key_id"], event["key_name"]) == ("jo", None, None)
    assert {name: event["detail"][name] for name in ("before", "pruned")} == {"before": rfc3339(edge), "pruned": 3}
    assert keyctl.ok("audit", "verify", "--log-only").stdout.startswith("Sound: 1 event")
    after = keyctl.ok("show", key_id, "--json").json
    assert (after["use_count"], after["last_used_at"]) == (4, before["last_used_at"])


def test_with_nothing_to_prune_there_is_no_event(keyctl: Keyctl, database: Database) -> None:
    aged(database)
    assert keyctl.ok("audit", "prune", "--usage", "--older-than", "401d", "--json").json["pruned"] == 0
    said = keyctl.ok("audit", "prune", "--usage", "--older-than", "500d").stdout
    assert said.startswith("Removed 0 rows of the usage log, all before ")
    assert log(keyctl) == ""
    assert len(ages(database)) == 6


def test_a_dry_run_counts_and_removes_nothing(keyctl: Keyctl, database: Database) -> None:
    aged(database)
    document = keyctl.ok("audit", "prune", "--usage", "--older-than", "90d", "--dry-run", "--json").json
    assert (document["pruned"], document["dry_run"]) == (3, True)
    said = keyctl.ok("audit", "prune", "--usage", "--older-than", "399d", "--dry-run").stdout
    assert said.startswith("Would remove 1 row of the usage log, all before 20")
    assert len(ages(database)) == 6
    assert log(keyctl) == ""


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--older-than", "90d"), "usage", "--usage"),
        (("--usage",), "usage", ""),
        ((), "usage", ""),
        (("--usage", "--older-than", "0"), "invalid_input", ""),
        (("--usage", "--older-than", "0d"), "invalid_input", ""),
        (("--usage", "--older-than", "-1d"), "invalid_input", ""),
        (("--usage", "--older-than", "2020-01-01"), "invalid_input", ""),
        (("--usage", "--older-than", "101y"), "invalid_input", ""),
        (("--usage", "--older-than", "90d", "more"), "usage", ""),
    ],
    ids=str,
)
def test_bad_usage_removes_nothing(fresh_keyctl: Keyctl, options: tuple[str, ...], code: str, said: str) -> None:
    refused = fresh_keyctl("audit", "prune", *options, "--json")
    assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", code)
    assert said in refused.error["hint"]
    assert list(fresh_keyctl.home.iterdir()) == []


@pytest.mark.one_database
def test_without_a_terminal_nothing_is_asked(keyctl: Keyctl, database: Database) -> None:
    """Promise 11."""
    aged(database)
    pruned = keyctl.ok("audit", "prune", "--usage", "--older-than", "90d", stdin=b"n\n")
    assert pruned.stderr == ""
    assert len(ages(database)) == 3


@pytest.mark.one_database
@pytest.mark.parametrize("options", [("--yes", "90d"), ("--dry-run", "90d"), ("--json", "500d")])
def test_on_a_terminal_nothing_is_asked_either_where_the_answer_is_clear(
    keyctl: Keyctl, database: Database, options: tuple[str, str]
) -> None:
    aged(database)
    shown = on_terminal(keyctl, "audit", "prune", "--usage", options[0], "--older-than", options[1])
    assert shown.status == 0
    assert "?" not in shown.text


@pytest.mark.one_database
def test_on_a_terminal_yes_prunes_and_the_question_keeps_off_stdout(keyctl: Keyctl, database: Database) -> None:
    """Promise 10."""
    aged(database)
    session = Session(keyctl, "audit", "prune", "--usage", "--older-than", "90d", elsewhere=("stdout",))
    session.wait_for("Remove 3 rows of the usage log, all before")
    session.wait_for("[y/N]:")
    session.type(b"y\n")
    shown = session.end()
    assert shown.status == 0
    assert shown.stdout.startswith("Removed 3 rows of the usage log, all before ")
    assert ages(database) == [1, 2, 89]


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("typed", "status"),
    [
        (b"n\n", 1),
        (b"\n", 1),
        (CTRL_D, 1),
        (CTRL_C, 130),
    ],
    ids=["no", "return", "end", "Ctrl-C"],
)
def test_on_a_terminal_all_but_yes_removes_nothing(
    keyctl: Keyctl, database: Database, typed: bytes, status: int
) -> None:
    aged(database)
    session = Session(keyctl, "audit", "prune", "--usage", "--older-than", "90d", real=True)
    session.wait_for("[y/N]:")
    session.type(typed)
    assert session.end().status == status
    assert len(ages(database)) == 6
    assert log(keyctl) == ""


def test_where_the_event_cannot_be_written_nothing_is_removed(keyctl: Keyctl, database: Database) -> None:
    """Promise 6."""
    aged(database)
    with database.writing() as tx:
        if tx.dialect.name == "sqlite":
            statement = "CREATE TRIGGER no_more BEFORE INSERT ON audit_event BEGIN SELECT RAISE(ABORT, 'no more'); END"
        else:
            statement = "ALTER TABLE audit_event ADD CONSTRAINT no_more CHECK (false) NOT VALID"
        tx.execute(text(statement))
    refused = keyctl("audit", "prune", "--usage", "--older-than", "90d", "--json")
    assert (refused.status, refused.stdout) == (6, "")
    assert len(ages(database)) == 6


# --- months, which PostgreSQL alone has


@pytest.fixture
def postgresql(databases: Databases, postgresql_template: str) -> Iterator[Database]:
    database = Database.open(parse_address(databases.create(postgresql_template)), Limits())
    yield database
    database.close()


@pytest.fixture
def on_postgresql(fresh_keyctl: Keyctl, postgresql: Database) -> Keyctl:
    """The program on that database."""
    fresh_keyctl.environment["ALPHALENS_KEYCTL_DATABASE_URL"] = conninfo(postgresql)
    return fresh_keyctl


def partitions(database: Database) -> set[str]:
    with database.reading() as connection:
        children = "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        return set(connection.scalars(text(f"{children} WHERE inhparent = to_regclass('usage_event')")))


def month(moment: datetime) -> tuple[str, str, str]:
    """The name and the bounds of the partition of a moment's month."""
    start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = (start + 32 * DAY).replace(day=1)
    return f"usage_event_{start:%Y_%m}", start.isoformat(), end.isoformat()


def test_a_month_that_is_old_as_a_whole_is_dropped_and_no_row_of_it_deleted(
    on_postgresql: Keyctl, postgresql: Database
) -> None:
    now = datetime.now(UTC)
    old, older, boundary = (now - days * DAY for days in (200, 235, 90))
    for moment in (old, older, boundary):
        make_partition(postgresql, *month(moment))
    young = partitions(postgresql) - {month(moment)[0] for moment in (old, older, boundary)}
    assert "usage_event_default" in young
    key_id = put(postgresql, "ci")
    record(postgresql, [usage_row(old, key_id) for _ in range(5)] + [usage_row(older, key_id)])
    record(
        postgresql,
        [usage_row(boundary - timedelta(minutes=1), key_id), usage_row(boundary + timedelta(hours=1), key_id)],
    )
    # No month is there for these: the default partition has them.
    record(postgresql, [usage_row(now - 1000 * DAY, key_id), usage_row(now + 300 * DAY, key_id)])
    # A row that is deleted one by one would fire this; a dropped partition fires nothing.
    with postgresql.writing() as tx:
        tx.execute(text("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                        " $$ BEGIN RAISE EXCEPTION 'deleted'; END $$"))  # fmt: skip
        for moment in (old, older):
            tx.execute(text(f"CREATE TRIGGER refuse BEFORE DELETE ON {month(moment)[0]} FOR EACH ROW"
                            " EXECUTE FUNCTION refuse()"))  # fmt: skip
    assert on_postgresql.ok("audit", "prune", "--usage", "--older-than", "90d", "--json").json["pruned"] == 8
    assert partitions(postgresql) == young | {month(boundary)[0]}
    assert ages(postgresql) == [-300, 89]
    (event,) = on_postgresql.ok("audit", "--json").json
    assert event["detail"]["pruned"] == 8


def test_an_old_name_does_not_make_young_rows_go(on_postgresql: Keyctl, postgresql: Database) -> None:
    """Promise 8: nothing is dropped in silence. Somebody made a partition by hand and gave it another's name."""
    now = datetime.now(UTC)
    start = now.replace(year=now.year + 2, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    make_partition(postgresql, "usage_event_2020_01", start.isoformat(), (start + 31 * DAY).isoformat())
    make_partition(postgresql, "usage_event_2020_13", "2019-01-01 00:00+00", "2019-02-01 00:00+00")
    make_partition(postgresql, 'odd "name": 100%', "2018-01-01 00:00+00", "2018-02-01 00:00+00")
    key_id = put(postgresql, "ci")
    record(postgresql, [usage_row(start, key_id), usage_row(datetime(2019, 1, 5, tzinfo=UTC), key_id),
                        usage_row(datetime(2018, 1, 5, tzinfo=UTC), key_id)])  # fmt: skip
    before = partitions(postgresql)
    assert on_postgresql.ok("audit", "prune", "--usage", "--older-than", "90d", "--json").json["pruned"] == 2
    assert partitions(postgresql) == before
    with postgresql.reading() as connection:
        assert connection.scalars(select(usage_table.c.at)).all() == [start]


def test_a_month_that_is_being_read_is_waited_for_no_longer_than_the_limit(
    on_postgresql: Keyctl, postgresql: Database
) -> None:
    """Promise 11."""
    make_partition(postgresql, "usage_event_2020_01", "2020-01-01 00:00+00", "2020-02-01 00:00+00")
    record(postgresql, [usage_row(datetime(2020, 1, 5, tzinfo=UTC), put(postgresql, "ci"))])
    config = on_postgresql.home / "config.toml"
    config.write_text("lock_timeout = 0.3\n")
    prune = ("--config", str(config), "audit", "prune", "--usage", "--older-than", "90d", "--json")
    with psycopg.connect(conninfo(postgresql)) as reader:
        reader.execute("SELECT count(*) FROM usage_event")  # and keeps its transaction open
        refused = on_postgresql(*prune)
    assert (refused.status, refused.stdout, refused.error["code"]) == (7, "", "database_busy")
    assert len(ages(postgresql)) == 1
    assert on_postgresql.ok(*prune).json["pruned"] == 1
    assert "usage_event_2020_01" not in partitions(postgresql)
