"""What a request may say, and what it is answered: bad input, pages, streams, requests that are sent again."""

import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
import pytest

from alphalens_keyctl.api import doorway
from alphalens_keyctl.api.doorway import MOST_WRITERS
from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.manager.over_database import OverDatabase
from alphalens_keyctl.moments import utc_now
from tests.support.api import Api
from tests.support.callers import DAY
from tests.support.key_rows import change
from tests.support.usage_rows import record, usage_row, usage_rows
from tests.support.web import LIMIT


@pytest.mark.one_database
def test_what_is_put_wrongly_is_refused_by_name_and_repeated_nowhere(api: Api) -> None:
    """Promise 1: a raw key in the wrong place is in no answer."""
    admin, raw = api.caller("admin"), generate().reveal()
    wrong: list[tuple[int, str, str, Any]] = [
        (400, "POST", "/v1/keys", b"{"),
        (422, "POST", "/v1/keys", b"[]"),
        (422, "POST", "/v1/keys", {}),
        (422, "POST", "/v1/keys", {"name": 3}),
        (422, "POST", "/v1/keys", {"name": "x", "lease": 0}),
        (422, "POST", "/v1/keys", {"name": "x", "lease": 1e9}),
        (422, "POST", "/v1/keys", {"name": "x", "nome": "y"}),
        (422, "POST", "/v1/keys", {"name": raw}),
        (422, "POST", "/v1/keys", {"name": "x", raw: "y"}),
        (422, "POST", "/v1/keys", {"name": "x", "scopes": []}),
        (422, "POST", "/v1/keys", {"name": "x", "scopes": ["Prices"]}),
        (422, "POST", "/v1/keys", {"name": "x", "scopes": [f"s{n}" for n in range(51)]}),
        (422, "POST", "/v1/keys", {"name": "x", "allow_from": ["10.0.0.1/8"]}),
        (422, "POST", "/v1/keys", {"name": "x", "expires": "yesterday"}),
        (422, "POST", "/v1/keys:revoke", {}),
        (422, "POST", "/v1/keys:revoke", {"filters": {"ouner": "x"}}),
        (422, "PATCH", f"/v1/keys/{admin}", {}),
        (422, "GET", "/v1/keys?ouner=x", None),
        (422, "GET", "/v1/keys?page=abc", None),
        (422, "GET", "/v1/keys?limit=100000", None),
        (422, "GET", "/v1/keys?status=alive", None),
        (422, "GET", "/v1/keys?no-owner=true&owner=x", None),
        (422, "GET", "/v1/keys?never-expires=true&expired=true", None),
        (422, "GET", "/v1/self?x=1", None),
        (422, "POST", "/v1/verify", {"raw_key": raw, "scope": ["Prices"]}),
        (422, "POST", "/v1/verify", {"raw_key": raw, "address": "here"}),
        (422, "POST", "/v1/verify", {"raw_key": raw * 9}),
        (422, "POST", "/v1/verify", {"raw": raw}),
        (422, "POST", "/v1/verify?x=1", {"raw_key": raw}),
        (422, "POST", "/v1/usage:prune", {"before": "2999-01-01"}),
        (422, "POST", "/v1/usage:prune", {"before": "soon"}),
        (422, "GET", "/v1/events:verify?seq=1", None),
        (422, "GET", "/v1/events:verify?seq=1&hash=ab", None),
        (422, "GET", "/v1/events/tree", None),
        (422, "GET", "/v1/events/99999/proof", None),
        (409, "GET", "/v1/events/tree?size=99999", None),
        (422, "GET", f"/v1/keys/{raw}", None),
        (422, "GET", f"/v1/keys/{raw.replace('_', '%5F')}", None),
        (422, "GET", f"/v1/keys?text={raw}", None),
        (422, "GET", f"/v1/nothing/{raw}", None),
        (422, "GET", f"/v1/self?{raw}", None),
        (404, "GET", "/v1/keys/nobody", None),
        (404, "GET", "/v2/keys", None),
        (405, "DELETE", "/v1/keys", None),
        (413, "POST", "/v1/keys", b" " * (1024 * 1024 + 1)),
    ]
    for status, method, path, body in wrong:
        answer = api.ask(admin, method, path, body)
        cell = (method, path, str(body)[:80], answer.text)
        assert answer.status_code == status, cell
        assert answer.headers["content-type"] == "application/problem+json", cell
        assert answer.headers["cache-control"] == "no-store", cell
        assert raw[20:] not in answer.text, cell
        problem = answer.json()
        assert problem["status"] == status, cell
        assert problem["code"], cell
    assert "nome" in api.ask(admin, "POST", "/v1/keys", {"name": "x", "nome": "y"}).json()["detail"]


