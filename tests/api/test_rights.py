"""Promise 13: over HTTP nobody sees, changes or grants beyond what the key in `API-Key` holds."""

from typing import Any, Final

import pytest

from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.models import Key
from tests.support.api import Api
from tests.support.callers import DEAD, OTHER, TEAM
from tests.support.key_rows import put
from tests.support.raw_keys import key_id

# What is done to a key: the method, the path behind the key's, the body.
VERBS: Final[dict[str, tuple[str, str, Any]]] = {
    "show": ("GET", "/v1/keys/{id}", None),
    "show by name": ("GET", "/v1/keys/{name}", None),
    "find": ("POST", "/v1/keys:find", {"key": "{id}"}),
    "ids": ("GET", "/v1/key-ids/{name}", None),
    "standing": ("GET", "/v1/keys/{id}/standing", None),
    "events": ("GET", "/v1/events?key={id}", None),
    "usage": ("GET", "/v1/usage?key={id}", None),
    "summary": ("GET", "/v1/usage/summary?key={id}", None),
    "rotate": ("POST", "/v1/keys/{id}/rotate", {}),
    "revoke": ("POST", "/v1/keys/{id}/revoke", {}),
    "revoke by name": ("POST", "/v1/keys/{name}/revoke", {}),
    "try revoke": ("POST", "/v1/keys:revoke", {"keys": ["{id}"], "dry_run": True}),
    "suspend": ("POST", "/v1/keys/{id}/suspend", {}),
    "patch": ("PATCH", "/v1/keys/{id}", {"purpose": "mine"}),
    "rename": ("PATCH", "/v1/keys/{id}", {"name": "new-{id}"}),
    "give up": ("POST", "/v1/keys:discard", {"keys": ["{id}"]}),
    "update": ("POST", "/v1/keys:update", {"keys": ["{id}"], "set": {"labels": {"seen": "yes"}}}),
}
READS: Final = frozenset({"show", "show by name", "find", "ids", "standing", "events", "usage", "summary"})
ITSELF: Final = READS | {"rotate", "give up", "revoke", "revoke by name", "try revoke"}
ALL: Final = frozenset(VERBS)
NOTHING: Final = frozenset[str]()
TARGETS: Final = ("itself", "own", "other", "nobody's")
# Role → what it may do to itself, to keys of its owner, to others' and to nobody's.
MAY: Final = {
    "admin": (ALL, ALL, ALL, ALL),
    "team": (ALL, ALL, NOTHING, NOTHING),
    "team of nobody": (ITSELF, NOTHING, NOTHING, NOTHING),
    "audit": (ITSELF, READS, READS, READS),
    "plain": (ITSELF, NOTHING, NOTHING, NOTHING),
    "unrestricted": (ITSELF, NOTHING, NOTHING, NOTHING),
    **dict.fromkeys(DEAD, (NOTHING, NOTHING, NOTHING, NOTHING)),
}
# What concerns no one key.
GENERAL: Final[dict[str, tuple[str, str, Any]]] = {
    "head": ("GET", "/v1/events/head", None),
    "report": ("GET", "/v1/report?period=2026", None),
    "tree": ("GET", "/v1/events/tree?size=1", None),
    "proof": ("GET", "/v1/events/1/proof", None),
    "verify log": ("GET", "/v1/events:verify", None),
    "prune": ("POST", "/v1/usage:prune", {"before": "90d"}),
    "try prune": ("POST", "/v1/usage:prune", {"before": "90d", "dry_run": True}),
    "verify none": ("POST", "/v1/verify", {"raw_key": "none"}),
    "record none": ("POST", "/v1/verify", {"raw_key": "none", "record": True}),
    "policy": ("GET", "/v1/policy", None),
    "set policy": ("PUT", "/v1/policy", {"name_pattern": None}),
    "create own": ("POST", "/v1/keys", {"name": "{new}", "owner": TEAM, "scopes": ["prices:read"]}),
    "create": ("POST", "/v1/keys", {"name": "{new}", "scopes": ["prices:read"]}),
    "create other": ("POST", "/v1/keys", {"name": "{new}", "owner": OTHER, "scopes": ["prices:read"]}),
    "create more": ("POST", "/v1/keys", {"name": "{new}", "owner": TEAM, "scopes": ["billing:write"]}),
    "create admin": ("POST", "/v1/keys", {"name": "{new}", "owner": TEAM, "scopes": ["keyctl:admin"]}),
    "take in own": ("POST", "/v1/keys:create", {"keys": [{"name": "{new}", "owner": TEAM}]}),
    "take in other": ("POST", "/v1/keys:create", {"keys": [{"name": "{new}", "owner": OTHER}], "dry_run": True}),
    "list": ("GET", "/v1/keys", None),
    "count": ("GET", "/v1/keys:count", None),
    "events": ("GET", "/v1/events", None),
    "last event": ("GET", "/v1/events/last", None),
    "new events": ("GET", f"/v1/events/new?place=0&hash={'0' * 64}", None),
    "count events": ("GET", "/v1/events:count", None),
    "usage": ("GET", "/v1/usage", None),
    "check": ("GET", "/v1/check", None),
    "check one": ("GET", "/v1/check?key={other}", None),
    "owners": ("GET", "/v1/owners?like=team-x", None),
    "self": ("GET", "/v1/self", None),
}
OF_EVERYBODY: Final = frozenset(
    {
        "list",
        "count",
        "events",
        "last event",
        "new events",
        "count events",
        "usage",
        "check",
        "owners",
        "self",
        "verify none",
    }
)
GENERALLY: Final = {
    "admin": frozenset(GENERAL),
    "team": OF_EVERYBODY | {"policy", "create own", "create", "take in own"},
    "team of nobody": OF_EVERYBODY,
    "audit": OF_EVERYBODY | {"head", "report", "tree", "proof", "verify log", "policy", "check one"},
    "plain": OF_EVERYBODY,
    "unrestricted": OF_EVERYBODY,
    **dict.fromkeys(DEAD, NOTHING),
}


