"""`create NAME`: create a key and show it once."""

from pathlib import Path
from typing import Annotated

import typer

from alphalens_keyctl import networks, scopes, text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption, OverrideOption, parse_override
from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.options.groups import Panel, with_groups
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import parse_expiry
from alphalens_keyctl.settings import PROGRAM


@with_groups(destinations=Destinations)
def create(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The key's name; letter case does not matter.", show_default=False),
    ] = None,
    expires: Annotated[
        str,
        typer.Option(
            "--expires",
            metavar="WHEN",
            rich_help_panel=Panel.NEW_VALUES,
            help="When the key expires: 30m 24h 7d 4w 3mo 1y, 2027-01-31, an instant, or never.",
        ),
    ] = "never",
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner",
            metavar="OWNER",
            rich_help_panel=Panel.NEW_VALUES,
            help="Who answers for the key.",
            show_default=False,
        ),
    ] = None,
    purpose: Annotated[
        str | None,
        typer.Option(
            "--purpose",
            metavar="TEXT",
            rich_help_panel=Panel.NEW_VALUES,
            help="What the key is for.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="K=V",
            rich_help_panel=Panel.NEW_VALUES,
            help="A label; repeat for more.",
            show_default=False,
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            rich_help_panel=Panel.NEW_VALUES,
            help="What the key may do: prices:read, or reports:* for all below; repeat for more. Without: everything.",
            show_default=False,
        ),
    ] = None,
    allow_from: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-from",
            metavar="NET",
            rich_help_panel=Panel.NEW_VALUES,
            help="From where it is used: 10.0.0.0/8, 192.0.2.7, 2001:db8::/32; repeat for more. Without: anywhere.",
            show_default=False,
        ),
    ] = None,
    override: OverrideOption = None,
    if_missing: Annotated[
        bool,
        typer.Option("--if-missing", rich_help_panel=Panel.SAFETY, help="Do nothing when a key of that name exists."),
    ] = False,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            show_default=False,
            help="Create a key for each line of a CSV or JSON Lines file, or of stdin for -, all or none.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=Panel.SAFETY, help="With --from: check the file, and create nothing."
        ),
    ] = False,
    *,
    destinations: Destinations,
    json: JsonOption = False,
) -> None:
    """Create a key and show it once.

    Without a terminal, stdout is the raw key alone. The key is created only when every destination takes it;
    when one fails, none keeps it.

    Examples:
      alphalens-keyctl create billing --owner team-a --expires 90d --scope prices:read --scope 'reports:*'
      alphalens-keyctl create ci --if-missing --no-print --key-file ci-key
      # Try what a file would create, and create nothing:
      alphalens-keyctl create --from keys.csv --dry-run
    """
    run = runs.of(ctx)
    override = parse_override(override)
    if from_ is not None:
        others = (name, owner, purpose, label, scope, allow_from, if_missing or None, json or None)
        if any(each is not None for each in others) or expires != "never":
            raise KeyctlError(
                Code.USAGE,
                "--from takes every key from the file",
                "Beside it stand --dry-run, --override, --no-print, --pipe-to and the options of --pipe-to.",
            )
        from alphalens_keyctl.cli import create_from

        create_from.create_from(run, str(from_), destinations, override=override, dry_run=dry_run)
        return
    if dry_run:
        raise KeyctlError(Code.USAGE, "--dry-run is for --from", f"For example: {PROGRAM} create --from FILE --dry-run")
    if name is None:
        name = _ask_for_name(run)
    from alphalens_keyctl.cli import create_key

    create_key.create_key(
        run,
        destinations,
        name=text.parse_name(name),
        owner=None if owner is None else text.parse_line(owner, what="owner", longest=text.LONGEST_OWNER),
        purpose=None if purpose is None else text.parse_line(purpose, what="purpose", longest=text.LONGEST_PURPOSE),
        labels=text.parse_labels(label or ()),
        scopes=scopes.parse_all(scope or ()),
        allow_from=networks.parse_all(allow_from or ()),
        expires_at=parse_expiry(expires, now=run.act.at),
        override=override,
        if_missing=if_missing,
        json=json,
    )


def _ask_for_name(run: Run) -> str:
    if run.machine or not runs.can_ask():
        raise KeyctlError(Code.USAGE, "create needs a NAME", f"For example: {PROGRAM} create billing --expires 90d")
    return run.ask("Name of the new key", text.parse_name)
