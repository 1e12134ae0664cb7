"""What somebody outside needs of the audit log: whether it is sound, the tree over it, the proof of one event."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response

from alphalens_keyctl.api import call, problems, streams
from alphalens_keyctl.api.bodies import ProofQuery, TreeQuery, VerifyLogQuery
from alphalens_keyctl.api.call import Caller
from alphalens_keyctl.api.described import PROOF, TREE, VERDICT
from alphalens_keyctl.api.replays import Answer
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs.audit import Head
from alphalens_keyctl.output import documents, evidence

router = APIRouter(prefix="/v1", tags=["evidence"])
_Seq = Annotated[int, Path(ge=1, le=2**62)]
# Walks of the whole log that a process carries out at once, also for callers who left meanwhile.
MOST_WALKS: Final = 2
_walks = threading.BoundedSemaphore(MOST_WALKS)


@router.get("/events:verify", responses=VERDICT)
def verify_log(caller: Caller, query: Annotated[VerifyLogQuery, Query()]) -> Response:
    """Whether the audit log is sound and the keys are what it says, and whether it extends a head that was saved.

    As JSON Lines the verdict is the last line, after one for each second that the walk takes.
    """
    saved, manager = _saved(query), caller.manager()
    manager.require_evidence("verify the log")

    def walk() -> str:
        with _walking():
            return documents.json_document(evidence.verdict_object(manager.verify_log(saved, log_only=query.log_only)))

    return streams.awaited(walk) if caller.wants_lines() else call.response(Answer(walk()))


@router.get("/events/tree", responses=TREE)
def tree_over_log(caller: Caller, query: Annotated[TreeQuery, Query()]) -> Response:
    """The root of the tree over the first `size` events (RFC 9162), and the hash of the first of them."""
    found = caller.manager().rooted_head(Head(query.size, b"", None))
    root, first = found.root or b"", found.first or b""
    return call.response(call.document({"tree_size": query.size, "root_hash": root.hex(), "first_hash": first.hex()}))


@router.get("/events/{seq}/proof", responses=PROOF)
def prove_event(caller: Caller, seq: _Seq, query: Annotated[ProofQuery, Query()]) -> Response:
    """The proof that an event is among the first `size`, by default among all."""
    proof, _root = caller.manager().prove(seq, query.size)
    return call.response(call.document(evidence.proof_object(proof)))


def _saved(query: VerifyLogQuery) -> Head | None:
    if query.seq is None and query.hash is None and query.root is None:
        return None
    if query.seq is None or (query.hash is None and query.root is None):
        raise problems.usage("a saved head has a seq, and a hash or a root", "GET /v1/events/head tells both.")
    root = None if query.root is None else bytes.fromhex(query.root)
    return Head(query.seq, bytes.fromhex(query.hash or ""), None, root)


@contextmanager
def _walking() -> Iterator[None]:
    if not _walks.acquire(blocking=False):
        raise KeyctlError(Code.DATABASE_BUSY, f"{MOST_WALKS} others have the log verified", "Try again.")
    try:
        yield
    finally:
        _walks.release()
