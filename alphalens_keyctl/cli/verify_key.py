"""What `verify` does: verify a raw key as a service does, say whether it opens, and exit 0 or 4."""

import logging

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import ExitStatus, KeyctlError
from alphalens_keyctl.models import Reason
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.output import channel, documents, sentences
from alphalens_keyctl.output.errors import error_document
from alphalens_keyctl.verification.judgement import Verification
from alphalens_keyctl.verification.recording_policy import RecordingPolicy
from alphalens_keyctl.verification.verifier import KeyVerifier


def verify_key(
    run: Run, presented: bytes, *, scope: tuple[str, ...] | None, address: str | None, record: bool, json: bool
) -> None:
    """Say whether the raw key `presented` opens, for `scope` and from `address`; with `record`, count the verification
    as a use. Exits 0 or 4."""
    if run.settings.server is None:
        found = _looked_up(run, presented, scope, address, record=record, json=json)
    else:
        with run.over_server() as manager:
            found = manager.verify(presented, scope=scope, address=address, record=record)
    if json:
        said = documents.json_document(documents.verification_object(found))
    else:
        said = runs.told(sentences.verification(found, utc_now()))
    runs.answer(said, status=ExitStatus.DONE if found.allowed else ExitStatus.REFUSED)


def _looked_up(
    run: Run, presented: bytes, scope: tuple[str, ...] | None, address: str | None, *, record: bool, json: bool
) -> Verification:
    """What a service that shares the database would answer."""
    # A verifier logs what went wrong. This command says it itself: stderr holds one document at most (promise 10).
    logging.getLogger("alphalens_keyctl").addHandler(logging.NullHandler())
    settings = run.settings
    usage = RecordingPolicy.REQUIRED if record else "off"
    with KeyVerifier(settings=settings, usage=usage, timeout=settings.lock_timeout) as verifier:
        found = verifier.verify(presented, scope=scope, address=address)
        trouble = verifier.trouble
    if trouble is not None and found.reason is Reason.UNAVAILABLE:
        _say_why(trouble, as_document=json)
    return found


def _say_why(trouble: KeyctlError, *, as_document: bool) -> None:
    """Say on stderr why the database could not be asked. The refusal is the result; this is an error beside it, so
    --quiet does not silence it."""
    if as_document:
        channel.note(error_document(trouble))
    else:
        channel.note(f"The database cannot be asked: {trouble.message}. {trouble.hint}".rstrip())
