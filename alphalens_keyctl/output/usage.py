"""The usage log, for people: how much each key was used in a period, from where, and what was refused."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from alphalens_keyctl.keyformat import ID_LENGTH
from alphalens_keyctl.logs.usage import AddressUse, KeyUse, Profile, Refusal, Summary
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.output.screen import Screen, cell
from alphalens_keyctl.output.tables import NARROW, ruled
from alphalens_keyctl.output.words import ago, counted, span

# The first level stands for 0, so that one use is seen beside none.
_LEVELS: Final = "·▁▂▃▄▅▆▇█"
_ASCII_LEVELS: Final = "._-:=+*%#"
_ADDRESSES_IN_PANEL: Final = 5
_GAP: Final = 2  # columns between two of a table
_FIXED: Final = ("Uses", "Refused", "Last use")  # columns that are never folded, beside the id
_SHORTEST_NAME: Final = 8
_SHORTEST_LINE: Final = 4


def summary(found: Summary, *, now: datetime, screen: Screen, default_span: bool) -> str:
    """Return the summary of `audit usage`. `default_span` says that the user gave no start of the period."""
    buckets = found.buckets
    why = f" (the last {span(buckets.until - buckets.since)}; --since reaches further back)" if default_span else ""
    head = Text(f"{rfc3339(buckets.since)} to {rfc3339(buckets.until)}{why}", style="dim")
    parts: list[RenderableType] = [head, _totals(found.uses, found.refused)]
    narrow = screen.width < NARROW
    if found.keys_total:
        parts += [
            "",
            _keys(found, now, screen),
            *_more(len(found.keys), found.keys_total, f": --limit {found.keys_total} shows all"),
        ]
    if found.addresses:
        addresses = _stacked_addresses if narrow else _address_table
        parts += ["", _heading("Busiest addresses", screen), addresses(found.addresses, now, screen)]
        parts += _more(len(found.addresses), found.addresses_total)
    if found.refusals:
        refusals = _stacked_refusals if narrow else _refusal_table
        parts += ["", _heading("Refused attempts", screen), refusals(found.refusals, now, screen)]
        parts += _more(len(found.refusals), found.refusals_total)
    return screen.draw(*parts)


def rows_of_one_key(found: Profile, *, now: datetime, screen: Screen, width: int) -> list[tuple[str, Text]]:
    """Return the rows of a key's panel about its use: each a label and a text of at most `width` columns."""
    days = f"{len(found.over_time)} days"
    if not (found.uses or found.refused):
        return [(days, Text("no use"))]
    line = sparkline([day.uses for day in found.over_time], screen, most=width)
    rows = [(days, Text.assemble(line, "\n", _totals(found.uses, found.refused)))]
    if found.addresses:
        named = [f"{address.client_ip} ({counted(address.uses, 'use')})" for address in found.addresses]
        others = ["others"] if len(named) > _ADDRESSES_IN_PANEL else []
        rows.append(("from", cell(", ".join([*named[:_ADDRESSES_IN_PANEL], *others]))))
    if found.refusals:
        kinds = [f"{refusal.times:,} {refusal.outcome} ({ago(refusal.last_at, now)})" for refusal in found.refusals]
        rows.append(("refused", cell(", ".join(kinds))))
    return rows


