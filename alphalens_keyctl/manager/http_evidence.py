"""The audit log's head, proofs and verdict over HTTP. What a server says about a head that the caller holds, the caller
checks here: the server may be the one who rewrote the log (promise 7).

The server walks the log, since a million events take longer to fetch than to hash, and only the server can look at its
tables and indexes. That the log extends the saved head, it has to prove: the proof that the last event of that head is
in today's log has the root of the saved tree on its left side, and today's root as a whole.
"""

from typing import Any, Final

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import merkle_tree
from alphalens_keyctl.logs import proof as proofs
from alphalens_keyctl.logs.audit import GENESIS, Break, BreakKind, Head, Verdict
from alphalens_keyctl.logs.proof import Proof
from alphalens_keyctl.manager import http_documents as documents
from alphalens_keyctl.manager.http_exchange import Query, Server
from alphalens_keyctl.manager.http_steps import understood

_HINT: Final = "'audit verify --head' against a head that somebody else keeps tells more."


def head(server: Server) -> Head:
    """The last event of the log."""
    return _head(server.get("/v1/events/head"), server)


def rooted_head(server: Server, head_: Head) -> Head:
    """The head with the root of the tree over the events up to it, and the hash of the first of them.

    Raises `KeyctlError` (unproven) where the head has a root already, from a proof, and the server tells another.
    """
    found = server.get("/v1/events/tree", [("size", str(head_.seq))])
    with understood(server):
        root, first = bytes.fromhex(found["root_hash"]), bytes.fromhex(found["first_hash"])
    if head_.root not in (None, root):
        raise KeyctlError(Code.UNPROVEN, "the server tells two trees over one log", _HINT)
    return head_._replace(root=root, first=first)


def prove(server: Server, seq: int, size: int | None) -> tuple[Proof, bytes]:
    """The proof that an event is among the first `size`, and the root that the proof leads to."""
    proof, roots = _proven(server, seq, size)
    return proof, roots[1]


def verify_log(server: Server, saved: Head | None, *, log_only: bool) -> Verdict:
    """Whether the log is sound, as the server finds, and whether it extends a saved head, as the server can prove."""
    query: list[tuple[str, str]] = [("log-only", "true")] if log_only else []
    if saved is not None:
        query += [("seq", str(saved.seq)), *([("hash", saved.hash.hex())] if saved.hash else [])]
        query += [] if saved.root is None else [("root", saved.root.hex())]
    verdict = _verdict(server, query)
    if saved is None or saved.seq == 0 or verdict.broken is not None:
        return verdict
    if saved.seq > verdict.head.seq:
        return verdict._replace(broken=Break(verdict.head.seq + 1, BreakKind.TRUNCATED))
    proof, (before, root) = _proven(server, saved.seq, verdict.head.seq)
    if saved.hash not in (b"", proof.event.hash) or saved.root not in (None, before):
        return verdict._replace(broken=Break(saved.seq, BreakKind.REWRITTEN))
    return verdict._replace(head=verdict.head._replace(root=root))


def _verdict(server: Server, query: Query) -> Verdict:
    last: Any = None
    with server.lines("/v1/events:verify", query) as found:
        for some in found:
            last = some[-1] if some else last
    with understood(server):
        return documents.verdict(last)


def _proven(server: Server, seq: int, size: int | None) -> tuple[Proof, tuple[bytes, bytes]]:
    """The proof of an event, and the roots over the events up to it and over all, which the proof leads to."""
    query = [] if size is None else [("size", str(size))]
    document = server.get(f"/v1/events/{seq}/proof", query)
    with understood(server):
        proof = documents.proof(document)
        roots = merkle_tree.roots(proof.tree_size, proof.event.hash, seq - 1, proof.path)
    if roots is None or proof.event.seq != seq or proofs.flaw(proof, size or proof.tree_size, roots[1]) is not None:
        raise KeyctlError(Code.UNPROVEN, f"the server's proof of event {seq} is none", _HINT)
    return proof, roots


def _head(document: Any, server: Server) -> Head:
    with understood(server):
        found = documents.head(document)
        if len(found.hash) != len(GENESIS):
            raise ValueError("no hash")
        return found
