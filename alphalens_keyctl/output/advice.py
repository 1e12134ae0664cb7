"""Findings of the policy check → what is wrong in numbers, and the command line that puts it right."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from alphalens_keyctl.keys.policy import Finding
from alphalens_keyctl.models import Status
from alphalens_keyctl.moments import rfc3339, shortest_span
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.words import counted, exactly, span
from alphalens_keyctl.settings import PROGRAM, Thresholds
from alphalens_keyctl.text import NAME_TO_GIVE, OWNER_TO_NAME, PLACEHOLDERS, PURPOSE_TO_NAME

_DAY: Final = timedelta(days=1)


def problem(finding: Finding) -> str:
    """Say what is wrong with a key, in numbers: "208 days old, limit 90"."""
    rule, value = finding.rule.id, finding.value
    if rule == "owner-unknown" and finding.owner is not None:
        return for_terminal(f"owner '{finding.owner}' is none of those in config.toml")
    if value is None or finding.at is None:
        return finding.rule.problem
    if rule == "expiring":
        return f"expires in {_length(value)} ({finding.at:%Y-%m-%d})"
    if rule == "retiring-in-use":
        return f"rotated out and still used, stops in {_length(value)} ({finding.at:%Y-%m-%d})"
    said = _MEASURED.get(rule)
    if rule == "policy-lifetime":
        return (
            f"{finding.rule.problem}{'' if finding.limit is None else f', {exactly(finding.limit)} from its creation'}"
        )
    return finding.rule.problem if said is None else f"{said.format(_length(value))}{_limit(value, finding.limit)}"


def command(findings: Sequence[Finding], limits: Thresholds) -> str:
    """Return one command line for a key, to paste into a shell. `findings` are of this key, one or more.

    The command makes the first of them go away that it can do something about: a key that nobody uses is switched off
    and not rotated, a key that must be rotated is rotated, what is not written down is written down all at once.
    """
    # A row that was written past this program may hold an id that no command takes.
    return for_terminal(shlex.join([PROGRAM, *_words(findings, limits)]))


def placeholders(line: str) -> list[str]:
    """Return the words of a command line that a person has to replace."""
    return [word for word in shlex.split(line) if word in PLACEHOLDERS]


def days(length: timedelta | None) -> float | None:
    """Return a length of time in days, to two places; a whole number where it is one."""
    if length is None:
        return None
    number = round(length / _DAY, 2)
    return int(number) if number.is_integer() else number


_MEASURED: Final = {
    "rotation-overdue": "{} old",
    "delivering-long": "on its way to its destinations for {}",
    "unused": "unused for {}",
    "never-used": "never used in {}",
    "suspended-long": "suspended for {}",
}


def _words(findings: Sequence[Finding], limits: Thresholds) -> list[str]:
    broken = {finding.rule.id: finding for finding in findings}
    key = findings[0]
    if "retiring-in-use" in broken:
        return ["show", key.key_id]
    if "delivering-long" in broken and key.replaces and _is_plain(key.key_name):
        # Whoever may hold the successor that was cut off has the grace to take the new one.
        return ["rotate", key.key_name]
    for rule in ("delivering-long", "suspended-long", "never-used"):
        if rule in broken:
            return ["revoke", key.key_id, "--reason", problem(broken[rule]).partition(",")[0]]
    if "unused" in broken:
        return ["suspend", key.key_id, "--reason", problem(broken["unused"]).partition(",")[0]]
    if key.rotated_out:
        return ["revoke", key.key_id, "--reason", "rotated out and suspended"]
    return _put_right(key, broken, limits)


def _put_right(key: Finding, broken: Mapping[str, Finding], limits: Thresholds) -> list[str]:
    """The words of the command that keeps a key in use: rotate it, or write down what is missing."""
    overlong = broken.get("policy-lifetime")
    overdue = not {"rotation-overdue", "expiring"}.isdisjoint(broken) or _has_outlived(overlong)
    # A successor is a copy, and the stored policy forbids a copy of what it forbids.
    if overdue and {"policy-name", "policy-owner", "policy-purpose"}.isdisjoint(broken):
        if key.status != Status.ACTIVE:
            return ["revoke", key.key_id, "--reason", "lives longer than the policy allows"]
        return ["rotate", _reference(key), *_expires(broken, limits)]
    new = {
        "meaningless-name": ("--set-name", NAME_TO_GIVE),
        "policy-name": ("--set-name", NAME_TO_GIVE),
        "owner-unknown": ("--set-owner", limits.owners[0] if len(limits.owners) == 1 else OWNER_TO_NAME),
        "policy-owner": ("--set-owner", OWNER_TO_NAME),
        "no-purpose": ("--set-purpose", PURPOSE_TO_NAME),
        "policy-purpose": ("--set-purpose", PURPOSE_TO_NAME),
    }
    options: dict[str, str] = {}
    for rule, (option, word) in new.items():
        if rule in broken:
            options.setdefault(option, word)
    if overlong is not None and not _has_outlived(overlong):
        options["--set-expires"] = _latest(overlong, limits)
    elif "no-expiry" in broken and overlong is None:
        options["--set-expires"] = _lifetime(limits)
    return ["update", _reference(key), *(word for pair in options.items() for word in pair)]


def _expires(broken: Mapping[str, Finding], limits: Thresholds) -> list[str]:
    """The option that gives a successor another lifetime than its predecessor was meant to have, where it needs one."""
    overlong, expiring = broken.get("policy-lifetime"), broken.get("expiring")
    if overlong is not None and overlong.limit is not None:
        return ["--expires", shortest_span(overlong.limit)]
    short = expiring is not None and expiring.lifetime is not None and expiring.lifetime <= limits.expiring
    return ["--expires", _lifetime(limits)] if short or overlong is not None or "no-expiry" in broken else []


def _has_outlived(overlong: Finding | None) -> bool:
    """Whether a key is older already than the stored policy lets any key become."""
    if overlong is None or overlong.value is None or overlong.limit is None:
        return False
    return overlong.value >= overlong.limit


def _latest(overlong: Finding, limits: Thresholds) -> str:
    """The latest expiry that the stored policy leaves to a key, as WHEN."""
    if overlong.at is None or overlong.limit is None:
        return _lifetime(limits)
    return rfc3339(overlong.at + overlong.limit)


def _reference(key: Finding) -> str:
    """KEY for the command line: the name where it means this key, and a shell and a terminal take it as it stands."""
    return key.key_name if key.status == Status.ACTIVE and _is_plain(key.key_name) else key.key_id


def _is_plain(name: str) -> bool:
    return for_terminal(name) == name and not name.startswith("-")


def _lifetime(limits: Thresholds) -> str:
    """The lifetime to give to a key, as WHEN: until it must be rotated, and longer than `expiring` objects to."""
    length = max(limits.rotation_age, 2 * limits.expiring)
    for unit, letter in ((_DAY, "d"), (timedelta(hours=1), "h")):
        if not length % unit:
            return f"{length // unit}{letter}"
    return f"{length // timedelta(minutes=1)}m"


def _length(length: timedelta) -> str:
    # An instant ahead was often set some seconds ago: "6 days", not "5".
    return span(length) if length < 1.5 * _DAY else counted(round(length / _DAY), "day")


def _limit(value: timedelta, limit: timedelta | None) -> str:
    if limit is None:
        return ""
    same_unit = value >= 1.5 * _DAY and not limit % _DAY
    return f", limit {limit // _DAY if same_unit else exactly(limit)}"
