"""`verify`: does this raw key open?"""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli import standard_input
from alphalens_keyctl.cli.arguments import JsonOption

REFUSED = 4


def verify(ctx: typer.Context, json: JsonOption = False) -> None:
    """Check a raw key from stdin: exit 0 when it opens, 4 when not, with the reason. It does not count as a use."""
    run = runs.of(ctx)
    from alphalens_keyctl.output import channel, documents
    from alphalens_keyctl.verification.check import check

    presented = standard_input.read_line()
    with run.database() as database, database.reading() as connection:
        answer = check(connection, presented, now=run.act.at)
    if json:
        channel.write([documents.json_document(documents.verification_object(answer))])
    else:
        from alphalens_keyctl.output.words import verification

        channel.write([verification(answer, run.act.at) + "\n"])
    if not answer.allowed:
        raise typer.Exit(REFUSED)
