"""The settings of `config` → a table for people, or the JSON document."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.pages import columns, wrapped
from alphalens_keyctl.output.screen import Screen
from alphalens_keyctl.output.tables import NARROW
from alphalens_keyctl.settings import Origin, Source

Value = str | float | timedelta | tuple[str, ...] | None
_GAP: Final = 2  # columns between columns
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
    """Return a line for each setting: name, value, where it comes from. A value for which a line leaves no room, or the
    screen none for columns, stands in lines below the name, broken between words alone."""
    if not screen.terminal:
        # A line each, which cut and awk take apart.
        return "".join(f"{each.name}\t{_written(each.value)}\t{_from(each.source)}\n" for each in settings)
    rows = [(each.name, _shown(_written(each.value), screen), _shown(_from(each.source), screen)) for each in settings]
    names = max(len(name) for name, _, _ in rows) + _GAP
    fitting = {value for _, value, origin in rows if names + columns(value) + _GAP + columns(origin) <= screen.width}
    values = max(map(columns, fitting), default=0) + _GAP
    narrow = screen.width < NARROW
    lines: list[str] = []
    for each, (name, value, origin) in zip(settings, rows, strict=True):
        default = each.source.origin is Origin.DEFAULT
        begun, beside = (f"{name} ", " " * _GAP) if narrow else (name.ljust(names), " " * names)
        if narrow or value not in fitting:
            drawn = wrapped(value if default else f"{value} ({origin})", screen.width, beside, first=begun)
        else:
            drawn = [begun + value + " " * (values - columns(value)) + origin]
        style = "dim" if default else ""
        rest = (drawn[0].removeprefix(name), *drawn[1:])
        first, *more = (screen.paint(part, style) for part in rest)
        lines += [screen.paint(name, style or "bold") + first, *more]
    return "".join(f"{line}\n" for line in lines)


def _shown(text: str, screen: Screen) -> str:
    return screen.spelled(for_terminal(text))


def _from(source: Source) -> str:
    if source.origin is Origin.FILE and source.name is not None:
        return Path(source.name).name
    return source.name or source.origin.value


def _written(value: Value) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"  # as config.toml writes it
    return ", ".join(value) if isinstance(value, tuple) else str(_plain(value))


def _plain(value: str | float | timedelta | None) -> str | float | None:
    """Return a value as config.toml takes it: a duration as "14d", a whole number of seconds without its fraction."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _duration(value) if isinstance(value, timedelta) else value


def _duration(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    return next((f"{seconds // unit}{letter}" for unit, letter in _UNITS if seconds and seconds % unit == 0), "0")
