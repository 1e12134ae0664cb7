"""A row that holds what no program of ours wrote harms itself alone (promise 14)."""

import csv
import io
import json

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.models import Key, Reason
from tests.support import unguarded
from tests.support.commands import Keyctl
from tests.support.databases import dialect
from tests.support.raw_keys import key_id
from tests.support.terminal import on_terminal

NO_TIME = "2030-19-39 29:59:59.000000"
DAMAGE = {
    "sqlite": [
        *(f"{column} = '{NO_TIME}'" for column in ("created_at", "expires_at", "last_used_at", "suspended_at")),
        "created_at = CAST(created_at AS BLOB)",
        "last_used_at = 17",
        "name = CAST(x'ff6369' AS TEXT)",
        "name = CAST(name AS BLOB)",
        "owner = CAST(x'c328' AS TEXT)",
        "purpose = x'00ff'",
        "labels = '{\"a\": 1}'",
        'labels = \'{"a": {"b": null}}\'',
        "labels = 'no object'",
        "labels = CAST(x'7b2261223a22ff227d' AS TEXT)",
        "use_count = 'many'",
        *(
            f"{column} = '{texts}'"
            for column in ("scopes", "allow_from")
            for texts in ("null", "{}", "[1]", '[""]', "no list", '["A b"]', '["*"]')
        ),
        "scopes = '[\"a\", null]'",
        "allow_from = '[\"10.0.0.1/8\"]'",
        "created_by = x'ff'",
    ],
    "postgresql": [
        *(f"{column} = 'infinity'" for column in ("created_at", "expires_at", "last_used_at", "suspended_at")),
        "last_used_at = '-infinity'",
        "created_at = '0044-03-15 00:00:00+00 BC'",
        "expires_at = '12026-01-01 00:00:00+00'",
        "labels = '{\"a\": 1}'",
        *(f"{column} = '{texts}'" for column in ("scopes", "allow_from") for texts in ("[1]", '[""]', '["*"]')),
        "first_used_at = '294276-12-31 23:59:59+00'",
        "grace_after_use = 9223372036854775807, awaits_use_of = id, retires_at = now(), first_used_at = now()",
    ],
}
# Which of them a reader of keys never meets: the clock reckons with them inside the database.
UNSEEN = ("first_used_at", "grace_after_use")


def made(keyctl: Keyctl, database: Database) -> dict[str, str]:
    """A raw key for each way to damage a key: how, by the raw key. Beside them stand 'first' and 'last'."""
    ways = DAMAGE[dialect(database)]
    names = ["first", *(f"damaged-{number}" for number in range(len(ways))), "last"]
    (keyctl.home / "fleet.csv").write_text("name,owner\n" + "".join(f"{name},ops\n" for name in names))
    told = keyctl.ok("create", "--from", "fleet.csv").stdout.splitlines()
    return dict(zip([json.loads(line)["raw_key"] for line in told[1:-1]], ways, strict=True))


@pytest.fixture
def damaged(keyctl: Keyctl, database: Database) -> dict[str, str]:
    """Keys, each damaged in its own way: by id, how. Beside them stand 'first' and 'last'."""
    ways = {key_id(raw): damage for raw, damage in made(keyctl, database).items()}
    for ident, damage in ways.items():
        unguarded.write(database, f"UPDATE api_key SET {damage} WHERE id = '{ident}'")
    return ways


def first_of_each_column(damaged: dict[str, str]) -> set[str]:
    """The ids of a key for each column that is damaged."""
    return set({damage.partition(" ")[0]: ident for ident, damage in reversed(damaged.items())}.values())


def seen(damage: str) -> bool:
    return not damage.startswith(UNSEEN)


