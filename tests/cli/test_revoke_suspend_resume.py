"""`revoke`, `suspend` and `resume`, by name and by filter: what is shown, what is asked, what is refused, and what
verifiers make of it. Promises 5, 6, 10 and 11.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from sqlalchemy import insert

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.models import Reason, key_table
from tests.support.answers import ids, statuses
from tests.support.commands import Keyctl
from tests.support.databases import mostly_on_sqlite, one_database
from tests.support.freshness import NEVER, TOLD, assert_revocation_counts, until, wait_until_told
from tests.support.key_rows import change, key_row, put
from tests.support.terminal import CTRL_C, CTRL_D, Session, on_terminal

DAY: Final = timedelta(days=1)
VERBS: Final = ("revoke", "suspend", "resume")
# One mechanism serves the three.
EACH: Final = mostly_on_sqlite(VERBS, on_both=("suspend",))
DONE: Final = {"revoke": "Revoked", "suspend": "Suspended", "resume": "Resumed"}
AFTER: Final = {"revoke": "revoked", "suspend": "suspended", "resume": "active"}


def fleet(database: Database, *, suspended: bool = False, number: int = 5) -> list[str]:
    """Keys of one owner, and one more of another's; returns the ids of the first, in order."""
    now = datetime.now(UTC)
    off: dict[str, Any] = {"suspended_at": now - DAY} if suspended else {}
    put(database, "other", owner="dev", **off)
    return sorted(
        put(database, f"ci-{each}", owner="ops", created_at=now - each * DAY, **off) for each in range(number)
    )


def state(keyctl: Keyctl) -> tuple[str, str]:
    """All that can be changed: every key, and the log."""
    return keyctl.ok("list", "--all", "--json").stdout, keyctl.ok("audit", "--jsonl").stdout


@pytest.mark.parametrize("verb", EACH)
def test_a_dry_run_shows_the_rows_of_the_real_run_and_changes_nothing(
    keyctl: Keyctl, database: Database, verb: str
) -> None:
    selected = fleet(database, suspended=verb == "resume")
    already = put(database, "already", owner="ops", revoked_at=datetime.now(UTC), revoked_by="sql")
    before = state(keyctl)
    by_filter, by_name = ("--owner", "ops"), (selected[3], already, selected[0], "other")
    dry = keyctl.ok(verb, *by_filter, "--dry-run")
    assert [line.split(" key ")[0] for line in dry.stdout.splitlines()] == [f"Would {verb}"] * 5
    documents = [keyctl.ok(verb, *choice, "--dry-run", "--json").json for choice in (by_filter, by_name)]
    named = keyctl.ok(verb, *by_name, "--dry-run").stdout
    assert state(keyctl) == before
    assert {document["dry_run"] for document in documents} == {True}
    assert [ids(document["changed"]) for document in documents] == [
        selected, [selected[3], selected[0], *(key["id"] for key in keyctl.keys() if key["name"] == "other")],
    ]  # fmt: skip
    assert ids(documents[1]["unchanged"]) == [already]
    real = keyctl.ok(verb, *by_filter, "--yes")
    assert real.stdout == dry.stdout.replace(f"Would {verb}", DONE[verb])
    back = {"revoke": None, "suspend": "resume", "resume": "suspend"}[verb]
    if back is not None:
        keyctl.ok(back, *selected)
        assert keyctl.ok(verb, *by_name).stdout == named.replace(f"Would {verb}", DONE[verb])


