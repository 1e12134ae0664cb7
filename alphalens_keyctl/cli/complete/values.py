"""The values that TAB offers for an option or argument. Its metavar, the word for the value in `--help`, says which.

What only one kind of value needs is loaded when that kind is asked for: TAB on a command waits for none of it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import starmap
from pathlib import Path
from typing import Any, Final, NamedTuple

from alphalens_keyctl.cli.complete.cursor import Cursor
from alphalens_keyctl.cli.completion import Shell
from alphalens_keyctl.cli.help_page import COMMAND_PANELS
from alphalens_keyctl.cli.topics import TOPICS
from alphalens_keyctl.verification.recording_policy import RecordingPolicy
from alphalens_keyctl.vocabulary import Action, Reason, Status


class Value(NamedTuple):
    """A text that the value may become, and what to say of the text."""

    text: str
    description: str = ""


# In place of values: a file is meant, and shells know how to complete those.
FILES: Final = Value("", "a file")

_STATUSES: Final[Mapping[Status, str]] = {
    Status.PENDING: "not delivered yet; opens nothing",
    Status.DELIVERING: "on its way to a destination; opens",
    Status.ACTIVE: "opens",
    Status.SUSPENDED: "off, until it is resumed",
    Status.RETIRING: "rotated out; opens until its grace is over",
    Status.RETIRED: "rotated out; opens nothing",
    Status.EXPIRED: "past its expiry; opens nothing",
    Status.REVOKED: "off for good",
}


def of(parameter: Any, cursor: Cursor) -> Iterator[Value]:
    """The values of an option or argument that begin as the one at the cursor does: from a closed list, or from the
    database that the options before the cursor name, or `FILES`. Raises `KeyctlError` where the database, or
    the configuration, cannot be read."""
    find = _BY_METAVAR.get(parameter.metavar or "")
    return iter(find(cursor)) if find is not None else iter(())


def kinds() -> frozenset[str]:
    """The metavars whose values are offered."""
    return frozenset(_BY_METAVAR)


def _rules() -> Iterator[Value]:
    from alphalens_keyctl.keys.policy import RULES

    return (Value(rule.id, f"{rule.severity}: {rule.problem}") for rule in RULES)


def _severities() -> Iterator[Value]:
    from alphalens_keyctl.keys.policy import Severity

    return map(Value, Severity)


def _sorts() -> Iterator[Value]:
    from alphalens_keyctl.keys.selection import Sort

    return map(Value, Sort)


def _profiles(cursor: Cursor) -> Iterator[Value]:
    """The profiles of the configuration file, and where the database of each is."""
    from alphalens_keyctl import config_file, settings
    from alphalens_keyctl.address import parse_address

    named, folder = cursor.given.get("config"), settings.config_folder()
    path = Path(named[-1]) if named else folder and folder / config_file.CONFIG_FILE
    if path is None:
        return
    for name, table in config_file.read_file(path, required=False).profiles.items():
        if name.startswith(cursor.start):
            url = table.get("database_url")
            yield Value(name, parse_address(url).display if url is not None else table.get("server", ""))


def _columns(cursor: Cursor) -> Iterator[Value]:
    from alphalens_keyctl.models import Key

    return _joined(Key._fields, cursor)


def _required(cursor: Cursor) -> Iterator[Value]:
    from alphalens_keyctl.keys.stored_policy import REQUIRABLE

    return _joined(REQUIRABLE, cursor)


def _explained() -> Iterator[Value]:
    yield from (Value(name) for names in COMMAND_PANELS.values() for name in names)
    yield from starmap(Value, TOPICS.items())


def _joined(words: Iterable[str], cursor: Cursor) -> Iterator[Value]:
    """The words that may follow those that are written, with commas between."""
    before, comma, start = cursor.start.rpartition(",")
    left = (word for word in words if word not in before.split(","))
    return (Value(before + comma + word) for word in left if word.startswith(start))


def _demands() -> Iterator[Value]:
    from alphalens_keyctl.cli.policy_stored import UNSET

    return map(Value, UNSET)


def _among(listed: Callable[[], Iterator[Value]]) -> Callable[[Cursor], Iterator[Value]]:
    """The values of a closed list, in any letter case."""
    return lambda cursor: (value for value in listed() if value.text.startswith(cursor.start.lower()))


def _keys(cursor: Cursor) -> Iterator[Value]:
    from alphalens_keyctl.cli.complete import stored

    return stored.keys(cursor)


def _names(cursor: Cursor) -> Iterator[Value]:
    from alphalens_keyctl.cli.complete import stored

    return stored.names(cursor)


def _owners(cursor: Cursor) -> Iterator[Value]:
    from alphalens_keyctl.cli.complete import stored

    return stored.owners(cursor)


def _labels(cursor: Cursor) -> Iterator[Value]:
    from alphalens_keyctl.cli.complete import stored

    return stored.labels(cursor)


def _scopes(cursor: Cursor) -> Iterator[Value]:
    from alphalens_keyctl.cli.complete import stored

    return stored.scopes_held(cursor)


def _events(cursor: Cursor) -> Iterator[Value]:
    from alphalens_keyctl.cli.complete import stored

    return stored.events(cursor)


def _unset(cursor: Cursor) -> Iterator[Value]:
    from alphalens_keyctl.cli.complete import stored

    return stored.unset(cursor)


def _formats() -> Iterator[Value]:
    from alphalens_keyctl.output.feeds import Feed

    return map(Value, Feed)


def _periods(cursor: Cursor) -> Iterator[Value]:
    """Periods that somebody reports on today."""
    from alphalens_keyctl.moments import quarter_of, utc_now

    now = utc_now()
    said = {quarter_of(now, before=1): "the last quarter", quarter_of(now): "this quarter so far"}
    said |= {f"{now.year - 1}": "the last year", f"{now:%Y}": "this year so far", f"{now:%Y-%m}": "this month so far"}
    return (Value(name, about) for name, about in said.items() if name.startswith(cursor.start.upper()))


def _files(_cursor: Cursor) -> Iterator[Value]:
    return iter((FILES,))


_BY_METAVAR: Final[Mapping[str, Callable[[Cursor], Iterator[Value]]]] = {
    "ACTION": _among(lambda: map(Value, Action)),
    "BY": _among(_sorts),
    "COMMAND|TOPIC": _among(_explained),
    "DEMAND": _among(_demands),
    "FIELDS": _required,
    "FORMAT": _among(_formats),
    "FILE": _files,
    "GLOB": _names,
    "ID": _among(_rules),
    "K=V": _labels,
    "KEY": _keys,
    "NAMES": _columns,
    "OUTCOME": _among(lambda: map(Value, Reason)),
    "OWNER": _owners,
    "PATH": _files,
    "PERIOD": _periods,
    "POLICY": _among(lambda: map(Value, RecordingPolicy)),
    "SCOPE": _scopes,
    "SHELL": _among(lambda: map(Value, Shell)),
    "PROFILE": _profiles,
    "SEQ": _events,
    "SEVERITY": _among(_severities),
    "STATUS": _among(lambda: starmap(Value, _STATUSES.items())),
    "URL": _files,
    "WHAT": _unset,
}
