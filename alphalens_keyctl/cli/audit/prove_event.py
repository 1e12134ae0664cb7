"""What `audit prove` does: print the proof of an event, or check one and exit 0 or 5."""

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.audit import heads
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.evidence.saved import SavedHead
from alphalens_keyctl.logs import proof
from alphalens_keyctl.output import channel, documents, evidence


def print_proof(run: Run, seq: int, *, head: str | None, signers: str | None, signer: str | None) -> None:
    """Print the proof that event `seq` is in the log: as far as the head goes that was saved in the file `head`, or as
    the log goes today.

    Raises `KeyctlError`: unproven where the log is not the log of that head, or not what was written.
    """
    saved = None if head is None else heads.read_head(head)
    heads.signer_of(saved, signers, signer)
    with run.manager() as manager:
        made, root = manager.prove(seq, None if saved is None else saved.head.seq)
    if saved is not None and root != _root(saved):
        raise KeyctlError(Code.UNPROVEN, "the log is not the one of that head", "'audit verify --head' tells more.")
    channel.write([documents.json_document(evidence.proof_object(made))])


def check_proof(source: str, head: str, *, signers: str | None, signer: str | None, json: bool) -> None:
    """Say whether the proof in the file `source` shows that its event is in the log of the head in the file `head`.

    Needs no database. Exits 0 or 5. Raises `KeyctlError`: invalid_input for a file that holds something else.
    """
    given, saved = heads.read_proof(source), heads.read_head(head)
    signed_by = heads.signer_of(saved, signers, signer)
    flaw = proof.flaw(given, saved.head.seq, _root(saved))
    if json:
        said = documents.json_document(evidence.judged_object(given, flaw, signed_by))
    else:
        said = runs.told(evidence.judged(given, saved.head.seq, flaw, signed_by))
    runs.answer(said, status=ExitStatus.DONE if flaw is None else ExitStatus.FOUND)


def _root(saved: SavedHead) -> bytes:
    if saved.head.root is None:
        raise KeyctlError(
            Code.INVALID_INPUT,
            "that head has no tree over its log: it was saved by an older version",
            "Give a head that 'audit head --json' printed since.",
        )
    return saved.head.root
