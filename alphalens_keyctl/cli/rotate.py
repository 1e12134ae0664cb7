"""`rotate KEY…`: give each key a successor; the old key works until its grace is over."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import (
    JsonLinesOption,
    JsonOption,
    OverrideOption,
    parse_key,
    parse_override,
)
from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import Panel, with_groups
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.moments import parse_expiry, parse_span

DEADLINE = "30d"
GRACE = timedelta(hours=24)


class Asked(NamedTuple):
    """What the options of `rotate` ask for.

    `grace` is None where no option says it, `deadline` without `--until-used`. `expires_at` is the new key's expiry
    (UTC; None: never); with `same_lifetime` it is ignored, and the new key gets the lifetime that the old key was
    given. A key is rotated when it fits `if_older_than` or `if_expiring_within`, or when both are None.
    """

    references: Sequence[str | RawKey]
    filters: Filters
    destinations: Destinations
    grace: timedelta | None
    deadline: timedelta | None
    expires_at: datetime | None
    same_lifetime: bool
    if_older_than: timedelta | None
    if_expiring_within: timedelta | None
    check: str | None
    override: str | None
    dry_run: bool
    json: bool
    jsonl: bool


@with_groups(filters=Filters, destinations=Destinations)
def rotate(
    ctx: typer.Context,
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY",
            show_default=False,
            help="Names, ids, first characters of ids (6 or more), or - for a raw key on stdin.",
        ),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace",
            metavar="DUR",
            show_default=False,
            help="How long the old key keeps working; 0 ends it at once. Default: 24h, and 0 with --self.",
        ),
    ] = None,
    self_: Annotated[
        bool,
        typer.Option(
            "--self",
            help="With --server: rotate the key that the file or keyring holds, by itself; --until-used is understood.",
        ),
    ] = False,
    until_used: Annotated[
        bool, typer.Option("--until-used", help="Start the grace when the new key is first used.")
    ] = False,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="DUR",
            show_default=False,
            help=f"With --until-used: end the old key after DUR even if the new is never used. Default: {DEADLINE}.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            rich_help_panel=Panel.NEW_VALUES,
            metavar="WHEN",
            show_default=False,
            help="When the new key expires. Default: after the lifetime that the old key was given.",
        ),
    ] = None,
    if_older_than: Annotated[
        str | None,
        typer.Option(
            "--if-older-than",
            rich_help_panel=Panel.WHICH_KEYS,
            metavar="DUR",
            show_default=False,
            help="Rotate only a key that was activated at least DUR ago.",
        ),
    ] = None,
    if_expiring_within: Annotated[
        str | None,
        typer.Option(
            "--if-expiring-within",
            rich_help_panel=Panel.WHICH_KEYS,
            metavar="DUR",
            show_default=False,
            help="Rotate only a key that expires within DUR; beside --if-older-than, one of the two is enough.",
        ),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            rich_help_panel=Panel.SAFETY,
            metavar="CMD",
            show_default=False,
            help="Finally run CMD with the new raw key on its stdin; if it fails, take the rotation back.",
        ),
    ] = None,
    override: OverrideOption = None,
    abort: Annotated[
        bool, typer.Option("--abort", help="Take an unused new key back; the old key becomes current again.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", rich_help_panel=Panel.SAFETY, help="Show what would be rotated, and change nothing."),
    ] = False,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    *,
    filters: Filters,
    destinations: Destinations,
) -> None:
    """Replace a key by a successor of the same name, owner, purpose and labels.

    The old key keeps working until its grace is over. Of several rotations of one key at once, one wins and the
    others exit 6. Several keys, or filters, need --pipe-to or --jsonl. With --self a job rotates its own key over a
    server: the topic rotation has a line for each CI.

    Examples:
      # The old key works for 7 days more:
      alphalens-keyctl rotate billing --grace 7d
      alphalens-keyctl rotate ci --if-older-than 30d --no-print --pipe-to 'gh secret set ALPHALENS_API_KEY'
      alphalens-keyctl rotate --owner team-a --older-than 90d --dry-run
    """
    run = runs.of(ctx)
    runs.one_format(json=json, jsonl=jsonl)
    references = [parse_key(key) for key in keys or ()]
    from alphalens_keyctl.cli import rotate_keys

    if dry_run and (abort or jsonl):
        raise KeyctlError(Code.USAGE, "--dry-run goes with neither --abort nor --jsonl", "It has --json.")
    if abort and self_:
        raise KeyctlError(Code.USAGE, "--abort does not go with --self", "Name the KEY to take back.")
    if abort:
        rotate_keys.abort(run, references, json=json)
        return
    until_used = until_used or self_
    if deadline is not None and not until_used:
        raise KeyctlError(
            Code.USAGE, "--deadline is for --until-used", "Without it --grace says when the old key ends."
        )
    asked = Asked(
        references,
        filters,
        destinations,
        grace=None if grace is None else parse_span(grace, what="grace", zero=True),
        deadline=parse_span(deadline or DEADLINE, what="deadline") if until_used else None,
        expires_at=None if expires is None else parse_expiry(expires, now=run.act.at),
        same_lifetime=expires is None,
        if_older_than=None if if_older_than is None else parse_span(if_older_than, what="age"),
        if_expiring_within=None
        if if_expiring_within is None
        else parse_span(if_expiring_within, what="time to expiry"),
        check=check,
        override=parse_override(override),
        dry_run=dry_run,
        json=json,
        jsonl=jsonl,
    )
    if self_:
        from alphalens_keyctl.cli import rotate_self  # for speed: it loads the way over HTTP

        rotate_self.rotate_self(run, asked)
    else:
        rotate_keys.rotate(run, asked)
