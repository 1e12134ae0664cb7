"""The proof that one event is in the log of a head: for somebody who has neither the database nor the rest of the log.

A proof holds the event, the hash of the event before, and the way from the event's leaf to the root of the tree over
all events (`merkle_tree`). The root is the head's: a proof is worth what the head is that it is checked against.
"""

import hashlib
import json
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Connection, select

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import audit, event_tree, merkle_tree
from alphalens_keyctl.logs.audit import GENESIS, Break, BreakKind, Head, Verdict
from alphalens_keyctl.models import Event, event_table
from alphalens_keyctl.moments import rfc3339_exact


class Proof(NamedTuple):
    """That `event` is in a log of `tree_size` events. `path` is what its leaf is hashed with, from the bottom."""

    event: Event
    previous_hash: bytes
    tree_size: int
    path: tuple[bytes, ...]


class Flaw(StrEnum):
    """Why a proof does not hold. The words are part of the JSON contract."""

    OTHER_SIZE = "other_size"
    ALTERED = "altered"
    NOT_IN_LOG = "not_in_log"


def rooted(connection: Connection, head: Head) -> Head:
    """Return the head with the root over the events up to it, and the hash of the first of them. Raises `KeyctlError`
    (unproven) where not all of them are there."""
    root = event_tree.root(connection, head.seq)
    first = connection.scalar(select(event_table.c.hash).where(event_table.c.seq == min(1, head.seq)))
    return head._replace(root=root, first=GENESIS if first is None else bytes(first))


def compared(connection: Connection, verdict: Verdict, saved: Head) -> Verdict:
    """Return what `audit.verify` found, or for a sound chain, that the tree over its first events has not the root of
    the saved head, if that has one. This is named before a fault of an index or of a key's row."""
    broken = verdict.broken
    chain_broken = broken is not None and (broken.seq is not None or broken.kind is BreakKind.DAMAGED)
    if chain_broken or saved.root is None:
        return verdict
    if saved.seq > verdict.events:
        return verdict._replace(broken=Break(verdict.events + 1, BreakKind.TRUNCATED))
    if event_tree.root(connection, saved.seq) != saved.root:
        return verdict._replace(broken=Break(saved.seq, BreakKind.REWRITTEN))
    return verdict


def prove(connection: Connection, seq: int, size: int | None = None) -> tuple[Proof, bytes]:
    """Return the proof that event `seq` is among the first `size` events, by default among all, and the root over them.

    Raises `KeyctlError`: invalid_input where there is no such event, unproven where the log is not what was written.
    """
    last = audit.head(connection).seq
    size = last if size is None else size
    if size > last:
        raise KeyctlError(
            Code.UNPROVEN, f"the log ends with event {last}, before the head at event {size}", "See 'audit verify'."
        )
    if not 1 <= seq <= size:
        raise KeyctlError(Code.INVALID_INPUT, f"there is no event {seq} among the first {size}", "See 'audit'.")
    root, path = event_tree.inclusion(connection, seq, size)
    row = connection.execute(select(event_table).where(event_table.c.seq == seq)).mappings().one()
    try:
        detail = json.loads(row["detail"])
        event = Event(
            seq, row["at"], row["actor"], row["action"], row["key_id"], row["key_name"], detail, bytes(row["hash"])
        )
        proof = Proof(event, bytes(row["previous_hash"]), size, tuple(path))
        sound = _is_whole(event, proof.previous_hash)
    except (ValueError, TypeError, RecursionError):  # SQLite stores a value of any type in any column
        sound = False
    if not sound:
        raise KeyctlError(Code.UNPROVEN, f"event {seq} is not what was written", "See 'audit verify'.")
    return proof, root


def flaw(proof: Proof, size: int, root: bytes) -> Flaw | None:
    """Return why the proof does not show that its event is in the log of that size and root, or None where it does."""
    if proof.tree_size != size:
        return Flaw.OTHER_SIZE
    if not _is_whole(proof.event, proof.previous_hash):
        return Flaw.ALTERED
    if not merkle_tree.includes(root, size, proof.event.hash, proof.event.seq - 1, proof.path):
        return Flaw.NOT_IN_LOG
    return None


def _is_whole(event: Event, previous_hash: bytes) -> bool:
    """Return whether the event's hash is the one of what it says."""
    detail = json.dumps(event.detail, sort_keys=True, separators=(",", ":"))
    form = audit.canonical(
        event.seq, rfc3339_exact(event.at), event.actor, event.action, event.key_id, event.key_name, detail,
        previous_hash,
    )  # fmt: skip
    return hashlib.sha256(form).digest() == event.hash
