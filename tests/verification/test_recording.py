"""Promise 8: every accepted use reaches the log, whatever becomes of the process; refused attempts are counted."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import checksum, generate
from alphalens_keyctl.models import Reason
from alphalens_keyctl.verification import usage_log
from alphalens_keyctl.verification.usage_log import Accepted
from tests.support.commands import Keyctl
from tests.support.usage_rows import usage_rows, use_count
from tests.support.waiting import wait_for

# Verifies for ever and says in a file how many uses were accepted so far.
LOOP = """
import os, struct, sys, time
from alphalens_keyctl import KeyVerifier
raw = sys.stdin.readline().strip()
verifier = KeyVerifier(flush_on_sigterm=True)
tally = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
accepted = 0
while True:
    if verifier.verify(raw):
        accepted += 1
        os.pwrite(tally, struct.pack("q", accepted), 0)
    time.sleep(0.001)  # else this costs a processor, and what is beside it all of its speed
"""

# Nobody refers to the verifier any more when the program ends, and nobody closed it.
LOCAL = """
import sys
from alphalens_keyctl import KeyVerifier

def main():
    verifier = KeyVerifier()
    raw = sys.stdin.readline().strip()
    assert all(verifier.verify(raw) for _ in range(5))

main()
"""


def looping(keyctl: Keyctl, raw: str, tally: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(tally)], stdin=subprocess.PIPE, env=keyctl.environment, text=True
    )
    assert process.stdin is not None
    process.stdin.write(raw + "\n")
    process.stdin.close()
    wait_for(lambda: accepted(tally) >= 300, "it accepts nothing")
    return process


def accepted(tally: Path) -> int:
    return int.from_bytes(tally.read_bytes(), "little") if tally.exists() else 0


def test_each_use_is_a_row_and_moves_when_and_how_often_the_key_was_used(keyctl: Keyctl, database: Database) -> None:
    raw, key_id = keyctl.create("ci")
    with KeyVerifier(keyctl.database_url) as verifier:
        for _ in range(3):
            assert verifier.verify(raw, client_ip="192.0.2.1", method="GET", path="/prices", user_agent="curl/8")
    assert Counter(tuple(row)[2:] for row in usage_rows(database)) == {
        (key_id, "ok", "192.0.2.1", "GET", "/prices", "curl/8", 1): 3
    }
    key = keyctl.ok("show", "ci", "--json").json
    assert key["use_count"] == 3
    assert key["last_used_at"] is not None


def test_a_batch_of_any_length_is_written_whole_in_the_order_of_time(keyctl: Keyctl, database: Database) -> None:
    """However uses are put together into statements, and in whatever order the threads handed them in."""
    ids = [keyctl.create(name)[1] for name in ("one", "other")]
    lengths = (1, 3, 99, 500, 501, 1637)
    begin, said = time.time() // 1 - 3600, []  # on a second, with what is a hair's breadth to either side of it
    for length in lengths:
        moments = [begin + number * 0.25 - 1e-6 * (number % 3) for number in range(length)]
        begin = moments[-1] + 60
        uses = [
            Accepted(at, ids[number % 2], (f"192.0.2.{number % 250}", "GET", f"/{length}/{number}", None))
            for number, at in enumerate(moments)
        ]
        said += uses
        shuffled = random.Random(length).sample(uses, length)
        with database.recording() as tx:
            assert usage_log.write(tx, shuffled, {}) == []
    stored = usage_rows(database)
    assert len(stored) == len(said) == sum(lengths)
    for row, use in zip(stored, sorted(said), strict=True):
        assert (row.key_id, row.outcome, row.count) == (use.key_id, "ok", 1)
        assert (row.client_ip, row.method, row.path, row.user_agent) == use.request
        assert abs(_seconds(row.at) - use.at) < 2e-6
    with database.reading() as connection:
        for key in connection.execute(text("SELECT id, use_count, last_used_at FROM api_key")):
            moments = [use.at for use in said if use.key_id == key.id]
            assert key.use_count == len(moments)
            assert abs(_seconds(key.last_used_at) - max(moments)) < 2e-6


def _seconds(stored: str | datetime) -> float:
    moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def test_refused_attempts_are_counted_by_minute_reason_key_and_address(keyctl: Keyctl, database: Database) -> None:
    _, key_id = keyctl.create("ci")
    body = f"alk_{key_id}_{generate().reveal().split('_')[2][:43]}"
    wrong = body + checksum(body)
    for _ in range(2):  # two services
        with KeyVerifier(keyctl.database_url) as verifier:
            for _ in range(5):
                assert verifier.verify(wrong, client_ip="192.0.2.1").reason is Reason.UNKNOWN
                assert verifier.verify(generate().reveal(), client_ip="192.0.2.1").reason is Reason.UNKNOWN
                assert verifier.verify("x", client_ip="192.0.2.2").reason is Reason.MALFORMED
    counted: Counter[Any] = Counter()
    for row in usage_rows(database):
        counted[(row.key_id, row.outcome, row.client_ip)] += row.count
    assert counted == {
        (key_id, "unknown", "192.0.2.1"): 10,
        (None, "unknown", "192.0.2.1"): 10,
        (None, "malformed", "192.0.2.2"): 10,
    }
    assert len(usage_rows(database)) <= 2 * 3  # a minute may have ended in between


def test_an_attacker_with_many_addresses_does_not_fill_the_log(keyctl: Keyctl, database: Database) -> None:
    keyctl.create("ci")
    with KeyVerifier(keyctl.database_url) as verifier:
        for number in range(5000):
            verifier.verify("x", client_ip=f"192.0.{number // 250}.{number % 250}")
    found = usage_rows(database)
    assert sum(row.count for row in found) == 5000
    assert len(found) <= 2 * 1001


def test_what_a_client_sent_is_inert_in_the_log_and_holds_no_raw_key(keyctl: Keyctl, database: Database) -> None:
    """Promises 1 and 12."""
    raw, _ = keyctl.create("ci")
    odd: Any = 7
    with KeyVerifier(keyctl.database_url) as verifier:
        assert verifier.verify(raw, path=f"/{raw}", user_agent="\x1b[31m\0\ud800" + "x" * 100_000, method=odd)
    (row,) = usage_rows(database)
    assert raw[20:60] not in row.path
    assert row.user_agent.isprintable()
    assert len(row.user_agent) <= 256
    assert row.method == "7"


def test_nothing_that_is_said_of_a_client_can_stop_the_log(keyctl: Keyctl, database: Database) -> None:
    raw, _ = keyctl.create("ci")
    addresses: list[Any] = ["192.0.2.1", " 192.0.2.1", "\0", "\1", "a" * 64, "a" * 70, 1, "1", [], {}, b"x", None]
    with KeyVerifier(keyctl.database_url) as verifier:
        for address in addresses:
            assert not verifier.verify("x", client_ip=address, method=address, path=address, user_agent=address)
            assert verifier.verify(raw, client_ip=address, method=address, path=address, user_agent=address)
    found = Counter({"ok": 0, "malformed": 0})
    for row in usage_rows(database):
        found[row.outcome] += row.count
    assert found == {"ok": len(addresses), "malformed": len(addresses)}


def test_a_use_never_moves_the_last_one_backwards(keyctl: Keyctl, database: Database) -> None:
    """Promise 5."""
    raw, _ = keyctl.create("ci")
    with database.writing() as tx:
        tx.execute(text("UPDATE api_key SET last_used_at = '2099-01-01 00:00:00.000000'"))
    with KeyVerifier(keyctl.database_url) as verifier:
        assert verifier.verify(raw)
    key = keyctl.ok("show", "ci", "--json").json
    assert (key["use_count"], key["last_used_at"][:4]) == (1, "2099")


def test_a_service_that_is_told_to_end_loses_no_use(keyctl: Keyctl, database: Database, tmp_path: Path) -> None:
    raw, _ = keyctl.create("ci")
    process = looping(keyctl, raw, tmp_path / "tally")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    # The last use may have been taken in, and the process ended before it said so.
    assert accepted(tmp_path / "tally") <= use_count(database) <= accepted(tmp_path / "tally") + 1
    assert use_count(database) == len(usage_rows(database))


def test_a_service_that_is_killed_loses_nothing_but_the_last_second_of_uses(
    keyctl: Keyctl, database: Database, tmp_path: Path
) -> None:
    raw, _ = keyctl.create("ci")
    process = looping(keyctl, raw, tmp_path / "tally")
    before = accepted(tmp_path / "tally")
    wait_for(lambda: use_count(database) >= before, "what was accepted is not there soon, without any flush")
    process.kill()
    process.wait(30)
    assert use_count(database) == len(usage_rows(database))
    assert keyctl("audit", "verify").status == 0
    assert keyctl.opens(raw)


def test_a_forked_child_and_its_parent_both_record_and_nothing_twice(keyctl: Keyctl, database: Database) -> None:
    raw, _ = keyctl.create("ci")
    script = """