@pytest.mark.parametrize("verb", EACH)
def test_json_tells_every_key_that_changed_as_it_is_now_and_every_one_that_did_not(
    keyctl: Keyctl, database: Database, verb: str
) -> None:
    """Promise 10."""
    selected = fleet(database, suspended=verb == "resume")
    done = keyctl.ok(verb, "--owner", "ops", "--yes", "--json", "--reason", "tidying")
    assert done.stdout.isascii()
    assert done.stderr == ""
    document = done.json
    assert list(document) == ["changed", "unchanged", "still_open", "dry_run"]
    assert (ids(document["changed"]), document["unchanged"], document["dry_run"]) == (selected, [], False)
    stored = {key["id"]: key for key in keyctl.keys()}
    for key in document["changed"]:
        assert key == stored[key["id"]]
        assert key["status"] == AFTER[verb]
        assert (key["suspended_at"] is None) == (verb != "suspend")
        assert key["revoke_reason"] == ("tidying" if verb == "revoke" else None)


@pytest.mark.parametrize("verb", VERBS)
def test_each_key_that_changed_has_an_event_with_the_reason_and_what_it_was(
    keyctl: Keyctl, database: Database, verb: str
) -> None:
    """Promise 6."""
    selected = fleet(database, suspended=verb == "resume")
    keyctl.ok("--actor", "cron", verb, "--owner", "ops", "--yes", "--reason", "tidying <b>")
    events = keyctl.ok("audit", "--json").json
    assert [event["key_id"] for event in events] == selected
    for event in events:
        assert (event["action"], event["actor"]) == (f"key.{verb}", "cron")
        assert event["detail"]["reason"] == "tidying <b>"
        assert event["detail"]["was"] == ("suspended" if verb == "resume" else "active")
    assert keyctl("audit", "verify", "--log-only").status == 0


@pytest.mark.parametrize("verb", EACH)
def test_doing_it_again_changes_nothing_and_is_fine(keyctl: Keyctl, database: Database, verb: str) -> None:
    selected = fleet(database, suspended=verb == "resume")
    keyctl.ok(verb, "--owner", "ops", "--yes")
    before = state(keyctl)
    again = keyctl.ok(verb, "--owner", "ops", "--yes", "--json").json
    assert again["changed"] == []
    # A filter of `revoke` leaves out what is revoked; `resume` by filter means suspended keys.
    assert ids(again["unchanged"]) == (selected if verb == "suspend" else [])
    named = keyctl.ok(verb, *selected, "--json").json
    assert (named["changed"], ids(named["unchanged"])) == ([], selected)
    assert state(keyctl) == before


def test_what_was_suspended_is_as_it_was_once_it_is_resumed(keyctl: Keyctl) -> None:
    raw, key_id = keyctl.create("ci", "--owner", "ops", "--expires", "30d", "--label", "team=billing")
    before = keyctl.keys()
    assert keyctl.ok("suspend", "ci", "--reason", "quiet").stdout == f"Suspended key 'ci' ({key_id}).\n"
    assert not keyctl.opens(raw)
    assert keyctl.ok("suspend", "ci").stdout == f"Key 'ci' ({key_id}) is suspended: left as it is.\n"
    assert keyctl.ok("resume", key_id[:8]).stdout == f"Resumed key 'ci' ({key_id}).\n"
    assert keyctl.ok("resume", "ci").stdout == f"Key 'ci' ({key_id}) is active: left as it is.\n"
    assert keyctl.opens(raw)
    assert keyctl.keys() == before
    actions = [event["action"] for event in keyctl.ok("audit", "--key", "ci", "--json").json]
    assert actions == ["key.create", "key.activate", "key.suspend", "key.resume"]


