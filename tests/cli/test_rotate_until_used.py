"""`rotate --until-used`: the old key ends so long after the first use of its successor, as verifiers see it, and
at a last date whatever happens; `show` says who still uses it. Promises 3, 5 and 8.

The service is a `KeyVerifier` in the test's process; commands are other processes.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.models import Reason
from tests.support.answers import reason
from tests.support.commands import Keyctl
from tests.support.databases import one_database
from tests.support.freshness import NEVER, until, wait_until_told
from tests.support.key_rows import change
from tests.support.moments import moment
from tests.support.terminal import on_terminal
from tests.support.uses import use
from tests.support.waiting import wait_for

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SLACK = timedelta(seconds=1)  # `show` says whole seconds


def shown(keyctl: Keyctl, key_id: str) -> dict[str, Any]:
    document: dict[str, Any] = keyctl.ok("show", key_id, "--json").json
    return document


def listed(keyctl: Keyctl, key_id: str) -> tuple[str, str]:
    return next((key["status"], key["retires_at"]) for key in keyctl.keys() if key["id"] == key_id)


def rotation(keyctl: Keyctl, *options: str) -> tuple[str, str, str, str]:
    """A key rotated until used: the old raw key and id, the new ones."""
    old, old_id = keyctl.create("ci")
    document = keyctl.ok("rotate", "ci", "--until-used", *options, "--json").json
    return old, old_id, document["raw_key"], document["key"]["id"]


def first_used(database: Database, key_id: str, at: datetime) -> None:
    """Move a first use."""
    change(database, key_id, first_used_at=at)


@pytest.mark.parametrize(("options", "last"), [one_database((), 30 * DAY), (("--deadline", "3d"), 3 * DAY)])
def test_until_its_successor_is_used_the_old_key_opens_until_the_deadline(
    keyctl: Keyctl, options: tuple[str, ...], last: timedelta
) -> None:
    """Promise 3."""
    old, old_id = keyctl.create("ci")
    done = keyctl.ok("rotate", "ci", "--until-used", "--grace", "1h", *options, "--json").json
    assert moment(done["previous"]["retires_at"]) - moment(done["key"]["activated_at"]) == last
    assert (done["previous"]["status"], done["rotated"]) == ("retiring", True)
    assert keyctl.keys() == [done["key"], done["previous"]]
    assert keyctl.opens(old)
    # Trying the key by hand is no use, nor is the old key's own.
    assert keyctl.opens(done["raw_key"])
    use(keyctl, old)
    assert listed(keyctl, old_id) == ("retiring", done["previous"]["retires_at"])


@pytest.mark.parametrize(("grace", "span"), [one_database("24h", DAY), ("1h", HOUR)])
def test_the_first_use_starts_the_grace_and_every_reader_sees_it_end(
    keyctl: Keyctl, database: Database, grace: str, span: timedelta
) -> None:
    """Promises 3 and 5."""
    old, old_id, new, new_id = rotation(keyctl, "--grace", grace)
    before = datetime.now(UTC)
    use(keyctl, new)
    after = datetime.now(UTC)
    retires_at = moment(listed(keyctl, old_id)[1])
    assert before + span - SLACK <= retires_at <= after + span
    assert moment(shown(keyctl, old_id)["retires_at"]) == retires_at
    verified = keyctl("verify", "--json", stdin=old.encode()).json
    assert (verified["allowed"], verified["key"]["retires_at"]) == (True, shown(keyctl, old_id)["retires_at"])
    with KeyVerifier(keyctl.database_url, usage="off") as service:
        key = service.verify(old).key
        assert key is not None
        assert key.retires_at is not None
        assert before + span - SLACK <= key.retires_at <= after + span
    # A moment before its end it opens, at its end it does not.
    first_used(database, new_id, datetime.now(UTC) - span + timedelta(minutes=1))
    assert reason(keyctl, old) == "ok"
    first_used(database, new_id, datetime.now(UTC) - span)
    assert reason(keyctl, old) == "retired"
    assert listed(keyctl, old_id)[0] == shown(keyctl, old_id)["status"] == "retired"
    assert [key["id"] for key in keyctl.ok("list", "--json").json] == [new_id]
    with KeyVerifier(keyctl.database_url, usage="off") as service:
        assert service.verify(old).reason is Reason.RETIRED
        assert service.verify(new)
    assert keyctl.opens(new)


@pytest.mark.parametrize("grace", ["0", "1h"])
def test_a_warm_verifier_refuses_the_old_key_once_the_grace_that_another_process_started_is_over(
    keyctl: Keyctl, database: Database, database_url: str, grace: str
) -> None:
    """Promise 5: no change to the old key's own row says so."""
    old, old_id, new, new_id = rotation(keyctl, "--grace", grace)
    with KeyVerifier(database_url, max_staleness=NEVER, usage="off") as service:
        assert service.verify(old)  # the first sight starts the listener
        wait_until_told(service, database_url, old)
        use(keyctl, new)
        if grace == "1h":
            wait_for(lambda: _ends_within(service, old, HOUR), "the verifier did not hear of the first use")
            assert service.verify(old)
            first_used(database, new_id, datetime.now(UTC) - HOUR + timedelta(seconds=1.5))
            wait_for(lambda: _ends_within(service, old, timedelta(seconds=2)), "the end did not move")
            end = service.verify(old).key
            assert end is not None
            assert end.retires_at is not None
            time.sleep(max(0.0, (end.retires_at - datetime.now(UTC)).total_seconds()) + 0.01)
            assert service.verify(old).reason is Reason.RETIRED
        else:
            until(service, old, Reason.RETIRED, within=5.0)
        assert service.verify(new)
    assert listed(keyctl, old_id)[0] == "retired"


