"""Values → JSON, JSON Lines and CSV. JSON is ASCII (promise 10). The names are a contract with everybody's scripts: a
field is added, never renamed."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from alphalens_keyctl.columns import texts_of
from alphalens_keyctl.damage import damaged_key, legible
from alphalens_keyctl.keys.selection import TIMES, KeyDocument
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.logs.audit import Head
from alphalens_keyctl.models import Event, Key, Use
from alphalens_keyctl.moments import UNREADABLE, rfc3339, rfc3339_exact, shortest_span
from alphalens_keyctl.output.csv_rows import csv_rows
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.json_rows import SPELLED, time_spelled, writer

if TYPE_CHECKING:  # for speed: each of these is for few commands
    from alphalens_keyctl.keys.issuance import Created, Rotated
    from alphalens_keyctl.keys.rotation import Aborted
    from alphalens_keyctl.logs.old_key_use import OldKeyUse
    from alphalens_keyctl.logs.usage import AddressUse, Profile
    from alphalens_keyctl.verification.judgement import Verification

# The fields of K that a list shows to people, and that stand in a line of it in a pipe.
USUAL_COLUMNS: Final = (
    "name", "id", "status", "owner", "created_at", "last_used_at", "expires_at", "use_count", "labels", "purpose",
)  # fmt: skip


class Format(StrEnum):
    """The formats that machines can ask for. Each value is the name of the option."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def keys_as(
    form: Format, documents: Iterable[KeyDocument], columns: Sequence[str] = KeyDocument._fields
) -> Iterator[str]:
    """Keys in a machine format, streamed. `columns` are the fields of K that each key has, in this order."""
    return key_rows(documents, columns) if form is Format.CSV else _json_as(form, _key_pages(documents, columns))


def events_as(form: Format, events: Iterable[Event]) -> Iterator[str]:
    """Audit events in a machine format, streamed."""
    return event_rows(events) if form is Format.CSV else _json_as(form, ([text] for text in event_texts(events)))


def uses_as(form: Format, uses: Iterable[Use]) -> Iterator[str]:
    """Rows of the usage log in a machine format, streamed."""
    return csv_rows(Use._fields, uses) if form is Format.CSV else _json_as(form, _use_pages(uses))


def created_object(created: "Created | Rotated", *, shown: str | None) -> dict[str, Any]:
    """What `create` answers. With `shown`, the name of stdout among the destinations, the document holds the raw key;
    beside `rotated_object` no other document ever does (promise 1)."""
    raw_key = created.raw.reveal() if created.raw is not None and shown is not None else None
    delivered_to = [*created.delivered_to, *([shown] if raw_key is not None else [])]
    return {"key": key_object(created.key), "raw_key": raw_key, "delivered_to": delivered_to}


def rotated_object(rotated: "Rotated", *, shown: str | None) -> dict[str, Any]:
    """What `rotate` answers. `shown` is as in `created_object`."""
    return created_object(rotated, shown=shown) | {
        "previous": key_object(rotated.previous) if rotated.previous else None,
        "rotated": rotated.raw is not None,
    }


def aborted_object(aborted: "Aborted") -> dict[str, Any]:
    """What `rotate --abort` answers."""
    return {
        "key": key_object(aborted.key),
        "discarded": [key_object(successor) for successor in aborted.successors],
        "rotated": False,
    }


def changed_texts(
    changed: Iterable[KeyDocument],
    unchanged: Iterable[KeyDocument],
    still_open: Iterable[Key] | None = None,
    *,
    dry_run: bool,
) -> Iterator[str]:
    """What `revoke`, `suspend`, `resume` and `update` answer, streamed. The document has `still_open` unless that is
    None."""
    parts = [("changed", key_texts(changed)), ("unchanged", key_texts(unchanged))]
    if still_open is not None:
        parts.append(("still_open", (json.dumps(key_object(key)) for key in still_open)))
    for name, texts in parts:
        yield f'{"{" if name == "changed" else ", "}"{name}": ['
        for number, text in enumerate(texts):
            yield f"{', ' if number else ''}{text}"
        yield "]"
    yield f', "dry_run": {"true" if dry_run else "false"}}}\n'


def verification_object(answer: "Verification") -> dict[str, Any]:
    """What `verify` answers."""
    return {
        "allowed": answer.allowed,
        "reason": answer.reason.value,
        "key": key_object(answer.key) if answer.key else None,
    }


def key_object(key: Key) -> dict[str, Any]:
    """A key as K, the contract's object for a key."""
    return {name: _plain(value) for name, value in key._asdict().items()}


