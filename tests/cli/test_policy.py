"""`policy set` and `policy show`: what is said, what is refused, and what is on record. Promises 6 and 10."""

import re

import pytest

from tests.support.answers import refused
from tests.support.commands import Keyctl

ALL = ("--max-lifetime", "52w", "--require", "purpose, OWNER", "--require", "expires", "--name-pattern", "team-*")


def test_what_is_set_stays_until_it_is_set_anew_or_taken_away_each_time_with_an_event(keyctl: Keyctl) -> None:
    """Promise 6."""
    keyctl.create("old")
    nothing: dict[str, object] = {"max_lifetime": None, "require": [], "name_pattern": None}
    every = {"max_lifetime": "364d", "require": ["owner", "purpose", "expires"], "name_pattern": "team-*"}
    assert keyctl.ok("policy", "show", "--json").json == nothing
    assert keyctl.ok("policy", "show").stdout == "There is no policy: a key may be anything.\n"
    done = keyctl.ok("--actor", "jo", "policy", "set", *ALL, "--reason", "audit finding 7")
    assert done.stdout.splitlines() == [
        "Every key lives at most 364 days from its creation.",
        "Every key has an owner and a purpose and an expiry.",
        "Every name is like 'team-*'.",
    ]
    assert done.stderr == "1 key stands outside it: 'alphalens-keyctl audit check' says which.\n"
    assert keyctl.ok("policy", "show").stdout == done.stdout
    assert keyctl.ok("policy", "set", *ALL, "--json").json == every
    less = keyctl.ok(
        "policy", "set", "--unset", "require", "--unset", "name-pattern", "--max-lifetime", "90m", "--json"
    )
    assert less.json == {"max_lifetime": "90m", "require": [], "name_pattern": None}
    assert less.stderr == ""
    keyctl.ok("policy", "set", "--unset", "max-lifetime")
    first, *rest = keyctl.ok("audit", "--action", "policy.set", "--json").json
    assert (first["actor"], first["key_id"], first["key_name"]) == ("jo", None, None)
    detail = first["detail"]
    assert (detail["before"], detail["after"], detail["reason"]) == (nothing, every, "audit finding 7")
    # What stood already is no change.
    assert [event["detail"]["after"] for event in rest] == [less.json, nothing]
    assert keyctl("audit", "verify").status == 0


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], "usage", "--max-lifetime 365d"),
        (["--require", "owner,label"], "usage", "owner, purpose, expires"),
        (["--require", ""], "usage", "owner, purpose, expires"),
        (["--unset", "owner"], "usage", "max-lifetime, require, name-pattern"),
        (["--unset", "require", "--require", "owner"], "usage", "--require and --unset require"),
        (["--max-lifetime", "1d", "--unset", "max-lifetime"], "usage", "--unset max-lifetime"),
        (["--max-lifetime", "0d"], "invalid_input", "nothing"),
        (["--max-lifetime", "36526d"], "invalid_input", "hundred years"),
        (["--max-lifetime", "never"], "invalid_input", "duration"),
        (["--name-pattern", ""], "invalid_input", "empty"),
        (["--name-pattern", "a", "--reason", ""], "invalid_input", "reason is empty"),
    ],
)
def test_what_contradicts_itself_or_says_nothing_is_refused(
    keyctl: Keyctl, arguments: list[str], code: str, said: str
) -> None:
    error = refused(keyctl, code, "policy", "set", *arguments)
    assert said in f"{error['message']} {error['hint']}"
    assert keyctl.ok("audit", "--json").json == []


@pytest.mark.one_database
def test_a_refusal_names_the_expiry_that_would_pass(keyctl: Keyctl) -> None:
    keyctl.create("old", "--expires", "10d")
    keyctl.ok("policy", "set", "--max-lifetime", "30d")
    for command, asked in ((("create", "new"), ()), (("update", "old"), ("--set-expires", "1y"))):
        done = keyctl(*command, *asked)
        assert done.status == 2
        named = re.search(r"hint: (--\S+ \S+) would pass", done.stderr)
        assert named is not None, done.stderr
        keyctl.ok(*command, *named[1].split())