import os, sys
from alphalens_keyctl import KeyVerifier
raw = sys.stdin.readline().strip()
verifier = KeyVerifier()
assert all(verifier.verify(raw) for _ in range(100))
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        assert all(verifier.verify(raw) for _ in range(100))
        verifier.close()
        os._exit(0)
    children.append(child)
assert all(verifier.verify(raw) for _ in range(100))
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input=raw, env=keyctl.environment, text=True, check=False,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert use_count(database) == len(usage_rows(database)) == 400


# The verifier is made in the child, so there is nothing of a database that the child inherits.
@pytest.mark.one_database
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_records_though_it_ends_without_a_word(
    keyctl: Keyctl, database: Database, tmp_path: Path, method: str
) -> None:
    raw, _ = keyctl.create("ci")
    script = tmp_path / "service.py"
    script.write_text(f"""
import multiprocessing, sys
from alphalens_keyctl import KeyVerifier

def work(raw):
    KEEP.append(KeyVerifier())
    assert all(KEEP[0].verify(raw) for _ in range(10))

KEEP = []
if __name__ == "__main__":
    child = multiprocessing.get_context("{method}").Process(target=work, args=(sys.stdin.readline().strip(),))
    child.start()
    child.join()
    sys.exit(child.exitcode)
""")
    subprocess.run([sys.executable, str(script)], input=raw, env=keyctl.environment, text=True, check=True, timeout=60)
    assert use_count(database) == len(usage_rows(database)) == 10


