"""Promise 9 for whoever reads the usage log a batch after the other: no use is missed and none comes twice.

`audit usage --after ROW`, and the same over a server and in Python. The rows are written as several services write
them: on PostgreSQL an id is given out before the transaction commits.
"""

import csv
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from alphalens_keyctl import KeyManager
from alphalens_keyctl.address import parse_address
from alphalens_keyctl.database import Database, Limits
from tests.services.postgresql import Server, Standby
from tests.support.commands import Keyctl
from tests.support.key_rows import put
from tests.support.usage_rows import record, usage_row, usage_rows
from tests.support.waiting import wait_for

NOW = datetime.now(UTC)
_INSERT = "INSERT INTO usage_event (at, key_id, outcome, count) VALUES (now(), 'AAAAAAAAAAAA', 'ok', 1) RETURNING id"


def read(keyctl: Keyctl, *options: str) -> list[int]:
    """The ids of the rows that are printed."""
    return [row["id"] for row in keyctl.ok("audit", "usage", "--json", *options).json]


def fill(database: Database, number: int) -> list[int]:
    """Write rows whose instants run against their ids; returns the ids."""
    record(database, [usage_row(NOW - timedelta(minutes=minute), None, "unknown") for minute in range(number)])
    return [row.id for row in usage_rows(database)]


def test_behind_a_row_come_the_next_by_their_ids_and_without_after_the_latest_by_time(
    keyctl: Keyctl, database: Database
) -> None:
    ids = fill(database, 7)
    assert read(keyctl) == ids[::-1]
    assert read(keyctl, "--limit", "2") == [ids[1], ids[0]]
    assert read(keyctl, "--after", "0") == ids
    assert read(keyctl, "--after", f"{ids[2]}") == ids[3:]
    assert read(keyctl, "--after", f"{ids[2]}", "--limit", "2") == ids[3:5]
    assert read(keyctl, "--after", f"{ids[-1]}") == read(keyctl, "--after", f"{2**63 - 1}") == []
    assert read(keyctl, "--after", "0", "--limit", "0") == []


def test_a_filter_narrows_what_comes_behind_a_row(keyctl: Keyctl, database: Database) -> None:
    mine = put(database, "mine")
    record(database, [usage_row(NOW, mine), usage_row(NOW, put(database, "other")), usage_row(NOW, mine)])
    first, _, last = (row.id for row in usage_rows(database))
    assert read(keyctl, "--after", "0", "--key", "mine") == [first, last]
    assert read(keyctl, "--after", f"{first}", "--key", "mine", "--limit", "1") == [last]
    assert read(keyctl, "--after", "0", "--since", "1h", "--outcome", "unknown") == []


def test_every_format_goes_on_and_the_table_does_not(keyctl: Keyctl, database: Database) -> None:
    ids = fill(database, 3)
    asked = ("audit", "usage", "--after", f"{ids[0]}")
    assert [json.loads(line)["id"] for line in keyctl.ok(*asked, "--jsonl").stdout.splitlines()] == ids[1:]
    assert [int(row["id"]) for row in csv.DictReader(keyctl.ok(*asked, "--csv").stdout.splitlines())] == ids[1:]
    ocsf = keyctl.ok(*asked, "--format", "ocsf").stdout.splitlines()
    assert [json.loads(line)["metadata"]["sequence"] for line in ocsf] == ids[1:]
    for form, written in (("cef", "externalId=usage-{} "), ("syslog", 'id="{}" ')):
        lines = keyctl.ok(*asked, "--format", form).stdout.splitlines()
        assert [written.format(row) in line for row, line in zip(ids[1:], lines, strict=True)] == [True, True], form
    refused = keyctl(*asked)
    assert (refused.status, refused.stdout) == (2, "")
    assert "--jsonl" in refused.stderr


@pytest.mark.one_database
@pytest.mark.parametrize("number", ["-1", "x", "", f"{2**63}", "1.5"])
def test_what_is_no_number_of_a_row_or_an_event_is_refused(keyctl: Keyctl, number: str) -> None:
    for path, value in (
        ("audit usage", ["--after", number]),
        ("audit", ["--after", number]),
        ("audit show", ["--", number]),
        ("audit prove", ["--", number]),
    ):
        asked = [*path.split(), "--json", *value]
        refused = keyctl(*asked)
        assert (refused.status, refused.stdout) == (2, ""), asked
        assert refused.error["code"] == "usage", asked


def test_a_batch_after_the_other_is_the_whole_log_once(keyctl: Keyctl, database: Database) -> None:
    """Also over pages of a server and in Python, and while the oldest rows are pruned."""
    ids = fill(database, 25)
    url = str(keyctl.database_url)
    with KeyManager(url) as manager:
        assert [use.id for use in manager.usage(after=ids[3], limit=4)] == ids[4:8]
        assert list(in_batches(lambda after: [use.id for use in manager.usage(after=after, limit=4)])) == ids


