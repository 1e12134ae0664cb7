"""`verify`: does this raw key open?"""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.errors import ExitStatus, KeyctlError
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.output import channel
from alphalens_keyctl.output.errors import error_document


def verify(
    ctx: typer.Context,
    record: Annotated[bool, typer.Option("--record", help="Count it as a use, and log it.")] = False,
    json: JsonOption = False,
) -> None:
    """Check a raw key from stdin: exit 0 when it opens, 4 when not, with the reason.

    It does not count as a use, unless --record says so.
    """
    run = runs.of(ctx)
    import logging

    from alphalens_keyctl.models import Reason
    from alphalens_keyctl.output import documents
    from alphalens_keyctl.verification.recorder import Usage
    from alphalens_keyctl.verification.verifier import KeyVerifier

    # What a service reads in its log, this command says itself: stderr may hold one document and no more.
    logging.getLogger("alphalens_keyctl").addHandler(logging.NullHandler())
    presented = standard_input.read_line()
    settings = run.settings
    with KeyVerifier(
        settings.database_url, usage=Usage.REQUIRED if record else Usage.OFF, timeout=settings.lock_timeout
    ) as verifier:
        found = verifier.verify(presented)
        trouble = verifier.trouble
    if trouble is not None and found.reason is Reason.UNAVAILABLE:
        _say_why(trouble, as_document=json)
    if json:
        said = documents.json_document(documents.verification_object(found))
    else:
        from alphalens_keyctl.output.words import verification

        said = verification(found, utc_now()) + "\n"
    runs.answer(said, status=ExitStatus.DONE if found.allowed else ExitStatus.REFUSED)


def _say_why(trouble: KeyctlError, *, as_document: bool) -> None:
    """The refusal is the result; that nobody could be asked is an error beside it, which --quiet does not silence."""
    if as_document:
        channel.note(error_document(trouble))
    else:
        channel.note(f"The database cannot be asked: {trouble.message}. {trouble.hint}".rstrip())