def test_every_format_of_a_list_shows_damaged_keys_beside_the_others(keyctl: Keyctl, damaged: dict[str, str]) -> None:
    """Promise 14."""
    lists = {
        "json": keyctl.ok("list", "--all", "--json").json,
        "jsonl": list(map(json.loads, keyctl.ok("list", "--all", "--jsonl").stdout.splitlines())),
        "csv": list(csv.DictReader(io.StringIO(keyctl.ok("list", "--all", "--csv").stdout))),
    }
    for form, keys in lists.items():
        assert all(list(key) == list(Key._fields) for key in keys), form
        shown = {key["id"]: key["status"] for key in keys}
        assert len(shown) == len(damaged) + 2, form
        told = {ident: shown[ident] for ident in damaged if seen(damaged[ident])}
        assert told == dict.fromkeys(told, "damaged"), form
        assert [key["status"] for key in keys if key["name"] in ("first", "last")] == ["active", "active"], form
    for key in lists["json"]:
        assert "2030-19-39" not in json.dumps(key)
    piped = keyctl.ok("list", "--all").stdout
    assert {line.split("\t")[1]: line.split("\t")[2] for line in piped.splitlines()} == {
        key["id"]: key["status"] for key in lists["json"]
    }
    for width in (50, 80, 160):
        table = on_terminal(keyctl, "list", "--all", width=width).text
        assert all(name in table for name in ("first", "last", *damaged)), width
    for form in ("--json", "--jsonl", "--csv"):
        # The column that is damaged is none of those that were asked for.
        said = keyctl.ok("list", "--all", "--columns", "id,status", form).stdout
        assert said.count("damaged") == sum(map(seen, damaged.values())), form


def test_a_damaged_key_is_shown_and_others_are_as_if_it_were_not_there(
    keyctl: Keyctl, damaged: dict[str, str], database_url: str
) -> None:
    """Promises 8 and 14."""
    for ident, damage in damaged.items():
        shown = keyctl.ok("show", ident, "--json").json
        assert (shown["id"], shown["status"] == "damaged") == (ident, seen(damage)), damage
        if ident in first_of_each_column(damaged):
            assert ident in keyctl.ok("show", ident).stdout, damage
    raw = keyctl.ok("rotate", "first").stdout.strip()
    with KeyVerifier(database_url) as verifier:
        assert verifier.verify(raw).reason is Reason.OK
    assert keyctl.ok("show", "first", "--json").json["use_count"] == 1
    assert keyctl("audit", "check", "--json").status == 5
    keyctl.ok("audit", "usage")
    keyctl.ok("revoke", "first", "--yes")
    keyctl.ok("suspend", "--name", "la*", "--yes", "--json")


def test_a_damaged_key_opens_nothing(keyctl: Keyctl, database: Database, database_url: str) -> None:
    """Promise 9."""
    with KeyVerifier(database_url, usage="off") as verifier:
        raw_keys = made(keyctl, database)
        for raw in raw_keys:
            assert verifier.verify(raw).allowed
    for raw, damage in raw_keys.items():
        unguarded.write(database, f"UPDATE api_key SET {damage} WHERE id = '{key_id(raw)}'")
    with KeyVerifier(database_url, usage="off") as verifier:
        for raw, damage in raw_keys.items():
            if seen(damage):
                assert verifier.verify(raw).reason is Reason.UNAVAILABLE, damage


def test_a_damaged_key_is_revoked_by_its_id_alone_and_with_others(keyctl: Keyctl, damaged: dict[str, str]) -> None:
    """Promises 5, 6 and 14."""
    for ident, damage in damaged.items():
        done = keyctl("revoke", ident, "--json")
        assert done.status == 0, (damage, done)
        (key,) = done.json["changed"]
        assert (key["id"], key["revoked_at"] is not None) == (ident, True), damage
        if ident in first_of_each_column(damaged):
            assert "was revoked already" in keyctl.ok("revoke", ident).stdout or seen(damage), damage
    keyctl.ok("audit", "--jsonl")
    assert keyctl.ok("audit", "verify", "--json").json["sound"]


def test_filters_do_not_ask_for_what_no_database_can_look_for(keyctl: Keyctl) -> None:
    refused = keyctl("list", "--status", "damaged", "--json")
    assert (refused.status, refused.error["code"]) == (2, "usage")
