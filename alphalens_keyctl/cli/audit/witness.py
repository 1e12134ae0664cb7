"""`audit witness`: keep the head elsewhere, each time that the log extends the head kept before."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.destinations import PIPE_LIMIT
from alphalens_keyctl.cli.options.evidence import OriginOption, SignerOption, SignersOption, SignOption
from alphalens_keyctl.errors import Code, KeyctlError


def witness(
    ctx: typer.Context,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FILE",
            show_default=False,
            help="Keep the head in FILE, if the log extends the head that FILE holds.",
        ),
    ] = None,
    pipe_to: Annotated[
        str | None,
        typer.Option(
            "--pipe-to", metavar="CMD", show_default=False, help="Run CMD, without a shell, with the head on its stdin."
        ),
    ] = None,
    pipe_timeout: Annotated[
        float,
        typer.Option("--pipe-timeout", metavar="SECONDS", min=0.1, max=3600, help="How long CMD may take, up to 3600."),
    ] = PIPE_LIMIT,
    sign: SignOption = None,
    origin: OriginOption = None,
    signers: SignersOption = None,
    signer: SignerOption = None,
    json: JsonOption = False,
) -> None:
    """Check the audit log, and keep its head elsewhere; for cron. Exit 5, and keep nothing, when the log is not sound.

    The log must extend the head that FILE of --to holds; with --signers that head must be signed.

    Examples:
      alphalens-keyctl audit witness --to head.json
      alphalens-keyctl audit witness --to head.json --pipe-to "tee copy.json"
    """
    run = runs.of(ctx)
    if to is None and pipe_to is None:
        raise KeyctlError(Code.USAGE, "the head has nowhere to go", "Add --to FILE or --pipe-to CMD.")
    from alphalens_keyctl.cli.audit import keep_head

    kept = keep_head.Elsewhere.of(run, to, pipe_to, pipe_timeout)
    keep_head.keep_head(run, kept, sign=sign, origin=origin, signers=signers, signer=signer, json=json)