def sparkline(numbers: Sequence[int], screen: Screen, *, most: int) -> str:
    """Return numbers, none below 0, as a line of at most `most` characters, scaled to the highest number.

    When there are more numbers, neighbours are added up.
    """
    together = max(1, -(-len(numbers) // max(1, most)))
    sums = [sum(numbers[start : start + together]) for start in range(0, len(numbers), together)]
    levels = _LEVELS if screen.unicode else _ASCII_LEVELS
    highest = max(sums, default=0)
    # Rounded up, so that one use beside a million is seen.
    return "".join(levels[-(-number * (len(levels) - 1) // highest) if highest else 0] for number in sums)


def _totals(used: int, refused: int) -> Text:
    text = Text(counted(used, "use"))
    return text.append(f", {refused:,} refused", style="red" if refused else "")


def _heading(title: str, screen: Screen) -> Text:
    return Text(title, style="bold" if screen.color else "")


def _more(shown: int, total: int, hint: str = "") -> list[Text]:
    return [Text(f"and {total - shown:,} more{hint}", style="dim")] if shown < total else []


def _keys(found: Summary, now: datetime, screen: Screen) -> Table:
    rows = [(key, f"{key.uses:,}", f"{key.refused:,}", ago(key.last_at, now, never="-")) for key in found.keys]
    widths = [
        _SHORTEST_NAME,
        ID_LENGTH,
        *(max(map(len, texts)) for texts in zip(_FIXED, *(row[1:] for row in rows), strict=True)),
    ]
    room = screen.width - sum(widths) - _GAP * len(widths)
    if screen.width < NARROW or room < _SHORTEST_LINE:
        return _stacked_keys(found.keys, now, screen)
    table = ruled(screen)
    table.add_column("Key", overflow="fold", min_width=_SHORTEST_NAME)
    for title in ("Id", "Uses", "Refused", "Over time", "Last use"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("Uses", "Refused") else "left")
    for key, used, refused, last in rows:
        line = sparkline(key.over_time, screen, most=room)
        table.add_row(
            cell(key.key_name, "bold"), cell(key.key_id), Text(used), _alarming(refused), Text(line), Text(last)
        )
    return table


def _stacked_keys(keys: Iterable[KeyUse], now: datetime, screen: Screen) -> Table:
    lines = Table.grid(padding=(0, 1))
    for key in keys:
        lines.add_row(cell(key.key_name, "bold"))
        lines.add_row(cell(f" {key.key_id}"))
        lines.add_row(Text.assemble(" ", _totals(key.uses, key.refused)))
        lines.add_row(Text(f" {sparkline(key.over_time, screen, most=screen.width - 2)}"))
        if key.last_at is not None:
            lines.add_row(Text(f" last used {ago(key.last_at, now)}"))
    return lines


def _address_table(addresses: Iterable[AddressUse], now: datetime, screen: Screen) -> Table:
    table = ruled(screen)
    table.add_column("Address", overflow="fold")
    table.add_column("Uses", justify="right", no_wrap=True)
    table.add_column("Last use", no_wrap=True)
    for address in addresses:
        table.add_row(cell(address.client_ip), Text(f"{address.uses:,}"), Text(ago(address.last_at, now)))
    return table


def _refusal_table(refusals: Iterable[Refusal], now: datetime, screen: Screen) -> Table:
    table = ruled(screen)
    for title in ("Reason", "Key", "Id", "Address"):
        table.add_column(title, overflow="fold", no_wrap=title == "Id")
    table.add_column("Times", justify="right", no_wrap=True)
    table.add_column("Last time", no_wrap=True)
    for refusal in refusals:
        table.add_row(
            cell(refusal.outcome), cell(refusal.key_name, "bold"), cell(refusal.key_id), cell(refusal.client_ip),
            _alarming(f"{refusal.times:,}"), Text(ago(refusal.last_at, now)),
        )  # fmt: skip
    return table


def _stacked_addresses(addresses: Iterable[AddressUse], now: datetime, _screen: Screen) -> Table:
    lines = Table.grid(padding=(0, 1))
    for address in addresses:
        lines.add_row(cell(address.client_ip))
        lines.add_row(Text(f" {counted(address.uses, 'use')}, last {ago(address.last_at, now)}"))
    return lines


def _stacked_refusals(refusals: Iterable[Refusal], now: datetime, _screen: Screen) -> Table:
    lines = Table.grid(padding=(0, 1))
    for refusal in refusals:
        lines.add_row(cell(f"{refusal.outcome}: {counted(refusal.times, 'time')}"))
        if refusal.key_id is not None:
            lines.add_row(cell(f" {refusal.key_name or '-'}", "bold"))
            lines.add_row(cell(f" {refusal.key_id}"))
        if refusal.client_ip is not None:
            lines.add_row(cell(f" from {refusal.client_ip}"))
        lines.add_row(Text(f" last {ago(refusal.last_at, now)}"))
    return lines


def _alarming(number: str) -> Text:
    return Text(number, style="dim" if number == "0" else "red")