@pytest.mark.one_database
def test_a_request_keeps_its_id_and_gets_one_where_it_has_none(api: Api) -> None:
    admin = api.caller("admin")
    assert api.ask(admin, "GET", "/v1/self", X_Request_Id="build-7/a").headers["x-request-id"] == "build-7/a"
    for bad in ("a b", "x" * 65, generate().reveal()):
        assert api.ask(admin, "GET", "/v1/self", X_Request_Id=bad).headers["x-request-id"] != bad
    made = api.ask(admin, "POST", "/v1/keys", {"name": "traced"}, X_Request_Id="trace-1").json()["key"]
    event = api.ask(admin, "GET", f"/v1/events?key={made['id']}").json()[-1]
    assert (event["actor"].split()[0], event["detail"]["origin"]["request_id"]) == (f"key:{admin}", "trace-1")
    assert event["detail"]["origin"]["address"] == "127.0.0.1"


def test_the_pages_of_a_list_are_the_list(api: Api) -> None:
    admin = api.caller("admin")
    for number in range(7):
        api.house.key(owner=("a", None, "b")[number % 3], name=f"Key {number}/x")
    for sort in ("created", "name", "owner", "last-used", "expires", "uses"):
        # Without the caller's own key, whose last use changes while it asks.
        asked = f"/v1/keys?name=key*&sort={sort}"
        whole = api.ask(admin, "GET", asked).json()
        assert len(whole) == 7, sort
        found, path = [], f"{asked}&limit=3"
        while path:
            answer = api.ask(admin, "GET", path)
            found += answer.json()
            path = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
        assert [key["id"] for key in found] == [key["id"] for key in whole], sort
        lines = api.ask(admin, "GET", asked, Accept="application/jsonl")
        assert [json.loads(line)["id"] for line in lines.text.splitlines()] == [key["id"] for key in whole], sort
    token = api.ask(admin, "GET", "/v1/keys?sort=name&limit=1").headers["link"].partition("page=")[2].partition(">")[0]
    assert api.ask(admin, "GET", f"/v1/keys?sort=uses&limit=1&page={token}").json()["code"] == "invalid_input"


def test_the_pages_of_the_usage_log_behind_a_row_are_the_rows_once(api: Api, database: Database) -> None:
    """Promise 9: and the latest rows have no page behind them."""
    admin, key = api.caller("admin"), api.house.key(name="used")
    record(database, [usage_row(datetime.now(UTC) - timedelta(hours=hour), key.id) for hour in range(7)])
    ids = [row.id for row in usage_rows(database) if row.key_id == key.id]
    found, path = [], f"/v1/usage?key={key.id}&limit=3&after=0"
    while path:
        answer = api.ask(admin, "GET", path)
        found += [row["id"] for row in answer.json()]
        path = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
    assert found == ids
    latest = api.ask(admin, "GET", f"/v1/usage?key={key.id}&limit=3")
    assert ([row["id"] for row in latest.json()], "link" in latest.headers) == (ids[2::-1], False)
    lines = api.ask(admin, "GET", f"/v1/usage?key={key.id}&after={ids[4]}", Accept="application/jsonl")
    assert [json.loads(line)["id"] for line in lines.text.splitlines()] == ids[5:]
    assert api.ask(admin, "GET", "/v1/usage/summary?after=0").status_code == 422


