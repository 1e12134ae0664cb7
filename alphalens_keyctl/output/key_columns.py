"""The columns that a list of keys has for people: the title of each, what stands in it, and how it fits a page."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.output.documents import USUAL_COLUMNS
from alphalens_keyctl.output.fitting import Column, Cut
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.words import ago

# From these times before its expiry on a key's expiry is yellow, and red.
_SOON: Final = timedelta(days=14)
_VERY_SOON: Final = timedelta(days=1)
# The widest of all such texts, and the widest in fewer words.
_LONGEST_AGO: Final = len("59 minutes ago"), len("59 minutes")
_LONGEST_END: Final = len("revoked 59 minutes ago"), len("59 minutes ago")
_LONGEST_STATUS: Final = (max(map(len, Status)),) * 2
_LONGEST_NUMBER: Final = (len("9,999,999"),) * 2

# A text, and Rich's name of a style or "".
Cell = tuple[str, str]


class KeyColumn(NamedTuple):
    """A column, and the function that makes its cell from a key and the present instant."""

    column: Column
    cell: Callable[[Key, datetime], Cell]


def labels_past(key: Key) -> str:
    """Return the labels of a key as `name=value`, in order, inert."""
    return for_terminal(" ".join(f"{name}={value}" for name, value in sorted(key.labels.items())))


def end(key: Key, now: datetime) -> Cell:
    """Return when the key stops opening: when it was revoked, else the earlier of its expiry and its retirement."""
    if key.revoked_at is not None:
        return f"revoked {ago(key.revoked_at, now)}", ""
    return ago(key.ends_at, now), urgency(key, now)


def urgency(key: Key, now: datetime) -> str:
    """Return the style of a key's expiry: red from a day before it on, yellow from 14 days, "" for a key that another
    end has, or had."""
    if key.revoked_at is not None or key.retires_at is not None:
        return ""
    if key.expires_at is None or key.expires_at - now >= _SOON:
        return ""
    return "yellow" if key.expires_at - now >= _VERY_SOON else "red"


def chosen(names: Sequence[str]) -> list[KeyColumn]:
    """Return the columns for these fields of a key, in this order. None of them is left out on a narrow page."""
    return [_BY_NAME[name] for name in names]


def _text(name: str) -> Callable[[Key, datetime], Cell]:
    def cell(key: Key, _now: datetime) -> Cell:
        text = getattr(key, name)
        return "-" if text is None else for_terminal(text), ""

    return cell


def _time(name: str, missing: str) -> Callable[[Key, datetime], Cell]:
    return lambda key, now: (ago(getattr(key, name), now, never=missing), "")


def _name(key: Key, _now: datetime) -> Cell:
    return for_terminal(key.name), "bold"


def _status(key: Key, _now: datetime) -> Cell:
    return key.status, ""


def _labels(key: Key, _now: datetime) -> Cell:
    return labels_past(key) or "-", ""


def _texts(name: str) -> Callable[[Key, datetime], Cell]:
    """A cell of scopes or networks. A key that is not restricted has none."""

    def cell(key: Key, _now: datetime) -> Cell:
        texts = getattr(key, name)
        return "-" if texts is None else for_terminal(" ".join(texts)), ""

    return cell


def _uses(key: Key, _now: datetime) -> Cell:
    return f"{key.use_count:,}", ""


def _expiry(key: Key, now: datetime) -> Cell:
    return ago(key.expires_at, now), urgency(key, now)


def _without_date_of_revocation(words: str) -> str:
    return "revoked" if words.startswith("revoked") else words


def _past(title: str, name: str, *, missing: str = "-") -> KeyColumn:
    shape = Column(title, shortened=lambda words: words.removesuffix(" ago"), longest=_LONGEST_AGO)
    return KeyColumn(shape, _time(name, missing))


_NAME: Final = KeyColumn(Column("Name", Cut.MIDDLE, least=20), _name)
_BY_NAME: Final = {
    "id": KeyColumn(Column("Id", Cut.END, least=12), _text("id")),
    "name": _NAME,
    "status": KeyColumn(Column("Status", longest=_LONGEST_STATUS), _status),
    "owner": KeyColumn(Column("Owner", Cut.END, least=10), _text("owner")),
    "purpose": KeyColumn(Column("Purpose", Cut.END, least=16), _text("purpose")),
    "labels": KeyColumn(Column("Labels", Cut.END, least=16), _labels),
    "created_at": _past("Created", "created_at"),
    "created_by": KeyColumn(Column("Created by", Cut.END, least=10), _text("created_by")),
    "activated_at": _past("Activated", "activated_at"),
    "expires_at": KeyColumn(Column("Expires", longest=_LONGEST_AGO), _expiry),
    "retires_at": KeyColumn(Column("Retires", longest=_LONGEST_AGO), _time("retires_at", "-")),
    "suspended_at": _past("Suspended", "suspended_at"),
    "last_used_at": _past("Last used", "last_used_at", missing="never"),
    "use_count": KeyColumn(Column("Uses", longest=_LONGEST_NUMBER, right=True), _uses),
    "revoked_at": _past("Revoked", "revoked_at"),
    "revoked_by": KeyColumn(Column("Revoked by", Cut.END, least=10), _text("revoked_by")),
    "revoke_reason": KeyColumn(Column("Reason", Cut.END, least=16), _text("revoke_reason")),
    "replaces": KeyColumn(Column("Replaces", Cut.END, least=12), _text("replaces")),
    "replaced_by": KeyColumn(Column("Replaced by", Cut.END, least=12), _text("replaced_by")),
    "delivering_to": KeyColumn(Column("Delivering to", Cut.END, least=16), _text("delivering_to")),
    "scopes": KeyColumn(Column("Scopes", Cut.END, least=16), _texts("scopes")),
    "allow_from": KeyColumn(Column("Used from", Cut.END, least=16), _texts("allow_from")),
}
_ENDS: Final = KeyColumn(Column("Expires", shortened=_without_date_of_revocation, longest=_LONGEST_END), end)
# Without a choice: the columns from left to right, and which of them a narrow page leaves out first. The mark before
# a name says the status too.
_LEFT_OUT: Final = ("purpose", "labels", "use_count", "status", "owner", "created_at")


def _usual(name: str) -> KeyColumn:
    shown = _ENDS if name == "expires_at" else _BY_NAME[name]
    place = _LEFT_OUT.index(name) if name in _LEFT_OUT else None
    return shown._replace(column=shown.column._replace(dropped=place))


USUAL: Final = [_usual(name) for name in USUAL_COLUMNS]
