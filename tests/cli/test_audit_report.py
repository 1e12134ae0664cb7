"""`audit report`: evidence for a period, and its verdict on the log. Promises 7 and 10."""

import csv
import io
from datetime import UTC, datetime

import pytest

from alphalens_keyctl.database import Database
from alphalens_keyctl.moments import quarter_of
from tests.support import unguarded
from tests.support.commands import Keyctl
from tests.support.terminal import on_terminal


def test_the_report_has_what_was_done_in_the_period_and_the_head_of_the_log(keyctl: Keyctl, database: Database) -> None:
    keyctl.ok("--actor", "ann", "create", "billing")
    keyctl.ok("--actor", "bob", "rotate", "billing")
    keyctl.ok("--actor", "bob", "revoke", "billing", "--reason", "=leaked")
    found = keyctl.ok("audit", "report", "--json").json
    assert found["period"]["name"] == quarter_of(datetime.now(UTC))
    assert (found["period"]["ended"], found["sound"], found["verification"]["break"]) == (False, True, None)
    counts = {name: found["actions"][f"key.{name}"] for name in ("create", "activate", "rotate", "revoke")}
    assert counts == {"create": 2, "activate": 2, "rotate": 1, "revoke": 2}
    assert (found["successors"], found["keys"]["revoked"], found["ages"]["rotated"]) == (1, 2, 1)
    assert [(actor["actor"], actor["events"]) for actor in found["actors"]] == [("bob", 5), ("ann", 2)]
    head = keyctl.ok("audit", "head", "--json").json
    assert found["head"] == {name: head[name] for name in ("seq", "hash", "at", "root_hash")}
    header, *rows = csv.reader(io.StringIO(keyctl.ok("audit", "report", "--csv").stdout))
    events = [dict(zip(header, row, strict=True)) for row in rows]
    assert [event["hash"] for event in events] == [event["hash"] for event in keyctl.ok("audit", "--json").json]
    assert [event["reason"] for event in events if event["action"] == "key.revoke"] == ["'=leaked"] * 2
    assert [event["age_days"] for event in events if event["action"] == "key.rotate"] == ["0.0"]
    page = keyctl.ok("audit", "report").stdout
    assert page.startswith("<!doctype html>")
    assert head["hash"] in page
    # Promise 7: a log that is not sound is reported on all the same.
    no_text = "CAST(x'ff' AS TEXT)" if database.one_writer else "'\x01'"
    for damage, kind in (
        (f"UPDATE audit_event SET actor = {no_text} WHERE seq = 3", "altered"),
        ("DELETE FROM audit_event WHERE seq = 2", "missing"),
    ):
        unguarded.write(database, damage, table="audit_event")
        for options, said in (((), f"Not sound: {kind}"), (("--json",), f'"kind": "{kind}"')):
            broken = keyctl("audit", "report", *options)
            assert (broken.status, broken.stderr) == (5, ""), broken
            assert said in broken.stdout


@pytest.mark.one_database
def test_a_terminal_gets_a_summary_and_is_told_of_the_page(keyctl: Keyctl) -> None:
    keyctl.create("billing")
    shown = on_terminal(keyctl, "audit", "report", width=80)
    assert shown.status == 0
    assert "so far: 1 made, 0 rotated, 0 revoked, 0 suspended; by 1 actor." in shown.text
    assert "Sound: 2 events" in shown.text
    assert f"audit report --period {quarter_of(datetime.now(UTC))} > report.html" in shown.text
    assert "<" not in shown.text


@pytest.mark.one_database
@pytest.mark.parametrize("period", ["2026-Q5", "2126", "last quarter", "2026-02-30", "2026-07-01..2026-06-30", ""])
def test_what_is_no_period_is_refused(fresh_keyctl: Keyctl, period: str) -> None:
    refused = fresh_keyctl("audit", "report", "--period", period, "--json")
    assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "invalid_input")
