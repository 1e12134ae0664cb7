"""An audit event → what happened, in a sentence: what was done to which key, the reason first; and from where.

A claim, which whoever acted could say at will, stands in quotes; what stands without quotes is known.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

from alphalens_keyctl.logs.recorded import Origins, origins
from alphalens_keyctl.models import Action, Event, Status
from alphalens_keyctl.moments import UNREADABLE
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.words import exactly

# What was done, said before the key or without one, and its colour, by the action.
_VERBS: Final[Mapping[str, tuple[str, str]]] = {
    Action.CREATE: ("created", "green"),
    Action.DELIVER: ("began to deliver", ""),
    Action.ACTIVATE: ("activated", "green"),
    Action.DISCARD: ("discarded", "yellow"),
    Action.ROTATE: ("rotated", "cyan"),
    Action.ABORT: ("aborted the rotation of", "yellow"),
    Action.REVOKE: ("revoked", "red"),
    Action.SUSPEND: ("suspended", "magenta"),
    Action.RESUME: ("resumed", "green"),
    Action.UPDATE: ("updated", "cyan"),
    Action.BIND: ("bound to the log", ""),
    Action.PRUNE_USAGE: ("pruned the usage log", "yellow"),
    Action.SET_POLICY: ("set the stored policy", "cyan"),
}
# Fields of a detail that have their own place in what is told, or are for machines.
_APART: Final = frozenset({"origin", "row", "reason", "override", "breaches", "grace_after_use", "was"})
# How fields are called, where their name in JSON is not what people say.
_CALLED: Final = {
    "expires_at": "expires", "allow_from": "used from", "retires_at": "retires", "delivered_to": "delivered to",
    "max_lifetime": "longest lifetime", "require": "required", "name_pattern": "names like", "pruned": "rows removed",
    "replaces": "successor of", "replaced_by": "successor",
}  # fmt: skip
# The fields that are told first, in this order; the others follow by their names.
_FIRST: Final = (
    "replaces", "successor", "predecessor", "retires_at", "to", "delivered_to", "owner", "purpose", "expires_at",
    "labels", "scopes", "allow_from",
)  # fmt: skip
# What a key was, by the action, where that is worth no word.
_EXPECTED: Final[Mapping[str, tuple[str, ...]]] = {
    Action.REVOKE: (Status.ACTIVE, Status.RETIRING),
    Action.SUSPEND: (Status.ACTIVE, Status.RETIRING),
    Action.RESUME: (Status.SUSPENDED,),
}
_DAMAGED: Final = "damaged event:"


class Change(NamedTuple):
    """A field that an event changed: what people call it, and what it was and became."""

    name: str
    before: str
    after: str


class Story(NamedTuple):
    """What happened, in a sentence, inert. `verb` and `name`, of the key, stand in it; `style` is the verb's colour."""

    text: str
    verb: str
    style: str
    name: str


def story(event: Event, *, arrow: str) -> Story:
    """Tell an event in a sentence: who did what to which key, why, and what else the event says."""
    verb, style = _VERBS.get(event.action) or (for_terminal(event.action), "")
    name = for_terminal(event.key_name or "-")
    key = "" if event.key_id is None and event.key_name is None else f" {name} ({for_terminal(event.key_id or '-')})"
    said = [each for each in (reason(event), override(event)) if each]
    said += [f"{change.name} {change.before} {arrow} {change.after}" for change in changes(event)]
    said += [f"{called} {value}" for called, value in more(event)]
    text = f"{who(event)} {verb}{key}{': ' if said else ''}{'; '.join(said)}"
    if is_damaged(event):
        return Story(f"{_DAMAGED} {text}", _DAMAGED, "bold red", name)
    return Story(text, verb, style, name)


def is_damaged(event: Event) -> bool:
    """Return whether the event holds what this program never writes."""
    texts = (event.actor, event.action, event.key_name or "", event.key_id or "")
    unreadable = set(event.detail) == {"unreadable"} or event.at == UNREADABLE
    return unreadable or any("\udc80" <= sign <= "\udcff" for text in texts for sign in text)


def reason(event: Event) -> str | None:
    """Return why it was done: what somebody wrote, or our own word for it; None where nothing says."""
    why = event.detail.get("reason")
    if why is None or (event.action, why) == (Action.ABORT, "aborted"):
        return None
    ours = event.action in (Action.DISCARD, Action.ABORT)  # nobody types these
    return for_terminal(str(why).replace("_", " ") if ours else str(why))


def override(event: Event) -> str | None:
    """Return why the stored policy was overridden, and in which rules; None where it was not."""
    why, rules = event.detail.get("override"), event.detail.get("breaches")
    return None if why is None else for_terminal(f"policy overridden ({_plain(rules)}): {why}")


def changes(event: Event) -> list[Change]:
    """Return what an event changed, as far as the event holds before and after; of labels, each that changed."""
    before, after = event.detail.get("before"), event.detail.get("after")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return []
    found = []
    for name, now in after.items():
        was = before.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            labels = sorted(label for label in {*was, *now} if was.get(label) != now.get(label))
            found += [
                Change(for_terminal(f"label {label}"), _plain(was.get(label)), _plain(now.get(label)))
                for label in labels
            ]
        elif was != now:
            found.append(Change(called(name), _plain(was), _plain(now)))
    return found


def more(event: Event) -> Iterator[tuple[str, str]]:
    """Yield what else the event says, by what people call it."""
    detail = event.detail
    # `before` alone is an instant, and not the fields before.
    apart = _APART | {"before", "after"} if changes(event) else _APART
    for name in sorted(detail.keys() - apart, key=_order):
        value = _plain(detail[name])
        if name == "retires_at" and isinstance(grace := detail.get("grace_after_use"), int):
            value = f"{exactly(timedelta(seconds=grace))} after the first use of the successor, {value} at the latest"
        yield called(name), value
    if (was := detail.get("was")) is not None and was not in _EXPECTED.get(event.action, ()):
        yield "was", _plain(was)


def called(name: str) -> str:
    """Return what people call a field."""
    return _CALLED.get(name) or for_terminal(str(name).replace("_", " "))


def from_where(event: Event) -> str:
    """Say from where an event came: facts first, then claims in quotes; "" where it does not say."""
    return ", ".join(_places(origins(event)))


def who(event: Event) -> str:
    """Return who acted, in quotes where that is a claim."""
    actor = for_terminal(event.actor)
    return _claimed(actor) if "actor" in origins(event).claims else actor


def _places(origin: Origins) -> Iterator[str]:
    facts, claims = ({name: for_terminal(text) for name, text in each.items()} for each in origin)
    user, host, role = facts.get("os_user"), facts.get("host"), facts.get("database_user")
    if user or host:
        yield f"{user or '?'}@{host}" if host else user or ""
    if role and role != user:
        yield f"database user {role}"
    if "address" in facts:
        yield facts["address"]
    if "ci_run_url" in claims or "ci" in claims:
        yield _claimed(claims.get("ci_run_url") or claims["ci"])
    for name, text in claims.items():
        if name not in ("actor", "ci", "ci_run_url", "request_id"):
            yield f"{called(name)} {_claimed(text)}"


def _claimed(text: str) -> str:
    """A claim in quotes, which a quote inside does not end."""
    return '"' + text.replace('"', '\\"') + '"'


def _order(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)


def _plain(value: Any) -> str:
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, Mapping):
        return for_terminal(" ".join(f"{key}={inner}" for key, inner in value.items()))
    return for_terminal(", ".join(map(str, value)) if isinstance(value, list) else str(value))