def in_batches(next_behind: Callable[[int], list[int]]) -> Iterator[int]:
    """Every row, read in batches, each behind the last of the batch before."""
    after = 0
    while batch := next_behind(after):
        yield from batch
        after = batch[-1]


def test_a_use_that_is_written_late_is_waited_for(own_keyctl: Keyctl) -> None:
    """PostgreSQL: an id that was given out first may be committed last."""
    with psycopg.connect(str(own_keyctl.database_url)) as late, psycopg.connect(str(own_keyctl.database_url)) as soon:
        (first,) = late.execute(_INSERT).fetchone() or (0,)
        (second,) = soon.execute(_INSERT).fetchone() or (0,)
        soon.commit()
        assert read(own_keyctl) == [second]
        reading = own_keyctl.start("audit", "usage", "--json", "--after", "0")
        time.sleep(0.3)
        assert not reading.ended()
        late.commit()
        assert [row["id"] for row in json.loads(reading.wait().stdout)] == [first, second]
        (third,) = late.execute(_INSERT).fetchone() or (0,)
        soon.execute(_INSERT)
        soon.commit()
        late.rollback()  # never comes
        assert read(own_keyctl, "--after", f"{second}") == [third + 1]


def test_one_that_writes_for_ever_is_given_up_within_the_limit(own_keyctl: Keyctl) -> None:
    """Promise 11. To go on without its uses would be to miss them."""
    with psycopg.connect(str(own_keyctl.database_url)) as late:
        late.execute(_INSERT)
        begin = time.monotonic()
        limit = {"ALPHALENS_KEYCTL_LOCK_TIMEOUT": "1"}
        given_up = own_keyctl("audit", "usage", "--json", "--after", "0", environment=limit)
        assert 1 <= time.monotonic() - begin < 10
        assert (given_up.status, given_up.error["code"]) == (7, "database_busy")
        assert own_keyctl.ok("audit", "usage", "--json", "--since", "1h").json == []


def test_a_standby_refuses_to_go_on(own_server: Server, own_keyctl: Keyctl) -> None:
    """It is not told which transactions run on the primary."""
    standby = Standby(own_server)
    try:
        standby.catch_up()
        url = str(own_keyctl.database_url).replace(f":{own_server.port}/", f":{standby.port}/")
        refused = own_keyctl("--database", url, "audit", "usage", "--json", "--after", "0")
        assert (refused.status, refused.error["code"]) == (7, "database_unusable")
        assert "--since" in refused.error["hint"]
        assert own_keyctl.ok("--database", url, "audit", "usage", "--json").json == []
    finally:
        standby.close()


def test_while_many_write_and_some_give_up_each_use_is_read_once(database_url: str) -> None:
    """Promise 9, on both databases: writers that hold their ids back for a while, and a reader who never waits long."""
    stop, written = threading.Event(), list[int]()
    with ThreadPoolExecutor(4) as threads, KeyManager(database_url) as manager:
        writers = [threads.submit(write, database_url, stop, written, number) for number in range(4)]
        found = [0]
        try:
            wait_for(lambda: len(written) > 20 or any(writer.done() for writer in writers), "nobody writes")
            for _ in range(60):
                found += [use.id for use in manager.usage(after=found[-1], limit=50)]
        finally:
            stop.set()
        for writer in writers:
            writer.result()
        found += [use.id for use in manager.usage(after=found[-1])]
    assert found[1:] == sorted(written)
    assert len(found) > 60


def write(url: str, stop: threading.Event, written: list[int], seed: int) -> None:
    """Write uses until told to stop, some of them held back, some taken back."""
    chance = random.Random(seed)
    if url.startswith("sqlite"):
        write_one_by_one(url, stop, written)
        return
    with psycopg.connect(url) as session:
        while not stop.is_set():
            rows: list[Any] = [session.execute(_INSERT).fetchone() for _ in range(chance.randint(1, 3))]
            time.sleep(chance.choice((0, 0, 0.002, 0.02)))
            if chance.random() < 0.2:
                session.rollback()
                continue
            session.commit()
            written += [row[0] for row in rows]


def write_one_by_one(url: str, stop: threading.Event, written: list[int]) -> None:
    database = Database.open(parse_address(url), Limits(lock_timeout=30))
    while not stop.is_set():
        with database.recording() as tx:
            written.append(tx.exec_driver_sql(_INSERT.replace("now()", "'2026-11-26 00:00:00.000000'")).scalar_one())
        time.sleep(0.002)
    database.close()
