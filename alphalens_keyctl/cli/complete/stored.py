"""The values that TAB finds in the database: keys, owners, labels and scopes, and events of the audit log.

Each function returns what begins as the value at the cursor does. Each raises `KeyctlError` where the configuration or
the database cannot be read.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alphalens_keyctl import scopes, settings, text
from alphalens_keyctl.address import parse_address
from alphalens_keyctl.cli.complete.cursor import Cursor
from alphalens_keyctl.cli.complete.values import Value
from alphalens_keyctl.cli.options.new_values import LABEL, SCOPE, UNSET
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.glance import Glance
from alphalens_keyctl.glance import at as look
from alphalens_keyctl.keyformat import is_id
from alphalens_keyctl.keys import glimpses
from alphalens_keyctl.keys.glimpses import Seen
from alphalens_keyctl.logs import event_glimpses
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.vocabulary import FINAL, Status

_STORED: Final = frozenset(Status) - {Status.EXPIRED, Status.RETIRED, Status.DAMAGED}
# The commands that refuse some keys, or leave them as they are, and the stored statuses of those that they change.
_CHANGED_BY: Final[Mapping[str, frozenset[Status]]] = {
    "revoke": _STORED - {Status.REVOKED},
    "rotate": _STORED - {Status.REVOKED, Status.RETIRING},
    "update": _STORED - {Status.REVOKED},
    "suspend": _STORED - {Status.REVOKED, Status.SUSPENDED},
    "resume": frozenset({Status.SUSPENDED}),
}


def keys(cursor: Cursor) -> Iterator[Value]:
    """Keys by name and, once something is typed, by id. A name that is not inert, or would be read as an option, gives
    way to the id."""
    changed = _CHANGED_BY.get(cursor.command[-1])
    stored, now = changed or _STORED, utc_now()
    with _glance(cursor) as glance:
        found = [
            (_name_of(key, cursor) or _id_of(key, cursor), key)
            for key in glimpses.names(glance, cursor.start, stored, now)
        ]
        if cursor.start:
            found += [(_id_of(key, cursor), key) for key in glimpses.ids(glance, cursor.start, stored, now)]
    offered = {*(cursor.given.get(cursor.value_of.name, ()) if cursor.value_of is not None else ())}
    for word, key in found:
        if word is not None and word not in offered and not (changed and key.status in FINAL):
            offered.add(word)
            yield Value(word, _told(key, by_id=word == key.id))


def names(cursor: Cursor) -> Iterator[Value]:
    """Keys by name alone."""
    with _glance(cursor) as glance:
        found = list(glimpses.names(glance, cursor.start, _STORED, utc_now()))
    return (Value(name, _told(key, by_id=False)) for key in found if (name := _name_of(key, cursor)) is not None)


def owners(cursor: Cursor) -> Iterator[Value]:
    """The owners that keys have."""
    with _glance(cursor) as glance:
        found = glimpses.owners(glance, cursor.start)
    return (Value(owner) for owner in found if _can_stand(owner, cursor, text.LONGEST_OWNER))


def labels(cursor: Cursor) -> Iterator[Value]:
    """The labels that keys have, as `K=V`, and behind a `!` their names alone."""
    if cursor.start.startswith("!"):  # the filter `!K`
        return (Value(f"!{name}", "without this label") for name in _label_names(cursor, cursor.start[1:]))
    with _glance(cursor) as glance:
        found = glimpses.labels(glance, cursor.start)
    return (Value(f"{name}={value}") for name, value in found if _is_label(name, value))


def _label_names(cursor: Cursor, start: str) -> list[str]:
    with _glance(cursor) as glance:
        found = glimpses.labels(glance, start)
    return sorted({name for name, value in found if _is_label(name, value)})


def scopes_held(cursor: Cursor) -> Iterator[Value]:
    """The scopes that keys have, and the reserved ones."""
    return map(Value, _scopes(cursor, cursor.start))


def events(cursor: Cursor) -> Iterator[Value]:
    """The latest events of the audit log by their numbers."""
    with _glance(cursor) as glance:
        found = list(event_glimpses.latest(glance, cursor.start))
    for event in found:
        about = [event.action, event.key_name, f"at {event.when}Z"]
        yield Value(f"{event.seq}", " ".join(f"{each}" for each in about if each is not None))


def _scopes(cursor: Cursor, start: str) -> list[str]:
    with _glance(cursor) as glance:
        found = {*glimpses.scopes(glance, start), *(scope for scope in scopes.RESERVED if scope.startswith(start))}
    return sorted(scope for scope in found if _is_scope(scope))


def unset(cursor: Cursor) -> Iterator[Value]:
    """What `--unset` takes: the names of fields, `label:K` and `scope:S`."""
    yield from (Value(what) for what in UNSET if what.startswith(cursor.start))
    if cursor.start.startswith(LABEL) or LABEL.startswith(cursor.start):
        yield from (Value(f"{LABEL}{name}") for name in _label_names(cursor, cursor.start[len(LABEL) :]))
    if cursor.start.startswith(SCOPE) or SCOPE.startswith(cursor.start):
        yield from (Value(f"{SCOPE}{scope}") for scope in _scopes(cursor, cursor.start[len(SCOPE) :]))


@contextmanager
def _glance(cursor: Cursor) -> Iterator[Glance]:
    """A glance at the database that the options before the command, the environment or the configuration name."""
    chosen = settings.of_this_process(_given(cursor))
    if chosen.server is not None:
        # A server would be asked over the network at each TAB.
        raise KeyctlError(Code.SERVER_UNREACHABLE, "a server is not asked for what TAB offers")
    with look(parse_address(chosen.database_url)) as glance:
        yield glance


def _given(cursor: Cursor) -> settings.Given:
    last = {name: values[-1] for name, values in cursor.given.items()}
    config = last.get("config")
    return settings.Given(
        database_url=last.get("database"),
        config_file=Path(config) if config else None,
        profile=last.get("profile"),
        server=last.get("server"),
    )


def _name_of(key: Seen, cursor: Cursor) -> str | None:
    name: str | None = key.name if _can_stand(key.name, cursor, text.LONGEST_NAME) else None
    return None if name == "-" else name


def _id_of(key: Seen, cursor: Cursor) -> str | None:
    key_id: object = key.id
    return key_id if isinstance(key_id, str) and is_id(key_id) and key_id.startswith(cursor.start) else None


def _can_stand(value: object, cursor: Cursor, longest: int) -> bool:
    """Whether the program takes a value where the cursor is: it is as the program would have stored it, which also
    means inert, and not read as an option."""
    if not isinstance(value, str) or (value.startswith("-") and not (cursor.only_values or cursor.behind)):
        return False
    try:
        return text.parse_line(value, what="value", longest=longest) == value
    except KeyctlError:
        return False


def _is_label(name: object, value: object) -> bool:
    try:
        return text.parse_label(f"{name}={value}") == (name, value)
    except KeyctlError:
        return False


def _is_scope(scope: object) -> bool:
    try:
        return isinstance(scope, str) and not scope.startswith("-") and scopes.parse(scope) == scope
    except KeyctlError:
        return False


def _told(key: Seen, *, by_id: bool) -> str:
    return ", ".join(str(each) for each in (by_id and key.name, key.status, key.owner) if each)
