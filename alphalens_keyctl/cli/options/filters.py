"""The options that say which keys are meant."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True)
class Filters:
    """The options as they were written, with the names and the help that they have everywhere."""

    status: Annotated[
        list[str] | None,
        typer.Option("--status", metavar="STATUS", show_default=False, help="active, suspended, …; repeat for more."),
    ] = None
    name: Annotated[
        str | None, typer.Option("--name", metavar="GLOB", show_default=False, help="Names, with * and ?.")
    ] = None
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="TEXT", show_default=False, help="Exactly this owner.")
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="K=V", show_default=False, help="Labelled so, or '!K' not at all; repeat for more."
        ),
    ] = None
    unused_for: Annotated[
        str | None,
        typer.Option(
            "--unused-for",
            metavar="DUR",
            show_default=False,
            help="Not used for so long, counted from activation if never.",
        ),
    ] = None
    never_used: Annotated[bool, typer.Option("--never-used", help="Never used at all.")] = False
    expired: Annotated[bool, typer.Option("--expired", help="Past its expiry.")] = False
    expires_within: Annotated[
        str | None, typer.Option("--expires-within", metavar="DUR", show_default=False, help="About to expire.")
    ] = None
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="DUR", show_default=False, help="Created longer ago.")
    ] = None
    suspended_for: Annotated[
        str | None, typer.Option("--suspended-for", metavar="DUR", show_default=False, help="Suspended for so long.")
    ] = None

    @property
    def given(self) -> bool:
        """Whether any of them was written."""
        return self != Filters()