@pytest.mark.parametrize("usage", ["required", "best-effort"])
def test_uses_that_cannot_be_written_are_held_up_to_a_bound(
    keyctl: Keyctl, database: Database, usage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond it keys are refused rather than uses lost, unless the other was chosen, and then they are counted."""
    raw, _ = keyctl.create("ci")
    verifier = KeyVerifier(keyctl.database_url, usage=usage, max_pending=50, timeout=0.3)
    assert verifier.verify(raw)
    verifier.flush()
    with database.writing() as tx:  # on SQLite the only writer; on PostgreSQL it has the key as well
        tx.execute(text("UPDATE api_key SET purpose = 'held'"))
        answers = [verifier.verify(raw) for _ in range(80)]
    allowed = sum(map(bool, answers))
    if usage == "required":
        assert allowed == 50
        assert {answer.reason for answer in answers if not answer} == {Reason.UNAVAILABLE}
    else:
        assert (allowed, verifier.dropped) == (80, 30)
        assert "dropped" in caplog.text
    verifier.close()
    assert use_count(database) == 51
    assert Counter(row.outcome for row in usage_rows(database))["ok"] == 51


def test_recording_never_undoes_what_another_process_changes(
    keyctl: Keyctl, database: Database, tmp_path: Path
) -> None:
    """Promise 5."""
    raw, _ = keyctl.create("kept")
    process = looping(keyctl, raw, tmp_path / "tally")
    revoked = {}
    try:
        for number in range(2):
            name = f"k{number}"
            keyctl.create(name)
            keyctl.ok("rotate", name, "--grace", "0")
            keyctl.ok("revoke", name)
            revoked[name] = keyctl.ok("show", name, "--json").json["revoked_at"]
        keyctl.ok("revoke", "kept")
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(30)
    every = keyctl.keys()
    states = {key["name"]: key for key in every if key["status"] != "retired"}
    assert all(states[name]["status"] == "revoked" for name in (*revoked, "kept"))
    assert {name: states[name]["revoked_at"] for name in revoked} == revoked
    assert states["kept"]["use_count"] >= accepted(tmp_path / "tally")
    assert keyctl("audit", "verify").status == 0


def test_on_postgresql_uses_go_to_their_month(keyctl: Keyctl, database: Database) -> None:
    raw, _ = keyctl.create("ci")
    with KeyVerifier(keyctl.database_url) as verifier:
        assert verifier.verify(raw)
    with database.reading() as connection:
        if connection.dialect.name == "postgresql":
            names = set(connection.scalars(text("SELECT tableoid::regclass::text FROM usage_event")))
            assert names == {f"usage_event_{time.strftime('%Y_%m', time.gmtime())}"}
        else:
            assert connection.scalar(text("SELECT count(*) FROM usage_event")) == 1


def test_a_verifier_that_nobody_refers_to_any_more_loses_no_use(keyctl: Keyctl, database: Database) -> None:
    """Promise 8: most scripts make one in a function that returns, and never close it."""
    raw, _ = keyctl.create("ci")
    subprocess.run([sys.executable, "-c", LOCAL], input=raw, env=keyctl.environment, text=True, check=True)
    assert use_count(database) == len(usage_rows(database)) == 5
