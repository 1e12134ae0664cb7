"""Values → JSON, JSON Lines and CSV. The names are a contract (design, section 5). JSON is ASCII."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from alphalens_keyctl.keys.issuance import Created, Rotated
from alphalens_keyctl.keys.rotation import Aborted
from alphalens_keyctl.keys.selection import TIMES, KeyDocument
from alphalens_keyctl.logs.audit import Head, Verdict
from alphalens_keyctl.logs.old_key_use import OldKeyUse
from alphalens_keyctl.logs.usage import AddressUse, Profile, UseDocument
from alphalens_keyctl.models import Event, Key, Use
from alphalens_keyctl.moments import rfc3339, rfc3339_exact
from alphalens_keyctl.output.inert import for_spreadsheet, for_terminal
from alphalens_keyctl.verification.judgement import Verification


class Format(StrEnum):
    """What machines can ask for, each the name of its option."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def keys_as(form: Format, documents: Iterable[KeyDocument]) -> Iterator[str]:
    """Keys in a format, streamed."""
    return key_rows(documents) if form is Format.CSV else _json_as(form, key_texts(documents))


def events_as(form: Format, events: Iterable[Event]) -> Iterator[str]:
    """Audit events in a format, streamed."""
    return event_rows(events) if form is Format.CSV else _json_as(form, event_texts(events))


def uses_as(form: Format, documents: Iterable[UseDocument]) -> Iterator[str]:
    """Rows of the usage log in a format, streamed."""
    return _csv(Use._fields, documents) if form is Format.CSV else _json_as(form, use_texts(documents))


def created_object(created: Created, *, shown: str | None) -> dict[str, Any]:
    """What `create` answers: the only documents beside `rotated_object` that hold a raw key. `shown` is what
    stdout is called, where they hold it."""
    raw_key = created.raw.reveal() if created.raw is not None and shown is not None else None
    delivered_to = [*created.delivered_to, *([shown] if raw_key is not None else [])]
    return {"key": key_object(created.key), "raw_key": raw_key, "delivered_to": delivered_to}


def rotated_object(rotated: Rotated, *, shown: str | None) -> dict[str, Any]:
    """What `rotate` answers."""
    return created_object(Created(rotated.key, rotated.raw, rotated.delivered_to), shown=shown) | {
        "previous": key_object(rotated.previous) if rotated.previous else None,
        "rotated": rotated.raw is not None,
    }


def aborted_object(aborted: Aborted) -> dict[str, Any]:
    """What `rotate --abort` answers."""
    return {
        "key": key_object(aborted.key),
        "discarded": [key_object(successor) for successor in aborted.successors],
        "rotated": False,
    }


def changed_texts(changed: Iterable[KeyDocument], unchanged: Iterable[KeyDocument], *, dry_run: bool) -> Iterator[str]:
    """What `revoke`, `suspend` and `resume` answer, streamed."""
    for name, keys in (("changed", changed), ("unchanged", unchanged)):
        yield f'{"{" if name == "changed" else ", "}"{name}": ['
        for number, text in enumerate(key_texts(keys)):
            yield f"{', ' if number else ''}{text}"
        yield "]"
    yield f', "dry_run": {"true" if dry_run else "false"}}}\n'


def verification_object(answer: Verification) -> dict[str, Any]:
    """What `verify` answers."""
    return {
        "allowed": answer.allowed,
        "reason": answer.reason.value,
        "key": key_object(answer.key) if answer.key else None,
    }


def key_object(key: Key) -> dict[str, Any]:
    """A key as K."""
    return {name: _plain(value) for name, value in key._asdict().items()}


def usage_object(profile: Profile) -> dict[str, Any]:
    """What `show` says of a key's use; times in whole seconds as in K."""
    return {
        "since": rfc3339(profile.since),
        "until": rfc3339(profile.until),
        "uses": profile.uses,
        "refused": profile.refused,
        "over_time": [{"at": rfc3339(day.at), "uses": day.uses, "refused": day.refused} for day in profile.over_time],
        "addresses": _addresses(profile.addresses),
        "refusals": [
            {"outcome": refusal.outcome, "count": refusal.times, "last_at": rfc3339(refusal.last_at)}
            for refusal in profile.refusals
        ],
    }


def rotation_object(old_use: OldKeyUse | None) -> dict[str, Any] | None:
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
                "last_used_at": _plain(old.key.last_used_at),
                "uses_since": old.uses,
                "addresses": _addresses(old.addresses),
            }
            for old in old_use.old
        ],
    }


def event_object(event: Event) -> dict[str, Any]:
    """An audit event as E."""
    return event._asdict() | {"at": rfc3339_exact(event.at), "hash": event.hash.hex()}


def head_object(head: Head) -> dict[str, Any]:
    """The head of the log: what `audit verify --head` takes."""
    return {
        "seq": head.seq,
        "hash": head.hash.hex(),
        "at": rfc3339_exact(head.at) if head.at else None,
    }


def verdict_object(verdict: Verdict) -> dict[str, Any]:
    """What `audit verify` found."""
    broken = verdict.broken
    return {
        "sound": broken is None,
        "events": verdict.events,
        "head": head_object(verdict.head),
        "break": None if broken is None else {"seq": broken.seq, "kind": broken.kind.value},
    }


def entry_object(present: bool, held: Key | None) -> dict[str, Any]:
    """What `show --keyring` adds: whether the keyring has an entry, and which key of the line that is."""
    return {"present": present, "key_id": held.id if held else None, "status": held.status if held else None}


