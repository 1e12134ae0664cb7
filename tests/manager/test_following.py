"""The audit log as it grows: every event once and in order, across outages, and never those of another log. Promises 7,
11, 13 and 14."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete, select, text

from alphalens_keyctl.address import SQLiteAddress
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import audit, following
from alphalens_keyctl.logs.audit import GENESIS, Head, LogFilter
from alphalens_keyctl.manager.following import follow
from alphalens_keyctl.manager.over_database import OverDatabase
from alphalens_keyctl.models import Action, event_table
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.provenance import Act, Origin
from tests.services.postgresql import Server
from tests.support.callers import OTHER, House
from tests.support.databases import on_sqlite, path_of
from tests.support.unguarded import take_guards_away, write
from tests.support.waiting import wait_for

ACT = Act(utc_now(), "ann", Origin("vm", "ann", None, None))
START = Head(0, GENESIS, None)


def append(database: Database, number: int = 1) -> None:
    """Write so many events, each in a transaction of its own."""
    for _ in range(number):
        with database.writing() as tx:
            audit.append(tx, ACT.now(), Action.SET_POLICY, key_id=None, key_name=None)


class Follower(threading.Thread):
    """Follows a log in a thread, and keeps what it gets. `read_end` is what its reader holds."""

    def __init__(self, url: str, place: Head = START) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = []
        self.told: list[Code | None] = []
        self.error: KeyctlError | None = None
        self.read_end, self._written = os.pipe()
        self._database = Database.open(parse_address(url), Limits(connect_timeout=2))
        self._place = place
        self.start()

    def run(self) -> None:
        way = OverDatabase(self._database, ACT, prefix="alk")
        try:
            for some in follow(way, LogFilter(), self._place, reader=self._written, tell=self._tell):
                self.seen += [event.seq for event in some]
        except KeyctlError as error:
            self.error = error
        finally:
            self._database.close()

    def _tell(self, error: KeyctlError | None) -> None:
        self.told.append(None if error is None else error.code)

    def wait_until(self, seq: int) -> None:
        wait_for(lambda: self.error or (self.seen and self.seen[-1] >= seq), f"event {seq} did not come")
        if self.error is not None:
            raise self.error

    def end(self) -> list[int]:
        """Let its reader go; return the events that it saw."""
        os.close(self.read_end)
        self.join(10)
        assert not self.is_alive(), "it goes on though its reader has gone"
        os.close(self._written)
        return self.seen


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database.open(parse_address(url), Limits(lock_timeout=30))
    yield database
    database.close()


def test_the_events_of_two_writers_are_seen_once_and_in_order_as_they_come(database_url: str) -> None:
    with opened(database_url) as one, opened(database_url) as two:
        append(one, 2)
        follower = Follower(database_url)
        follower.wait_until(2)
        writers = [threading.Thread(target=append, args=(each, 20)) for each in (one, two)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        follower.wait_until(42)
        assert follower.end() == [*range(1, 43)]
    assert follower.told == []


def test_it_begins_behind_a_place_and_holds_no_transaction_open_while_it_waits(database_url: str) -> None:
    with opened(database_url) as database:
        append(database, 3)
        with database.reading() as connection:
            place = following.last(connection, LogFilter())
        follower = Follower(database_url, place)
        append(database)
        follower.wait_until(4)
        wait_for(lambda: holds_nothing(database), "a transaction stays open")
        assert follower.end() == [4]


def holds_nothing(database: Database) -> bool:
    """Whether nobody else has a transaction open; on PostgreSQL somebody listens, too."""
    if database.one_writer:
        assert isinstance(database.address, SQLiteAddress)
        with closing(sqlite3.connect(database.address.path, timeout=10)) as connection:
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
    with database.reading() as connection:
        return tuple(connection.execute(text(_OTHERS)).one()) == (0, 1)


_OTHERS = """SELECT count(*) FILTER (WHERE xact_start IS NOT NULL),
    count(*) FILTER (WHERE query LIKE 'LISTEN %' OR query = 'SELECT 1')
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""


def test_a_restart_of_the_server_is_waited_out_and_nothing_is_missed_or_seen_twice(
    own_server: Server, own_url: str
) -> None:
    with opened(own_url) as database:
        append(database)
        follower = Follower(own_url)
        follower.wait_until(1)
        own_server.stop()
        wait_for(lambda: follower.told, "nobody was told of the outage")
        own_server.start()
        append(database, 2)
        follower.wait_until(3)
        assert follower.end() == [1, 2, 3]
    assert follower.told == [Code.DATABASE_UNREACHABLE, None]


