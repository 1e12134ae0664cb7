"""How old rows of the usage log are removed: to the second, and none that comes meanwhile. Promise 8."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import event

from alphalens_keyctl.database import Database
from alphalens_keyctl.logs import usage_retention
from alphalens_keyctl.provenance import Act, Origin
from tests.support.databases import on_postgresql
from tests.support.key_rows import put
from tests.support.usage_rows import make_partition, record, usage_row, usage_rows


@pytest.fixture
def one_month(database: Database) -> tuple[Database, datetime]:
    """A log in which January 2020 has a row at its start and one a second later; on PostgreSQL it is a partition."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    if database.address.display.startswith("postgresql"):
        make_partition(database, "usage_event_2020_01", "2020-01-01 00:00+00", "2020-02-01 00:00+00")
    key = put(database, "ci")
    record(database, [usage_row(start, key), usage_row(start + timedelta(seconds=1), key)])
    return database, start


ACT = Act(datetime(2026, 1, 1, tzinfo=UTC), "tester", Origin(None, None, None, None))


def test_a_row_at_the_very_limit_is_not_older_than_it(one_month: tuple[Database, datetime]) -> None:
    database, start = one_month
    for limit, removed in ((start, 0), (start + timedelta(seconds=1), 1)):
        with database.writing() as tx:
            assert usage_retention.older(tx, limit) == removed
            assert usage_retention.prune(tx, limit, ACT) == removed
    assert len(usage_rows(database)) == 1


@on_postgresql
def test_no_row_comes_between_the_counting_and_the_dropping_of_a_month(
    one_month: tuple[Database, datetime], database_url: str
) -> None:
    """Promise 8: nothing is dropped in silence."""
    database, start = one_month
    late = 0

    def one_more(_tx: object, _cursor: object, statement: str, *_more: object) -> None:
        nonlocal late
        if statement.startswith("DROP TABLE"):
            with psycopg.connect(database_url) as session, suppress(psycopg.errors.LockNotAvailable):
                session.execute("SET lock_timeout = '200ms'")
                session.execute("INSERT INTO usage_event (at, key_id, outcome) VALUES (%s, 'x', 'ok')", (start,))
                late += 1

    with database.writing() as tx:
        event.listen(tx, "before_cursor_execute", one_more)
        pruned = usage_retention.prune(tx, start + timedelta(days=60), ACT)
    assert pruned + len(usage_rows(database)) == 2 + late