def _ends_within(service: KeyVerifier, raw: str, span: timedelta) -> bool:
    key = service.verify(raw).key
    return key is not None and key.retires_at is not None and key.retires_at <= datetime.now(UTC) + span


def test_a_grace_of_0_ends_the_old_key_at_the_first_use_and_not_before(keyctl: Keyctl) -> None:
    old, old_id, new, _ = rotation(keyctl, "--grace", "0")
    assert keyctl.opens(old)
    said = keyctl.ok("show", "ci").stdout
    assert f"{old_id} retires at the new key's first use" in " ".join(said.split())
    use(keyctl, new)
    assert reason(keyctl, old) == "retired"


def test_the_deadline_ends_the_old_key_without_any_use_and_before_a_grace_that_is_longer(
    keyctl: Keyctl, database: Database
) -> None:
    old, old_id, new, new_id = rotation(keyctl, "--grace", "4w", "--deadline", "7d")
    last = listed(keyctl, old_id)[1]
    use(keyctl, new)
    assert listed(keyctl, old_id) == ("retiring", last)
    first_used(database, new_id, datetime.now(UTC) - 29 * DAY)
    assert reason(keyctl, old) == "retired"
    change(database, new_id, first_used_at=None)
    assert reason(keyctl, old) == "ok"
    change(database, old_id, retires_at=datetime.now(UTC))
    assert reason(keyctl, old) == "retired"


@pytest.mark.one_database
def test_a_deadline_is_for_until_used_alone(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    before = keyctl.keys()
    refused = keyctl("rotate", "ci", "--deadline", "3d", "--json")
    assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "usage")
    for deadline in ("0", "tomorrow", "never", "-1d"):
        assert keyctl("rotate", "ci", "--until-used", "--deadline", deadline).status == 2
    assert keyctl.keys() == before


def test_the_first_use_is_recorded_once_and_never_moved(keyctl: Keyctl, database: Database) -> None:
    """Promise 8."""
    _, old_id, new, new_id = rotation(keyctl)

    def row() -> tuple[Any, ...]:
        with database.reading() as connection:
            query = f"SELECT first_used_at, last_used_at, use_count FROM api_key WHERE id = '{new_id}'"
            found = connection.exec_driver_sql(query).one()
        return tuple(found)

    assert row()[::2] == (None, 0)
    use(keyctl, new, times=3)
    first, last, count = row()
    # PostgreSQL's function takes nobody's word for the first use: the instant is that of its recording.
    assert (first is not None, count) == (True, 3)
    end = listed(keyctl, old_id)
    use(keyctl, new, times=2)
    again, later, count = row()
    assert (again, count) == (first, 5)
    assert later > last
    assert listed(keyctl, old_id) == end


def test_refused_attempts_and_uses_of_other_keys_start_no_grace(keyctl: Keyctl) -> None:
    _, old_id, new, _ = rotation(keyctl)
    other, _ = keyctl.create("other")
    end = listed(keyctl, old_id)
    last = new[-1]
    with KeyVerifier(keyctl.database_url) as service:
        assert not service.verify(new[:-1] + ("0" if last != "0" else "1"))
        assert not service.verify("nonsense")
        assert service.verify(other)
        service.flush()
    assert listed(keyctl, old_id) == end


