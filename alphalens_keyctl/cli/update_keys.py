"""What `update` does: new values as a change of keys."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple

from alphalens_keyctl import networks, scopes, text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.change_keys import Words, change_keys
from alphalens_keyctl.cli.options.guards import Asked
from alphalens_keyctl.cli.options.new_values import ALLOW_FROM, LABEL, SCOPE, SEEN, UNSET, NewValues
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys.changes import UpdateChange
from alphalens_keyctl.keys.update import Update
from alphalens_keyctl.moments import parse_expiry, parse_span
from alphalens_keyctl.output import channel, sentences


def update(run: Run, asked: Asked, given: NewValues, *, override: str | None) -> None:
    """Give the keys that were asked for their new values, and report it. `override` says why the keys may break the
    stored policy. Raises `KeyctlError`."""
    given, spans = _without_spans(given)
    new = _parsed(given, asked, run.act.at, seen=bool(spans))._replace(override=override)
    if spans:
        new = _with_seen(run, asked, new, spans)
    words = Words(
        "Updated", f"Set {sentences.new_values(new)} on", "has these values already", "is damaged: left as it is"
    )
    done = change_keys(run, UpdateChange(new, asked.reason), words, asked)
    if asked.dry_run and done.narrowed:
        run.note(f"This narrows: {sentences.first_limits(done.narrowed)}.")
    if new.name is not None and done.changed and not asked.dry_run:
        run.note("Mind: a script, a keyring or a file that has the old name keeps it.")


class _Unset(NamedTuple):
    """What `--unset` takes away: columns, labels by name, and by column scopes and networks."""

    columns: set[str]
    labels: set[str]
    texts: dict[str, set[str]]


# What `--set-…` and `--unset …:` call the columns that hold several texts.
_OPTIONS: Final = {"scopes": "scope", "allow_from": "allow-from"}


def _parsed(given: NewValues, asked: Asked, now: datetime, *, seen: bool) -> Update:
    """The new values, of which none contradicts another. `seen` says that networks will be added that are not known
    yet. Raises `KeyctlError` (usage, invalid_input)."""
    if not given.given and not seen:
        raise KeyctlError(
            Code.USAGE,
            "update needs to know what to set",
            "For example --set-owner OWNER or --unset purpose; --owner and --label select keys here and set nothing.",
        )
    if given.set_name is not None and len(asked.references) != 1:
        raise KeyctlError(Code.USAGE, "--set-name takes one KEY", "Two keys cannot have one name.")
    fields = _fields_set(given, now)
    labels = text.parse_labels(given.set_label or ())
    added = {
        "scopes": scopes.parse_all(given.set_scope or ()) or (),
        "allow_from": networks.parse_all(given.set_allow_from or ()) or (),
    }
    unset = _unset(given.unset or ())
    _refuse_contradictions(fields, labels, added, unset, seen=seen)
    return Update(
        None if given.set_name is None else text.parse_name(given.set_name),
        fields | dict.fromkeys(unset.columns),
        labels,
        frozenset(unset.labels),
        added={name: texts for name, texts in added.items() if texts},
        removed={name: tuple(sorted(texts)) for name, texts in unset.texts.items()},
    )


def _unset(given: Sequence[str]) -> _Unset:
    found = _Unset(set(), set(), {})
    for what in given:
        if what.startswith(LABEL):
            found.labels.add(text.parse_label_name(what.removeprefix(LABEL)))
        elif what.startswith(SCOPE):
            found.texts.setdefault("scopes", set()).add(scopes.parse(what.removeprefix(SCOPE)))
        elif what.startswith(ALLOW_FROM):
            found.texts.setdefault("allow_from", set()).add(networks.parse(what.removeprefix(ALLOW_FROM)))
        elif what in UNSET:
            found.columns.add(UNSET[what])
        else:
            raise KeyctlError(
                Code.USAGE,
                f"there is no {text.quoted(what)} to unset",
                f"There are: {', '.join(UNSET)}, label:K, scope:S, allow-from:NET.",
            )
    return found


def _refuse_contradictions(
    fields: Mapping[str, object],
    labels: Mapping[str, str],
    added: Mapping[str, Sequence[str]],
    unset: _Unset,
    *,
    seen: bool,
) -> None:
    """Raise `KeyctlError` (usage) where the same thing is set and taken away."""
    for what, column in UNSET.items():
        if column in unset.columns and fields.get(column) is not None:
            raise _contradiction(f"--set-{what}", f"--unset {what}")
        if column in unset.columns and (added.get(column) or (seen and column == "allow_from")):
            raise _contradiction(f"--set-{_OPTIONS[column]}", f"--unset {what}")
        if column in unset.columns and column in unset.texts:
            raise _contradiction(f"--unset {_OPTIONS[column]}:…", f"--unset {what}")
    for label in sorted(unset.labels & set(labels)):
        raise _contradiction(f"--set-label {label}=…", f"--unset label:{label}")
    for column, texts in unset.texts.items():
        for both in sorted(texts.intersection(added[column])):
            raise _contradiction(f"--set-{_OPTIONS[column]} {both}", f"--unset {_OPTIONS[column]}:{both}")


def _without_spans(given: NewValues) -> tuple[NewValues, list[str]]:
    """The new values without each `seen:30d` among the networks, and the spans of those."""
    spans = [each.removeprefix(SEEN) for each in given.set_allow_from or () if each.startswith(SEEN)]
    rest = [each for each in given.set_allow_from or () if not each.startswith(SEEN)]
    return (replace(given, set_allow_from=rest or None), spans) if spans else (given, [])


def _with_seen(run: Run, asked: Asked, new: Update, spans: Sequence[str]) -> Update:
    """The update with the networks from which the key, or another of its lineage, was used in the longest of the
    spans; says which. Raises `KeyctlError`."""
    span = max(parse_span(each, what="time of use") for each in spans)
    if len(asked.references) != 1 or asked.filters.given:
        raise KeyctlError(Code.USAGE, f"--set-allow-from {SEEN}… takes one KEY", "Each key was used from elsewhere.")
    if not (asked.yes or asked.dry_run or runs.can_ask()):
        raise KeyctlError(
            Code.USAGE,
            f"--set-allow-from {SEEN}… asks first, and nobody is there to answer",
            "Add --yes; --dry-run shows what it would do.",
        )
    with run.manager() as manager:
        key, found = manager.seen(asked.references[0], run.act.at - span)
    proposed = networks.parse_all(networks.collapsed(each.client_ip for each in found if each.client_ip is not None))
    if proposed is None:
        raise KeyctlError(
            Code.INVALID_INPUT,
            f"key '{key.name}' ({key.id}) was not used from a known address in that time; nothing was changed",
            "'alphalens-keyctl audit usage --key' shows its uses; name a network instead.",
        )
    for line in sentences.seen(found, proposed):
        channel.note(line)
    return new._replace(
        added={**new.added, "allow_from": networks.normal((*new.added.get("allow_from", ()), *proposed))}
    )


def _fields_set(given: NewValues, now: datetime) -> dict[str, str | datetime | None]:
    fields: dict[str, str | datetime | None] = {}
    if given.set_owner is not None:
        fields["owner"] = text.parse_line(given.set_owner, what="owner", longest=text.LONGEST_OWNER)
    if given.set_purpose is not None:
        fields["purpose"] = text.parse_line(given.set_purpose, what="purpose", longest=text.LONGEST_PURPOSE)
    if given.set_expires is not None:
        fields["expires_at"] = parse_expiry(given.set_expires, now=now)
    return fields


def _contradiction(one: str, other: str) -> KeyctlError:
    return KeyctlError(Code.USAGE, f"{one} and {other} contradict each other", "Leave one of them out.")
