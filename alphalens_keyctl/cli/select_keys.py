"""The filters of `list`, `revoke`, `suspend`, `resume` and `rotate` as a `Selection`."""

from collections.abc import Sequence, Set
from datetime import timedelta

from sqlalchemy import Connection

from alphalens_keyctl import scopes, text
from alphalens_keyctl.cli.options.arguments import one_of
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import selection as selections
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.moments import parse_span
from alphalens_keyctl.output import sentences


def selection(filters: Filters, *, final: bool = False, containing: Sequence[str] = ()) -> Selection:
    """Return what the filters select; with `final` also revoked and retired keys.

    Each of `containing` is a text that the name, the id or the owner of a key must contain. Raises `KeyctlError`
    (usage, invalid_input).
    """
    wanted = Selection(
        statuses=tuple(map(_status, filters.status or ())),
        final=final,
        name_glob=None
        if filters.name is None
        else text.parse_line(filters.name, what="name pattern", longest=text.LONGEST_NAME),
        owner=None
        if filters.owner is None
        else text.parse_line(filters.owner, what="owner", longest=text.LONGEST_OWNER),
        unowned=filters.no_owner,
        labels=text.parse_labels(label for label in filters.label or () if not label.startswith("!")),
        without=tuple(text.parse_label_name(label[1:]) for label in filters.label or () if label.startswith("!")),
        never_used=filters.never_used,
        unused_for=_span(filters.unused_for, "time unused"),
        expired=filters.expired,
        expires_within=_span(filters.expires_within, "time to expiry"),
        never_expires=filters.never_expires,
        older_than=_span(filters.older_than, "age"),
        suspended_for=_span(filters.suspended_for, "time suspended"),
        scopes=tuple(map(scopes.parse, filters.scope or ())),
        containing=tuple(text.parse_line(part, what="text to find", longest=text.LONGEST_NAME) for part in containing),
    )
    _refuse_contradictions(wanted)
    return wanted


def refuse_left_out(
    meant: Sequence[Sequence[Key]], fitting: Set[str], wanted: Selection, *, settable: bool = False
) -> None:
    """Refuse a KEY of which no key fits the filters beside it: whoever named it means it, and would otherwise hear of
    nothing.

    `meant` has the keys that each KEY means, `fitting` the ids of those that fit. With `settable` the command gives its
    new key an owner and labels, which a filter may be mistaken for. Raises `KeyctlError` (wrong_state).
    """
    for keys in meant:
        if fitting.isdisjoint(key.id for key in keys):
            selects = "--owner and --label select keys here and set nothing. " if settable else ""
            raise KeyctlError(
                Code.WRONG_STATE,
                f"key '{keys[0].name}' ({keys[0].id}) is none of the keys {sentences.selected(wanted)};"
                " nothing was changed",
                f"{selects}Leave the filter out, or the KEY.",
            )


def note_unknown_owner(run: Run, connection: Connection, wanted: Selection) -> None:
    """Where no key was found since no key has the wanted owner, name owners that may be meant."""
    if wanted.owner is None:
        return
    like = selections.owners_like(connection, wanted.owner)
    if like:
        run.note(f"No key has the owner '{wanted.owner}'; owners like it: {', '.join(like)}.")


def _refuse_contradictions(wanted: Selection) -> None:
    """Refuse filters that no key can fit: whoever wrote them meant something else."""
    asked = set(wanted.statuses)
    # A key that expired, retired or was revoked may have been suspended before.
    never_suspended = {Status.PENDING, Status.DELIVERING, Status.ACTIVE, Status.RETIRING}
    impossible = {
        "--expired and --expires-within": wanted.expired and wanted.expires_within is not None,
        "--never-expires and --expired": wanted.never_expires and wanted.expired,
        "--never-expires and --expires-within": wanted.never_expires and wanted.expires_within is not None,
        "--never-expires and --status": wanted.never_expires and asked == {Status.EXPIRED},
        "--no-owner and --owner": wanted.unowned and wanted.owner is not None,
        "--expired and --status": wanted.expired and asked and Status.EXPIRED not in asked,
        "--expires-within and --status": wanted.expires_within is not None and asked == {Status.EXPIRED},
        "--suspended-for and --status": wanted.suspended_for is not None and asked and asked <= never_suspended,
        "a label and its absence": not set(wanted.labels).isdisjoint(wanted.without),
    }
    for what, contradict in impossible.items():
        if contradict:
            raise KeyctlError(Code.USAGE, f"{what} contradict each other", "Leave one of them out.")


def _status(word: str) -> Status:
    status = one_of(Status, word, "status")
    if status is Status.DAMAGED:
        raise KeyctlError(
            Code.USAGE,
            "no filter selects damaged keys: what cannot be read the database cannot look for",
            "'alphalens-keyctl list --all' shows them; revoke them by their ids.",
        )
    return status


def _span(given: str | None, what: str) -> timedelta | None:
    return None if given is None else parse_span(given, what=what)
