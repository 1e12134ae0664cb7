"""Panels, for people: a new key that is shown once, and everything about one key."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys.issuance import Created, Rotated
from alphalens_keyctl.logs.old_key_use import OldKey, OldKeyUse
from alphalens_keyctl.logs.usage import Profile
from alphalens_keyctl.models import Key
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.output.fitting import folded
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.key_columns import urgency
from alphalens_keyctl.output.screen import Screen, cell
from alphalens_keyctl.output.sentences import retirement
from alphalens_keyctl.output.tables import dot
from alphalens_keyctl.output.usage import rows_of_one_key
from alphalens_keyctl.output.words import ago, counted, span

_GAP: Final = 2  # columns between a label and its value


def created(result: Created, raw: RawKey, *, now: datetime, screen: Screen) -> str:
    """Return the panel of `create`: a new key with its raw key."""
    return _shown_once("Key created", result.key, raw, result.delivered_to, [], now, screen)


def rotated(result: Rotated, raw: RawKey, *, now: datetime, screen: Screen) -> str:
    """Return the panel of `rotate`: a successor with its raw key, and when the old key ends."""
    said = [] if result.previous is None else [retirement(result.previous, now, grace_after_use=result.grace_after_use)]
    return _shown_once("Key rotated", result.key, raw, result.delivered_to, said, now, screen)


def details(
    key: Key,
    lineage: Sequence[Key],
    used: Profile,
    old_use: OldKeyUse | None,
    *,
    keyring: str | None,
    now: datetime,
    screen: Screen,
) -> str:
    """Return the panel of `show`: everything about one key.

    `lineage` is oldest first. `keyring` says what the keyring has under the key's name, or is None when the keyring
    was not asked.
    """
    rows: list[tuple[str, Text]] = [
        ("status", Text.assemble(dot(key.status, screen), " ", key.status)),
        ("name", cell(key.name, "bold")),
        ("id", cell(key.id)),
        ("owner", cell(key.owner)),
        ("purpose", cell(key.purpose)),
        ("labels", cell(_labels(key) or None)),
        *_limits(key),
        ("created", _moment(key.created_at, now, f"by {key.created_by}")),
        ("activated", _moment(key.activated_at, now)),
        ("expires", _moment(key.expires_at, now, style=urgency(key, now))),
        ("last used", _moment(key.last_used_at, now, counted(key.use_count, "use"))),
    ]
    if key.delivering_to:
        rows.append(("delivery", cell(f"was on its way to {key.delivering_to}")))
    if key.suspended_at:
        rows.append(("suspended", _moment(key.suspended_at, now)))
    if key.retires_at:
        rows.append(("retires", _moment(key.retires_at, now)))
    if key.revoked_at:
        rows.append(("revoked", _moment(key.revoked_at, now, f"by {key.revoked_by}")))
        rows.append(("reason", cell(key.revoke_reason)))
    if len(lineage) > 1:
        line = Text(overflow="fold")
        for position, member in enumerate(lineage):
            line.append(" -> " if position else "")
            line.append(for_terminal(f"{member.id} ({member.status})"), style="bold" if member.id == key.id else "")
        rows.append(("lineage", line))
    rows += [("old key", cell(_still_used(old, now))) for old in (old_use.old if old_use else ())]
    if keyring is not None:
        rows.append(("keyring", cell(keyring)))
    labels = max(len(label) for label, _ in rows) + _GAP
    rows += rows_of_one_key(used, now=now, screen=screen, width=screen.width - labels - _GAP)
    return screen.draw(_grid(rows, screen))


def _shown_once(
    title: str,
    key: Key,
    raw: RawKey,
    destinations: Sequence[str],
    remarks: Iterable[str],
    now: datetime,
    screen: Screen,
) -> str:
    rows = [("name", cell(key.name, "bold")), ("id", cell(key.id))]
    rows += [(name, cell(value)) for name, value in (("owner", key.owner), ("purpose", key.purpose)) if value]
    rows += [("labels", cell(_labels(key)))] if key.labels else []
    rows += _limits(key)
    rows.append(("expires", _moment(key.expires_at, now)))
    line = Rule(style="green", characters="─" if screen.unicode else "-")
    titled = Rule(Text(title, style="bold green"), style="green", characters=line.characters)
    head = screen.draw(titled, _grid(rows, screen))
    foot = screen.draw(
        Text(for_terminal(f"Copy it now: it is shown this once and {_kept(destinations)}."), style="bold"),
        *(Text(f"\n{for_terminal(remark)}") for remark in remarks),
        line,
    )
    # The raw key is not drawn by Rich, which would break it at the screen's edge: a copied key would hold a line
    # break. A terminal wraps a long line by itself and copies it whole.
    return f"{head}\n{raw.reveal()}\n\n{foot}"


def _kept(destinations: Sequence[str]) -> str:
    return f"kept in {', '.join(destinations)}" if destinations else "kept nowhere"


def _still_used(old: OldKey, now: datetime) -> str:
    """Say when an old key ends, and who still uses it."""
    end = f"retires {ago(old.key.retires_at, now)}"
    if old.awaits is not None:
        when = f"{span(old.awaits)} after" if old.awaits else "at"
        end = f"retires {when} the new key's first use, {ago(old.key.retires_at, now)} at the latest"
    if not old.uses:
        return f"{old.key.id} {end}; not used since the rotation"
    named = ", ".join(f"{address.client_ip} ({address.uses:,})" for address in old.addresses)
    used = f"used {counted(old.uses, 'time')} since the rotation, last {ago(old.key.last_used_at, now)}"
    return f"{old.key.id} {end}; {used}{f', from {named}' if named else ''}"


def _labels(key: Key) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(key.labels.items()))


def _limits(key: Key) -> list[tuple[str, Text]]:
    """What a key may do and from where it is used, where it is restricted."""
    limits = (("scopes", key.scopes), ("used from", key.allow_from))
    return [(label, cell(" ".join(texts) or "nothing")) for label, texts in limits if texts is not None]


def _grid(rows: Sequence[tuple[str, Text]], screen: Screen) -> Table:
    room = screen.width - max(len(name) for name, _ in rows) - _GAP
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        # Rich would break a long name anywhere.
        whole = value.spans or "\n" in value.plain
        grid.add_row(Text(name), value if whole else Text("\n".join(folded(value.plain, room)), style=value.style))
    return grid


def _moment(moment: datetime | None, now: datetime, remark: str = "", style: str = "") -> Text:
    words = ago(moment, now) if moment is None else f"{ago(moment, now)} ({rfc3339(moment)})"
    return cell(f"{words}, {remark}" if remark else words, style)
