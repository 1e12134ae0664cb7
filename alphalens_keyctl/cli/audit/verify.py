"""`audit verify`: proves that nobody touched the audit log."""

import errno
import json as jsonlib
import os
import stat
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError

if TYPE_CHECKING:
    from alphalens_keyctl.logs.audit import Head

_LARGEST_HEAD = 4096  # bytes; a saved head has about 150


def verify(
    ctx: typer.Context,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="FILE",
            show_default=False,
            help="Also prove that the log extends this head, as 'audit head --json' printed it; - reads stdin.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Walk the whole log: exit 0 when it is sound, 5 with the first break and its kind when not."""
    run = runs.of(ctx)
    from alphalens_keyctl.logs import audit as log
    from alphalens_keyctl.output import documents

    saved = None if head is None else _read_head(head)
    with run.database() as database, database.reading(tolerant=True) as connection:
        verdict = log.verify(connection, saved)
    if json:
        said = documents.json_document(documents.verdict_object(verdict))
    else:
        from alphalens_keyctl.output.words import log_verdict

        said = log_verdict(verdict, extends=saved is not None) + "\n"
    runs.answer(said, status=ExitStatus.DONE if verdict.broken is None else ExitStatus.FOUND)


def _read_head(source: str) -> "Head":
    from alphalens_keyctl.logs.audit import GENESIS, Head

    if source == "-":
        content = standard_input.read(standard_input.standard_input(), most=_LARGEST_HEAD)
    else:
        try:
            # Not blocking, so that a FIFO without a writer is empty rather than a wait for ever.
            descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "its name is not one"
            raise KeyctlError(Code.INVALID_INPUT, f"the saved head cannot be read: {why}") from None
        try:
            content = standard_input.read(descriptor, most=_LARGEST_HEAD)
        finally:
            os.close(descriptor)
    try:
        saved = jsonlib.loads(content)
        seq, digest = saved["seq"], bytes.fromhex(saved["hash"])
        at = None if saved.get("at") is None else datetime.fromisoformat(saved["at"])
        if type(seq) is not int or seq < 0 or len(digest) != 32 or (seq == 0 and digest != GENESIS):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KeyctlError(
            Code.INVALID_INPUT, "the saved head is not one", "Give what 'audit head --json' printed."
        ) from None
    return Head(seq, digest, at)
