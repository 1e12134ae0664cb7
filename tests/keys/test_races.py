"""Promises 4, 5, 6 and 7 when processes act at once: one wins, the others say so, nothing is lost.

The processes are real and are let go together from the start of their first transaction, when each has noted
already when it was asked; `judge` ends with the chain, the events of every key and the successors.
"""

import unicodedata

import pytest

from tests.support.answers import ids
from tests.support.commands import Keyctl, Result
from tests.support.faults import at_once
from tests.support.judge import Judge, judge
from tests.support.raw_keys import key_id, raw_key_in

ROTATORS = 8
ROUNDS = 5
CREATORS = 16
EVENTS_OF_A_ROTATION = 3  # successor created, activated, predecessor rotated
CAFE = unicodedata.normalize("NFC", "Café")


def winner(results: list[Result]) -> str:
    """The raw key of the one that won; all others exit 6 and print no raw key."""
    assert sorted(result.status for result in results) == [0] + [6] * (len(results) - 1), results
    (won,) = (result for result in results if result.status == 0)
    for result in results:
        assert "alk_" not in result.stderr
        assert result is won or result.stdout == ""
    raw = raw_key_in(won)
    assert raw is not None
    return raw


def count_events(judging: Judge) -> int:
    number: int = judging.scalar("SELECT count(*) FROM audit_event")
    return number


def test_of_eight_rotators_at_once_one_wins_each_round(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        previous = keyctl("create", "ci").stdout.strip()
        for _ in range(ROUNDS):
            before = count_events(judging)
            raw = winner(at_once(keyctl, *[("rotate", "ci")] * ROTATORS))
            assert judging.opens(raw)
            assert judging.opens(previous)
            current = judging.current("ci")
            assert current is not None
            assert (current.id, current.replaces) == (key_id(raw), key_id(previous))
            assert count_events(judging) == before + EVENTS_OF_A_ROTATION
            previous = raw
        assert len(judging.every_key()) == ROUNDS + 1


def test_of_sixteen_creators_of_one_name_one_wins(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        raw = winner(at_once(keyctl, *[("create", "ci")] * CREATORS))
        assert judging.opens(raw)
        assert [key.id for key in judging.every_key()] == [key_id(raw)]


def test_names_that_differ_in_case_or_form_alone_are_one_name(keyctl: Keyctl) -> None:
    spellings = [CAFE, unicodedata.normalize("NFD", CAFE), CAFE.upper(), unicodedata.normalize("NFD", CAFE.lower())]
    assert len(set(spellings)) == 4
    with judge(keyctl.database_url) as judging:
        raw = winner(at_once(keyctl, *(("create", name) for name in spellings * 2)))
        assert [key.id for key in judging.every_key()] == [key_id(raw)]


def test_different_names_created_at_once_all_stand(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        results = at_once(keyctl, *(("create", f"ci-{number}") for number in range(8)))
        assert [result.status for result in results] == [0] * 8
        assert all(judging.opens(result.stdout.strip()) for result in results)
        assert count_events(judging) == 16


def test_if_missing_at_once_makes_one_key_and_no_error_but_for_one_on_its_way(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        results = at_once(keyctl, *[("create", "ci", "--if-missing")] * 8)
        assert {result.status for result in results} <= {0, 6}
        (raw,) = filter(None, map(raw_key_in, results))
        assert judging.opens(raw)
        assert len(judging.every_key()) == 1


@pytest.mark.parametrize("reference", ["name", "id"])
def test_a_key_revoked_while_it_is_rotated_stays_revoked_and_its_late_successor_never_opens(
    keyctl: Keyctl, reference: str
) -> None:
    """Promise 5: by its name every key of the name ends, whoever was first; by its id that key alone."""
    with judge(keyctl.database_url) as judging:
        for number in range(4):
            old = keyctl("create", f"ci-{number}").stdout.strip()
            key = f"ci-{number}" if reference == "name" else key_id(old)
            *rotations, revocation = at_once(keyctl, *[("rotate", key)] * 3, ("revoke", key, "--yes", "--json"))
            assert revocation.status == 0, revocation
            revoked = ids(revocation.json["changed"])
            assert {result.status for result in rotations} <= {0, 6}
            won = [raw for result in rotations if result.status == 0 and (raw := raw_key_in(result))]
            assert len(won) <= 1
            states = {key.id: key for key in judging.every_key(f"ci-{number}")}
            assert key_id(old) in revoked
            assert {states[each].status for each in revoked} == {"revoked"}
            assert not judging.opens(old)
            # A successor was handed over only if it was active before the revocation came.
            assert bool(won) == (states[key_id(old)].replaced_by is not None)
            if reference == "name":
                assert {state.status for state in states.values()} == {"revoked"}
                assert not any(map(judging.opens, won))
            else:
                assert revoked == [key_id(old)]
            for result in rotations:
                raw = raw_key_in(result)
                assert raw is None or raw in won or not judging.opens(raw)
            assert not [key for key in states.values() if key.status == "pending"]


def test_revoking_at_once_records_one_revocation(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        raw = keyctl("create", "ci").stdout.strip()
        results = at_once(keyctl, *[("revoke", "ci", "--yes", "--json")] * 8)
        assert [result.status for result in results] == [0] * 8
        assert sum(len(result.json["changed"]) for result in results) == 1
        assert not judging.opens(raw)
        assert count_events(judging) == 3


def test_rotators_of_different_keys_do_not_hinder_each_other(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        for number in range(6):
            keyctl("create", f"ci-{number}")
        results = at_once(keyctl, *(("rotate", f"ci-{number}", "--grace", "0") for number in range(6)))
        assert [result.status for result in results] == [0] * 6
        assert sum(key.status == "active" for key in judging.every_key()) == 6
        assert sum(key.status == "retired" for key in judging.every_key()) == 6