def test_only_keys_that_open_or_could_are_suspended(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    going = put(database, "going", retires_at=now + DAY)
    past = put(database, "past", expires_at=now - DAY)
    rest = [
        put(database, "left", retires_at=now - DAY),
        put(database, "gone", revoked_at=now, revoked_by="sql"),
        put(database, "pending", activated_at=None, lease_until=now + timedelta(minutes=5)),
    ]
    document = keyctl.ok("suspend", going, past, *rest, "--json").json
    assert (ids(document["changed"]), ids(document["unchanged"])) == ([going, past], rest)
    assert [key["status"] for key in document["unchanged"]] == ["retired", "revoked", "pending"]
    keyctl.ok("resume", going)
    assert statuses(keyctl)[going] == "retiring"


# --- the question ---------------------------------------------------------------------------------------------------


def test_the_question_tells_how_many_which_and_how_much_each_was_used_lately(
    keyctl: Keyctl, database: Database, database_url: str
) -> None:
    raw, busy = keyctl.create("busy", "--owner", "ops")
    with KeyVerifier(database_url) as verifier:
        for use in range(41):
            assert verifier.verify(raw, client_ip=f"192.0.2.{use % 3}")
    now = datetime.now(UTC)
    old = put(database, "old", owner="ops", last_used_at=now - 10 * DAY, use_count=3)
    new = put(database, "new", owner="ops")
    put(database, "other")
    before = state(keyctl)
    session = Session(keyctl, "revoke", "--owner", "ops", "--in-use", width=200)
    session.wait_for("Revoke these 3 keys for good? [y/N]:")
    session.type(b"n\n")
    shown = session.end()
    assert shown.status == 1
    assert "3 keys that are neither revoked nor retired, owned by 'ops':" in shown.lines
    for line in (
        f"  busy ({busy}, active): 41 times in 7 days from 3 addresses, last just now",
        f"  old ({old}, active): not used in 7 days, last 10 days ago",
        f"  new ({new}, active): never used",
    ):
        assert line in shown.lines
    assert "not confirmed" in shown.text
    assert state(keyctl) == before


@pytest.mark.one_database
@pytest.mark.parametrize("verb", VERBS)
def test_yes_does_it_to_all_and_the_question_keeps_off_stdout(keyctl: Keyctl, database: Database, verb: str) -> None:
    """Promise 10. Of more than ten the first are named."""
    selected = fleet(database, suspended=verb == "resume", number=12)
    session = Session(keyctl, verb, "--owner", "ops", "--json", elsewhere=("stdout",))
    for_good = " for good" if verb == "revoke" else ""
    session.wait_for(f"{verb.capitalize()} these 12 keys{for_good}? [y/N]:")
    session.type(b"yes\n")
    shown = session.end()
    assert shown.status == 0
    assert sum(key_id in shown.text for key_id in selected) == 10
    assert "  and 2 more" in shown.lines
    assert ids(json.loads(shown.stdout)["changed"]) == selected


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("keys", "status"),
    [
        (b"n\n", 1),
        (b"\n", 1),
        (b"yeah\n", 1),
        (CTRL_D, 1),
        (CTRL_C, 130),
    ],
    ids=["no", "return alone", "another word", "end of input", "Ctrl-C"],
)
def test_all_but_yes_changes_nothing(keyctl: Keyctl, database: Database, keys: bytes, status: int) -> None:
    fleet(database)
    before = state(keyctl)
    session = Session(keyctl, "suspend", "--owner", "ops", real=True)
    session.wait_for("Suspend these 5 keys? [y/N]:")
    session.type(keys)
    shown = session.end()
    assert shown.status == status
    assert "Traceback" not in shown.text
    assert state(keyctl) == before


@pytest.mark.one_database
@pytest.mark.parametrize("verb", VERBS)
def test_by_filter_nothing_is_done_unasked_where_nobody_can_answer(
    keyctl: Keyctl, database: Database, verb: str
) -> None:
    """Promise 11."""
    fleet(database, suspended=verb == "resume")
    before = state(keyctl)
    refused = keyctl(verb, "--owner", "ops", "--json", stdin=b"y\n")
    assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "usage")
    assert "--yes" in refused.error["hint"]
    # stderr alone is no place to ask either, nor is stdin alone.
    for elsewhere in (("stdin",), ("stderr",)):
        assert on_terminal(keyctl, verb, "--owner", "ops", elsewhere=elsewhere).status == 2
    assert state(keyctl) == before


