"""Heads and proofs → the documents that are kept outside of the database, whose names are a contract, too; and what is
found of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from alphalens_keyctl.logs.audit import Head, Verdict
from alphalens_keyctl.logs.proof import Flaw, Proof
from alphalens_keyctl.logs.recorded import Recorded, origins
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.output import sentences
from alphalens_keyctl.output.documents import event_object, head_object
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.words import counted

_FLAWS: Final = {
    Flaw.OTHER_SIZE: "the proof is for the head at event {size}, and not for the one at event {head}. "
    "'audit prove {seq} --head FILE' makes it for that one",
    Flaw.ALTERED: "the event is not what was written",
    Flaw.NOT_IN_LOG: "event {seq} is not in the log of that head, or the proof was altered",
}


def recorded_object(recorded: Recorded) -> dict[str, Any]:
    """What `audit show` answers: E with its link of the chain, and what of its origin is fact and what is claim."""
    facts, claims = origins(recorded.event)
    return event_object(recorded.event) | {
        "previous_hash": recorded.previous_hash.hex(),
        "intact": recorded.intact,
        "facts": dict(facts),
        "claims": dict(claims),
    }


def kept_head_object(head: Head, checkpoint: str, signature: str | None) -> dict[str, Any]:
    """A head to be kept elsewhere: with the tree over the log, its checkpoint, and the signature on the checkpoint."""
    return head_object(head) | {
        "tree_size": head.seq,
        "root_hash": head.root.hex() if head.root is not None else None,
        "checkpoint": checkpoint,
        "signature": signature,
    }


def verdict_object(verdict: Verdict) -> dict[str, Any]:
    """What `audit verify` found."""
    broken = verdict.broken
    return {
        "sound": broken is None,
        "events": verdict.events,
        "head": head_object(verdict.head),
        "break": None if broken is None else {"seq": broken.seq, "kind": broken.kind.value, "about": broken.about},
    }


def proof_object(proof: Proof) -> dict[str, Any]:
    """The proof of one event, as `audit prove --check` takes it."""
    return {
        "event": event_object(proof.event),
        "previous_hash": proof.previous_hash.hex(),
        "tree_size": proof.tree_size,
        "path": [step.hex() for step in proof.path],
    }


def judged_object(proof: Proof, flaw: Flaw | None, signed_by: str | None) -> dict[str, Any]:
    """What `audit prove --check` found."""
    return {
        "holds": flaw is None,
        "flaw": None if flaw is None else flaw.value,
        "event": event_object(proof.event),
        "tree_size": proof.tree_size,
        "signed_by": signed_by,
    }


def judged(proof: Proof, head_seq: int, flaw: Flaw | None, signed_by: str | None) -> str:
    """Say what `audit prove --check` found. `head_seq` is the last event of the head."""
    event = proof.event
    if flaw is not None:
        return f"Not proven ({flaw}): {_FLAWS[flaw].format(size=proof.tree_size, head=head_seq, seq=event.seq)}."
    said = f"{sentences.event_said(event)} at {rfc3339(event.at)}"
    signed = "" if signed_by is None else f", which {signed_by} signed"
    size = counted(proof.tree_size, "event")
    return f"Proven: event {event.seq}, {said}, is one of the {size} of that head{for_terminal(signed)}."


def witnessed_object(
    verdict: Verdict,
    last: Head | None,
    signed_by: str | None,
    kept: Mapping[str, Any] | None,
    destinations: Sequence[str],
) -> dict[str, Any]:
    """What `audit witness` did. `last` is the head that was kept before, `signed_by` who signed that."""
    return verdict_object(verdict) | {
        "extends": None if last is None else last.seq,
        "signed_by": signed_by,
        "kept": kept,
        "kept_in": list(destinations),
    }


def witnessed(verdict: Verdict, last: Head | None, signed_by: str | None, destinations: Sequence[str]) -> Iterator[str]:
    """Say what `audit witness` did, a sentence a line. The arguments are as in `witnessed_object`."""
    yield sentences.log_verdict(verdict, extends=last is not None, signed_by=signed_by)
    if verdict.broken is not None:
        yield "Nothing was kept."
        return
    since = "the first one" if last is None else f"the last one was at event {last.seq}"
    yield for_terminal(f"Kept the head at event {verdict.events}, {since}: {', '.join(destinations)}.")
