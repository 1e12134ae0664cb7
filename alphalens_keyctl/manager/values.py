"""What callers in Python write → values: the texts of the command line, or Python's own types."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypedDict

from alphalens_keyctl import networks, scopes, text
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import MalformedKeyError, RawKey, parse, resembles_raw_key
from alphalens_keyctl.keys.issuance import Due, RotationPlan
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.lookup import Reference
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.keys.update import Update
from alphalens_keyctl.models import Status
from alphalens_keyctl.moments import LONGEST_SPAN, parse_expiry, parse_since, parse_span, rfc3339_exact
from alphalens_keyctl.text import one_of, quoted

# A length of time: `90d`, or a timedelta.
Span = str | timedelta
# An instant: `90d` from or before now, a date, RFC 3339, or an aware datetime.
When = str | timedelta | datetime


class Filters(TypedDict, total=False):
    """Which keys: the filters of `alphalens-keyctl list`, under their names there, joined by AND.

    `label` has texts `K=V`, and `!K` for keys without label K. `containing` are texts that the name, the id or the
    owner of a key contains. `final` is `--all`: revoked and retired keys too.
    """

    status: Sequence[str]
    name: str
    owner: str
    no_owner: bool
    label: Sequence[str]
    scope: Sequence[str]
    unused_for: Span
    never_used: bool
    expired: bool
    expires_within: Span
    never_expires: bool
    older_than: Span
    suspended_for: Span
    containing: Sequence[str]
    final: bool


class NewValues(TypedDict, total=False):
    """What a new key is to be. `override` says why it may break the stored policy. Without `expires` it never expires;
    without `scopes` it may do everything but administer keys, without `allow_from` be used from anywhere."""

    owner: str | None
    purpose: str | None
    labels: Mapping[str, str]
    expires: When | None
    scopes: Sequence[str] | None
    allow_from: Sequence[str] | None
    override: str | None


class Rotation(TypedDict, total=False):
    """How a key is rotated. The old key opens for `grace` (24h); with `deadline`, for `grace` from the first use of the
    successor, and until `deadline` at the latest. The successor lives as long as the old key was meant to, unless
    `expires` is given. The key is rotated if it is `older_than` or `expiring_within` a length of time, or if neither is
    given. `override` says why the successor may break the stored policy."""

    grace: Span
    deadline: Span | None
    expires: When | None
    older_than: Span | None
    expiring_within: Span | None
    override: str | None


class Store(TypedDict, total=False):
    """Where a block leaves a raw key, if that place outlives the process: its name; `put_back`, which gives it back
    what it held; and how many seconds the block takes at most (60)."""

    destination: str | None
    put_back: Callable[[], object] | None
    limit: float


class Guards(TypedDict, total=False):
    """Of a change by filters: at most `most` keys (100), and none that was used within the last hour unless `in_use` is
    set. With `dry_run` nothing changes. `reason` goes on record."""

    reason: str | None
    dry_run: bool
    most: int | None
    in_use: bool


class Updated(TypedDict, total=False):
    """New values for keys. None takes a value away, of an expiry: the key never expires. `labels` of None are taken
    away, other labels stay. `override` says why the keys may break the stored policy."""

    name: str
    owner: str | None
    purpose: str | None
    expires: When | None
    labels: Mapping[str, str | None]
    add_scopes: Sequence[str]
    remove_scopes: Sequence[str]
    add_allow_from: Sequence[str]
    remove_allow_from: Sequence[str]
    override: str | None


def draft(name: str, given: NewValues, *, now: datetime) -> Draft:
    """A new key. Raises `KeyctlError` (invalid_input)."""
    return Draft(
        text.parse_name(name),
        line(given.get("owner"), "owner", text.LONGEST_OWNER),
        line(given.get("purpose"), "purpose", text.LONGEST_PURPOSE),
        labels(given.get("labels")),
        expiry(given.get("expires"), now=now),
        line(given.get("override"), "reason", text.LONGEST_REASON),
        scopes_of(given.get("scopes")),
        networks_of(given.get("allow_from")),
    )


def rotation_plan(given: Rotation, *, now: datetime) -> RotationPlan:
    """How a key is rotated, asked for at `now`. Raises `KeyctlError` (invalid_input)."""
    grace = span(given.get("grace", "24h"), "grace", zero=True)
    assert grace is not None  # noqa: S101  # it has a default
    return RotationPlan(
        asked_at=now,
        retirement=Retirement(grace, span(given.get("deadline"), "deadline")),
        expires_at=expiry(given.get("expires"), now=now),
        same_lifetime="expires" not in given,
        due=Due(span(given.get("older_than"), "age"), span(given.get("expiring_within"), "time to expiry")),
        override=line(given.get("override"), "reason", text.LONGEST_REASON),
    )


def update(given: Updated, *, now: datetime) -> Update:
    """New values for keys. Raises `KeyctlError` (invalid_input)."""
    fields: dict[str, str | datetime | None] = {}
    if "owner" in given:
        fields["owner"] = line(given["owner"], "owner", text.LONGEST_OWNER)
    if "purpose" in given:
        fields["purpose"] = line(given["purpose"], "purpose", text.LONGEST_PURPOSE)
    if "expires" in given:
        fields["expires_at"] = expiry(given["expires"], now=now)
    wanted = given.get("labels", {})
    added = {
        "scopes": scopes_of(given.get("add_scopes") or None),
        "allow_from": networks_of(given.get("add_allow_from") or None),
    }
    removed = {
        "scopes": scopes_of(given.get("remove_scopes") or None),
        "allow_from": networks_of(given.get("remove_allow_from") or None),
    }
    return Update(
        None if given.get("name") is None else text.parse_name(given["name"]),
        fields,
        labels({name: value for name, value in wanted.items() if value is not None}),
        frozenset(text.parse_label_name(name) for name, value in wanted.items() if value is None),
        line(given.get("override"), "reason", text.LONGEST_REASON),
        {field: texts for field, texts in added.items() if texts},
        {field: texts for field, texts in removed.items() if texts},
    )


def selection(filters: Filters) -> Selection:
    """What filters select. Raises `KeyctlError`: usage for filters that contradict each other, invalid_input."""
    if unknown := sorted(set(filters) - set(Filters.__annotations__)):
        raise KeyctlError(
            Code.USAGE, f"there is no filter '{unknown[0]}'", f"There are: {', '.join(Filters.__annotations__)}."
        )
    labels = filters.get("label", ())
    wanted = Selection(
        statuses=tuple(map(status, filters.get("status", ()))),
        final=filters.get("final", False),
        name_glob=line(filters.get("name"), "name pattern", text.LONGEST_NAME),
        owner=line(filters.get("owner"), "owner", text.LONGEST_OWNER),
        unowned=filters.get("no_owner", False),
        labels=text.parse_labels(label for label in labels if not label.startswith("!")),
        without=tuple(text.parse_label_name(label[1:]) for label in labels if label.startswith("!")),
        never_used=filters.get("never_used", False),
        unused_for=span(filters.get("unused_for"), "time unused"),
        expired=filters.get("expired", False),
        expires_within=span(filters.get("expires_within"), "time to expiry"),
        never_expires=filters.get("never_expires", False),
        older_than=span(filters.get("older_than"), "age"),
        suspended_for=span(filters.get("suspended_for"), "time suspended"),
        scopes=tuple(map(scopes.parse, filters.get("scope", ()))),
        containing=tuple(
            text.parse_line(part, what="text to find", longest=text.LONGEST_NAME)
            for part in filters.get("containing", ())
        ),
    )
    _refuse_contradictions(wanted)
    return wanted


def status(word: str) -> Status:
    """A status to filter by. Raises `KeyctlError` (usage)."""
    found = one_of(Status, word, "status")
    if found is Status.DAMAGED:
        raise KeyctlError(
            Code.USAGE,
            "no filter selects damaged keys: what cannot be read the database cannot look for",
            "'alphalens-keyctl list --all' shows them; revoke them by their ids.",
        )
    return found


def line(given: str | None, what: str, longest: int) -> str | None:
    """One line of text, or None. Raises `KeyctlError` (invalid_input)."""
    return None if given is None else text.parse_line(given, what=what, longest=longest)


def reference(given: str | RawKey) -> Reference:
    """KEY. A raw key is looked up by its digest, and no error repeats it. Raises `KeyctlError` (invalid_input)."""
    if isinstance(given, RawKey):
        return given
    if not resembles_raw_key(given):
        return text.parse_line(given, what="KEY", longest=text.LONGEST_NAME)
    try:
        return parse(given.strip())
    except MalformedKeyError as error:
        raise KeyctlError(Code.INVALID_INPUT, f"this is no raw key: {error}", "Give it whole and alone.") from None


def span(given: Span | None, what: str, *, zero: bool = False) -> timedelta | None:
    """A length of time, or None. `zero` allows none at all. Raises `KeyctlError` (invalid_input)."""
    if given is None or isinstance(given, str):
        return None if given is None else parse_span(given, what=what, zero=zero)
    if given < timedelta(0) or (not given and not zero) or given > LONGEST_SPAN:
        raise KeyctlError(
            Code.INVALID_INPUT, f"the {what} is out of range", "Up to a hundred years, and no less than 1m."
        )
    return given


def expiry(given: When | None, *, now: datetime) -> datetime | None:
    """When a key expires; None for one that never does, as for `never`. Raises `KeyctlError` (invalid_input)."""
    if given is None or isinstance(given, str):
        return None if given is None else parse_expiry(given, now=now)
    at = now + given if isinstance(given, timedelta) else given
    return parse_expiry(_stated(at, "expiry"), now=now)


def since(given: When | None, what: str, *, now: datetime) -> datetime | None:
    """An instant to look back to, a length of time counting from `now`. Raises `KeyctlError` (invalid_input)."""
    if given is None or isinstance(given, str):
        return None if given is None else parse_since(given, what=what, now=now)
    at = now - given if isinstance(given, timedelta) else given
    return parse_since(_stated(at, what), what=what, now=now)


def labels(given: Mapping[str, str] | None) -> Mapping[str, str]:
    """Labels by their names. Raises `KeyctlError` (invalid_input)."""
    return text.parse_labels(f"{name}={value}" for name, value in (given or {}).items())


def scopes_of(given: Iterable[str] | None) -> tuple[str, ...] | None:
    """Scopes; None: unrestricted. Raises `KeyctlError` (invalid_input), also for no scope at all."""
    return None if given is None else scopes.parse_all(_some(given, "scopes"))


def networks_of(given: Iterable[str] | None) -> tuple[str, ...] | None:
    """Networks; None: anywhere. Raises `KeyctlError` (invalid_input), also for no network at all."""
    return None if given is None else networks.parse_all(_some(given, "networks"))


def _some(given: Iterable[str], what: str) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    if not texts:
        # To `parse_all` no text is no restriction, the opposite of what an empty list says.
        raise KeyctlError(Code.INVALID_INPUT, f"the list of {what} is empty", "None is for a key without restriction.")
    return texts


def _stated(at: datetime, what: str) -> str:
    if at.tzinfo is None:
        raise KeyctlError(
            Code.INVALID_INPUT, f"the {what} {quoted(str(at))} says nothing of its time zone", "Give an aware datetime."
        )
    return rfc3339_exact(at)


_NEVER_SUSPENDED: Final = {Status.PENDING, Status.DELIVERING, Status.ACTIVE, Status.RETIRING}


def _refuse_contradictions(wanted: Selection) -> None:
    """Refuse filters that no key can fit: whoever wrote them meant something else."""
    asked = set(wanted.statuses)
    impossible = {
        "--expired and --expires-within": wanted.expired and wanted.expires_within is not None,
        "--never-expires and --expired": wanted.never_expires and wanted.expired,
        "--never-expires and --expires-within": wanted.never_expires and wanted.expires_within is not None,
        "--never-expires and --status": wanted.never_expires and asked == {Status.EXPIRED},
        "--no-owner and --owner": wanted.unowned and wanted.owner is not None,
        "--expired and --status": wanted.expired and asked and Status.EXPIRED not in asked,
        "--expires-within and --status": wanted.expires_within is not None and asked == {Status.EXPIRED},
        # A key that expired, retired or was revoked may have been suspended before.
        "--suspended-for and --status": wanted.suspended_for is not None and asked and asked <= _NEVER_SUSPENDED,
        "a label and its absence": not set(wanted.labels).isdisjoint(wanted.without),
    }
    for what, contradict in impossible.items():
        if contradict:
            raise KeyctlError(Code.USAGE, f"{what} contradict each other", "Leave one of them out.")