def test_keys_that_come_to_be_selected_while_the_question_stands_were_not_said_yes_to(
    keyctl: Keyctl, database: Database
) -> None:
    fleet(database)
    session = Session(keyctl, "revoke", "--owner", "ops")
    session.wait_for("[y/N]:")
    put(database, "late", owner="ops")
    before = state(keyctl)
    session.type(b"y\n")
    shown = session.end()
    assert shown.status == 6
    assert "nothing was changed" in shown.text
    assert state(keyctl) == before


def test_keys_that_are_used_while_the_question_stands_are_spared(keyctl: Keyctl, database: Database) -> None:
    selected = fleet(database)
    session = Session(keyctl, "suspend", "--owner", "ops")
    session.wait_for("[y/N]:")
    change(database, selected[0], last_used_at=datetime.now(UTC), use_count=1)
    session.type(b"y\n")
    assert session.end().status == 6
    assert set(statuses(keyctl).values()) == {"active"}


@pytest.mark.one_database
def test_keys_that_are_gone_by_the_time_of_the_answer_do_not_keep_the_others(
    keyctl: Keyctl, database: Database
) -> None:
    selected = fleet(database)
    session = Session(keyctl, "revoke", "--owner", "ops", "--reason", "second")
    session.wait_for("[y/N]:")
    keyctl.ok("revoke", selected[0], "--reason", "first")
    session.type(b"y\n")
    assert session.end().status == 0
    reasons = {key["id"]: key["revoke_reason"] for key in keyctl.keys() if key["owner"] == "ops"}
    assert reasons == dict.fromkeys(selected, "second") | {selected[0]: "first"}


# --- the guards -----------------------------------------------------------------------------------------------------


def refused(keyctl: Keyctl, code: str, *arguments: str) -> dict[str, str]:
    """Run a command that has to refuse, for real and dry, and change nothing."""
    before = state(keyctl)
    status = 2 if code in ("usage", "invalid_input") else 6
    for option in ("--yes", "--dry-run"):
        result = keyctl(*arguments, option, "--json")
        assert (result.status, result.error["code"]) == (status, code), (arguments, result)
        # A dry run shows what would change before it says what stops it.
        shown = option == "--dry-run" and code in ("too_many_keys", "key_in_use")
        assert (result.json["dry_run"] if shown else result.stdout == "") is True
        assert result.error["hint"]
    assert state(keyctl) == before
    return result.error


@pytest.mark.parametrize("verb", EACH)
def test_more_keys_than_max_are_left_alone(keyctl: Keyctl, database: Database, verb: str) -> None:
    selected = fleet(database, suspended=verb == "resume")
    error = refused(keyctl, "too_many_keys", verb, "--owner", "ops", "--max", "4")
    assert "5 keys" in error["message"]
    assert "--max 5" in error["hint"]
    refused(keyctl, "too_many_keys", verb, *selected, "--owner", "ops", "--max", "4")
    assert len(keyctl.ok(verb, "--owner", "ops", "--max", "5", "--yes", "--json").json["changed"]) == 5


@pytest.mark.one_database
def test_without_max_a_filter_changes_a_hundred_keys_at_most_and_names_any_number(
    keyctl: Keyctl, database: Database
) -> None:
    put(database, "other")
    with database.writing() as tx:
        tx.execute(insert(key_table), [key_row(f"ci-{number}", owner="ops") for number in range(101)])
    refused(keyctl, "too_many_keys", "revoke", "--owner", "ops")
    assert len(keyctl.ok("suspend", *statuses(keyctl), "--json").json["changed"]) == 102
    assert len(keyctl.ok("resume", "--owner", "ops", "--max", "101", "--yes", "--json").json["changed"]) == 101
    keyctl.ok("revoke", "ci-0")
    done = keyctl.ok("suspend", "--owner", "ops", "--yes")
    assert done.stdout.count("Suspended key '") == 100
    # All of them are unchanged now, and none of them is forgotten.
    again = keyctl.ok("suspend", "--name", "ci-*", "--yes", "--json").json
    assert (again["changed"], len(again["unchanged"])) == ([], 100)


