"""What `audit verify` does: check the audit log, also against a saved head, and exit 0 or 5."""

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.audit import heads
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import ExitStatus
from alphalens_keyctl.output import documents, evidence, sentences


def verify_log(
    run: Run, *, head: str | None, signers: str | None, signer: str | None, log_only: bool, json: bool
) -> None:
    """Say whether the audit log is sound, whether the keys are what it says, unless `log_only`, and whether it extends
    the head saved in the file `head` (`-`: stdin), which has to be signed as `heads.signer_of` asks.

    Exits 0 or 5. Raises `KeyctlError`; invalid_input for a file that holds no head.
    """
    saved = None if head is None else heads.read_head(head)
    signed_by = heads.signer_of(saved, signers, signer)
    with run.manager() as manager:
        verdict = manager.verify_log(None if saved is None else saved.head, log_only=log_only)
    if json:
        said = documents.json_document(evidence.verdict_object(verdict) | {"signed_by": signed_by})
    else:
        said = runs.told(sentences.log_verdict(verdict, extends=saved is not None, signed_by=signed_by))
    runs.answer(said, status=ExitStatus.DONE if verdict.broken is None else ExitStatus.FOUND)
