"""The options that say which keys are meant."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli.options.arguments import one_of
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import parse_span

if TYPE_CHECKING:
    from alphalens_keyctl.keys.selection import Selection


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

    def selection(self, *, final: bool = False) -> "Selection":
        """What they select. Raises `KeyctlError` (usage, invalid_input)."""
        from alphalens_keyctl.keys.selection import Selection
        from alphalens_keyctl.models import Status

        wanted = Selection(
            statuses=tuple(one_of(Status, word, "status") for word in self.status or ()),
            final=final,
            name_glob=None
            if self.name is None
            else text.parse_line(self.name, what="name pattern", longest=text.LONGEST_NAME),
            owner=None if self.owner is None else text.parse_line(self.owner, what="owner", longest=text.LONGEST_OWNER),
            labels=text.parse_labels(label for label in self.label or () if not label.startswith("!")),
            without=tuple(text.parse_label_name(label[1:]) for label in self.label or () if label.startswith("!")),
            never_used=self.never_used,
            unused_for=_span(self.unused_for, "time unused"),
            expired=self.expired,
            expires_within=_span(self.expires_within, "time to expiry"),
            older_than=_span(self.older_than, "age"),
            suspended_for=_span(self.suspended_for, "time suspended"),
        )
        _refuse_contradictions(wanted)
        return wanted


def _refuse_contradictions(wanted: "Selection") -> None:
    """No key can fit these, so whoever wrote them meant something else."""
    from alphalens_keyctl.models import Status

    asked = set(wanted.statuses)
    # A key that expired, retired or was revoked may have been suspended before.
    never_suspended = {Status.PENDING, Status.DELIVERING, Status.ACTIVE, Status.RETIRING}
    impossible = {
        "--expired and --expires-within": wanted.expired and wanted.expires_within is not None,
        "--expired and --status": wanted.expired and asked and Status.EXPIRED not in asked,
        "--expires-within and --status": wanted.expires_within is not None and asked == {Status.EXPIRED},
        "--suspended-for and --status": wanted.suspended_for is not None and asked and asked <= never_suspended,
        "a label and its absence": not set(wanted.labels).isdisjoint(wanted.without),
    }
    for what, contradict in impossible.items():
        if contradict:
            raise KeyctlError(Code.USAGE, f"{what} contradict each other", "Leave one of them out.")


def _span(given: str | None, what: str) -> timedelta | None:
    return None if given is None else parse_span(given, what=what)