# The same days are in every profile.
_day_spelled: Final = lru_cache(maxsize=64)(rfc3339)


def usage_object(profile: "Profile") -> dict[str, Any]:
    """What `show` says of the use of a key. Times are in whole seconds, as in K."""
    return {
        "since": rfc3339(profile.since),
        "until": rfc3339(profile.until),
        "uses": profile.uses,
        "refused": profile.refused,
        "over_time": [
            {"at": _day_spelled(day.at), "uses": day.uses, "refused": day.refused} for day in profile.over_time
        ],
        "addresses": _addresses(profile.addresses),
        "refusals": [
            {"outcome": refusal.outcome, "count": refusal.times, "last_at": _plain(refusal.last_at)}
            for refusal in profile.refusals
        ],
    }


def rotation_object(old_use: "OldKeyUse | None") -> dict[str, Any] | None:
    """What `show` says of a rotation whose old keys still open; null where there is none."""
    if old_use is None:
        return None
    return {
        "current": old_use.key.id,
        "since": rfc3339(old_use.since),
        "old": [
            {
                "id": old.key.id,
                "retires_at": _plain(old.key.retires_at),
                "awaits_first_use": old.awaits is not None,
                "grace_after_use": None if old.awaits is None else round(old.awaits.total_seconds()),
                "last_used_at": _plain(old.key.last_used_at),
                "uses_since": old.uses,
                "addresses": _addresses(old.addresses),
            }
            for old in old_use.old
        ],
    }


def event_object(event: Event) -> dict[str, Any]:
    """An audit event as E, the contract's object for an event."""
    at = None if event.at == UNREADABLE else rfc3339_exact(event.at)
    return event._asdict() | {"at": at, "hash": event.hash.hex()}


def head_object(head: Head) -> dict[str, Any]:
    """The head of the audit log, as `audit verify --head` takes it."""
    return {
        "seq": head.seq,
        "hash": head.hash.hex(),
        "at": rfc3339_exact(head.at) if head.at else None,
    }


def policy_object(policy: StoredPolicy) -> dict[str, Any]:
    """What `policy show` and `policy set` answer."""
    longest = policy.max_lifetime
    return {
        "max_lifetime": None if longest is None else shortest_span(longest),
        "require": list(policy.require),
        "name_pattern": policy.name_pattern,
    }


def entry_object(present: bool, held: Key | None) -> dict[str, Any]:
    """What `show --keyring` adds: whether the keyring has an entry, and which key of the lineage the entry holds."""
    return {"present": present, "key_id": held.id if held else None, "status": held.status if held else None}


def _addresses(addresses: "Sequence[AddressUse]") -> list[dict[str, Any]]:
    return [
        {"client_ip": address.client_ip, "uses": address.uses, "last_at": _plain(address.last_at)}
        for address in addresses
    ]


def _json_as(form: Format, pages: Iterable[list[str]]) -> Iterator[str]:
    if form is Format.JSON:
        return json_array(chain.from_iterable(pages))
    return ("\n".join(page) + "\n" for page in pages)


def json_document(value: Mapping[str, Any]) -> str:
    """One ASCII JSON document on one line, with its newline."""
    return json.dumps(value) + "\n"


def json_array(items: Iterable[str]) -> Iterator[str]:
    """JSON texts → one JSON array, an item a line, streamed."""
    separator = "[\n"
    for item in items:
        yield separator + item
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def json_lines(items: Iterable[str]) -> Iterator[str]:
    """JSON texts → JSON Lines, streamed."""
    for item in items:
        yield item + "\n"


def key_texts(documents: Iterable[KeyDocument], columns: Sequence[str] = KeyDocument._fields) -> Iterator[str]:
    """Each K as JSON text, streamed. `columns` are the fields that stand in it, in this order."""
    return chain.from_iterable(_key_pages(documents, columns))


def _key_pages(documents: Iterable[KeyDocument], columns: Sequence[str]) -> Iterator[list[str]]:
    def damaged(row: Sequence[Any]) -> str:
        key = key_object(_damaged(row))
        return json.dumps({name: key[name] for name in columns})

    return writer(_K, tuple(columns), damaged)(documents)


def event_texts(events: Iterable[Event]) -> Iterator[str]:
    """Each E as JSON text, streamed."""
    return (json.dumps(event_object(event)) for event in events)


def use_texts(uses: Iterable[Use]) -> Iterator[str]:
    """Each U, the contract's object for a row of the usage log, as JSON text, streamed."""
    return chain.from_iterable(_use_pages(uses))


