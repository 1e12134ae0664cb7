"""The proof that an event is in the log of a head, made from the database. Promise 7."""

from datetime import UTC, datetime

import pytest

from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import audit, merkle_tree, proof
from alphalens_keyctl.logs.audit import Head
from alphalens_keyctl.logs.merkle_tree import leaf
from alphalens_keyctl.logs.proof import Flaw
from alphalens_keyctl.models import Action
from alphalens_keyctl.provenance import Act, origin
from tests.support import unguarded
from tests.support.databases import on_sqlite


def write_events(database: Database, number: int) -> None:
    """So many events, with texts that JSON escapes."""
    act = Act(datetime(2026, 11, 26, 9, 0, 0, 123456, UTC), "ánn", origin(host="h", os_user="u", ci=None, claims={}))
    about = [(None, 'Été "x"', {"reason": "ö" * (seq % 3), "n": seq}) for seq in range(1, number + 1)]
    with database.writing() as tx:
        audit.append_each(tx, act, Action.CREATE, about)


def hashes(database: Database) -> list[bytes]:
    with database.reading() as connection:
        return [event.hash for event in audit.read(connection, audit.LogFilter())]


def test_the_root_is_over_the_hashes_of_the_events_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merkle_tree, "BLOCK", 8)
    monkeypatch.setattr("alphalens_keyctl.logs.event_tree.BLOCK", 8)
    monkeypatch.setattr("alphalens_keyctl.logs.event_tree._READ_AT_ONCE", 16)
    with database.reading() as connection:
        assert proof.rooted(connection, audit.head(connection)) == Head(
            0, audit.GENESIS, None, merkle_tree.EMPTY_ROOT, audit.GENESIS
        )
    write_events(database, 21)
    written = hashes(database)
    with database.reading() as connection:
        last = audit.head(connection)
        for seq in (1, 8, 9, 16, 20, 21):
            blocks = [written[start : min(seq, start + 8)] for start in range(0, seq, 8)]
            rooted = proof.rooted(connection, last._replace(seq=seq))
            assert (rooted.root, rooted.first) == (merkle_tree.root(blocks), written[0])


def test_a_proof_holds_for_its_own_event_log_and_size_alone(database: Database) -> None:
    """Promise 7."""
    write_events(database, 12)
    with database.reading() as connection:
        made = {(seq, size): proof.prove(connection, seq, size) for size in (5, 12) for seq in range(1, size + 1)}
    for (seq, size), (each, root) in made.items():
        assert each.event.seq == seq
        assert proof.flaw(each, size, root) is None
        assert proof.flaw(each, 17 - size, root) is Flaw.OTHER_SIZE
        assert proof.flaw(each, size, leaf(root)) is Flaw.NOT_IN_LOG
        said = each.event._replace(actor="eve")
        assert proof.flaw(each._replace(event=said), size, root) is Flaw.ALTERED
        assert proof.flaw(each._replace(previous_hash=leaf(root)), size, root) is Flaw.ALTERED
        assert proof.flaw(each._replace(path=(*each.path, root)), size, root) is Flaw.NOT_IN_LOG
        other = made[(seq % size + 1, size)][0]
        assert proof.flaw(each._replace(path=other.path), size, root) is Flaw.NOT_IN_LOG


def test_what_is_no_event_cannot_be_proven(database: Database) -> None:
    write_events(database, 3)
    with database.reading() as connection:
        for seq, size, code in (
            (0, None, Code.INVALID_INPUT),
            (4, None, Code.INVALID_INPUT),
            (3, 2, Code.INVALID_INPUT),
            (1, 4, Code.UNPROVEN),
        ):
            with pytest.raises(KeyctlError) as refused:
                proof.prove(connection, seq, size)
            assert refused.value.code is code


@pytest.mark.parametrize(
    ("damage", "seq"),
    [
        ("UPDATE audit_event SET actor = 'eve' WHERE seq = 2", 2),
        ("UPDATE audit_event SET detail = '{ }' WHERE seq = 2", 2),
        ("UPDATE audit_event SET detail = 'no JSON' WHERE seq = 2", 2),
        ("DELETE FROM audit_event WHERE seq = 2", 1),
        ("DELETE FROM audit_event WHERE seq = 2", 2),
    ],
)
def test_an_event_or_a_log_that_is_not_what_was_written_gets_no_proof(
    database: Database, damage: str, seq: int
) -> None:
    """Promise 7."""
    write_events(database, 3)
    unguarded.write(database, damage, table="audit_event")
    with database.reading() as connection, pytest.raises(KeyctlError) as refused:
        proof.prove(connection, seq)
    assert refused.value.code is Code.UNPROVEN


@on_sqlite
@pytest.mark.parametrize(
    "stored",
    [f"'{'x' * 32}' WHERE seq = 2", "substr(hash, 1, 31) WHERE seq = 2", "zeroblob(29 + seq) WHERE seq IN (2, 4)"],
    ids=["text", "short", "short-and-long"],
)
def test_a_hash_that_is_none_ends_in_no_proof(database: Database, stored: str) -> None:
    """Promises 7 and 14: SQLite stores anything in its place."""
    write_events(database, 4)
    unguarded.write(database, f"UPDATE audit_event SET hash = {stored}", table="audit_event")
    with database.reading() as connection, pytest.raises(KeyctlError) as refused:
        proof.prove(connection, 1)
    assert refused.value.code is Code.UNPROVEN


def test_a_head_shows_a_hash_that_was_altered_and_a_log_that_was_cut_off(database: Database) -> None:
    """Promise 7: by the root alone, as a checkpoint has it."""
    write_events(database, 6)
    with database.reading() as connection:
        saved = proof.rooted(connection, audit.head(connection))._replace(hash=b"")
    sound = audit.verify(database)
    for damage, kind in (
        ("SELECT 1", None),
        (f"UPDATE audit_event SET hash = {_literal(database)} WHERE seq = 3", audit.BreakKind.REWRITTEN),
    ):
        if kind is not None:
            unguarded.write(database, damage, table="audit_event")
        with database.reading() as connection:
            found = proof.compared(connection, sound, saved).broken
        assert (found and found.kind) == kind
    with database.reading() as connection:
        cut = proof.compared(connection, sound._replace(events=5), saved).broken
    assert cut is not None
    assert (cut.seq, cut.kind) == (6, audit.BreakKind.TRUNCATED)


def _literal(database: Database) -> str:
    """32 other bytes, as SQL spells them."""
    return f"x'{'ab' * 32}'" if database.one_writer else f"'\\x{'ab' * 32}'::bytea"