def _addresses(addresses: Sequence[AddressUse]) -> list[dict[str, Any]]:
    return [
        {"client_ip": address.client_ip, "uses": address.uses, "last_at": rfc3339(address.last_at)}
        for address in addresses
    ]


def _json_as(form: Format, texts: Iterable[str]) -> Iterator[str]:
    return json_array(texts) if form is Format.JSON else json_lines(texts)


def json_document(value: Mapping[str, Any]) -> str:
    """One ASCII JSON document on one line, with its newline."""
    return json.dumps(value) + "\n"


def json_array(items: Iterable[str]) -> Iterator[str]:
    """JSON texts → one JSON array, an item a line, without holding them all."""
    separator = "[\n"
    for item in items:
        yield separator + item
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def json_lines(items: Iterable[str]) -> Iterator[str]:
    """JSON texts → JSON Lines."""
    for item in items:
        yield item + "\n"


def key_texts(documents: Iterable[KeyDocument]) -> Iterator[str]:
    """K as JSON text, a document a piece.

    Written out instead of built as a dict and dumped: a million keys take half the time.
    """
    quote, time = encode_basestring_ascii, _time
    for (
        key_id, name, status, owner, purpose, labels, created_at, created_by, activated_at, expires_at, retires_at,
        suspended_at, last_used_at, use_count, revoked_at, revoked_by, revoke_reason, replaces, replaced_by,
        delivering_to,
    ) in documents:  # fmt: skip
        yield (
            f'{{"id": {quote(key_id)}, "name": {quote(name)}, "status": {quote(status)},'
            f' "owner": {"null" if owner is None else quote(owner)},'
            f' "purpose": {"null" if purpose is None else quote(purpose)}, "labels": {_labels(labels)},'
            f' "created_at": "{time(created_at)}", "created_by": {quote(created_by)},'
            f' "activated_at": {"null" if activated_at is None else quote(time(activated_at))},'
            f' "expires_at": {"null" if expires_at is None else quote(time(expires_at))},'
            f' "retires_at": {"null" if retires_at is None else quote(time(retires_at))},'
            f' "suspended_at": {"null" if suspended_at is None else quote(time(suspended_at))},'
            f' "last_used_at": {"null" if last_used_at is None else quote(time(last_used_at))},'
            f' "use_count": {use_count:d}, "revoked_at": {"null" if revoked_at is None else quote(time(revoked_at))},'
            f' "revoked_by": {"null" if revoked_by is None else quote(revoked_by)},'
            f' "revoke_reason": {"null" if revoke_reason is None else quote(revoke_reason)},'
            f' "replaces": {"null" if replaces is None else quote(replaces)},'
            f' "replaced_by": {"null" if replaced_by is None else quote(replaced_by)},'
            f' "delivering_to": {"null" if delivering_to is None else quote(delivering_to)}}}'
        )


def event_texts(events: Iterable[Event]) -> Iterator[str]:
    """E as JSON text, an event a piece."""
    return (json.dumps(event_object(event)) for event in events)


def use_texts(documents: Iterable[UseDocument]) -> Iterator[str]:
    """U as JSON text, a row a piece. Written out for the same reason as K."""
    quote = encode_basestring_ascii
    for use_id, at, key_id, key_name, outcome, client_ip, method, path, user_agent, count in documents:
        yield (
            f'{{"id": {use_id:d}, "at": {"null" if at is None else quote(at)},'
            f' "key_id": {"null" if key_id is None else quote(key_id)},'
            f' "key_name": {"null" if key_name is None else quote(key_name)}, "outcome": {quote(outcome)},'
            f' "client_ip": {"null" if client_ip is None else quote(client_ip)},'
            f' "method": {"null" if method is None else quote(method)},'
            f' "path": {"null" if path is None else quote(path)},'
            f' "user_agent": {"null" if user_agent is None else quote(user_agent)}, "count": {count:d}}}'
        )


def key_rows(documents: Iterable[KeyDocument]) -> Iterator[str]:
    """K as CSV (RFC 4180), with a header line; labels are JSON in a cell."""
    return _csv(Key._fields, map(_key_cells, documents))


def event_rows(events: Iterable[Event]) -> Iterator[str]:
    """E as CSV, with a header line; detail is JSON in a cell."""
    rows = map(event_object, events)
    return _csv(Event._fields, ((row | {"detail": json.dumps(row["detail"])}).values() for row in rows))


def _csv(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    for row in rows:
        writer.writerow(
            "" if cell is None else for_spreadsheet(for_terminal(cell)) if isinstance(cell, str) else cell
            for cell in row
        )
        if buffer.tell() > 1 << 16:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _key_cells(document: KeyDocument) -> Iterator[object]:
    for name, value in zip(KeyDocument._fields, document, strict=True):
        if name == "labels":
            yield _labels(str(value))
        else:
            yield _time(str(value)) if name in TIMES and value is not None else value


def _time(stored: str) -> str:
    """`2026-11-23 06:34:00.123456`, and what PostgreSQL adds, as `rfc3339` writes it."""
    return f"{stored[:10]}T{stored[11:19]}Z"


@lru_cache(maxsize=4096)
def _labels(stored: str) -> str:
    """The labels' stored JSON in one spelling: PostgreSQL orders and spaces it in its own way, in UTF-8."""
    return json.dumps(json.loads(stored), sort_keys=True, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return rfc3339(value)
    return dict(sorted(value.items())) if isinstance(value, Mapping) else value
