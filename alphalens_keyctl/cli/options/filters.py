"""The options that select keys: filters."""

from dataclasses import dataclass
from typing import Annotated

import typer

from alphalens_keyctl.cli.options.groups import OptionGroup, Panel


@dataclass(frozen=True)
class Filters(OptionGroup):
    """The filters as they were written. `select_keys.selection` parses them when a command runs."""

    panel = Panel.WHICH_KEYS

    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            show_default=False,
            help="Of this status: active, suspended, …; repeat for more.",
        ),
    ] = None
    name: Annotated[
        str | None, typer.Option("--name", metavar="GLOB", show_default=False, help="Named like this, with * and ?.")
    ] = None
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="OWNER", show_default=False, help="Owned by exactly this owner.")
    ] = None
    no_owner: Annotated[bool, typer.Option("--no-owner", help="Owned by nobody.")] = False
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="K=V",
            show_default=False,
            help="With this label; '!K': without label K; repeat for more.",
        ),
    ] = None
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            show_default=False,
            help="That may do this: by this scope, a wildcard, or no restriction; repeat for more.",
        ),
    ] = None
    unused_for: Annotated[
        str | None,
        typer.Option(
            "--unused-for",
            metavar="DUR",
            show_default=False,
            help="Unused for at least DUR; a never-used key counts from its activation.",
        ),
    ] = None
    never_used: Annotated[bool, typer.Option("--never-used", help="Never used.")] = False
    expired: Annotated[bool, typer.Option("--expired", help="Expired.")] = False
    expires_within: Annotated[
        str | None, typer.Option("--expires-within", metavar="DUR", show_default=False, help="Expiring within DUR.")
    ] = None
    never_expires: Annotated[bool, typer.Option("--never-expires", help="Without an expiry.")] = False
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="DUR", show_default=False, help="Created at least DUR ago.")
    ] = None
    suspended_for: Annotated[
        str | None,
        typer.Option("--suspended-for", metavar="DUR", show_default=False, help="Suspended for at least DUR."),
    ] = None

    @property
    def given(self) -> bool:
        """Whether any filter was written."""
        return self != Filters()
