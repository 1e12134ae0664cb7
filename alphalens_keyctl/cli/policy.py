"""`policy set` and `policy show`: what every key must be, kept in the database."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.commands import App
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.errors import Code, KeyctlError

app = App(invoke_without_command=True)


@app.callback()
def policy(ctx: typer.Context, json: JsonOption = False) -> None:
    """Show what every key must be, or set it: create, rotate and update refuse what breaks it.

    Examples:
      alphalens-keyctl policy
    """
    if ctx.invoked_subcommand is None:
        show(ctx, json=json)
    elif json:
        raise KeyctlError(
            Code.USAGE,
            f"--json stands before '{ctx.invoked_subcommand}', which does not hear it",
            f"Write it after '{ctx.invoked_subcommand}'.",
        )


@app.command(name="set")
def set_(
    ctx: typer.Context,
    max_lifetime: Annotated[
        str | None,
        typer.Option(
            "--max-lifetime", metavar="DUR", show_default=False, help="How long a key may live from its creation."
        ),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="FIELDS",
            show_default=False,
            help="What each key must have, joined by commas: owner, purpose, expires.",
        ),
    ] = None,
    name_pattern: Annotated[
        str | None,
        typer.Option(
            "--name-pattern",
            metavar="PATTERN",
            show_default=False,
            help="How a name must look, with * and ?; letter case does not matter.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(
            "--unset",
            metavar="DEMAND",
            show_default=False,
            help="Ask this no more: max-lifetime, require or name-pattern; repeat for more.",
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", show_default=False, help="Why, for the audit log.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Set what every key must be from now on; what is not named stays as it was.

    Keys that there are stay as they are: 'audit check' reports those outside the policy. --override REASON of create,
    rotate and update makes an exception, which goes on record.

    Examples:
      alphalens-keyctl policy set --max-lifetime 365d --require owner,purpose
      alphalens-keyctl policy set --unset require --reason "tried out"
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli import policy_stored

    policy_stored.set_policy(
        run,
        max_lifetime=max_lifetime,
        require=require,
        name_pattern=name_pattern,
        unset=unset,
        reason=reason,
        json=json,
    )


@app.command()
def show(ctx: typer.Context, json: JsonOption = False) -> None:
    """Show what every key must be.

    Examples:
      alphalens-keyctl policy show
      alphalens-keyctl policy show --json
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli import policy_stored

    policy_stored.show(run, json=json)
