"""What a caller hears while the log is walked, and how many may have it walked at once. Promises 7 and 11."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from alphalens_keyctl.api import evidence, streams
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs.audit import GENESIS, Head, Verdict
from alphalens_keyctl.manager.over_database import OverDatabase
from tests.support.api import Api
from tests.support.waiting import wait_for
from tests.support.web import LIMIT

pytestmark = pytest.mark.one_database


class Walk:
    """A walk that lasts until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.ends_in: KeyctlError | None = None

    def __call__(self, _saved: Head | None, **_options: Any) -> Verdict:
        self.begun.release()
        assert self.go_on.wait(LIMIT)
        if self.ends_in is not None:
            raise self.ends_in
        return Verdict(0, Head(0, GENESIS, None), None)


@pytest.fixture
def walk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    walk = Walk()
    monkeypatch.setattr(OverDatabase, "verify_log", walk)
    yield walk
    walk.go_on.set()


def asked(api: Api, accept: str = "application/jsonl") -> Any:
    return api.ask(api.caller("audit"), "GET", "/v1/events:verify", accept=accept)


def test_a_long_walk_says_that_it_is_under_way_and_then_what_it_found(
    api: Api, walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BEAT", 0.01)
    with ThreadPoolExecutor(1) as aside:
        answer = aside.submit(asked, api)
        assert walk.begun.acquire(timeout=LIMIT)
        threading.Timer(0.1, walk.go_on.set).start()
        said = [json.loads(line) for line in answer.result(LIMIT).text.splitlines()]
    assert said[0] == {"under_way": True}
    assert said[:-1] == [said[0]] * (len(said) - 1)
    assert said[-1] == {"sound": True, "events": 0, "head": {"seq": 0, "hash": "00" * 32, "at": None}, "break": None}


def test_what_is_wrong_at_once_is_an_error_of_the_request(api: Api, walk: Walk) -> None:
    walk.ends_in = KeyctlError(Code.DATABASE_UNUSABLE, "gone")
    walk.go_on.set()
    for accept in ("application/jsonl", "application/json"):
        answer = asked(api, accept)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unusable")


def test_walks_are_few_at_once_also_those_whose_caller_has_left(api: Api, walk: Walk) -> None:
    with ThreadPoolExecutor(evidence.MOST_WALKS) as aside:
        held = [aside.submit(asked, api) for _ in range(evidence.MOST_WALKS)]
        for _ in held:
            assert walk.begun.acquire(timeout=LIMIT)
        for accept in ("application/jsonl", "application/json"):
            refused = asked(api, accept)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        walk.go_on.set()
        assert [each.result(LIMIT).status_code for each in held] == [200] * evidence.MOST_WALKS
    wait_for(lambda: asked(api).status_code == 200)
