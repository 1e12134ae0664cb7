"""Tables, for people: keys and audit events, on a narrow screen or a wide one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from alphalens_keyctl.models import Event, Key, Status
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


def key_list(keys: Sequence[Key], total: int, *, hidden: int, now: datetime, screen: Screen) -> str:
    """Return a table of keys. `total` is how many were selected, `hidden` how many revoked or retired are left out."""
    footer = Text(_key_footer(keys, total, hidden, screen), style="dim")
    if not keys:
        return screen.draw(footer)
    unfinished = [
        cell(f"{key.id} was on its way to {key.delivering_to}: rotate '{key.name}' to finish, or create it anew")
        for key in keys
        if key.status == Status.DELIVERING
    ]
    drawn = _stacked(keys, now, screen) if screen.width < NARROW else _columns(keys, now, screen)
    return screen.draw(drawn, *unfinished, footer)


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


def _columns(keys: Sequence[Key], now: datetime, screen: Screen) -> Table:
    wide = screen.width >= _WIDE
    table = ruled(screen)
    table.add_column("", no_wrap=True)
    table.add_column("Name", overflow="fold", ratio=2 if not screen.terminal else None, min_width=8)
    table.add_column("Id", no_wrap=True)
    if wide:
        table.add_column("Status", no_wrap=True)
    table.add_column("Owner", overflow="fold", min_width=5, max_width=None if wide else 12)
    for title in ("Created", "Last used", "Expires"):
        table.add_column(title, no_wrap=True)
    if wide:
        table.add_column("Uses", justify="right", no_wrap=True)
        table.add_column("Labels", overflow="fold")
        table.add_column("Purpose", overflow="fold")
    for key in keys:
        row = [dot(key.status, screen), cell(key.name, "bold"), cell(key.id)]
        row += [Text(key.status)] if wide else []
        row += [
            cell(key.owner),
            Text(ago(key.created_at, now)),
            Text(ago(key.last_used_at, now)),
            _end(key, now),
        ]
        if wide:
            labels = " ".join(f"{name}={value}" for name, value in sorted(key.labels.items()))
            row += [Text(f"{key.use_count:,}"), cell(labels or None), cell(key.purpose)]
        table.add_row(*row)
    return table


def _stacked(keys: Sequence[Key], now: datetime, screen: Screen) -> Table:
    lines = Table.grid(padding=(0, 1))
    for key in keys:
        lines.add_row(dot(key.status, screen), cell(key.name, "bold"))
        lines.add_row("", cell(f"{key.id} {key.status}"))
        if key.owner is not None:
            lines.add_row("", cell(f"owner {key.owner}"))
        lines.add_row("", Text(f"created {ago(key.created_at, now)}"))
        lines.add_row("", Text(f"last used {ago(key.last_used_at, now)}"))
        lines.add_row("", Text.assemble("expires ", _end(key, now)))
    return lines


def _end(key: Key, now: datetime) -> Text:
    """Return when the key stops opening: when it was revoked, else the earlier of its expiry and its retirement."""
    if key.revoked_at is not None:
        return Text(f"revoked {ago(key.revoked_at, now)}")
    return Text(ago(key.ends_at, now), style="red" if key.ends_at is not None and key.ends_at <= now else "")


def ruled(screen: Screen) -> Table:
    """Return an empty table as all tables look: without border, with a rule under the head; in a pipe bare columns."""
    return Table(
        box=(box.SIMPLE_HEAD if screen.unicode else box.ASCII2) if screen.terminal else None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold" if screen.color else "",
        show_edge=False,
    )


def _key_footer(keys: Sequence[Key], total: int, hidden: int, screen: Screen) -> str:
    shown = counted(total, "key")
    if len(keys) < total:
        shown = f"{len(keys):,} of {shown}: --limit {total} shows all"
    left_out = f", and {counted(hidden, 'key')} revoked or retired: --all shows them" if hidden else ""
    statuses = dict.fromkeys(Status(key.status) for key in keys)
    legend = "  ".join(f"{dot(status, screen).plain} {status}" for status in statuses)
    return f"{shown}{left_out}" + (f"   {legend}" if legend and screen.width < _WIDE else "")


def _detail(event: Event) -> str:
    said = {name: value for name, value in event.detail.items() if name != "origin"}
    from_where = event.detail.get("origin")
    if isinstance(from_where, dict):
        said["from"] = from_where.get("ci_run_url") or from_where.get("host") or "?"
        if isinstance(claims := from_where.get("claims"), dict):
            said["claims"] = claims
    return "  ".join(f"{name} {_plain(value)}" for name, value in said.items())


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={inner}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