@on_sqlite
def test_a_file_in_another_s_place_is_followed_on_and_one_that_lacks_what_was_read_is_not(
    database_url: str, tmp_path: Path
) -> None:
    """A newer copy of the same log goes on; an older backup has lost events, and another log is another log."""
    path, copy, old = path_of(database_url), tmp_path / "copy.db", tmp_path / "old.db"
    with opened(database_url) as database:
        append(database)
        backup(path, old)
        append(database)
        backup(path, copy)
    with opened(f"sqlite:///{copy}") as database:
        append(database)
    follower = Follower(database_url)
    follower.wait_until(2)
    put_in_place(copy, path)
    follower.wait_until(3)
    shutil.copy2(old, copy)
    with opened(f"sqlite:///{copy}") as database:
        append(database, 4)  # longer by now, but its second event is another
    put_in_place(copy, path)
    wait_for(lambda: follower.error, "a log that is another was followed")
    assert follower.error is not None
    assert follower.error.code is Code.LOG_REPLACED
    assert follower.end() == [1, 2, 3]


def put_in_place(copy: Path, path: Path) -> None:
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    os.replace(copy, path)


def backup(path: Path, to: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def test_a_log_that_lost_what_was_read_is_told_from_one_that_grows(database: Database, database_url: str) -> None:
    """Promise 7: cut off, and grown again beyond where it was."""
    append(database, 3)
    follower = Follower(database_url)
    follower.wait_until(3)
    take_guards_away(database, "audit_event")
    with database.writing() as tx:
        tx.execute(delete(event_table).where(event_table.c.seq >= 2))
        for _ in range(4):
            audit.append(tx, ACT, Action.BIND, key_id=None, key_name=None)
    wait_for(lambda: follower.error, "a log that was rewritten was followed")
    assert follower.error is not None
    assert follower.error.code is Code.LOG_REPLACED
    assert follower.end() == [1, 2, 3]


def test_a_damaged_event_does_not_stop_the_others(database: Database, database_url: str) -> None:
    """Promise 14."""
    append(database, 3)
    write(database, "UPDATE audit_event SET detail = '{', actor = '' WHERE seq = 2", table="audit_event")
    follower = Follower(database_url)
    follower.wait_until(3)
    assert follower.end() == [1, 2, 3]


def test_a_caller_follows_what_it_sees_and_nothing_else(database: Database) -> None:
    """Promise 13: in pages, and also past events that it does not see."""
    house = House(database)
    own, others = house.caller("team"), house.key(OTHER)
    way = house.as_caller(own.id)
    with database.writing() as tx:
        about = [(key.id, key.name, dict[str, object]()) for key in [others, *[own] * 1001, others]]
        audit.append_each(tx, ACT, Action.SUSPEND, about)
    seen, place = [], START
    while found := way.new_events(place, LogFilter()):
        some, place = found
        if not some:
            break
        seen.append(len(some))
        assert {event.key_id for event in some} == {own.id}
    assert seen == [1000, 1]
    assert way.last_event().seq == place.seq == 1002
    for role in ("plain", "audit"):
        reader = house.as_caller(house.caller(role).id)
        assert len(reader.new_events(START, LogFilter())[0]) == (1000 if role == "audit" else 0)
    for seq, caller, visible in ((1, own.id, False), (2, own.id, True), (1, None, True), (9999, None, False)):
        if visible:
            assert house.as_caller(caller).event(seq).event.seq == seq
        else:
            with pytest.raises(KeyctlError) as caught:
                house.as_caller(caller).event(seq)
            assert caught.value.code is Code.EVENT_NOT_FOUND


def test_an_event_whole_says_whether_it_is_what_was_written(database: Database) -> None:
    """Promises 7 and 14."""
    append(database, 3)
    way = House(database).root
    with database.reading() as connection:
        stored = connection.execute(select(event_table).order_by(event_table.c.seq)).mappings().all()
    for row in stored:
        found = way.event(row["seq"])
        assert (found.intact, found.previous_hash) == (True, row["previous_hash"])
    for change in ("actor = 'eve'", "detail = '['", "at = '2020-01-01 00:00:00.000000+00'", "hash = previous_hash"):
        if database.one_writer:
            change = change.replace("+00", "")
        write(database, f"UPDATE audit_event SET {change} WHERE seq = 2", table="audit_event")
        assert not way.event(2).intact, change
        assert way.event(3).intact
