"""`verify`: does this raw key open?"""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli import standard_input
from alphalens_keyctl.cli.arguments import JsonOption
from alphalens_keyctl.moments import utc_now

REFUSED = 4


def verify(ctx: typer.Context, json: JsonOption = False) -> None:
    """Check a raw key from stdin: exit 0 when it opens, 4 when not, with the reason. It does not count as a use."""
    run = runs.of(ctx)
    from alphalens_keyctl.output import documents
    from alphalens_keyctl.verification.check import check

    presented = standard_input.read_line()
    # Not the instant at which the program began: the key may have taken its time to come.
    now = utc_now()
    with run.database() as database, database.reading() as connection:
        found = check(connection, presented, now=now)
    if json:
        said = documents.json_document(documents.verification_object(found))
    else:
        from alphalens_keyctl.output.words import verification

        said = verification(found, now) + "\n"
    runs.answer(said, status=0 if found.allowed else REFUSED)
