"""A server that rewrote its log is not believed: what a saved head says is checked by whoever holds it. Promise 7."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import pytest

from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs.audit import BreakKind, Head
from alphalens_keyctl.manager import http_evidence
from alphalens_keyctl.manager.http_exchange import Query, Server
from alphalens_keyctl.server_address import parse_server
from tests.support.api import Api, api_over
from tests.support.callers import TEAM

LIE: Final = "ab" * 32


@pytest.fixture
def api(database_url: str, database: Database) -> Iterator[Api]:
    with api_over(database_url, database) as api:
        yield api


class Lying:
    """A server that answers as the API does, and then says something else: by the end of a path, what becomes of the
    document."""

    def __init__(self, api: Api, lies: Mapping[str, Callable[[Any], Any]]) -> None:
        self.address = parse_server("http://127.0.0.1:1")
        self._api = api
        self._caller = api.caller("audit")
        self._lies = lies

    def get(self, path: str, query: Query = ()) -> Any:
        return self._told(path, self._ask(path, query, accept="application/json"))

    @contextmanager
    def lines(self, path: str, query: Query = ()) -> Iterator[Iterator[list[Any]]]:
        last = self._ask(path, query, accept="application/jsonl").splitlines()[-1]
        yield iter([[{"under_way": True}], [self._told(path, last)]])

    def odd(self) -> KeyctlError:
        return KeyctlError(Code.SERVER_ERROR, "odd")

    def _ask(self, path: str, query: Query, **headers: str) -> str:
        asked = "&".join(f"{name}={value}" for name, value in query)
        answer = self._api.ask(self._caller, "GET", f"{path}?{asked}", **headers)
        assert answer.status_code == 200, answer.text
        return answer.text

    def _told(self, path: str, text: str) -> Any:
        lie = next((lie for end, lie in self._lies.items() if path.endswith(end)), lambda said: said)
        return lie(json.loads(text))


def served(api: Api, **lies: Callable[[Any], Any]) -> Server:
    return cast("Server", Lying(api, {f":{end}" if end == "verify" else end: lie for end, lie in lies.items()}))


def sound(said: dict[str, Any]) -> dict[str, Any]:
    return said | {"sound": True, "break": None}


def kept(api: Api) -> Head:
    for _ in range(3):
        api.house.rotate(api.house.root, api.house.key(TEAM).id)
    return api.house.root.rooted_head()


def verdict(server: Server, saved: Head) -> BreakKind | None:
    broken = http_evidence.verify_log(server, saved, log_only=True).broken
    return None if broken is None else broken.kind


def test_a_head_that_the_log_extends_is_confirmed_by_a_proof(api: Api) -> None:
    saved = kept(api)
    api.house.rotate(api.house.root, api.house.key(TEAM).id)
    now = api.house.root.rooted_head()
    for head in (saved, saved._replace(root=None), saved._replace(hash=b""), now, Head(0, bytes(32), None)):
        found = http_evidence.verify_log(served(api), head, log_only=True)
        assert (found.broken, found.head.seq) == (None, now.seq), head
        assert found.head.root in (None, now.root)
    assert http_evidence.rooted_head(served(api), found.head).root == now.root


@pytest.mark.one_database
def test_a_server_that_lies_about_its_log_is_not_believed(api: Api) -> None:
    saved = kept(api)
    api.house.rotate(api.house.root, api.house.key(TEAM).id)
    other = saved._replace(hash=bytes.fromhex(LIE), root=bytes.fromhex(LIE))
    # It says of any log that it extends the head.
    for head in (other, other._replace(root=None), other._replace(hash=b""), saved._replace(root=other.root)):
        assert verdict(served(api, verify=sound), head) is BreakKind.REWRITTEN, head
    short = {"events": 1, "head": {"seq": 1, "hash": LIE, "at": None}}
    assert verdict(served(api, verify=lambda said: sound(said) | short), saved) is BreakKind.TRUNCATED
    # It has no proof.
    forged: Sequence[Callable[[Any], Any]] = (
        lambda said: said | {"path": said["path"][1:]},
        lambda said: said | {"path": []},
        lambda said: said | {"tree_size": said["tree_size"] + 1},
        lambda said: said | {"event": said["event"] | {"hash": saved.hash.hex(), "actor": "eve"}},
        lambda said: said | {"event": said["event"] | {"seq": 1}},
        lambda said: said | {"previous_hash": LIE},
    )
    for proof in forged:
        with pytest.raises(KeyctlError) as caught:
            verdict(served(api, proof=proof), saved)
        assert caught.value.code is Code.UNPROVEN
    # A path of the right length with another step proves another tree, which is not the one of the head.
    assert verdict(served(api, proof=lambda said: said | {"path": [LIE] * len(said["path"])}), saved) is (
        BreakKind.REWRITTEN
    )
    # It keeps a second log for whoever asks for the tree.
    found = http_evidence.verify_log(served(api), saved, log_only=True)
    with pytest.raises(KeyctlError) as caught:
        http_evidence.rooted_head(served(api, tree=lambda said: said | {"root_hash": LIE}), found.head)
    assert caught.value.code is Code.UNPROVEN
    for name, odd in (
        ("events", "7"),
        ("break", {"seq": 1, "kind": "new", "about": None}),
        ("sound", False),
        ("head", {}),
    ):
        with pytest.raises(KeyctlError) as caught:
            verdict(served(api, verify=lambda said: said | {name: odd}), saved)  # noqa: B023  # called at once
        assert caught.value.code is Code.SERVER_ERROR, name
