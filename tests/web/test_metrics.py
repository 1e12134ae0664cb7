"""`--metrics` of `serve`: what it counts, over all workers, and what becomes of it when something breaks.

Promises 1, 9, 11 and 14.
"""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import yaml
from prometheus_client.metrics_core import Metric

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.models import Reason, Status
from alphalens_keyctl.web import metrics_listener
from alphalens_keyctl.web.listening import Place, parse_place
from alphalens_keyctl.web.server import KeyCounts
from tests.services.postgresql import Server
from tests.support.commands import ROOT, Keyctl
from tests.support.databases import listeners, on_postgresql
from tests.support.key_rows import put
from tests.support.metrics import ON, Series, address_of, by, counting, fetch, folders, scrape, workers
from tests.support.readme import block
from tests.support.waiting import wait_for
from tests.support.web import Address, Served, ask, serving, with_key

REACHABLE: Final = Series("database_reachable")


def test_each_answer_is_counted_by_its_reason_and_the_keys_by_their_status(database: Database, keyctl: Keyctl) -> None:
    now = datetime.now(UTC)
    soon, past = now + timedelta(hours=1), now - timedelta(seconds=1)
    rows: dict[Reason, dict[str, Any]] = {
        Reason.OK: {"expires_at": now + timedelta(days=13)},
        Reason.PENDING: {"activated_at": None, "lease_until": soon},
        Reason.SUSPENDED: {"suspended_at": past, "expires_at": now + timedelta(days=15)},
        Reason.RETIRED: {"retires_at": past},
        Reason.EXPIRED: {"expires_at": past},
        Reason.REVOKED: {"revoked_at": past, "revoked_by": "x"},
        Reason.UNAVAILABLE: {"digest_scheme": "from the future"},
        Reason.ADDRESS: {"allow_from": ("203.0.113.0/24",)},
        Reason.SCOPE: {"scopes": ("reports:read",)},
    }
    keys = {reason: generate() for reason in rows}
    for reason, values in rows.items():
        put(database, reason.value, raw=keys[reason], **values)
    presented = {reason: raw.reveal() for reason, raw in keys.items()}
    presented |= {Reason.UNKNOWN: generate().reveal(), Reason.MALFORMED: "x"}
    with counting(keyctl) as served:
        before = scrape(served)
        assert by(before, "answers_total", "reason") == {}
        assert {dict(s.labels)["reason"] for s in before if s.name == "answers_total"} == set(Reason)
        for number, (_, raw) in enumerate(sorted(presented.items()), 1):
            for _ in range(number):
                served.ask("/?scope=prices:read", with_key(raw))
        served.ask("/ext_authz/", with_key(presented[Reason.OK]))
        served.ask("/healthz")
        served.ask("/readyz")
        served.ask("/", [("a" * 70_000, "")])
        found = scrape(served)
    wanted = {reason.value: float(number) for number, reason in enumerate(sorted(presented), 1)}
    wanted["ok"] += 1
    # Of a refusal for want of a right the HTTP API knows alone.
    assert set(wanted) == set(Reason) - {Reason.FORBIDDEN}, "a reason has no case here"
    assert by(found, "answers_total", "reason") == wanted
    total = sum(wanted.values())
    requests = {tuple(dict(s.labels).values()): n for s, n in found.items() if s.name == "requests_total" and n}
    assert requests == {
        ("verify", "204"): wanted["ok"] - 1, ("verify", "401"): total - wanted["ok"] - wanted["scope"],
        ("verify", "403"): wanted["scope"], ("ext_authz", "200"): 1,
        ("healthz", "204"): 1, ("readyz", "204"): 1, ("unread", "401"): 1,
    }  # fmt: skip
    assert by(found, "request_duration_seconds_count", "route") == {
        "verify": total - 1, "ext_authz": 1, "healthz": 1, "readyz": 1
    }  # fmt: skip
    assert by(found, "keys", "status") == {
        **dict.fromkeys(("pending", "suspended", "retired", "expired", "revoked"), 1.0), "active": 4.0
    }  # fmt: skip
    assert {dict(series.labels)["status"] for series in found if series.name == "keys"} == set(Status)
    assert (found[Series("keys_expiring")], found[REACHABLE], found[Series("uses_dropped_total")]) == (1, 1, 0)
    assert 0 <= found[Series("staleness_seconds")] < 30


@pytest.mark.one_database
def test_nothing_that_a_client_sends_becomes_a_label_or_adds_a_series(keyctl: Keyctl) -> None:
    """Promises 1 and 14."""
    raw_key, key_id = keyctl.create("good", "--owner", "owner-1")
    with counting(keyctl) as served:
        before = scrape(served)
        for number in range(200):
            path = (f"/{number}/{raw_key}", f"/ext_authz/{number}", f"/%00{number}", f"/?route=a{number}")[number % 4]
            method = ("GET", f"M{number}", "POST", "PROPFIND")[number % 4]
            served.ask(
                path,
                [
                    ("API-Key", raw_key if number % 2 else f"{raw_key}{number}"), ("X-Original-URI", f"/{number}"),
                    ("X-Request-Id", f"r{number}"), (f"X-{number}", f'a{{b="{number}"}}'), ("User-Agent", f"u{number}"),
                ],
                method=method,
            )  # fmt: skip
        after = scrape(served)
        page = fetch(served).body.decode()
    assert after.keys() == before.keys()
    assert sum(value for series, value in after.items() if series.name == "requests_total") == 200
    for secret in (raw_key, key_id, "good", "owner-1", str(keyctl.home)):
        assert secret not in page