def filled(value: Any, key: Key | None = None) -> Any:
    """A path or body with the key's id and name, and a new name, in their places."""
    if isinstance(value, dict):
        return {name: filled(each, key) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, key) for each in value]
    if not isinstance(value, str):
        return value
    known = {"new": f"new-{generate().id}"} | ({} if key is None else {"id": key.id, "name": key.name})
    return value.format(**known)


def refused(role: str) -> int:
    return 401 if role in DEAD else 403


@pytest.mark.one_database  # the table of the manager runs on both
@pytest.mark.parametrize("role", MAY)
def test_who_may_do_what_to_whose_key_over_http(api: Api, role: str) -> None:
    """Promise 13, promise 6: what is refused changes nothing and leaves no event."""
    cells = 0
    owners = {"own": TEAM, "other": OTHER, "nobody's": None}
    for target, allowed in zip(TARGETS, MAY[role], strict=True):
        caller, key = "", None
        for verb, (method, path, body) in VERBS.items():
            if not caller or (verb in allowed and verb not in READS):
                caller = api.caller(role)
                key = api.house.now(caller) if target == "itself" else api.house.key(owners[target])
            assert key is not None
            events = api.house.events()
            answer = api.ask(caller, method, filled(path, key), filled(body, key))
            cell = (role, verb, target, answer.text)
            if verb in allowed:
                assert answer.status_code in (200, 201), cell
                if verb not in READS:
                    caller = ""
            else:
                assert answer.status_code == refused(role), cell
                assert api.house.events() == events, cell
            cells += 1
    assert cells == 68


@pytest.mark.one_database  # as above
@pytest.mark.parametrize("role", GENERALLY)
def test_who_may_do_what_that_is_about_no_one_key_over_http(api: Api, role: str) -> None:
    api.house.rotate(api.house.root, api.house.key(OTHER).id)  # an event to be proven
    caller, other = api.caller(role), api.house.key(OTHER)
    for verb, (method, path, body) in GENERAL.items():
        answer = api.ask(caller, method, filled(path.replace("{other}", other.id)), filled(body))
        expected = (200, 201) if verb in GENERALLY[role] else (refused(role),)
        assert answer.status_code in expected, (role, verb, answer.text)
    assert len(GENERAL) == 29