def _use_pages(uses: Iterable[Use]) -> Iterator[list[str]]:
    return writer(_U, Use._fields, lambda row: json.dumps(Use._make(row)._asdict(), default=legible))(uses)


def key_rows(documents: Iterable[KeyDocument], columns: Sequence[str] = KeyDocument._fields) -> Iterator[str]:
    """K as CSV (RFC 4180) with a header line, streamed. Labels, scopes and networks are JSON in a cell."""
    return csv_rows(columns, map(_picked(columns), map(_key_cells, documents)))


def key_lines(documents: Iterable[KeyDocument], columns: Sequence[str]) -> Iterator[str]:
    """Keys for `cut`, `awk` and `read`: a line each, the fields that `columns` names between tabs, streamed.

    A text is inert, so that no tab stands in it; what is missing is empty; the labels are `name=value`, in order, and
    scopes and networks stand one behind the other.
    """
    spelled = [(place, name) for place, name in enumerate(columns) if name in SPELLED]
    for cells in map(_picked(columns), map(_key_cells, documents)):
        texts = ["" if cell is None else for_terminal(str(cell)) for cell in cells]
        for place, name in spelled:
            texts[place] = for_terminal(_in_a_line(name, texts[place]))
        yield "\t".join(texts) + "\n"


def _in_a_line(name: str, cell: str) -> str:
    if not cell:
        return cell
    found = json.loads(cell)
    return " ".join([f"{label}={value}" for label, value in found.items()] if name == "labels" else found)


def event_rows(events: Iterable[Event], *, header: bool = True) -> Iterator[str]:
    """E as CSV (RFC 4180), with a header line or without, streamed. The detail is JSON in a cell."""
    rows = map(event_object, events)
    return csv_rows(
        Event._fields if header else (), ((row | {"detail": json.dumps(row["detail"])}).values() for row in rows)
    )


def _damaged(row: Sequence[Any]) -> Key:
    """A document that cannot be written → the key, as people are shown it."""
    values = KeyDocument._make(row)._asdict()
    for name in TIMES:
        values[name] = None if values[name] is None else _instant(values[name])
    with suppress(TypeError, ValueError, RecursionError):
        values["labels"] = json.loads(values["labels"])
    for name in ("scopes", "allow_from"):
        values[name] = texts_of(values[name])
    return damaged_key(list(values.values()))


def _instant(stored: object) -> datetime:
    try:
        moment = datetime.fromisoformat(stored)  # type: ignore[arg-type]  # what is no text is no time either
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return UNREADABLE


def _key_cells(document: KeyDocument) -> Sequence[object]:
    try:
        return [_key_cell(name, value) for name, value in zip(KeyDocument._fields, document, strict=True)]
    except (TypeError, ValueError, RecursionError):
        key = key_object(_damaged(document))
        return [*(key | {name: json.dumps(key[name]) for name in SPELLED if key[name] is not None}).values()]


def _key_cell(name: str, value: object) -> object:
    if value is None:
        return value
    if name == "use_count":
        return f"{value:d}"
    if not isinstance(value, str):
        raise TypeError
    if name in SPELLED:
        return SPELLED[name](value)
    return time_spelled(value) if name in TIMES else value


def _picked(columns: Sequence[str]) -> Callable[[Sequence[object]], Sequence[object]]:
    """A function that picks the cells of these columns, in this order, from those of a whole key."""
    if tuple(columns) == KeyDocument._fields:
        return lambda cells: cells
    places = [KeyDocument._fields.index(name) for name in columns]
    return lambda cells: [cells[place] for place in places]


_TEXT: Final = '"null" if {0} is None else quote({0})'
# `time_spelled`, without a call of it for each time of a million keys.
_TIME: Final = """"null" if {0} is None else f'"{{instant({0}) and {0}[:10]}}T{{{0}[11:19]}}Z"'"""
_NUMBER: Final = "{0}:d"
_FORMS: Final = (
    dict.fromkeys(TIMES, _TIME)
    | {"labels": "spelled({0})", "use_count": _NUMBER}
    | {
        "scopes": '"null" if {0} is None else spelled_scopes({0})',
        "allow_from": '"null" if {0} is None else spelled_networks({0})',
    }
)
_K: Final = tuple((name, _FORMS.get(name, _TEXT)) for name in KeyDocument._fields)
_U: Final = tuple((name, _NUMBER if name in ("id", "count") else _TEXT) for name in Use._fields)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return None if value == UNREADABLE else rfc3339(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(sorted(value.items())) if isinstance(value, Mapping) else value