@pytest.mark.one_database
def test_workers_add_up_and_one_that_is_killed_takes_no_count_with_it(keyctl: Keyctl) -> None:
    """Promise 14. Its successor counts on in its place, so that no count ever falls and no file is left."""
    raw_key, _ = keyctl.create("good")
    with counting(keyctl, processes=2) as served:
        (folder,) = folders(served)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = sorted(path.name for path in folder.iterdir())
        for held in workers(served):
            ask_others(served, held, raw_key)
        assert by(scrape(served), "answers_total", "reason") == {"ok": 20}
        victim, survivor = workers(served)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(workers(served)) == 2 and victim not in workers(served))
        assert by(scrape(served), "answers_total", "reason") == {"ok": 20}
        ask_others(served, survivor, raw_key)
        assert by(scrape(served), "answers_total", "reason") == {"ok": 30}
        assert sorted(path.name for path in folder.iterdir()) == files
        # Whole from the start: a sparse file on a full disk would kill who writes into it.
        assert all(path.stat().st_size == path.stat().st_blocks * 512 > 0 for path in folder.iterdir())
        assert served.stop().status == 0
    assert not folder.exists()


def ask_others(served: Served, held: int, raw_key: str) -> None:
    """Ten requests while this worker cannot answer."""
    os.kill(held, signal.SIGSTOP)
    try:
        for _ in range(10):
            assert served.ask("/", with_key(raw_key)).status == 204
    finally:
        os.kill(held, signal.SIGCONT)


@pytest.mark.one_database
def test_without_metrics_no_process_serves_them_or_loads_their_library(keyctl: Keyctl) -> None:
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        assert served.ask("/metrics", with_key(raw_key)).status == 204
        assert "prometheus" not in Path(f"/proc/{served.process.pid}/maps").read_text()
        loaded = served.process.pid
        assert not folders(served)
        assert not Path(f"/proc/{loaded}/task/{loaded}/children").read_text().split()
    for command in ("serve", "serve-api"):
        without = [("tests.support.faults", "uninstall", ["prometheus_client"])]
        refused = keyctl(command, "--port", "0", *ON, before=without)
        assert refused.status == 7
        assert "alphalens-keyctl[metrics]" in refused.stderr


@pytest.mark.one_database
def test_the_format_is_the_one_that_the_client_accepts_and_the_topic_names_every_series(
    keyctl: Keyctl, tmp_path: Path
) -> None:
    """Nothing else is answered. The topic's alerts are about series that there are."""
    keyctl.create("good")
    with counting(keyctl) as served:
        where = address_of(served)
        plain, openmetrics = "text/plain; version=", "application/openmetrics-text; version=1.0.0; charset=utf-8"
        for accept, kind, end in (
            ("*/*", plain, ""), ("text/plain;version=0.0.4", plain, ""), ("", plain, ""),
            ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", openmetrics, "# EOF\n"),
            ("application/openmetrics-text;version=x.y", "", ""), ("\xff" * 1000, plain, ""),
        ):  # fmt: skip
            answer = fetch(served, accept)
            assert answer.status == 200, accept
            assert answer.headers["content-type"][0].startswith(kind)
            assert answer.body.decode().endswith(end)
        assert ask(where, "/metrics", method="HEAD").body == b""
        assert ask(where, "/metrics", method="POST").status == 405
        assert ask(where, "/").status == ask(where, "/metrics/").status == ask(where, "/verify").status == 404
        assert served.ask("/metrics").status == 401
        families = {series.name for series in scrape(served)} | {"listener_up"}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in families}
    rows = re.findall(r"^\| `(\w+)(?:\{[\w,]+\})?` \|", (ROOT / "alphalens_keyctl/docs/metrics.md").read_text(), re.M)
    assert sorted(rows) == sorted(families)
    config, rules = block("prometheus", "yaml"), block("prometheus rules", "yaml")
    (job,) = yaml.safe_load(config)["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9377"]}]
    (group,) = yaml.safe_load(rules)["groups"]
    assert len(group["rules"]) == 2
    for rule in group["rules"]:
        named = set(re.findall(r"alphalens_keyctl_(\w+)", rule["expr"]))
        assert named
        assert named <= families
    if promtool := shutil.which("promtool"):
        (tmp_path / "alphalens-keyctl.yml").write_text(rules)
        (tmp_path / "prometheus.yml").write_text(config)
        subprocess.run([promtool, "check", "config", "prometheus.yml"], cwd=tmp_path, check=True)


