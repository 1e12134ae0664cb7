"""`--format ocsf|cef|syslog`: what SIEMs read, against what their formats say. Promises 10 and 12."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl.models import Action, Event, Reason, Use
from alphalens_keyctl.output import ocsf
from alphalens_keyctl.output.feeds import Feed, events_as, uses_as
from tests.support.commands import Keyctl
from tests.support.ocsf import SCHEMA, faults

AT: Final = datetime(2026, 11, 26, 9, 0, 0, 123456, UTC)
TEXT: Final = st.text(max_size=12) | st.sampled_from(["a|b=c\\d", 'x"]y', "\n<13>1 - -", "é", "\x1b]8;;\x07", "\u2028"])
EVENTS: Final = st.builds(
    Event,
    seq=st.integers(1, 1 << 40),
    at=st.just(AT),
    actor=TEXT,
    action=st.sampled_from([*Action, "key.explode"]).map(str),
    key_id=st.none() | TEXT,
    key_name=st.none() | TEXT,
    detail=st.dictionaries(TEXT, TEXT)
    | st.builds(lambda host, why: {"origin": {"host": host}, "reason": why}, TEXT, TEXT),
    hash=st.binary(min_size=32, max_size=32),
)
USES: Final = st.builds(
    Use,
    id=st.integers(1, 1 << 40),
    at=st.none() | st.just("2026-11-26T09:00:00.123456Z"),
    key_id=st.none() | TEXT,
    key_name=st.none() | TEXT,
    outcome=st.sampled_from(Reason).map(str),
    client_ip=st.none() | st.just("2001:db8::1"),
    method=st.none() | st.sampled_from(["GET", "post", "PUT", "DELETE", "BREW"]),
    path=st.none() | TEXT,
    user_agent=st.none() | TEXT,
    count=st.integers(1, 1 << 40),
)
# RFC 5424, section 6, for what we write: no version but 1, one element of structured data.
SYSLOG: Final = re.compile(
    r"<(?P<priority>\d{1,3})>1 (?P<at>-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) "
    r"(?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<process>[!-~]{1,128}) (?P<id>[!-~]{1,32}) "
    r'\[alphalens-keyctl@32473(?P<data>(?: [!#-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*)\] (?P<said>.*)'
)
CEF: Final = re.compile(
    r"CEF:0\|AlphaLens\|alphalens-keyctl\|[^|]+\|(?P<id>(?:[^|\\]|\\[\\|])+)\|(?P<name>(?:[^|\\]|\\[\\|])+)\|(?P<severity>\d|10)\|"
    r"(?P<extension>\w+=(?:[^=\\]|\\[\\=])*(?: \w+=(?:[^=\\]|\\[\\=])*)*)"
)


@given(EVENTS)
def test_every_event_is_what_the_schema_of_ocsf_allows(event: Event) -> None:
    (line,) = events_as(Feed.OCSF, [event])
    assert line.isascii()
    found = json.loads(line)
    assert faults(found) == []
    assert found["metadata"]["uid"] == event.hash.hex()
    assert found["time"] == 1795683600123
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]


@given(USES)
def test_every_use_is_what_the_schema_of_ocsf_allows(use: Use) -> None:
    (line,) = uses_as(Feed.OCSF, [use])
    found = json.loads(line)
    assert faults(found) == []
    assert (found["class_uid"], found["status_id"] == 1) == (6003, use.outcome == "ok")
    assert found["count"] == use.count


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"extra": 1}, "event.extra is unknown"),
        ({"severity_id": 17}, "event.severity_id is none of"),
        ({"time": "now"}, "event.time is no timestamp_t"),
        ({"actor": {}}, "event.actor has none of"),
        ({"user": {"uid": 5}}, "event.user.uid is no string_t"),
        ({"metadata": {"version": "1.8.0"}}, "event.metadata lacks product"),
    ],
)
def test_the_schema_finds_what_it_does_not_allow(change: dict[str, Any], fault: str) -> None:
    event = ocsf.event_object(Event(1, AT, "ann", "key.create", "id", "name", {}, bytes(32)))
    assert faults(event) == []
    assert any(each.startswith(fault) for each in faults(event | change)), faults(event | change)
    assert SCHEMA["version"] == ocsf.VERSION


@given(EVENTS)
def test_an_event_is_one_line_of_syslog_and_one_of_cef(event: Event) -> None:
    """Promise 12: whatever a text holds."""
    for feed, form in ((Feed.SYSLOG, SYSLOG), (Feed.CEF, CEF)):
        (line,) = events_as(feed, [event])
        found = form.fullmatch(line.removesuffix("\n"))
        assert found is not None, line
        assert len(line.splitlines()) == 1
        assert event.hash.hex() in line


@given(USES)
def test_a_use_is_one_line_of_syslog_and_one_of_cef(use: Use) -> None:
    """Promise 12."""
    for feed, form in ((Feed.SYSLOG, SYSLOG), (Feed.CEF, CEF)):
        (line,) = uses_as(feed, [use])
        assert form.fullmatch(line.removesuffix("\n")) is not None, line
        assert len(line.splitlines()) == 1


def test_the_log_goes_out_in_each_format_and_goes_on_where_it_stopped(keyctl: Keyctl) -> None:
    for name in ("é", "ci"):
        keyctl.ok("create", name)
    for feed in ("ocsf", "cef", "syslog"):
        whole = keyctl.ok("audit", "--format", feed).stdout.splitlines()
        assert len(whole) == 4
        parts, after = [], 0
        while part := keyctl.ok("audit", "--format", feed, "--after", str(after), "--limit", "3").stdout.splitlines():
            parts += part
            after += len(part)
        assert parts == whole
    assert keyctl.ok("audit", "--after", "3", "--json").json == keyctl.ok("audit", "--json").json[3:]
    assert keyctl("audit", "--format", "ocsf", "--json").status == 2
    assert keyctl("audit", "--format", "leef").status == 2
    raw, _ = keyctl.create("used")
    keyctl.ok("verify", "--record", "--json", stdin=raw.encode())
    for feed in ("ocsf", "cef", "syslog"):
        (line,) = keyctl.ok("audit", "usage", "--format", feed).stdout.splitlines()
        assert "used" in line
        assert raw not in line
