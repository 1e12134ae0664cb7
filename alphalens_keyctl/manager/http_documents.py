"""The documents of the HTTP API → values. Each function raises ValueError, KeyError or TypeError for what is no such
document; a field that it does not know is left alone."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from alphalens_keyctl.damage import are_labels
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import RawKey, parse
from alphalens_keyctl.keys.rotation import Aborted
from alphalens_keyctl.keys.selection import TIMES, KeyDocument
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.logs.audit import Break, BreakKind, Head, Verdict
from alphalens_keyctl.logs.old_key_use import OldKey, OldKeyUse
from alphalens_keyctl.logs.proof import Proof
from alphalens_keyctl.logs.recorded import Recorded
from alphalens_keyctl.logs.usage import AddressUse, Buckets, Day, KeyUse, Profile, Refusal, Summary
from alphalens_keyctl.manager.backend import Details
from alphalens_keyctl.manager.http_exchange import error_of
from alphalens_keyctl.moments import UNREADABLE, Period, parse_span
from alphalens_keyctl.values import Event, Key, Use
from alphalens_keyctl.verification.judgement import Verification
from alphalens_keyctl.vocabulary import Reason

if TYPE_CHECKING:
    from alphalens_keyctl.keys.policy import Finding
    from alphalens_keyctl.logs.report import Entry, Listed, Report

_LISTS: Final = ("scopes", "allow_from")


def key(document: Mapping[str, Any]) -> Key:
    """K → the key."""
    values = {name: document[name] for name in Key._fields}
    for name in TIMES:
        values[name] = None if values[name] is None else instant(values[name])
    values["created_at"] = values["created_at"] or UNREADABLE  # of a damaged key
    for name in _LISTS:
        values[name] = None if values[name] is None else tuple(map(_text, values[name]))
    if not are_labels(values["labels"]) or type(values["use_count"]) is not int:
        raise ValueError("no K")
    for name in ("id", "name", "status", "created_by"):
        _text(values[name])
    return Key(**values)


def keys(documents: Iterable[Mapping[str, Any]]) -> list[Key]:
    """K, K, … → the keys."""
    return [key(document) for document in documents]


def key_document(document: Mapping[str, Any]) -> KeyDocument:
    """K → a key on its way to a machine format."""
    values = [*_fields_of(document)]
    for place, empty in _JSON_AT:
        if (found := values[place]) is not None:
            values[place] = json.dumps(found) if found else empty
    return KeyDocument._make(values)


_fields_of: Final = itemgetter(*KeyDocument._fields)
_JSON_AT: Final = tuple(
    (KeyDocument._fields.index(name), "{}" if name == "labels" else "[]") for name in ("labels", *_LISTS)
)


def raw_key(document: Mapping[str, Any]) -> RawKey | None:
    """The raw key in an answer, or None. Its errors do not show it (promise 1)."""
    found = document["raw_key"]
    return None if found is None else parse(_text(found))


def event(document: Mapping[str, Any]) -> Event:
    """E → the event."""
    at = document["at"]
    values = {name: document[name] for name in Event._fields}
    values |= {"at": UNREADABLE if at is None else instant(at), "hash": bytes.fromhex(document["hash"])}
    return Event(**values)


def recorded(document: Mapping[str, Any]) -> Recorded:
    """The document of `audit show --json`."""
    return Recorded(event(document), bytes.fromhex(document["previous_hash"]), document["intact"] is True)


def new_events(document: Mapping[str, Any]) -> tuple[Sequence[Event], Head]:
    """Events behind a place, and the place up to which the log was read."""
    return list(map(event, document["events"])), head(document["place"])


def use(document: Mapping[str, Any]) -> Use:
    """U → the row."""
    return Use._make([document[name] for name in Use._fields])


def head(document: Mapping[str, Any]) -> Head:
    """The head of the audit log."""
    at = document["at"]
    return Head(_number(document["seq"]), bytes.fromhex(document["hash"]), None if at is None else instant(at))


def verdict(document: Mapping[str, Any]) -> Verdict:
    """What `audit verify` found."""
    broken = document["break"]
    found = None
    if broken is not None:
        seq = broken["seq"]
        found = Break(None if seq is None else _number(seq), BreakKind(broken["kind"]), broken["about"])
    if document["sound"] is not (found is None):
        raise ValueError("neither sound nor broken")
    return Verdict(_number(document["events"]), head(document["head"]), found)


def proof(document: Mapping[str, Any]) -> Proof:
    """The proof of an event. What it proves is for the caller to see."""
    steps = [bytes.fromhex(_text(step)) for step in document["path"]]
    return Proof(
        event(document["event"]), bytes.fromhex(document["previous_hash"]), _number(document["tree_size"]), tuple(steps)
    )


def verification(document: Mapping[str, Any]) -> Verification:
    """The document of `verify --json`."""
    about = document["key"]
    return Verification(document["allowed"] is True, Reason(document["reason"]), None if about is None else key(about))


def report(document: Mapping[str, Any]) -> "Report":
    """The document of `GET /v1/report`."""
    from alphalens_keyctl.logs import report as reports  # no other command needs them

    span = document["period"]
    return reports.Report(
        Period(_text(span["name"]), instant(span["since"]), instant(span["until"])),
        instant(document["made_at"]),
        head(document["head"]),
        document["keys"],
        reports.Activity(
            document["actions"],
            _number(document["successors"]),
            _of(reports.Ages, document["ages"]),
            _listed(document["revocations"]),
            _listed(document["exceptions"]),
            [_of(reports.Doings, each) for each in document["actors"]],
            _number(document["actors_total"]),
            [_of(reports.RefusedUse, each) for each in document["refused_uses"]],
        ),
        [
            _of(reports.Breach, each)._replace(named=[_of(reports.KeyNamed, key) for key in each["named"]])
            for each in document["breaches"]
        ],
    )


def entry(document: Mapping[str, Any]) -> "Entry":
    """A row of `GET /v1/report` as JSON Lines."""
    from alphalens_keyctl.logs.report import Entry  # as above

    at = document["at"]
    values = {name: document[name] for name in Entry._fields} | {
        "at": UNREADABLE if at is None else instant(at),
        "breaches": tuple(document["breaches"]),
        "hash": bytes.fromhex(document["hash"]),
    }
    return Entry(**values)


def _listed(document: Mapping[str, Any]) -> "Listed":
    from alphalens_keyctl.logs.report import Listed  # as above

    return Listed(_number(document["total"]), list(map(entry, document["entries"])))


def policy(document: Mapping[str, Any]) -> StoredPolicy:
    """The stored policy."""
    longest = document["max_lifetime"]
    return StoredPolicy(
        None if longest is None else parse_span(longest, what="max lifetime"),
        tuple(document["require"]),
        document["name_pattern"],
    )


def details(document: Mapping[str, Any]) -> Details:
    """The document of `show --json`."""
    lineage = keys(document["lineage"])
    return Details(key(document), lineage, _profile(document["usage"]), _old_use(document["rotation"], lineage))


def aborted(document: Mapping[str, Any]) -> tuple[Aborted, list[str]]:
    """The document of `rotate --abort --json`, and the destinations that the discarded keys had been delivered to."""
    return Aborted(key(document["key"]), keys(document["discarded"])), list(map(_text, document["delivered_to"]))


def error(document: Mapping[str, Any] | None) -> KeyctlError | None:
    """`stopped_by` of a preview."""
    return None if document is None else error_of(document)


def summary(document: Mapping[str, Any]) -> Summary:
    """The usage log over a span, summed up."""
    span = document["buckets"]
    buckets = Buckets(instant(span["since"]), instant(span["until"]), timedelta(seconds=_number(span["step"])))
    return Summary(
        buckets,
        _number(document["uses"]),
        _number(document["refused"]),
        [_of(KeyUse, each)._replace(over_time=tuple(each["over_time"])) for each in document["keys"]],
        _number(document["keys_total"]),
        [_of(AddressUse, each) for each in document["addresses"]],
        _number(document["addresses_total"]),
        [_of(Refusal, each) for each in document["refusals"]],
        _number(document["refusals_total"]),
    )


def findings(documents: Sequence[Mapping[str, Any]]) -> "Iterator[Finding]":
    """The rows of `GET /v1/check` as JSON Lines. A rule that only the server knows is left out."""
    from alphalens_keyctl.keys.policy import RULES, Finding  # no other command needs them

    rules = {rule.id: rule for rule in RULES}
    for each in documents:
        if each["rule"] in rules:
            values = {name: each[name] for name in Finding._fields}
            values |= {name: _span(each[name]) for name in ("value", "limit", "lifetime")}
            values |= {"rule": rules[each["rule"]], "at": None if each["at"] is None else instant(each["at"])}
            yield Finding(**values)


def instant(written: Any) -> datetime:
    """RFC 3339 → an instant in UTC."""
    found = datetime.fromisoformat(_text(written))
    if found.tzinfo is None:
        raise ValueError("no time zone")
    return found.astimezone(UTC)


def _profile(document: Mapping[str, Any]) -> Profile:
    return Profile(
        instant(document["since"]),
        instant(document["until"]),
        [_of(Day, day) for day in document["over_time"]],
        [_of(AddressUse, address) for address in document["addresses"]],
        [
            Refusal(each["outcome"], None, None, None, _number(each["count"]), instant(each["last_at"]))
            for each in document["refusals"]
        ],
    )


def _old_use(document: Mapping[str, Any] | None, lineage: Sequence[Key]) -> OldKeyUse | None:
    if document is None:
        return None
    by_id = {member.id: member for member in lineage}
    old = [
        OldKey(
            by_id[each["id"]],
            _number(each["uses_since"]),
            [_of(AddressUse, address) for address in each["addresses"]],
            _span(each["grace_after_use"]) if each["awaits_first_use"] else None,
        )
        for each in document["old"]
    ]
    return OldKeyUse(by_id[document["current"]], instant(document["since"]), old)


def _of(kind: Any, document: Mapping[str, Any]) -> Any:
    """A NamedTuple of the same fields; those that end in `at` are instants."""
    values = {name: document[name] for name in kind._fields}
    times = {name: value if value is None else instant(value) for name, value in values.items() if name.endswith("at")}
    return kind(**values | times)


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("no number")
    return value