def test_of_a_process_that_is_starting_no_half_written_histogram_is_shown() -> None:
    histogram = Metric("seconds", "Seconds.", "histogram")
    for route, limits in (("verify", ("0.1", "+Inf")), ("readyz", ("0.1",))):
        histogram.add_sample("seconds_sum", {"route": route}, 0)
        for limit in limits:
            histogram.add_sample("seconds_bucket", {"route": route, "le": limit}, 0)
    assert {sample.labels["route"] for sample in metrics_listener.whole(histogram).samples} == {"verify"}
    counter = Metric("answers", "Answers.", "counter")
    counter.add_sample("answers_total", {"reason": "ok"}, 1)
    assert len(metrics_listener.whole(counter).samples) == 1


@pytest.mark.one_database
def test_a_place_that_is_taken_or_is_none_is_an_error_before_anything_is_served(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 11."""
    keyctl.create("good")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for command in ("serve", "serve-api"):
            taken = keyctl(command, "--port", "0", "--metrics", str(other.getsockname()[1]))
            assert taken.status == 7
            assert "is taken" in taken.stderr
            assert "--metrics" in taken.stderr
    assert keyctl("serve-api", "--port", "0", "--metrics=a").status == 2
    for place in ("", "a", "70000", ":1", "127.0.0.1", "http://x:1", "::1:9", "unix:", "/tmp/m", "-1"):
        refused = keyctl("serve", "--port", "0", f"--metrics={place}")
        assert refused.status == 2, place
        assert "listening" not in refused.stderr


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9377", Place("127.0.0.1", 9377)), ("0.0.0.0:1", Place("0.0.0.0", 1)), ("[::1]:9", Place("::1", 9)),
        ("localhost:0", Place("localhost", 0)), ("unix:/run/m", Place(unix_socket=Path("/run/m"))),
    ],
)  # fmt: skip
def test_a_place_is_a_port_of_this_machine_alone_unless_it_names_more(text: str, place: Place) -> None:
    assert parse_place(text, what="--metrics") == place


@pytest.mark.one_database
def test_on_a_unix_socket_metrics_have_its_mode_and_leave_nothing_behind(keyctl: Keyctl, tmp_path: Path) -> None:
    keyctl.create("good")
    place = tmp_path / "m"
    with serving(keyctl, "--metrics", f"unix:{place}") as served:
        assert stat.S_IMODE(place.stat().st_mode) == 0o660
        assert ask(Address(unix_socket=place), "/metrics").status == 200
        served.stop()
    assert not place.exists()


def test_while_postgresql_is_away_or_hangs_a_scrape_answers_and_leaves_out_what_it_cannot_know(
    own_server: Server, own_keyctl: Keyctl
) -> None:
    """Promises 9 and 11."""
    raw_key, _ = own_keyctl.create("good")
    with counting(own_keyctl) as served:
        assert served.ask("/", with_key(raw_key)).status == 204
        wait_for(lambda: scrape(served)[REACHABLE] == 1)
        wait_for(lambda: scrape(served).get(Series("listener_up")) == 1)
        own_server.signal_all(signal.SIGSTOP)
        try:
            wait_for(lambda: scrape(served)[REACHABLE] == 0)
            wait_for(lambda: scrape(served)[Series("staleness_seconds")] > 3)
            found = scrape(served)
        finally:
            own_server.signal_all(signal.SIGCONT)
        assert by(found, "answers_total", "reason")["ok"] == 1
        assert not {series for series in found if series.name.startswith("keys")}
        own_server.stop()
        wait_for(lambda: scrape(served)[REACHABLE] == scrape(served)[Series("listener_up")] == 0)
        own_server.start()
        wait_for(lambda: scrape(served)[REACHABLE] == 1)
        wait_for(lambda: scrape(served)[Series("staleness_seconds")] < 2)


@on_postgresql
def test_a_listening_connection_that_is_ended_shows_and_so_does_the_next(keyctl: Keyctl) -> None:
    """Promise 5: where changes are not announced, somebody can know."""
    keyctl.create("good")
    url = keyctl.database_url or ""
    with counting(keyctl) as served:
        wait_for(lambda: scrape(served).get(Series("listener_up")) == 1)

        def ended() -> bool:
            with psycopg.connect(url, autocommit=True) as session:
                for process in listeners(url):
                    session.execute("SELECT pg_terminate_backend(%s)", (process,))
            return scrape(served)[Series("listener_up")] == 0

        wait_for(ended)
        wait_for(lambda: scrape(served)[Series("listener_up")] == 1)


def test_a_question_to_the_database_that_hangs_holds_no_scrape_up_and_is_not_asked_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 11."""
    release, asked = threading.Event(), []

    @contextmanager
    def ask_slowly() -> Iterator[Callable[[], KeyCounts]]:
        asked.append(1)
        release.wait(30)
        yield lambda: KeyCounts({Status.ACTIVE: 7}, 3)

    monkeypatch.setattr(metrics_listener, "_PATIENCE", 0.05)
    keys = metrics_listener._Keys(ask_slowly)
    for _ in range(3):
        assert [(each.name, each.samples[0].value) for each in keys.collect()] == [
            ("alphalens_keyctl_database_reachable", 0.0)
        ]
    release.set()
    wait_for(lambda: len(list(keys.collect())) == 3)
    assert asked == [1]
