"""One audit event, for people: all that it says, what is known apart from what was said, and its link of the chain."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from alphalens_keyctl.logs.recorded import Recorded, origins
from alphalens_keyctl.moments import UNREADABLE, rfc3339_exact
from alphalens_keyctl.output.event_story import called, changes, is_damaged, more, override, reason
from alphalens_keyctl.output.fitting import GAP, folded
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.screen import Screen
from alphalens_keyctl.output.words import ago
from alphalens_keyctl.settings import PROGRAM

_CALLED: Final = {
    "os_user": "system user", "host": "host", "database_user": "database user", "address": "address",
    "api_key": "API key", "actor": "actor", "sudo_user": "caller of sudo", "doas_user": "caller of doas", "ci": "CI",
    "ci_run_url": "CI run", "request_id": "request id",
}  # fmt: skip

# Columns that a text needs beside its label: an instant is one word.
_BESIDE: Final = len("2026-11-26T09:00:00.123456Z")

_Line = tuple[str, str, str]  # a label, a text, a style


def event_panel(recorded: Recorded, *, now: datetime, screen: Screen) -> str:
    """Return everything about one event."""
    groups = [
        list(group) for group in (_what(recorded, now), _changed(recorded, screen), _origin(recorded), _chain(recorded))
    ]
    width = max(len(label) for group in groups for label, _, _ in group)
    drawn: list[str] = []
    for group in groups:
        if group:
            drawn += [*([""] if drawn else []), *_drawn(group, width, screen)]
    return "".join(f"{line}\n" for line in drawn)


def _what(recorded: Recorded, now: datetime) -> Iterator[_Line]:
    event = recorded.event
    yield "event", str(event.seq), "bold"
    if is_damaged(event):
        yield "", "damaged: it holds what this program never writes", "bold red"
    when = "unreadable" if event.at == UNREADABLE else f"{rfc3339_exact(event.at)} ({ago(event.at, now)})"
    yield "when", when, ""
    claimed = "actor" in origins(event).claims
    yield "who", f"{event.actor}{' (a claim)' if claimed else ''}", ""
    yield "what", event.action, "bold"
    if event.key_id is not None or event.key_name is not None:
        yield "key", f"{event.key_name or '-'} ({event.key_id or '-'})", ""
    if event.key_id is not None:
        yield "", f"{PROGRAM} show {event.key_id}", "dim"
    if (why := reason(event)) is not None:
        yield "why", why, ""
    if (why := override(event)) is not None:
        yield "override", why, "yellow"
    yield from ((name, text, "") for name, text in more(event))


def _changed(recorded: Recorded, screen: Screen) -> Iterator[_Line]:
    for change in changes(recorded.event):
        yield change.name, f"{change.before} {'→' if screen.unicode else '->'} {change.after}", ""


def _origin(recorded: Recorded) -> Iterator[_Line]:
    facts, claims = origins(recorded.event)
    for title, said in (("facts", facts), ("claims", claims)):
        for place, (name, text) in enumerate(said.items()):
            yield title if place == 0 else "", f"{_CALLED.get(name) or called(name)} {text}", ""
        if not said:
            yield title, "none", "dim"


def _chain(recorded: Recorded) -> Iterator[_Line]:
    event = recorded.event
    yield "hash", event.hash.hex(), ""
    if not recorded.intact:
        yield "", "is not the hash of what the event says: somebody changed it, see 'audit verify'", "bold red"
    yield "previous hash", recorded.previous_hash.hex(), ""
    if isinstance(row := event.detail.get("row"), str):
        yield "key's row", row, ""


def _drawn(group: list[_Line], width: int, screen: Screen) -> Iterator[str]:
    # Beside its label, or where the screen is too narrow for that, below.
    beside = screen.width - width - GAP >= _BESIDE
    for label, text, style in group:
        indent = width + GAP if beside else GAP
        lines = list(folded(screen.spelled(for_terminal(text)), max(8, screen.width - indent)))
        if not beside and label:
            yield screen.paint(for_terminal(label), "dim")
        for place, line in enumerate(lines):
            before = for_terminal(label) if beside and place == 0 else ""
            blank = " " * (indent - len(before))
            yield f"{screen.paint(before, 'dim') if before else ''}{blank}{screen.paint(line, style)}".rstrip(" ")
