"""The settings of `config` → a table for people, or the JSON document."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.table import Table
from rich.text import Text

from alphalens_keyctl.output.screen import Screen, cell
from alphalens_keyctl.output.tables import NARROW
from alphalens_keyctl.settings import Origin, Source

Value = str | float | timedelta | tuple[str, ...] | None
# Units of a duration as config.toml takes them.
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"))


class Setting(NamedTuple):
    """A setting, its value without any password, and where the value comes from."""

    name: str
    value: Value
    source: Source


def document(settings: Sequence[Setting]) -> dict[str, Any]:
    """Return `{"settings": [{"name", "value", "source", "from"}]}`. `source` is one of option, environment, profile,
    file, default; `from` names the option, the variable, the table or the file."""
    return {
        "settings": [
            {
                "name": each.name,
                "value": list(each.value) if isinstance(each.value, tuple) else _plain(each.value),
                "source": each.source.origin.value,
                "from": each.source.name,
            }
            for each in settings
        ]
    }


def table(settings: Sequence[Setting], screen: Screen) -> str:
    """Return a line for each setting: name, value, where it comes from."""
    if not screen.terminal:
        # A line each, which cut and awk take apart.
        return "".join(f"{each.name}\t{_written(each.value)}\t{_from(each.source)}\n" for each in settings)
    lines = Table.grid(padding=(0, 2, 0, 0))
    narrow = screen.width < NARROW
    for number in range(1 if narrow else 3):
        lines.add_column(no_wrap=number == 0 and not narrow, overflow="fold")
    for each in settings:
        is_default = each.source.origin is Origin.DEFAULT
        style = "dim" if is_default else ""
        name, origin = Text(each.name, style="dim" if is_default else "bold"), cell(_from(each.source), style)
        value = cell(_written(each.value), style)
        if narrow:
            lines.add_row(Text.assemble(name, " ", value, "" if is_default else f" ({origin})"))
        else:
            lines.add_row(name, value, origin)
    return screen.draw(lines)


def _from(source: Source) -> str:
    if source.origin is Origin.FILE and source.name is not None:
        return Path(source.name).name
    return source.name or source.origin.value


def _written(value: Value) -> str:
    if value is None or value == ():
        return "-"
    return ", ".join(value) if isinstance(value, tuple) else str(_plain(value))


def _plain(value: str | float | timedelta | None) -> str | float | None:
    """Return a value as config.toml takes it: a duration as "14d", a whole number of seconds without its fraction."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _duration(value) if isinstance(value, timedelta) else value


def _duration(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    return next((f"{seconds // unit}{letter}" for unit, letter in _UNITS if seconds and seconds % unit == 0), "0")
