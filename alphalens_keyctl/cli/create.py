"""`create NAME`: create a key and show it once."""

from pathlib import Path
from typing import Annotated

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption, OverrideOption, parse_override
from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import parse_expiry


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
            "--expires", metavar="WHEN", help="When the key expires: 30m 24h 7d 4w, 2027-01-31, an instant, or never."
        ),
    ] = "never",
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="OWNER", help="Who answers for the key.", show_default=False)
    ] = None,
    purpose: Annotated[
        str | None, typer.Option("--purpose", metavar="TEXT", help="What the key is for.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="K=V", help="A label; repeat for more.", show_default=False),
    ] = None,
    override: OverrideOption = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing when a key of that name exists.")
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
        bool, typer.Option("--dry-run", help="With --from: check the file, and create nothing.")
    ] = False,
    *,
    destinations: Destinations,
    json: JsonOption = False,
) -> None:
    """Create a key and show it once.

    Without a terminal, stdout is the raw key alone. The key is created only when every destination takes it;
    when one fails, none keeps it.
    """
    run = runs.of(ctx)
    override = parse_override(override)
    if from_ is not None:
        others = (name, owner, purpose, label, if_missing or None, json or None)
        if any(each is not None for each in others) or expires != "never":
            raise KeyctlError(
                Code.USAGE,
                "--from takes every key from the file",
                "Beside it stand --dry-run, --override, --no-print, --pipe-to and the options of --pipe-to.",
            )
        from alphalens_keyctl.cli import create_from

        create_from.create_from(run, str(from_), destinations, override=override, dry_run=dry_run)
        return
    if name is None or dry_run:
        raise KeyctlError(Code.USAGE, "create needs a NAME" if name is None else "--dry-run is for --from", "Give one.")
    from alphalens_keyctl.cli import create_key

    create_key.create_key(
        run,
        destinations,
        name=text.parse_name(name),
        owner=None if owner is None else text.parse_line(owner, what="owner", longest=text.LONGEST_OWNER),
        purpose=None if purpose is None else text.parse_line(purpose, what="purpose", longest=text.LONGEST_PURPOSE),
        labels=text.parse_labels(label or ()),
        expires_at=parse_expiry(expires, now=run.act.at),
        override=override,
        if_missing=if_missing,
        json=json,
    )