def test_no_key_that_was_left_as_it_is_is_forgotten_whatever_their_number(keyctl: Keyctl, database: Database) -> None:
    """Promise 10."""
    off = datetime.now(UTC) - DAY
    with database.writing() as tx:
        tx.execute(insert(key_table), [key_row(f"ci-{number}", owner="ops", suspended_at=off) for number in range(150)])
        tx.execute(insert(key_table), [key_row(f"on-{number}", owner="ops") for number in range(2)])
    put(database, "other")
    for option in ("--dry-run", "--yes"):
        document = keyctl.ok("suspend", "--owner", "ops", option, "--json").json
        assert (len(document["changed"]), len(document["unchanged"])) == (2, 150)
    assert keyctl.ok("suspend", "--owner", "ops", "--yes").stdout.splitlines()[-1] == "152 keys were left as they are."


@pytest.mark.parametrize("verb", ["revoke", one_database("suspend")])
def test_filters_that_select_every_key_need_max_spelled_out(keyctl: Keyctl, database: Database, verb: str) -> None:
    now = datetime.now(UTC)
    live = [put(database, name, created_at=now - DAY) for name in ("one", "two")]
    put(database, "gone", created_at=now - DAY, revoked_at=now, revoked_by="sql")
    for options in (("--older-than", "1h"), ("--status", "active"), ("--name", "*"), ("--label", "!team")):
        assert "every key" in refused(keyctl, "too_many_keys", verb, *options)["message"]
    assert ids(keyctl.ok(verb, "--never-used", "--max", "9", "--yes", "--json").json["changed"]) == sorted(live)


@pytest.mark.parametrize("verb", ["revoke", one_database("suspend")])
def test_keys_that_were_used_within_the_last_hour_need_in_use_as_well(
    keyctl: Keyctl, database: Database, verb: str
) -> None:
    now = datetime.now(UTC)
    selected = fleet(database)
    change(database, selected[1], last_used_at=now - timedelta(minutes=50), use_count=1)
    change(database, selected[2], last_used_at=now - timedelta(minutes=70), use_count=1)
    message = refused(keyctl, "key_in_use", verb, "--owner", "ops")["message"]
    assert selected[1] in message
    assert selected[2] not in message
    changed = keyctl.ok(verb, "--owner", "ops", "--in-use", "--yes", "--json").json["changed"]
    assert ids(changed) == selected


@pytest.mark.one_database
def test_a_key_in_use_that_is_off_already_holds_nobody_up_and_resuming_needs_no_such_word(
    keyctl: Keyctl, database: Database
) -> None:
    selected = fleet(database)
    change(database, selected[0], last_used_at=datetime.now(UTC), suspended_at=datetime.now(UTC))
    assert ids(keyctl.ok("suspend", "--owner", "ops", "--yes", "--json").json["changed"]) == selected[1:]
    assert ids(keyctl.ok("resume", "--owner", "ops", "--yes", "--json").json["changed"]) == selected


@pytest.mark.one_database
def test_what_cannot_be_meant_is_refused(keyctl: Keyctl, database: Database) -> None:
    selected = fleet(database)
    # One option, which the three share: of the numbers each gets some.
    for verb, numbers in zip(VERBS, (("0", "-1"), ("many", "1.5"), ("0", "99999999999")), strict=True):
        assert "which keys" in refused(keyctl, "usage", verb)["message"]
        for number in numbers:
            refused(keyctl, "usage", verb, "--owner", "ops", "--max", number)
        refused(keyctl, "usage", verb, selected[0], "--max", "3")
        refused(keyctl, "invalid_input", verb, selected[0], "--reason", "two\nlines")
    refused(keyctl, "usage", "revoke", selected[0], "--in-use")


