"""The options that say what keys get: new values."""

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from alphalens_keyctl.cli.options.groups import OptionGroup, Panel

# What --unset takes, and the column that it empties; and what stands there before one of several.
UNSET: Final = {
    "owner": "owner",
    "purpose": "purpose",
    "expires": "expires_at",
    "scopes": "scopes",
    "allow-from": "allow_from",
}
LABEL: Final = "label:"
SCOPE: Final = "scope:"
ALLOW_FROM: Final = "allow-from:"
# `--set-allow-from seen:30d` proposes the networks from which a key was used.
SEEN: Final = "seen:"


@dataclass(frozen=True)
class NewValues(OptionGroup):
    """The new values as they were written. `update_keys` parses them when the command runs."""

    panel = Panel.NEW_VALUES

    set_name: Annotated[
        str | None,
        typer.Option("--set-name", metavar="NAME", show_default=False, help="A new name, for one KEY."),
    ] = None
    set_owner: Annotated[
        str | None, typer.Option("--set-owner", metavar="OWNER", show_default=False, help="Who answers for the keys.")
    ] = None
    set_purpose: Annotated[
        str | None, typer.Option("--set-purpose", metavar="TEXT", show_default=False, help="What the keys are for.")
    ] = None
    set_expires: Annotated[
        str | None,
        typer.Option(
            "--set-expires",
            metavar="WHEN",
            show_default=False,
            help="When the keys expire: 30m 24h 7d 4w from now, 2027-01-31, an instant, or never.",
        ),
    ] = None
    set_label: Annotated[
        list[str] | None,
        typer.Option("--set-label", metavar="K=V", show_default=False, help="Set a label; repeat for more."),
    ] = None
    set_scope: Annotated[
        list[str] | None,
        typer.Option(
            "--set-scope",
            metavar="SCOPE",
            show_default=False,
            help="Add a scope; a key without any may do this alone from then on; repeat for more.",
        ),
    ] = None
    set_allow_from: Annotated[
        list[str] | None,
        typer.Option(
            "--set-allow-from",
            metavar="NET",
            show_default=False,
            help="Add a network, or seen:30d for where the key was used in 30 days; repeat for more.",
        ),
    ] = None
    unset: Annotated[
        list[str] | None,
        typer.Option(
            "--unset",
            metavar="WHAT",
            show_default=False,
            help="Take a value away: owner, purpose, expires, label:K, scope:S, allow-from:NET, or scopes or allow-from"
            " for the whole restriction; repeat for more.",
        ),
    ] = None

    @property
    def given(self) -> bool:
        """Whether any new value was written."""
        return self != NewValues()
