"""Heads and proofs → the documents that are kept outside of the database. Their names are a contract, too."""

from typing import Any

from alphalens_keyctl.logs.audit import Head
from alphalens_keyctl.logs.proof import Proof
from alphalens_keyctl.output.documents import event_object, head_object


def kept_head_object(head: Head, checkpoint: str, signature: str | None) -> dict[str, Any]:
    """A head to be kept elsewhere: with the tree over the log, its checkpoint, and the signature on the checkpoint."""
    return head_object(head) | {
        "tree_size": head.seq,
        "root_hash": head.root.hex() if head.root is not None else None,
        "checkpoint": checkpoint,
        "signature": signature,
    }


def proof_object(proof: Proof) -> dict[str, Any]:
    """The proof of one event, as `audit prove --check` takes it."""
    return {
        "event": event_object(proof.event),
        "previous_hash": proof.previous_hash.hex(),
        "tree_size": proof.tree_size,
        "path": [step.hex() for step in proof.path],
    }