def test_show_says_who_still_uses_the_old_key(keyctl: Keyctl) -> None:
    """Promise 8: uses since the rotation, addresses, the last use and what the end waits for, from either key."""
    old, old_id = keyctl.create("ci")
    use(keyctl, old, times=5, client_ip="192.0.2.1")
    done = keyctl.ok("rotate", "ci", "--until-used", "--grace", "1h", "--json").json
    new, new_id = done["raw_key"], done["key"]["id"]
    quiet = shown(keyctl, new_id)["rotation"]
    assert quiet == {
        "current": new_id,
        "since": done["key"]["activated_at"],
        "old": [
            {
                "id": old_id,
                "retires_at": done["previous"]["retires_at"],
                "awaits_first_use": True,
                "grace_after_use": 3600,
                "last_used_at": shown(keyctl, old_id)["last_used_at"],
                "uses_since": 0,
                "addresses": [],
            }
        ],
    }
    said = " ".join(keyctl.ok("show", old_id).stdout.split())
    assert f"{old_id} retires 1 hour after the new key's first use, in 4 weeks at the latest; not used since" in said
    use(keyctl, old, times=3, client_ip="192.0.2.2")
    use(keyctl, old, times=1, client_ip="192.0.2.3")
    use(keyctl, old, times=1)
    use(keyctl, new, client_ip="192.0.2.9")
    for key_id in (old_id, new_id):
        member = shown(keyctl, key_id)["rotation"]["old"][0]
        assert (member["id"], member["awaits_first_use"], member["uses_since"]) == (old_id, False, 5)
        assert [(at["client_ip"], at["uses"]) for at in member["addresses"]] == [("192.0.2.2", 3), ("192.0.2.3", 1)]
        assert member["last_used_at"] == shown(keyctl, old_id)["last_used_at"]
        assert member["retires_at"] == listed(keyctl, old_id)[1]
        people = " ".join(keyctl.ok("show", key_id).stdout.split())
        assert "used 5 times since the rotation, last just now, from 192.0.2.2 (3), 192.0.2.3 (1)" in people
        assert f"{old_id} retires in" in people
        assert "first use" not in people.partition("old key")[2].partition("30 days")[0]
    narrow = on_terminal(keyctl, "show", "ci", width=40)
    assert max(map(len, narrow.lines)) <= 40
    assert "192.0.2.3(1)" in "".join(narrow.text.split())


@pytest.mark.one_database
def test_show_names_no_rotation_where_no_old_key_opens(keyctl: Keyctl) -> None:
    _, key_id = keyctl.create("ci")
    assert shown(keyctl, key_id)["rotation"] is None
    keyctl.ok("rotate", "ci", "--grace", "0")
    assert shown(keyctl, "ci")["rotation"] is None
    assert shown(keyctl, key_id)["rotation"] is None
    assert "old key" not in keyctl.ok("show", "ci").stdout
    keyctl.ok("rotate", "ci")
    assert len(shown(keyctl, key_id)["rotation"]["old"]) == 1
    keyctl.ok("revoke", "ci", "--yes")
    assert shown(keyctl, key_id)["rotation"] is None


@pytest.mark.one_database
def test_people_are_told_what_the_end_waits_for(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    told = keyctl.ok("rotate", "ci", "--until-used").stderr
    assert "works 24 hours after the first use of the new one" in told
    assert "at the latest. It was never used." in told
    told = on_terminal(keyctl, "rotate", "ci", "--until-used", "--grace", "0").text
    assert "works until the first use of the new one" in " ".join(told.split())


def test_a_key_rotated_twice_ends_by_its_own_successors_use(keyctl: Keyctl) -> None:
    """The middle key's use ends the first; only the last one's use ends the middle one."""
    first, first_id, second, second_id = rotation(keyctl, "--grace", "0")
    third = keyctl.ok("rotate", "ci", "--until-used", "--grace", "0").stdout.strip()
    awaiting = shown(keyctl, "ci")["rotation"]["old"]
    assert {old["id"]: old["awaits_first_use"] for old in awaiting} == {first_id: True, second_id: True}
    use(keyctl, second)
    assert [reason(keyctl, raw) for raw in (first, second, third)] == ["retired", "ok", "ok"]
    use(keyctl, third)
    assert [reason(keyctl, raw) for raw in (first, second, third)] == ["retired", "retired", "ok"]
