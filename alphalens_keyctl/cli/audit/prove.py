"""`audit prove`: prove that one event is in the audit log, to somebody who has nothing but a head."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.evidence import HeadOption, SignerOption, SignersOption
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.vocabulary import LARGEST_NUMBER


def prove(
    ctx: typer.Context,
    seq: Annotated[
        int | None,
        typer.Argument(
            metavar="SEQ",
            min=1,
            max=LARGEST_NUMBER,
            show_default=False,
            help="The number of the event that is to be proven.",
        ),
    ] = None,
    head: HeadOption = None,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="FILE",
            show_default=False,
            help="Check this proof against --head, without the database; - reads stdin.",
        ),
    ] = None,
    signers: SignersOption = None,
    signer: SignerOption = None,
    json: JsonOption = False,
) -> None:
    """Print the proof, a JSON document, that an event is in the audit log: for today's head, or for the one of --head.

    With --check, check such a proof: exit 0 when the event is in the log of that head, else 5.

    Examples:
      alphalens-keyctl audit head --json > head.json
      alphalens-keyctl audit prove 1 --head head.json > proof.json
      alphalens-keyctl audit prove --check proof.json --head head.json
    """
    run = runs.of(ctx)
    if (seq is None) == (check is None):
        raise KeyctlError(Code.USAGE, "'audit prove' takes SEQ, or --check and --head", "Say which event to prove.")
    if check is not None and head is None:
        raise KeyctlError(Code.USAGE, "--check needs --head", "A proof is worth what the head is that it leads to.")
    if check == head == "-":
        raise KeyctlError(Code.USAGE, "--check and --head cannot both be stdin", "Give one of them as a file.")
    from alphalens_keyctl.cli.audit import prove_event

    if check is not None and head is not None:
        prove_event.check_proof(check, head, signers=signers, signer=signer, json=json)
    elif seq is not None:
        prove_event.print_proof(run, seq, head=head, signers=signers, signer=signer)