@pytest.mark.parametrize("role", MAY)
@pytest.mark.one_database  # as above
def test_who_hears_whether_a_raw_key_opens(api: Api, role: str) -> None:
    """Promise 13; promise 8: the check is no use of the key, unless it is recorded."""
    caller = api.caller(role)
    raws = {"itself": api.raw(caller)}
    for target, owner in (("own", TEAM), ("other", OTHER), ("nobody's", None)):
        raw = generate()
        put(api.house.database, f"checked-{raw.id}", raw=raw, owner=owner, scopes=("prices:read",))
        raws[target] = raw.reveal()
    for target, allowed in zip(TARGETS, MAY[role], strict=True):
        for record, deed in ((False, "show"), (True, "patch")):
            answer = api.ask(caller, "POST", "/v1/verify", {"raw_key": raws[target], "record": record})
            cell = (role, target, record, answer.text)
            assert answer.status_code == (200 if deed in allowed else refused(role)), cell
            assert raws[target] not in answer.text, cell
            if deed in allowed:
                assert answer.json()["allowed"], cell
                assert answer.headers["cache-control"] == "no-store"
    api.verifier.flush()
    for target, allowed in zip(TARGETS[1:], MAY[role][1:], strict=True):
        assert api.house.now(key_id(raws[target])).use_count == ("patch" in allowed), (role, target)


@pytest.mark.one_database  # as above
def test_nobody_finishes_or_gives_up_what_somebody_else_took_in(api: Api) -> None:
    admin = api.caller("admin")
    fleet = [{"name": f"new-{generate().id}", "owner": OTHER} for _ in range(2)]
    begun = api.ask(admin, "POST", "/v1/keys:create", {"keys": fleet}).json()["created"]
    ids = [each["key"]["id"] for each in begun]
    for role in ("team", "audit", "plain", "revoked"):
        for verb in ("renew", "activate", "discard"):
            answer = api.ask(api.caller(role), "POST", f"/v1/keys:{verb}", {"keys": ids})
            assert answer.status_code == refused(role), (role, verb, answer.text)
            assert {api.house.now(key_id).status for key_id in ids} == {"pending"}
    assert api.ask(admin, "POST", "/v1/keys:renew", {"keys": ids}).status_code == 200
    # All or none: what is no key, or is current already, lets none of them become current.
    assert api.ask(admin, "POST", "/v1/keys:activate", {"keys": [*ids, "x" * 12]}).status_code == 404
    assert api.ask(admin, "POST", "/v1/keys:activate", {"keys": [*ids, admin]}).status_code == 409
    assert {api.house.now(key_id).status for key_id in ids} == {"pending"}
    assert api.ask(admin, "POST", "/v1/keys:activate", {"keys": ids}).json() == {"activated": 2}
    assert api.ask(admin, "POST", "/v1/keys:discard", {"keys": ids}).json() == {"outcome": "current"}
    assert {api.house.now(key_id).status for key_id in ids} == {"active"}


@pytest.mark.one_database  # as above
def test_owners_that_may_be_meant_are_those_of_keys_that_the_caller_sees(api: Api) -> None:
    api.house.key(TEAM)
    api.house.key(OTHER)
    for role, seen in (("admin", {TEAM, OTHER}), ("team", {TEAM}), ("plain", {TEAM}), ("team of nobody", set())):
        assert set(api.ask(api.caller(role), "GET", "/v1/owners?like=team-x").json()["owners"]) == seen, role


def test_a_refusal_says_which_right_is_missing_and_is_counted(api: Api) -> None:
    caller = api.caller("plain")
    answer = api.ask(caller, "GET", f"/v1/keys/{api.house.key(OTHER).id}")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (403, "forbidden")
    assert "keyctl:" in problem["hint"]
    api.verifier.flush()
    rows = api.ask(caller, "GET", "/v1/usage?outcome=forbidden").json()
    assert [(row["key_id"], row["outcome"], row["count"]) for row in rows] == [(caller, "forbidden", 1)]


def test_a_page_token_leads_nobody_to_others_keys(api: Api) -> None:
    """Promise 13: the token of an administrator's list, in the hands of a member, is a place in the member's list."""
    for owner in (OTHER, TEAM, OTHER, TEAM):
        api.house.key(owner)
    link = api.ask(api.caller("admin"), "GET", "/v1/keys?limit=1").headers["link"]
    path = link.partition("<")[2].partition(">")[0]
    for role, allowed in (("team", {TEAM}), ("plain", {TEAM}), ("audit", {TEAM, OTHER})):
        found = api.ask(api.caller(role), "GET", path.replace("limit=1", "limit=99")).json()
        assert {key["owner"] for key in found} <= allowed, role
