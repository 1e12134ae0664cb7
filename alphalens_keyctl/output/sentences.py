"""A value → a sentence for people: a verdict, what filters select, when an old key ends."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from alphalens_keyctl import networks
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.logs.audit import BreakKind, Verdict
from alphalens_keyctl.models import Action, Event, Key, Reason, Status, Use
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.words import ago, counted, exactly, span

if TYPE_CHECKING:  # for speed: each of these is for few commands
    from alphalens_keyctl.keys.update import Update
    from alphalens_keyctl.logs.report import Report
    from alphalens_keyctl.logs.usage import Seen
    from alphalens_keyctl.verification.judgement import Verification


def used_lately(key: Key, used: tuple[int, int] | None, now: datetime) -> str:
    """Say how much a key was used in the last 7 days. `used` is how often, and from how many addresses."""
    if key.last_used_at is None:
        return "never used"
    last = f"last {ago(key.last_used_at, now)}"
    if used is None:
        return f"not used in 7 days, {last}"
    times, addresses = used
    from_where = f" from {counted(addresses, 'address', 'addresses')}" if addresses else ""
    return f"{counted(times, 'time')} in 7 days{from_where}, {last}"


def new_values(new: "Update") -> str:
    """Say what an update sets, to follow the word "set"."""
    said = [] if new.name is None else [f"name '{new.name}'"]
    for field, value in new.fields.items():
        if field in _LIFTED:
            said.append(_LIFTED[field])
        elif field == "expires_at":
            said.append(f"expiry {rfc3339(value) if isinstance(value, datetime) else 'never'}")
        else:
            said.append(f"no {field}" if value is None else f"{field} '{value}'")
    said += [f"label {name}={value}" for name, value in new.labels.items()]
    said += [f"no label {name}" for name in sorted(new.unset_labels)]
    for texts, word in ((new.added, ""), (new.removed, "no ")):
        said += [f"{word}scope {scope}" for scope in texts.get("scopes", ())]
        said += [f"{word}use from {network}" for network in texts.get("allow_from", ())]
    return ", ".join(said)


_LIFTED: Final = {"scopes": "no restriction to scopes", "allow_from": "no restriction to networks"}


def first_limits(found: Mapping[str, int]) -> str:
    """Say what an update narrows: how many keys, by the field, have no restriction of it so far. Empty for none."""
    said = {
        "scopes": "{} may do everything so far, and will do these scopes alone",
        "allow_from": "{} may be used from anywhere so far, and will be from these networks alone",
    }
    return "; ".join(said[name].format(counted(number, "key")) for name, number in found.items())


def seen(found: "Sequence[Seen]", proposed: Sequence[str]) -> list[str]:
    """Say from where a key was used, a line for each network that is proposed, and how often from nobody knows
    where."""
    lines = []
    for network in proposed:
        here = [each for each in found if networks.allows((network,), each.client_ip)]
        uses = counted(sum(each.uses for each in here), "use")
        addresses = f" from {counted(len(here), 'address', 'addresses')}" if len(here) > 1 else ""
        lines.append(f"  {network}: {uses}{addresses}")
    if lost := sum(each.uses for each in found if not networks.allows(tuple(proposed), each.client_ip)):
        lines.append(f"  {counted(lost, 'use')} from no known address; such a use will be refused")
    return lines


def unfinished(key_id: str, name: str, delivering_to: str | None) -> str:
    """Say where a key was going whose delivery was cut off, and what to do about it."""
    return for_terminal(f"{key_id} was on its way to {delivering_to}: rotate '{name}' to finish, or create it anew")


def stored_policy(policy: StoredPolicy) -> list[str]:
    """Say what the stored policy asks of every key, a line for each thing."""
    said = []
    if policy.max_lifetime is not None:
        said.append(f"Every key lives at most {exactly(policy.max_lifetime)} from its creation.")
    if policy.require:
        said.append(f"Every key has {' and '.join(_REQUIRED[word] for word in policy.require)}.")
    if policy.name_pattern is not None:
        said.append(f"Every name is like '{policy.name_pattern}'.")
    return said or ["There is no policy: a key may be anything."]


_REQUIRED: Final = {"owner": "an owner", "purpose": "a purpose", "expires": "an expiry"}


def keyring_entry(present: bool, held: Key | None) -> str:
    """Say what the keyring has under a key's name. `held` is the entry's key where that is one of the lineage."""
    if not present:
        return "no entry"
    if held is None:
        return "an entry that is no key of this lineage"
    current = held.is_current and not held.is_unfinished
    return f"has {'the current key' if current else f'a key that is {held.status}'}, {held.id}"


def retirement(old: Key, now: datetime, *, grace_after_use: timedelta | None = None) -> str:
    """Say until when a key that was rotated out works, and when it was last used.

    With `grace_after_use` the key ends that long after the first use of its successor, which nobody has used yet.
    """
    used = (
        f"It was last used {ago(old.last_used_at, now)}, {counted(old.use_count, 'time')} in all."
        if old.last_used_at
        else "It was never used."
    )
    if old.retires_at is None or (old.expires_at is not None and old.expires_at <= now):
        return f"The old key {old.id} had expired and opens nothing. {used}"
    if old.status == Status.RETIRED:
        return f"The old key {old.id} stopped working just now. {used}"
    end = min(old.retires_at, old.expires_at or old.retires_at)
    if grace_after_use is not None:
        after = f"{span(grace_after_use)} after" if grace_after_use else "until"
        return f"The old key {old.id} works {after} the first use of the new one, {rfc3339(end)} at the latest. {used}"
    return f"The old key {old.id} works for {span(end - now)} more, until {rfc3339(end)}. {used}"


_REFUSALS: Final = {
    Reason.MALFORMED: "this is not a raw key",
    Reason.UNKNOWN: "no such key was issued here",
    Reason.PENDING: "it was never delivered, so it was never switched on",
    Reason.UNAVAILABLE: "its record cannot be judged by this version",
    Reason.FORBIDDEN: "it may not do what it was used for",
}


_LIMITS: Final = {
    Reason.SCOPE: "opens, but not for that: {}",
    Reason.ADDRESS: "opens from {} alone",
}


def _limit(reason: Reason, key: Key) -> str:
    if reason is Reason.ADDRESS:
        return " ".join(key.allow_from or ()) or "no network"
    if key.scopes is None:
        return "it has no scopes, which covers every scope but those that begin with keyctl:"
    return f"its scopes are {' '.join(key.scopes)}" if key.scopes else "it has no scope at all"


def verification(answer: "Verification", now: datetime) -> str:
    """Say whether a raw key opens, and when not, why and since when."""
    key = answer.key
    called = for_terminal(f"key '{key.name}' ({key.id})") if key else "the key"
    if answer.allowed and key is not None:
        return f"Opens: {called}, {'without end' if key.ends_at is None else f'until {rfc3339(key.ends_at)}'}."
    if answer.reason in _LIMITS and key is not None:
        return for_terminal(f"Refused: {called} {_LIMITS[answer.reason].format(_limit(answer.reason, key))}.")
    if answer.reason is Reason.UNAVAILABLE and key is None:
        return "Refused: nobody could be asked about it."
    if answer.reason in _REFUSALS or key is None:
        return f"Refused: {_REFUSALS[answer.reason]}."
    since = {
        Reason.SUSPENDED: key.suspended_at,
        Reason.RETIRED: key.ends_at,
        Reason.EXPIRED: key.expires_at,
        Reason.REVOKED: key.revoked_at,
    }[answer.reason]
    when = f" {ago(since, now)}, {rfc3339(since)}" if since else ""
    why = f": {for_terminal(key.revoke_reason)}" if key.revoke_reason and answer.reason is Reason.REVOKED else ""
    return f"Refused: {called} is {answer.reason}{' since' if when else ''}{when}{why}."


_BREAKS: Final = {
    BreakKind.MISSING: "event {seq} is missing",
    BreakKind.ALTERED: "event {seq} is not what was written",
    BreakKind.UNLINKED: "event {seq} does not follow the one before it",
    BreakKind.TRUNCATED: "the log ends before event {seq}, which the saved head had seen",
    BreakKind.REWRITTEN: "event {seq} is another than the saved head had seen",
    BreakKind.DAMAGED: "the database's own check says: {about}",
    BreakKind.INDEX: "{about}",
    BreakKind.ALTERED_POLICY: "the stored policy is not what the newest event about it says",
    BreakKind.ALTERED_KEY: "the row of key {about} is not what its newest event says",
    BreakKind.UNKNOWN_KEY: "key {about} has a row, and no event says that it was made",
    BreakKind.MISSING_KEY: "key {about} has events, and its row is missing",
}


def event_said(event: Event) -> str:
    """Say what an audit event records: what was done to which key, and who did it."""
    about = "" if event.key_name is None else f" of '{event.key_name}'"
    return for_terminal(f"{event.action}{about} by {event.actor}")


def use_said(use: Use) -> str:
    """Say what a row of the usage log records: how often which key was used, and how that went."""
    whose = use.key_name or use.key_id or "an unknown key"
    return for_terminal(f"{counted(use.count, 'use')} of {whose}: {use.outcome}")


def report_summary(report: "Report", verdict: Verdict) -> Iterator[str]:
    """Say in some sentences what a report has, and what a check of the log found."""
    activity, ages = report.activity, report.activity.ages
    yield f"{report.period.name}{'' if report.ended else ' so far'}: " + ", ".join(
        f"{activity.actions.get(action, 0):,} {word}"
        for action, word in (
            (Action.CREATE, "made"), (Action.ROTATE, "rotated"), (Action.REVOKE, "revoked"),
            (Action.SUSPEND, "suspended"),
        )
    ) + f"; by {counted(activity.actors_total, 'actor')}."  # fmt: skip
    if ages.rotated:
        yield (
            f"Age at rotation: {ages.shortest:g} to {ages.longest:g} days, median {ages.median:g};"
            f" {ages.beyond:,} of {ages.rotated:,} later than {ages.limit:g} days."
        )
    yield f"Exceptions and overrides: {activity.exceptions.total:,}."
    broken = sum(breach.keys for breach in report.breaches)
    yield f"Breaches of the policy now: {broken:,}, of {counted(len(report.breaches), 'rule')}."
    yield log_verdict(verdict, extends=False)


def log_verdict(verdict: Verdict, *, extends: bool, signed_by: str | None = None) -> str:
    """Say what `audit verify` found. `extends` says that the log was compared with a saved head, `signed_by` who signed
    that."""
    if verdict.broken is not None:
        seq, kind, about = verdict.broken
        said = _BREAKS[kind].format(seq=seq, about=for_terminal(about or ""))
        place = "" if seq is None else " before it"
        return f"Broken ({kind}): {said}. {counted(verdict.events, 'event')}{place} hold together."
    if not verdict.events:
        return "Sound: the log is empty."
    signed = "" if signed_by is None else for_terminal(f" that {signed_by} signed")
    proof = f", and it extends the saved head{signed}" if extends else ""
    return f"Sound: {counted(verdict.events, 'event')}, each following the one before{proof}."
