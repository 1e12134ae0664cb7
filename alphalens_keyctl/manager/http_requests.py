"""Values → what requests to the HTTP API say: queries and bodies, by the names of the options."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import MalformedKeyError, parse
from alphalens_keyctl.keys.changes import Targets
from alphalens_keyctl.keys.issuance import RotationPlan
from alphalens_keyctl.keys.last_copy import Held
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.lookup import Reference
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.keys.update import Update
from alphalens_keyctl.moments import rfc3339_exact, utc_now

_MINUTE: Final = timedelta(minutes=1)


def path(*parts: str) -> str:
    """The path below `/v1`, each part encoded: a name may hold a slash. A part of dots alone would be taken for a way
    through folders."""
    return "/v1/" + "/".join(quote(part, safe=":").replace(".", "%2E") for part in parts)


def reference(given: Reference) -> Any:
    """KEY in a body. Of a raw key only the digest is sent (promise 1)."""
    return given if isinstance(given, str) else {"id": given.id, "sha256": given.digest().hex()}


def held(given: Held) -> dict[str, str]:
    """What a destination holds; of the raw key only the digest is sent."""
    destination, raw = given
    return {"destination": destination, "id": raw.id, "sha256": raw.digest().hex()}


def filters(wanted: Selection) -> dict[str, Any]:
    """Filters, by the names of the options. Raises `KeyctlError` (invalid_input) for a span that no option can say."""
    said: dict[str, Any] = {
        "status": [status.value for status in wanted.statuses],
        "name": wanted.name_glob,
        "owner": wanted.owner,
        "no-owner": wanted.unowned,
        "label": [
            *(f"{name}={value}" for name, value in wanted.labels.items()),
            *(f"!{each}" for each in wanted.without),
        ],
        "unused-for": span(wanted.unused_for),
        "never-used": wanted.never_used,
        "expired": wanted.expired,
        "expires-within": span(wanted.expires_within),
        "never-expires": wanted.never_expires,
        "older-than": span(wanted.older_than),
        "suspended-for": span(wanted.suspended_for),
        "scope": list(wanted.scopes),
        "text": list(wanted.containing),
        "all": wanted.final,
    }
    return {name: value for name, value in said.items() if value not in (None, False, [])}


def query(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The same for a query. What is None is left out."""
    pairs = [(name, each) for name, value in said.items() for each in (value if isinstance(value, list) else [value])]
    return [(name, "true" if each is True else str(each)) for name, each in pairs if each is not None]


def span(given: timedelta | None) -> str | None:
    """A length of time as the options take it. Raises `KeyctlError` (invalid_input) for a fraction of a minute."""
    if given is None:
        return None
    if given % _MINUTE:
        raise KeyctlError(Code.INVALID_INPUT, "a server takes lengths of time in whole minutes", "Round it.")
    return f"{given // _MINUTE}m"


def instant(given: datetime | None) -> str | None:
    """An instant, to the microsecond."""
    return None if given is None else rfc3339_exact(given)


def new_key(draft_: Draft, *, if_missing: bool, lease: float) -> dict[str, Any]:
    """The body that creates a key."""
    return {**draft(draft_), "if_missing": if_missing, "lease": lease}


def draft(given: Draft) -> dict[str, Any]:
    """What a body says of a new key."""
    return {
        "name": given.name, "owner": given.owner, "purpose": given.purpose, "labels": dict(given.labels),
        "expires_at": instant(given.expires_at), "override": given.override, "scopes": _list(given.scopes),
        "allow_from": _list(given.allow_from),
    }  # fmt: skip


def rotation(plan: RotationPlan) -> dict[str, Any]:
    """What the body says that rotates keys, or that asks which are due."""
    lifetime = {"same_lifetime": True} if plan.same_lifetime else {"same_lifetime": False}
    if not plan.same_lifetime and plan.expires_at is not None:
        lifetime = {"expires": instant(plan.expires_at)}  # type: ignore[dict-item]  # one of the two stands there
    return {
        **lifetime,
        "older_than": span(plan.due.older_than),
        "expiring_within": span(plan.due.expiring_within),
        "override": plan.override,
    }


def successor(plan: RotationPlan, *, lease: float) -> dict[str, Any]:
    """The body that rotates a key."""
    ago = (utc_now() - plan.asked_at).total_seconds()
    return {**rotation(plan), "asked_ago": min(max(ago, 0.0), 86400.0), "lease": lease}


def verification(presented: bytes, *, scope: Sequence[str] | None, address: str | None, record: bool) -> dict[str, Any]:
    """The body that asks whether a raw key opens. What is none does not leave this machine."""
    try:
        raw = parse(presented).reveal()
    except MalformedKeyError:
        raw = ""
    return {"raw_key": raw, "scope": list(scope or ()), "address": address, "record": record}


def targets(asked: Targets, reason: str | None) -> dict[str, Any]:
    """What the body says of which keys a change is for."""
    body: dict[str, Any] = {"keys": list(map(reference, asked.references)), "reason": reason}
    if asked.wanted is not None:
        body |= {"filters": filters(asked.wanted), "max": asked.most, "in_use": asked.in_use}
    return body


def new_values(new: Update) -> dict[str, Any]:
    """What the body says of new values; what stays as it is is left out."""
    said: dict[str, Any] = {
        name: instant(value) if isinstance(value, datetime) else value for name, value in new.fields.items()
    }
    if new.name is not None:
        said["name"] = new.name
    if new.labels or new.unset_labels:
        said["labels"] = {**new.labels, **dict.fromkeys(sorted(new.unset_labels))}
    for name in ("scopes", "allow_from"):
        added, removed = new.added.get(name, ()), new.removed.get(name, ())
        if added or removed:
            said[name] = {"add": list(added), "remove": list(removed)}
    return said


def _list(texts: Sequence[str] | None) -> list[str] | None:
    return None if texts is None else list(texts)
