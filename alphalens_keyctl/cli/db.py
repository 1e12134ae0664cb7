"""`db upgrade` and `db status`: look after the database's schema."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.commands import App, tell_help
from alphalens_keyctl.cli.options.arguments import JsonOption

app = App(invoke_without_command=True)


@app.callback()
def db(ctx: typer.Context) -> None:
    """Look after the database: its schema, and what roles may do in it.

    Examples:
      alphalens-keyctl db status
      alphalens-keyctl db upgrade
    """
    if ctx.invoked_subcommand is None:
        tell_help(ctx)


@app.command()
def upgrade(ctx: typer.Context, json: JsonOption = False) -> None:
    """Make the tables, or bring them to this version's schema. Safe to repeat, and to run twice at once.

    Examples:
      alphalens-keyctl db upgrade
      alphalens-keyctl --database postgresql://admin@db.example/keys db upgrade
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli import db_schema

    db_schema.upgrade(run, json=json)


@app.command()
def status(ctx: typer.Context, json: JsonOption = False) -> None:
    """Say which database is used and whether its schema is this version's. Creates and changes nothing.

    Examples:
      alphalens-keyctl db status
      alphalens-keyctl db status --json
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli import db_schema

    db_schema.status(run, json=json)


@app.command()
def grant(
    ctx: typer.Context,
    verifier: Annotated[
        str | None,
        typer.Option("--verifier", metavar="ROLE", show_default=False, help="May check keys and record their use."),
    ] = None,
    auditor: Annotated[
        str | None,
        typer.Option(
            "--auditor", metavar="ROLE", show_default=False, help="May read keys, without digests, and both logs."
        ),
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take every right from the role instead.")] = False,
    json: JsonOption = False,
) -> None:
    """Give a database role of PostgreSQL what a service or a reader needs, and no more; print the statements.

    Rights that the role had on these tables before are taken away first. Safe to repeat.

    Examples:
      alphalens-keyctl db grant --verifier api
      alphalens-keyctl db grant --verifier api --revoke
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli import db_grant

    db_grant.grant(run, verifier=verifier, auditor=auditor, revoke=revoke, json=json)
