"""What tells that events were written: a notification, a counter, and where there is neither, time. Promise 11: nothing
is held open meanwhile, and nothing waits."""

import select

from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.provenance import Act, Origin
from tests.services.pgbouncer import pooling
from tests.support.databases import on_postgresql, on_sqlite
from tests.support.waiting import WAIT


def append(database: Database) -> None:
    with database.writing() as tx:
        audit.append(tx, Act(utc_now(), "ann", Origin(None, None, None, None)), Action.BIND, key_id=None, key_name=None)


@on_postgresql
def test_postgresql_says_that_an_event_was_written_and_says_nothing_else(database: Database) -> None:
    with database.changes() as changes:
        assert changes.descriptor is not None
        append(database)
        assert select.select([changes.descriptor], [], [], WAIT)[0]
        assert changes.happened()
        assert not select.select([changes.descriptor], [], [], 0)[0]


@on_postgresql
def test_behind_a_pooler_the_database_is_asked_more_often(database_url: str) -> None:
    with pooling(database_url) as pooler:
        pooled = Database.open(parse_address(pooler.url(database_url)), Limits())
        with pooled.changes() as changes:
            assert changes.descriptor is None
            assert changes.interval < 0.2
            assert changes.happened()
        pooled.close()


@on_sqlite
def test_the_counter_of_a_file_changes_with_what_another_connection_commits(database: Database) -> None:
    with database.changes() as changes:
        assert not changes.happened()
        append(database)
        assert changes.happened()
        assert not changes.happened()
