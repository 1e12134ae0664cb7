"""`doctor`: look at everything that the program stands on, and say what to do."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption


def doctor(ctx: typer.Context, json: JsonOption = False) -> None:
    """Look for what is wrong around the program, and say what to do about it: exit 5 when something is.

    Looks at the configuration, the database (is it reached, its schema, what this role may do, its clock, its
    integrity), the keyring and completion. Each look stands alone and has a limit; nothing is created or changed.

    Examples:

        alphalens-keyctl doctor
        alphalens-keyctl --profile prod doctor --json
    """
    start = runs.start_of(ctx)
    from alphalens_keyctl.cli import check_up

    check_up.check_up(start, json=json)