@pytest.mark.one_database
@pytest.mark.parametrize("verb", VERBS)
def test_no_match_is_no_error_and_asks_nothing(keyctl: Keyctl, database: Database, verb: str) -> None:
    fleet(database)
    before = state(keyctl)
    for arguments in (
        (verb, "--owner", "nobody"),
        (verb, "--owner", "nobody", "--yes"),
    ):
        nothing = keyctl.ok(*arguments)
        assert (nothing.stdout, nothing.stderr) == ("", "No key fits: nothing to do.\n")
    assert keyctl.ok(verb, "--owner", "nobody", "--json").json == {
        "changed": [], "unchanged": [], "still_open": [], "dry_run": False
    }  # fmt: skip
    assert on_terminal(keyctl, verb, "--owner", "nobody").status == 0
    assert state(keyctl) == before


def test_keys_that_are_named_beside_filters_all_have_to_fit(keyctl: Keyctl, database: Database) -> None:
    selected = fleet(database)
    refused(keyctl, "wrong_state", "suspend", "other", selected[4], selected[2], "--owner", "ops")
    done = keyctl.ok("suspend", selected[4], selected[2], "--owner", "ops", "--yes", "--json").json
    assert (ids(done["changed"]), done["unchanged"]) == ([selected[4], selected[2]], [])
    assert sorted(statuses(keyctl).values()) == ["active"] * 4 + ["suspended"] * 2


# --- verifiers ------------------------------------------------------------------------------------------------------


def test_a_suspension_is_seen_by_a_warm_verifier_as_fast_as_a_revocation_and_so_is_its_end(
    keyctl: Keyctl, database_url: str
) -> None:
    """Promise 5, in another process than the command's."""
    raw, key_id = keyctl.create("ci", "--owner", "ops")
    keyctl.create("other")
    with KeyVerifier(database_url, max_staleness=NEVER, usage="off") as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, database_url, raw)
        for choice in (("ci",), ("--owner", "ops", "--yes")):
            for verb, reason in (("suspend", Reason.SUSPENDED), ("resume", Reason.OK)):
                keyctl.ok(verb, *choice)
                if database_url.startswith("sqlite"):
                    assert verifier.verify(raw).reason is reason
                until(verifier, raw, reason, within=TOLD)
        keyctl.ok("suspend", key_id)
        keyctl.ok("revoke", "--status", "suspended", "--yes")
        assert_revocation_counts(verifier, database_url, raw, within=TOLD)


def test_a_suspended_key_that_expires_stays_expired_when_it_is_resumed(keyctl: Keyctl, database: Database) -> None:
    raw, key_id = keyctl.create("ci", "--expires", "1h")
    keyctl.ok("suspend", "ci")
    now = datetime.now(UTC)
    change(database, key_id, created_at=now - 2 * DAY, activated_at=now - 2 * DAY, expires_at=now - timedelta(hours=1))
    assert statuses(keyctl) == {key_id: "expired"}
    assert keyctl("verify", "--json", stdin=raw.encode()).json["reason"] == "expired"
    resumed = keyctl.ok("resume", "ci", "--json").json
    assert [key["status"] for key in resumed["changed"]] == ["expired"]
    assert not keyctl.opens(raw)


@pytest.mark.one_database
def test_a_suspended_key_is_not_rotated(keyctl: Keyctl) -> None:
    """Promise 3: its successor would open where it was meant to stay shut."""
    raw, key_id = keyctl.create("ci")
    keyctl.ok("suspend", "ci")
    before = state(keyctl)
    result = keyctl("rotate", "ci")
    assert (result.status, result.stdout) == (6, "")
    assert keyctl.ok("rotate", "--name", "ci*", "--jsonl").stdout == ""
    assert state(keyctl) == before
    keyctl.ok("resume", "ci")
    assert keyctl.opens(raw)
    assert statuses(keyctl) == {key_id: "active"}
