"""Scopes and networks on the command line, and what a change of them does. Promises 5, 6, 10, 12 and 13."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from tests.support.answers import ids, refused
from tests.support.commands import Keyctl
from tests.support.key_rows import put
from tests.support.terminal import Session, on_terminal
from tests.support.usage_rows import record, usage_row

LIMITS = (
    "--scope",
    "reports:*",
    "--scope",
    "prices:read",
    "--allow-from",
    "2001:DB8::/32",
    "--allow-from",
    "10.0.0.0/8",
)
SCOPES = ["prices:read", "reports:*"]
NETWORKS = ["10.0.0.0/8", "2001:db8::/32"]


def limits(key: dict[str, Any]) -> tuple[Any, Any]:
    return key["scopes"], key["allow_from"]


def allows(keyctl: Keyctl, raw: str, *options: str) -> str:
    answer: str = keyctl("verify", *options, "--json", stdin=raw.encode()).json["reason"]
    return answer


def test_a_key_has_the_scopes_and_networks_it_was_made_with_and_so_has_its_successor(keyctl: Keyctl) -> None:
    """Promise 6."""
    raw, key_id = keyctl.create("ci", *LIMITS)
    free, _ = keyctl.create("free")
    by_name = {key["name"]: key for key in keyctl.keys()}
    assert {key["status"] for key in by_name.values()} == {"active"}
    assert limits(by_name["ci"]) == (SCOPES, NETWORKS)
    assert limits(by_name["free"]) == (None, None)
    (made,) = keyctl.ok("audit", "--key", "ci", "--action", "key.create", "--json").json
    assert (made["detail"]["scopes"], made["detail"]["allow_from"]) == (SCOPES, NETWORKS)
    here = ("--address", "10.1.2.3")
    for options, reason in (
        ((), "address"),
        (here, "ok"),
        ((*here, "--scope", "prices:read", "--scope", "reports:daily:eu"), "ok"),
        ((*here, "--scope", "prices:write"), "scope"),
        (("--address", "192.0.2.1", "--scope", "prices:write"), "address"),
        (("--address", "2001:db8::7"), "ok"),
    ):
        assert allows(keyctl, raw, *options) == reason, options
    assert keyctl("verify", "--address", "192.0.2.1", stdin=raw.encode()).stdout == (
        f"Refused: key 'ci' ({key_id}) opens from 10.0.0.0/8 2001:db8::/32 alone.\n"
    )
    assert allows(keyctl, free, "--scope", "prices:write") == "ok"
    assert allows(keyctl, free, "--scope", "keyctl:admin") == "scope"
    successor = keyctl.ok("rotate", "ci", "--json").json
    assert limits(successor["key"]) == (SCOPES, NETWORKS)
    assert allows(keyctl, successor["raw_key"], *here, "--scope", "x") == "scope"


def test_every_format_of_a_list_has_scopes_and_networks_and_create_reads_them_back(keyctl: Keyctl) -> None:
    keyctl.create("ci", *LIMITS)
    keyctl.create("free")
    columns = ("--columns", "name,scopes,allow_from")
    assert keyctl.ok("list", *columns, "--sort", "name").stdout == (
        f"ci\t{' '.join(SCOPES)}\t{' '.join(NETWORKS)}\nfree\t\t\n"
    )
    exported = keyctl.ok("list", "--csv").stdout
    assert json.dumps(SCOPES).replace('"', '""') in exported
    table = on_terminal(keyctl, "list", *columns, width=120).text
    assert "prices:read reports:*" in table
    keyctl.ok("revoke", "ci", "free", "--yes")
    for form in ("--csv", "--jsonl"):
        listed = keyctl.ok("list", "--status", "revoked", form).stdout
        names = listed.replace("ci,", f"ci{form},").replace('"ci"', f'"ci{form}"').replace("free", f"free{form}")
        keyctl.ok("create", "--from", "-", stdin=names.encode())
        found = {key["name"]: limits(key) for key in keyctl.keys()}
        assert found[f"ci{form}"] == (SCOPES, NETWORKS)
        assert found[f"free{form}"] == (None, None)


def test_an_update_adds_and_takes_away_and_lifts_a_restriction_only_when_told(keyctl: Keyctl) -> None:
    """Promises 6 and 13."""
    _, key_id = keyctl.create("ci")

    def after(*options: str) -> tuple[Any, Any]:
        keyctl.ok("update", "ci", *options)
        return limits(keyctl.keys()[0])

    assert after("--set-scope", "prices:read") == (["prices:read"], None)
    assert after("--set-scope", "a:*", "--set-scope", "prices:read") == (["a:*", "prices:read"], None)
    assert after("--unset", "scope:prices:read", "--set-allow-from", "::1") == (["a:*"], ["::1"])
    assert after("--set-allow-from", "10.0.0.0/8", "--unset", "allow-from:::1") == (["a:*"], ["10.0.0.0/8"])
    for what, said in (
        ("scope:a:*", "would have no scope left"),
        ("scope:a:b", "another one covers that"),
        ("allow-from:10.0.0.0/8", "would have no network left"),
        ("allow-from:10.1.0.0/16", "another one covers that"),
    ):
        assert said in refused(keyctl, "invalid_input", "update", "ci", "--unset", what)["message"]
    assert limits(keyctl.keys()[0]) == (["a:*"], ["10.0.0.0/8"])
    many = [part for number in range(50) for part in ("--set-scope", f"b:{number}")]
    assert "51 scopes" in refused(keyctl, "invalid_input", "update", "ci", *many)["message"]
    assert "has these values already" in keyctl.ok("update", "ci", "--unset", "scope:z", "--set-scope", "a:*").stdout
    assert after("--unset", "scopes", "--unset", "allow-from") == (None, None)
    last = keyctl.ok("audit", "--key", key_id, "--json").json[-1]["detail"]
    assert last["before"] == {"scopes": ["a:*"], "allow_from": ["10.0.0.0/8"]}
    assert last["after"] == {"scopes": None, "allow_from": None}


def test_a_restriction_reaches_the_old_key_of_a_rotation_too_and_every_key_alone_by_its_id(keyctl: Keyctl) -> None:
    """Promise 5: an old key that did what the new one may not would undo the restriction."""
    old, old_id = keyctl.create("ci", "--owner", "ops")
    new = keyctl.ok("rotate", "ci").stdout.strip()
    keyctl.ok("update", "ci", "--set-scope", "prices:read", "--set-allow-from", "10.0.0.0/8")
    for raw in (old, new):
        assert allows(keyctl, raw, "--address", "10.0.0.1", "--scope", "prices:read") == "ok"
        assert allows(keyctl, raw, "--address", "10.0.0.1", "--scope", "x") == "scope"
        assert allows(keyctl, raw, "--scope", "prices:read") == "address"
    keyctl.ok("update", old_id, "--set-scope", "x")
    assert {key["id"] == old_id: key["scopes"] for key in keyctl.keys()} == {
        True: ["prices:read", "x"],
        False: ["prices:read"],
    }
    # What restricts nothing stays with the key that was named.
    keyctl.ok("update", "ci", "--set-owner", "dev")
    assert {key["id"] == old_id: key["owner"] for key in keyctl.keys()} == {True: "ops", False: "dev"}


def test_a_filter_by_scope_selects_the_keys_that_may_do_it(keyctl: Keyctl) -> None:
    """Promise 13: who administers keys says so in its own row."""
    keys = {
        name: keyctl.create(name, *(part for scope in scopes for part in ("--scope", scope)))[1]
        for name, scopes in {
            "free": (), "reader": ("prices:read",), "all": ("prices:*",), "admin": ("keyctl:admin", "x"),
        }.items()
    }  # fmt: skip
    for wanted, found in (
        (("prices:read",), {"free", "reader", "all"}),
        (("prices:*",), {"free", "all"}),
        (("prices:read", "x"), {"free"}),
        (("keyctl:admin",), {"admin"}),
        (("keyctl:team",), set()),
    ):
        options = [part for scope in wanted for part in ("--scope", scope)]
        assert set(ids(keyctl.ok("list", *options, "--json").json)) == {keys[name] for name in found}, wanted
    dry = keyctl.ok("revoke", "--scope", "keyctl:admin", "--dry-run", "--json").json
    assert ids(dry["changed"]) == [keys["admin"]]


def test_a_filter_narrows_no_key_that_is_in_use_without_being_told(keyctl: Keyctl, database: Database) -> None:
    busy = put(database, "busy", owner="ops", last_used_at=datetime.now(UTC), use_count=1)
    limited = put(database, "limited", owner="dev", last_used_at=datetime.now(UTC), use_count=1, scopes=("a", "b"))
    put(database, "other")
    for owner, key_id, change in (
        ("ops", busy, ("--set-scope", "a")),
        ("ops", busy, ("--set-allow-from", "::1")),
        ("dev", limited, ("--unset", "scope:a")),
    ):
        assert key_id in refused(keyctl, "key_in_use", "update", "--owner", owner, *change, "--yes")["message"]
        keyctl.ok("update", "--owner", owner, *change, "--yes", "--in-use", "--dry-run")
    keyctl.ok("update", "--owner", "dev", "--set-scope", "c", "--yes")  # it widens


@pytest.mark.one_database
def test_a_dry_run_and_the_question_say_that_a_first_scope_narrows(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    dry = keyctl.ok("update", "ci", "--set-scope", "a", "--dry-run")
    assert "This narrows: 1 key may do everything so far" in dry.stderr
    session = Session(keyctl, "update", "ci", "--set-scope", "a", "--set-allow-from", "::1", width=240)
    session.wait_for("may be used from anywhere so far")
    session.type(b"n\n")
    shown = session.end()
    assert "Set scope a, use from ::1 on this key?" in shown.text
    assert limits(keyctl.keys()[0]) == (None, None)


def test_networks_are_proposed_from_where_a_key_and_its_predecessors_were_used(
    keyctl: Keyctl, database: Database
) -> None:
    _, old_id = keyctl.create("ci")
    keyctl.ok("rotate", "ci")
    new_id = next(key["id"] for key in keyctl.keys() if key["id"] != old_id)
    now = datetime.now(UTC)
    record(
        database,
        [
            *(usage_row(now, old_id, client_ip=f"192.0.2.{number}") for number in (1, 7)),
            usage_row(now, new_id, client_ip="10.1.2.3"),
            usage_row(now, new_id, client_ip="2001:db8::1"),
            usage_row(now, new_id, client_ip=None),
            usage_row(now, new_id, client_ip="no address"),
            usage_row(now, new_id, "expired", client_ip="6.6.6.6"),
            usage_row(now - timedelta(days=31), new_id, client_ip="7.7.7.7"),
            usage_row(now, client_ip="8.8.8.8"),
        ],
    )
    wanted = ["10.1.2.3", "192.0.2.0/24", "2001:db8::1"]
    shown = keyctl.ok("update", "ci", "--set-allow-from", "seen:30d", "--yes", "--dry-run", "--json")
    assert limits(keyctl.keys()[0]) == (None, None)
    done = keyctl.ok("update", "ci", "--set-allow-from", "seen:30d", "--yes")
    assert {tuple(key["allow_from"]) for key in keyctl.keys()} == {tuple(wanted)}
    for said in ("192.0.2.0/24: 2 uses from 2 addresses", "10.1.2.3: 1 use", "2 uses from no known address"):
        assert said in done.stderr
    assert shown.stderr == done.stderr or "This narrows" in shown.stderr


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("option", "values", "code", "hint"),
    [
        ("--scope", ["A:b"], "invalid_input", "Write a:b."),
        ("--scope", ["*"], "invalid_input", "leave the option out"),
        ("--scope", ["keyctl:*"], "invalid_input", "keyctl:admin"),
        ("--scope", ["a" * 65], "invalid_input", "64 characters"),
        ("--scope", [f"a:{number}" for number in range(51)], "invalid_input", "wildcard"),
        ("--allow-from", ["10.1.2.3/8"], "invalid_input", "Write 10.0.0.0/8"),
        ("--allow-from", ["fe80::1%eth0"], "invalid_input", "10.0.0.0/8"),
        ("--allow-from", [f"10.0.0.{number}" for number in range(51)], "invalid_input", "shorter length"),
    ],
)
def test_malformed_and_too_many_scopes_and_networks_are_refused_and_no_key_is_made(
    keyctl: Keyctl, option: str, values: list[str], code: str, hint: str
) -> None:
    words = [part for value in values for part in (option, value)]
    assert hint in refused(keyctl, code, "create", "ci", *words)["hint"]
    assert keyctl("list", "--json").stdout in ("[]\n", "")


@pytest.mark.one_database
def test_a_raw_key_in_place_of_a_scope_network_or_address_is_not_repeated(keyctl: Keyctl) -> None:
    """Promise 1."""
    raw = generate().reveal()
    for command in (
        ("create", "ci", "--scope", raw), ("create", "ci", "--allow-from", raw), ("list", "--scope", raw),
        ("verify", "--scope", raw), ("verify", "--address", raw), ("update", "ci", "--unset", f"scope:{raw}"),
    ):  # fmt: skip
        failed = keyctl(*command, stdin=b"")
        assert failed.status == 2, command
        assert raw[17:60] not in failed.stdout + failed.stderr, command
