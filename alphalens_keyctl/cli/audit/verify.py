"""`audit verify`: prove that the audit log is whole."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.evidence import HeadOption, SignerOption, SignersOption
from alphalens_keyctl.errors import Code, KeyctlError


def verify(
    ctx: typer.Context,
    head: HeadOption = None,
    signers: SignersOption = None,
    signer: SignerOption = None,
    log_only: Annotated[
        bool, typer.Option("--log-only", help="Do not compare the keys themselves with what the log says of them.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check the whole audit log, and that the keys are what it says: exit 0, or 5 with the first break and its kind.

    Examples:
      alphalens-keyctl audit verify
      # Keep the head elsewhere, and compare the log with it later:
      alphalens-keyctl audit head --json > head.json
      alphalens-keyctl audit verify --head head.json
    """
    run = runs.of(ctx)
    if signers is not None and head is None:
        raise KeyctlError(Code.USAGE, "--signers needs --head", "Name the head that has to be signed.")
    from alphalens_keyctl.cli.audit import verify_log

    verify_log.verify_log(run, head=head, signers=signers, signer=signer, log_only=log_only, json=json)
