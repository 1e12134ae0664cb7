"""`serve-api --metrics`: requests by route and status, the verifier's answers; and what the access log says of them.

Promises 1 and 14.
"""

from pathlib import Path
from typing import Final

import pytest
from prometheus_client import values

from alphalens_keyctl.api.application import application, routes
from alphalens_keyctl.api.counting import Counting
from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.models import Reason
from alphalens_keyctl.settings import Settings
from alphalens_keyctl.web.metrics import Desk
from tests.support.api import api_over
from tests.support.commands import Keyctl
from tests.support.metrics import Series, by, counting, fetch, folders, scrape
from tests.support.web import with_key

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
_PARENT: Final = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.mark.one_database
def test_requests_are_counted_by_route_and_status_and_name_no_key(keyctl: Keyctl) -> None:
    """Promises 1, 8 and 14: nothing that a client sends becomes a label or adds a series."""
    admin = keyctl.ok("create", "admin", "--scope", "keyctl:admin").stdout.strip()
    plain, plain_id = keyctl.create("billing", "--owner", "owner-1", "--expires", "13d")
    asked: list[tuple[str, str, str]] = [
        ("GET", "/v1/keys/billing", admin), ("GET", f"/v1/keys/{plain_id}", plain), ("GET", "/v1/keys/nobody", admin),
        ("GET", "/v1/keys/b%69lling?x=1", admin), ("GET", f"/v1/keys/{plain}", admin), ("GET", "/v1/keys/admin", plain),
        ("GET", "/v1/keys", admin), ("GET", "/v1/keys", "x"), ("GET", "/v1/keys/billing/standing", generate().reveal()),
        ("DELETE", "/v1/keys", admin), ("PROPFIND", "/v1/keys/billing", admin), ("GET", "/v1/owner-1", admin),
        ("GET", "/healthz", ""),
    ]  # fmt: skip
    with counting(keyctl, "--access-log", command="serve-api") as served:
        (folder,) = folders(served)
        before = scrape(served)
        for method, path, raw in asked:
            given = (("traceparent", _PARENT), ("X-Request-Id", "request-1"))
            served.ask(path, with_key(raw, *given), method=method)
        served.ask("/v1/keys", [("a" * 70_000, "")])
        after, page = scrape(served), fetch(served).body.decode()
        result = served.stop()
    assert result.status == 0
    assert not folder.exists()
    found = {tuple(dict(s.labels).values()): n for s, n in after.items() if s.name == "requests_total" and n}
    assert found == {
        ("GET /v1/keys/{key}", "200"): 2, ("GET /v1/keys/{key}", "404"): 1, ("GET /v1/keys/{key}", "422"): 2,
        ("GET /v1/keys/{key}", "403"): 1, ("GET /v1/keys", "200"): 1, ("GET /v1/keys", "401"): 1,
        ("GET /v1/keys/{key}/standing", "401"): 1, ("other", "405"): 2, ("other", "404"): 1,
        ("GET /healthz", "204"): 1, ("unread", "400"): 1,
    }  # fmt: skip
    # Of a key that was let in, and then refused for want of a right, both are counted, as `audit usage` does.
    assert by(after, "answers_total", "reason") == {
        Reason.OK: 9,
        Reason.FORBIDDEN: 1,
        Reason.MALFORMED: 1,
        Reason.UNKNOWN: 1,
    }
    assert by(after, "request_duration_seconds_count", "route")["GET /v1/keys/{key}"] == 6
    assert (after[Series("keys_expiring")], after[Series("database_reachable")]) == (1, 1)
    assert by(after, "keys", "status") == {"active": 2}
    new = {series for series in after.keys() - before.keys() if series.name == "requests_total"}
    assert {dict(series.labels)["status"] for series in new} <= {"204", "400", "401", "403", "404", "405", "422"}
    for secret in (admin, plain, plain_id, "billing", "owner-1", "nobody", "PROPFIND"):
        assert secret not in page
    lines = [line for line in served.log() if line["event"] == "request"]
    assert len(lines) == len(asked)
    for line in lines:
        assert (line["request_id"], line["trace_id"]) == ("request-1", TRACE)
        assert 0 <= line["duration_ms"] < 60_000
    assert plain not in served.log_text()


@pytest.mark.one_database
def test_every_route_has_a_name_of_its_own_and_the_files_have_room_for_all(
    database_url: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is too short would be made longer, and be sparse: a write into it would kill on a full disk."""
    # What counting sets in its process, to be as before.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    desk = Desk(tmp_path, 0)
    desk.furnish()
    sizes = {path: path.stat().st_size for path in tmp_path.iterdir()}
    with api_over(database_url, database) as api:
        there = routes(application(database, api.verifier, Settings(database_url)))
    counts = Counting(desk, there)
    for path, methods in there.items():
        for method in methods:
            assert counts.route(method, path.replace("{key}", "a%2Fb")) == f"{method} {path}"
            for status in (200, 201, 400, 401, 403, 404, 405, 408, 409, 413, 422, 429, 500, 503):
                counts.of(method, path, 0.0)(status)
    for method, path in (
        ("GET", "/v1/keys/"),
        ("GET", "/v1/keys/a/b/c"),
        ("GET", ""),
        ("GET", "/V1/self"),
        ("", "/v1/keys"),
    ):
        assert counts.route(method, path) == "other"
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == sizes