def test_a_name_with_a_slash_is_a_path(api: Api) -> None:
    admin, key = api.caller("admin"), api.house.key(name="team/ci: nightly ü")
    assert api.ask(admin, "GET", "/v1/keys/team%2Fci%3A%20nightly%20%C3%BC").json()["id"] == key.id


def test_a_request_that_is_sent_again_is_answered_without_the_raw_key(api: Api) -> None:
    """Promise 1: no raw key is kept for a retry."""
    admin, other = api.caller("admin"), api.caller("admin")
    asked = {"name": "billing", "labels": {"team": "b"}}
    first = api.ask(admin, "POST", "/v1/keys", asked, Idempotency_Key="one")
    again = api.ask(admin, "POST", "/v1/keys", asked, Idempotency_Key="one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json() | {"raw_key": None}
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert api.ask(admin, "POST", "/v1/keys", asked | {"owner": "x"}, Idempotency_Key="one").status_code == 422
    assert api.ask(admin, "POST", "/v1/keys:revoke", asked, Idempotency_Key="one").status_code == 422
    assert api.ask(other, "POST", "/v1/keys", asked, Idempotency_Key="one").json()["code"] == "name_taken"
    assert api.ask(other, "POST", "/v1/keys", asked | {"name": "b2"}, Idempotency_Key="one").status_code == 201
    for bad in ("", "x" * 65, "a b"):
        assert api.ask(admin, "POST", "/v1/keys", asked, Idempotency_Key=bad).json()["code"] == "usage"
    fleet = {"keys": [{"name": "f1"}, {"name": "f2"}]}
    one, two = (api.ask(admin, "POST", "/v1/keys:create", fleet, Idempotency_Key="many").json() for _ in range(2))
    assert two["created"] == [each | {"raw_key": None} for each in one["created"]]
    with api.house.database.reading() as connection:
        stored = str(connection.exec_driver_sql("SELECT * FROM api_reply").all())
    for made in (first.json(), *one["created"]):
        assert made["raw_key"][17:] not in stored


def test_of_two_equal_requests_at_once_one_makes_a_key(api: Api) -> None:
    """Promise 1: one raw key, and nobody else gets it."""
    admin = api.caller("admin")

    def asked() -> httpx.Response:
        return api.ask(admin, "POST", "/v1/keys", {"name": "billing"}, Idempotency_Key="one")

    with ThreadPoolExecutor(2) as threads:
        with api.house.database.writing():  # both wait here before either is on record
            both = [threads.submit(asked) for _ in range(2)]
        answers = [each.result() for each in both]
    made = [answer for answer in answers if answer.status_code == 201 and answer.json()["raw_key"]]
    (other,) = [answer for answer in answers if answer not in made]
    assert len(made) == 1
    if other.status_code == 201:
        assert other.json() == made[0].json() | {"raw_key": None}
    else:
        assert (other.status_code, other.json()["code"]) == (409, "conflict")
        assert int(other.headers["retry-after"]) > 0
    assert asked().json() == made[0].json() | {"raw_key": None}
    assert api.ask(admin, "GET", "/v1/keys:count?name=billing&all=true").json() == {"count": 1}


def test_a_change_beyond_those_that_are_carried_out_at_once_is_told_to_come_again(api: Api) -> None:
    """Promise 14: who reads goes on meanwhile."""
    admin = api.caller("admin")
    assert api.ask(admin, "GET", "/v1/self").status_code == 200  # the first question of all opens the verifier
    names = [f"key-{number}" for number in range(MOST_WRITERS + 1)]
    with ThreadPoolExecutor(len(names)) as threads:
        with api.house.database.writing():  # no change comes to an end here
            changes = [threads.submit(api.ask, admin, "POST", "/v1/keys", {"name": name}) for name in names]
            first = next(as_completed(changes, timeout=LIMIT)).result()
            assert (first.status_code, first.json()["code"]) == (429, "database_busy")
            assert int(first.headers["retry-after"]) > 0
            assert api.ask(admin, "GET", "/v1/self").status_code == 200
        statuses = sorted(each.result().status_code for each in changes)
    assert statuses == [201] * MOST_WRITERS + [429]
    assert api.ask(admin, "POST", "/v1/keys", {"name": "later"}).status_code == 201


@pytest.mark.one_database
def test_a_body_that_does_not_come_is_waited_for_no_longer_than_that(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 14."""
    monkeypatch.setattr(doorway, "BODY_PATIENCE", 0.1)

    async def stalled() -> AsyncIterator[bytes]:
        yield b'{"name": '
        await anyio.sleep_forever()

    admin = api.caller("admin")
    answer = api.ask(admin, "POST", "/v1/keys", stalled())
    assert (answer.status_code, answer.json()["code"], answer.headers["connection"]) == (408, "usage", "close")
    assert api.ask(admin, "GET", "/v1/keys:count?name=x").json() == {"count": 0}


def test_two_steps_let_a_key_open_and_may_be_repeated(api: Api) -> None:
    """Promise 2: what was not activated opens nothing."""
    admin = api.caller("admin")
    made = api.ask(admin, "POST", "/v1/keys", {"name": "billing", "lease": 60}).json()
    key_id, raw = made["key"]["id"], made["raw_key"]
    assert made["key"]["status"] == "pending"
    assert not api.verifier.verify(raw)
    for _ in range(2):
        done = api.ask(admin, "POST", f"/v1/keys/{key_id}/activate", {"delivered_to": ["vault"]})
        assert (done.status_code, done.json()["key"]["status"]) == (200, "active")
    assert api.verifier.verify(raw)
    assert api.ask(admin, "POST", "/v1/keys", {"name": "billing"}).json()["code"] == "name_taken"
    new = api.ask(admin, "POST", "/v1/keys/billing/rotate", {}).json()
    assert (new["rotated"], new["previous"]["id"]) == (True, key_id)
    assert (bool(api.verifier.verify(new["raw_key"])), bool(api.verifier.verify(raw))) == (False, True)
    taken = api.ask(admin, "POST", "/v1/keys/billing/rotate", {})
    assert taken.status_code == 409, "promise 4: one successor"
    for discarded in (True, False):
        answer = api.ask(admin, "POST", f"/v1/keys/{new['key']['id']}/discard", {})
        assert answer.json() == {"discarded": discarded}
    last = api.ask(admin, "POST", "/v1/keys/billing/rotate", {"activate": True, "grace": "0"}).json()
    assert (last["key"]["status"], last["delivered_to"]) == ("active", ["api"])
    assert (bool(api.verifier.verify(last["raw_key"])), bool(api.verifier.verify(raw))) == (True, False)


def test_a_lease_that_ends_frees_the_name(api: Api) -> None:
    """Promise 2: a client that died leaves a key that opens nothing, and a name for the next."""
    admin = api.caller("admin")
    made = api.ask(admin, "POST", "/v1/keys", {"name": "billing", "lease": 3600}).json()
    assert api.ask(admin, "POST", "/v1/keys", {"name": "billing"}).json()["code"] == "name_taken"
    change(api.house.database, made["key"]["id"], lease_until=utc_now() - DAY)
    assert api.ask(admin, "POST", "/v1/keys", {"name": "billing"}).status_code == 201
    assert not api.verifier.verify(made["raw_key"])
    late = api.ask(admin, "POST", f"/v1/keys/{made['key']['id']}/activate", {})
    assert late.status_code == 409
    assert not api.verifier.verify(made["raw_key"])


@pytest.mark.one_database
def test_a_fault_of_the_server_is_a_problem_that_says_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = api.caller("admin")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(OverDatabase, "find", fail)
    answer = api.ask(admin, "GET", "/v1/self")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


@pytest.mark.one_database
def test_a_key_rotates_and_ends_itself(api: Api) -> None:
    plain = api.caller("plain")
    made = api.ask(plain, "POST", "/v1/self/rotate", {"activate": True, "until_used": "7d"})
    assert made.status_code == 201
    assert api.verifier.verify(made.json()["raw_key"])
    ended = api.ask(plain, "POST", "/v1/self/revoke", {"reason": "done"})
    assert [key["id"] for key in ended.json()["changed"]] == [plain]
    assert api.ask(plain, "GET", "/v1/self").status_code == 401
