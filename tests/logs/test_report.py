"""The report on a period: what is counted, what is listed, and which events are in the period."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from alphalens_keyctl.database import Database
from alphalens_keyctl.logs import audit, report
from alphalens_keyctl.logs.report import Activity, Ages, Entry
from alphalens_keyctl.models import Action
from alphalens_keyctl.moments import Period, parse_period, utc_now
from alphalens_keyctl.provenance import Act, Origin
from tests.support.key_rows import put
from tests.support.usage_rows import record, usage_row

PERIOD: Final = parse_period("2026-Q3", now=datetime(2027, 1, 1, tzinfo=UTC))
JUNE: Final = datetime(2026, 6, 30, 23, 59, 59, 999999, tzinfo=UTC)
DAY: Final = timedelta(days=1)


class Log:
    """A database whose events are written at chosen instants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, name: str, made: datetime) -> str:
        return put(self._database, name, created_at=made, activated_at=made)

    def tell(self, at: datetime, action: Action, key_id: str | None, actor: str = "ann", **detail: Any) -> None:
        with self._database.writing() as tx:
            act = Act(at, actor, Origin(None, None, None, None))
            audit.append(tx, act, action, key_id=key_id, key_name=key_id and "ci", **detail)

    def activity(self, period: Period = PERIOD) -> Activity:
        with self._database.reading() as connection:
            return report.activity(connection, period, 90 * DAY)

    def entries(self, period: Period = PERIOD) -> list[Entry]:
        with self._database.reading() as connection:
            return list(report.entries(connection, period))


@pytest.fixture
def log(database: Database) -> Log:
    return Log(database)


def test_a_period_holds_its_first_instant_and_not_the_one_behind_it(log: Log) -> None:
    key = log.put("ci", JUNE)
    for at in (JUNE, PERIOD.since, PERIOD.until - timedelta(microseconds=1), PERIOD.until):
        log.tell(at, Action.SUSPEND, key)
    assert log.activity().actions["key.suspend"] == 2
    assert [entry.seq for entry in log.entries()] == [2, 3]
    nothing = log.activity(parse_period("2025", now=utc_now()))
    assert set(nothing.actions) == {action.value for action in Action}
    assert not any(nothing.actions.values())
    assert nothing[1:] == (0, Ages(0, None, None, None, 90.0, 0), (0, []), (0, []), [], 0, [])


def test_ages_at_rotation_are_those_of_the_old_keys_and_late_ones_are_exceptions(log: Log) -> None:
    at = PERIOD.since + 10 * DAY
    for days in (200, 10.25, 90, 90.5):
        key = log.put(f"ci-{days}", at - days * DAY)
        log.tell(at, Action.ROTATE, key, successor="x")
    found = log.activity()
    assert found.ages == Ages(rotated=4, shortest=10.25, median=90.0, longest=200.0, limit=90.0, beyond=2)
    assert [entry.age_days for entry in found.exceptions.entries] == [200.0, 90.5]
    assert [entry.age_days for entry in log.entries()] == [200.0, 10.25, 90.0, 90.5]


def test_exceptions_are_overrides_and_changes_of_the_rules_and_no_label_of_that_name(log: Log) -> None:
    key, at = log.put("ci", JUNE), PERIOD.since
    log.tell(at, Action.CREATE, key, labels={"override": "no"})
    log.tell(at, Action.CREATE, key, override="incident 7", breaches=["owner", "max-lifetime"], reason="r")
    log.tell(at, Action.SET_POLICY, None, reason="audit", after={})
    log.tell(at, Action.PRUNE_USAGE, None, pruned=3)
    log.tell(at, Action.REVOKE, key, actor="bob", reason="leaked")
    found = log.activity()
    assert [(entry.action, entry.override, entry.breaches, entry.reason) for entry in found.exceptions.entries] == [
        ("key.create", "incident 7", ("owner", "max-lifetime"), "r"),
        ("policy.set", None, (), "audit"),
        ("usage.prune", None, (), None),
    ]
    assert found.exceptions.total == 3
    (revoked,) = found.revocations.entries
    assert (revoked.actor, revoked.key_id, revoked.reason, found.revocations.total) == ("bob", key, "leaked", 1)
    doings = {doings.actor: (doings.events, doings.actions) for doings in found.actors}
    assert doings == {
        "ann": (4, {"key.create": 2, "policy.set": 1, "usage.prune": 1}), "bob": (1, {"key.revoke": 1}),
    }  # fmt: skip
    assert [doings.actor for doings in found.actors] == ["ann", "bob"]


def test_lists_are_bounded_and_say_how_much_there_is(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_LISTED", 2)
    monkeypatch.setattr(report, "_MOST_ACTORS", 2)
    key = log.put("ci", JUNE)
    for number in range(4):
        log.tell(PERIOD.since, Action.REVOKE, key, actor=f"actor {number}", override="why")
    found = log.activity()
    for listed in (found.revocations, found.exceptions):
        assert (listed.total, [entry.seq for entry in listed.entries]) == (4, [1, 2])
    assert (len(found.actors), found.actors_total) == (2, 4)


def test_attempts_with_keys_that_had_ended_are_counted_by_reason(log: Log, database: Database) -> None:
    """Promise 8."""
    at = PERIOD.since
    record(
        database,
        [
            usage_row(at, "AAAAAAAAAAAA", "revoked", count=5),
            usage_row(at + DAY, "BBBBBBBBBBBB", "revoked", count=2),
            usage_row(at + DAY, "AAAAAAAAAAAA", "expired", count=1),
            usage_row(at, "AAAAAAAAAAAA", "ok"),
            usage_row(at, None, "unknown", count=9),
            usage_row(at - DAY, "AAAAAAAAAAAA", "revoked", count=100),
        ],
    )
    assert log.activity().refused_uses == [("expired", 1, 1, at + DAY), ("revoked", 7, 2, at + DAY)]


def test_a_successor_is_counted_as_one(log: Log, database: Database) -> None:
    old = log.put("old", JUNE)
    new = put(database, "new", replaces=old)
    for key in (old, new):
        log.tell(PERIOD.since, Action.CREATE, key)
    found = log.activity()
    assert (found.actions["key.create"], found.successors) == (2, 1)
