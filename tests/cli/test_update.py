"""`update`: which keys, what is asked, what is refused, and what is said. Promises 5, 6, 10 and 11."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from alphalens_keyctl.database import Database
from tests.support.answers import assert_failed, ids, refused
from tests.support.commands import Keyctl
from tests.support.key_rows import put
from tests.support.terminal import Session, on_terminal

DAY = timedelta(days=1)


def test_filters_choose_keys_and_one_owner_follows_another(keyctl: Keyctl) -> None:
    """Promise 6."""
    made = [keyctl.create(f"ci-{number}", "--owner", "old@x")[1] for number in range(3)]
    keyctl.create("other", "--owner", "else@x")
    dry = keyctl.ok("update", "--owner", "old@x", "--set-owner", "new@x", "--dry-run")
    assert sorted(dry.stdout.splitlines()) == sorted(
        f"Would update key 'ci-{number}' ({key_id})." for number, key_id in enumerate(made)
    )
    assert {key["owner"] for key in keyctl.keys()} == {"old@x", "else@x"}
    done = keyctl.ok("update", "--owner", "old@x", "--set-owner", "new@x", "--yes")
    assert done.stdout == dry.stdout.replace("Would update", "Updated")
    assert sorted(key["owner"] for key in keyctl.keys()) == ["else@x", "new@x", "new@x", "new@x"]
    told = keyctl.ok("audit", "--action", "key.update", "--json").json
    assert sorted(event["key_id"] for event in told) == sorted(made)
    # A night without changes sends no mail.
    again = keyctl.ok("--quiet", "update", "--owner", "old@x", "--set-owner", "new@x", "--yes")
    assert (again.stdout, again.stderr) == ("", "")


def test_a_filter_changes_no_more_than_was_allowed_and_nothing_that_ends_what_is_used(
    keyctl: Keyctl, database: Database
) -> None:
    now = datetime.now(UTC)
    busy = put(database, "busy", owner="ops", last_used_at=now, use_count=1, expires_at=now + 9 * DAY)
    put(database, "idle", owner="ops")
    put(database, "other")
    ends = ("update", "--owner", "ops", "--set-expires", "1h", "--yes")
    assert busy in refused(keyctl, "key_in_use", *ends)["message"]
    refused(keyctl, "too_many_keys", "update", "--owner", "ops", "--set-purpose", "x", "--yes", "--max", "1")
    refused(keyctl, "too_many_keys", "update", "--name", "*", "--set-purpose", "x", "--yes")
    assert all(key["purpose"] is None for key in keyctl.keys())
    # What lengthens a life, or does not touch it, takes nothing from anybody.
    assert len(keyctl.ok("update", "--owner", "ops", "--set-purpose", "x", "--yes", "--json").json["changed"]) == 2
    keyctl.ok("update", "busy", "--owner", "ops", "--set-expires", "30d", "--yes")
    keyctl.ok(*ends, "--in-use")


def test_a_key_that_a_filter_beside_it_leaves_out_is_an_error_and_none_changes(keyctl: Keyctl) -> None:
    keyctl.create("ci", "--owner", "ops")
    keyctl.create("dev", "--owner", "dev")
    error = refused(keyctl, "wrong_state", "update", "ci", "dev", "--owner", "ops", "--set-purpose", "x", "--yes")
    assert "'dev'" in error["message"]
    assert_failed(keyctl("update", "ci", "nobody", "--set-purpose", "x", "--json"), 3, "key_not_found")
    assert {key["purpose"] for key in keyctl.keys()} == {None}


CONTRADICTIONS: Final[list[tuple[list[str], str, str]]] = [
    (["ci"], "usage", "--set-owner OWNER"),
    (["ci", "--owner", "new"], "usage", "--owner and --label select keys here and set nothing"),
    (["--set-owner", "x"], "usage", "which keys"),
    (["ci", "--set-owner", "x", "--unset", "owner"], "usage", "--set-owner and --unset owner"),
    (["ci", "--set-expires", "1d", "--unset", "expires"], "usage", "--set-expires and --unset expires"),
    (["ci", "--set-label", "a=b", "--unset", "label:a"], "usage", "--unset label:a"),
    (["ci", "--unset", "name"], "usage", "owner, purpose, expires, scopes, allow-from, label:K"),
    (["ci", "--unset", ""], "usage", "owner, purpose, expires, scopes, allow-from, label:K"),
    (["ci", "--unset", "label"], "usage", "owner, purpose, expires, scopes, allow-from, label:K"),
    (["ci", "--unset", "label:"], "invalid_input", "label"),
    (["ci", "--unset", "scope:A"], "invalid_input", "Write a."),
    (["ci", "--unset", "scope:"], "invalid_input", "is empty"),
    (["ci", "--unset", "allow-from:any"], "invalid_input", "neither a network nor an address"),
    (["ci", "--set-scope", "a::b"], "invalid_input", "prices:read"),
    (["ci", "--set-scope", "a", "--unset", "scope:a"], "usage", "--set-scope a and --unset scope:a"),
    (["ci", "--set-scope", "a", "--unset", "scopes"], "usage", "--set-scope and --unset scopes"),
    (["ci", "--unset", "scope:a", "--unset", "scopes"], "usage", "--unset scopes"),
    (["ci", "--set-allow-from", "::1", "--unset", "allow-from"], "usage", "--unset allow-from"),
    (["ci", "--set-allow-from", "seen:1d", "--unset", "allow-from"], "usage", "--unset allow-from"),
    (["ci", "--set-allow-from", "10.0.0.1/8"], "invalid_input", "10.0.0.0/8"),
    (["ci", "--set-allow-from", "seen:1d"], "usage", "Add --yes"),
    (["ci", "--set-allow-from", "seen:x", "--yes"], "invalid_input", "time of use"),
    (["ci", "dev", "--set-allow-from", "seen:1d", "--yes"], "usage", "takes one KEY"),
    (["ci", "--set-allow-from", "seen:1d", "--yes"], "invalid_input", "not used from a known address"),
    # What a key may do all the same is not taken away.
    (["ci", "--unset", "scope:a"], "invalid_input", "it is not restricted"),
    (["ci", "--unset", "label:A B"], "invalid_input", "label"),
    (["ci", "dev", "--set-name", "x"], "usage", "--set-name takes one KEY"),
    (["--owner", "x", "--set-name", "x", "--yes"], "usage", "--set-name takes one KEY"),
    (["ci", "--set-name", "-"], "invalid_input", "lone '-'"),
    (["ci", "--set-label", "a=b", "--set-label", "a=c"], "invalid_input", "given twice"),
    (["ci", "--set-expires", "2020-01-01"], "invalid_input", "past"),
    (["ci", "--set-expires", "101y"], "invalid_input", "expiry"),
    (["ci", "--set-expires", "36526d"], "invalid_input", "hundred years"),
    (["ci", "--set-expires", "0"], "invalid_input", "expiry"),
    (["ci", "--set-owner", ""], "invalid_input", "is empty"),
    (["ci", "--set-owner", "x", "--max", "3"], "usage", "--max and --in-use are for filters"),
    (["--owner", "a", "--set-owner", "x"], "usage", "Add --yes"),
]


@pytest.mark.one_database
def test_what_contradicts_itself_or_says_nothing_is_refused(keyctl: Keyctl) -> None:
    keyctl.create("ci", "--owner", "a")
    keyctl.create("dev")
    before = keyctl.keys()
    for arguments, code, said in CONTRADICTIONS:
        error = refused(keyctl, code, "update", *arguments)
        assert said in f"{error['message']} {error['hint']}", arguments
    assert keyctl.keys() == before


@pytest.mark.one_database
def test_on_a_terminal_the_question_says_what_is_set_on_which_keys(keyctl: Keyctl) -> None:
    """Promise 10: stdout holds the result alone."""
    _, key_id = keyctl.create("ci", "--purpose", "old")
    new = ("--set-owner", "ops", "--unset", "purpose", "--set-expires", "2099-01-01", "--set-label", "a=b")
    session = Session(keyctl, "update", "ci", *new, elsewhere=("stdout",), width=200)
    session.wait_for("Set owner 'ops', expiry 2099-01-01T00:00:00Z, no purpose, label a=b on this key? [y/N]:")
    session.type(b"y\n")
    shown = session.end()
    assert (shown.status, shown.stdout) == (0, f"Updated key 'ci' ({key_id}).\n")
    assert f"ci ({key_id}, active): never used" in shown.text
    assert "?" not in on_terminal(keyctl, "update", "ci", "--set-owner", "dev", "--yes").text
    session = Session(keyctl, "update", "ci", "--set-owner", "else")
    session.wait_for("Set owner 'else' on this key? [y/N]:")
    session.type(b"n\n")
    assert session.end().status == 1
    assert keyctl.keys()[0]["owner"] == "dev"


@pytest.mark.one_database
def test_the_log_shows_people_what_became_what(keyctl: Keyctl) -> None:
    keyctl.create("ci", "--label", "a=b", "--owner", "ops")
    keyctl.ok("update", "ci", "--set-owner", "dev", "--unset", "label:a", "--set-purpose", "x", "--reason", "moved")
    shown = on_terminal(keyctl, "audit", "--action", "key.update", width=200).text
    assert "): moved; label a b → none; owner ops → dev; purpose none → x" in " ".join(shown.split())


@pytest.mark.one_database
def test_whoever_renames_a_key_hears_what_keeps_the_old_name(keyctl: Keyctl) -> None:
    _, key_id = keyctl.create("ci")
    done = keyctl.ok("update", "ci", "--set-name", "deploy")
    assert done.stdout == f"Updated key 'deploy' ({key_id}).\n"
    assert "keeps it" in done.stderr
    assert keyctl.ok("--quiet", "update", "deploy", "--set-name", "again").stderr == ""
    assert ids(keyctl.ok("update", "again", "--set-name", "x", "--dry-run", "--json").json["changed"]) == [key_id]
    assert keyctl.keys()[0]["name"] == "again"
