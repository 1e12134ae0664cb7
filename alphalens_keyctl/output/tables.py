"""Tables, for people: audit events on a narrow screen or a wide one, and what other tables share."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from alphalens_keyctl.models import Event, Status
from alphalens_keyctl.output.screen import Screen, cell
from alphalens_keyctl.output.words import ago, counted, moment

# Columns of a screen: below NARROW a table would break into pieces, from _WIDE on all columns fit.
NARROW: Final = 72
_WIDE: Final = 120
# For each status its mark in UTF-8, its mark in ASCII, and its colour.
DOTS: Final = {
    Status.ACTIVE: ("●", "*", "green"),
    Status.RETIRING: ("◐", "~", "yellow"),
    Status.SUSPENDED: ("○", "o", "magenta"),
    Status.PENDING: ("◌", "?", "cyan"),
    Status.DELIVERING: ("◍", "!", "cyan"),
    Status.EXPIRED: ("◇", "x", "red"),
    Status.RETIRED: ("·", ".", "dim"),
    Status.REVOKED: ("✕", "X", "red"),
    Status.DAMAGED: ("‼", "#", "bold red"),
}


def dot(status: str, screen: Screen) -> Text:
    """Return a status as a coloured mark. Each status has its own shape, for those who do not see the colour."""
    unicode, ascii_, style = DOTS[Status(status)]
    return Text(unicode if screen.unicode else ascii_, style=style)


def event_list(events: Sequence[Event], total: int, *, now: datetime, screen: Screen) -> str:
    """Return a table of audit events. `total` is how many were selected."""
    footer = Text(
        f"the latest {len(events):,} of {counted(total, 'event')}: --limit {total} shows all"
        if len(events) < total
        else counted(total, "event"),
        style="dim",
    )
    if not events:
        return screen.draw(footer)
    if screen.width < NARROW:
        lines = Table.grid(padding=(0, 1))
        for event in events:
            lines.add_row(Text(str(event.seq)), cell(f"{event.action} {event.key_name or ''}", "bold"))
            lines.add_row("", cell(f"{ago(event.at, now)} by {event.actor}"))
        return screen.draw(lines, footer)
    table = ruled(screen)
    for title in ("Seq", "When", "Who", "What", "Key", "Id"):
        table.add_column(title, no_wrap=title in ("Seq", "Id", "What"), overflow="fold")
    if screen.width >= _WIDE:
        table.add_column("Detail", overflow="fold")
    for event in events:
        row = [
            Text(str(event.seq)), Text(moment(event.at)), cell(event.actor), cell(event.action),
            cell(event.key_name, "bold"), cell(event.key_id),
        ]  # fmt: skip
        table.add_row(*row, *([cell(_detail(event))] if screen.width >= _WIDE else []))
    return screen.draw(table, footer)


def ruled(screen: Screen) -> Table:
    """Return an empty table as all tables look: without border, with a rule under the head; in a pipe bare columns."""
    return Table(
        box=(box.SIMPLE_HEAD if screen.unicode else box.ASCII2) if screen.terminal else None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold" if screen.color else "",
        show_edge=False,
    )


def _detail(event: Event) -> str:
    # The digest of the key's row is for machines.
    said = {name: value for name, value in event.detail.items() if name not in ("origin", "row")}
    before, after = said.get("before"), said.get("after")
    if isinstance(before, dict) and isinstance(after, dict):
        rest = {name: value for name, value in said.items() if name not in ("before", "after")}
        changed = [name for name, value in after.items() if before.get(name) != value]
        said = {name: f"{_plain(before.get(name))} -> {_plain(after[name])}" for name in changed} | rest
    from_where = event.detail.get("origin")
    if isinstance(from_where, dict):
        # Over HTTP the address is all that is known.
        said["from"] = next(filter(None, map(from_where.get, ("ci_run_url", "host", "address"))), "?")
        if isinstance(claims := from_where.get("claims"), dict):
            said["claims"] = claims
    return "  ".join(f"{name} {_plain(value)}" for name, value in said.items())


def _plain(value: object) -> str:
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, dict):
        return " ".join(f"{name}={inner}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
