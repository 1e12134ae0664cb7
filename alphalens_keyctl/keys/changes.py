"""Changes of keys: which keys a revocation or an update is for, what guards them, and the change itself.

Every function works inside the transaction of the caller and never commits. A question may stand between two looks, so
whoever changes looks again in the transaction that changes.
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection

from alphalens_keyctl.database import Attempts, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import lookup, revocation, selection, wording
from alphalens_keyctl.keys import update as updates
from alphalens_keyctl.keys.guards import IN_USE, MOST_BY_FILTER
from alphalens_keyctl.keys.lifecycle import Changed
from alphalens_keyctl.keys.lookup import Reference
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.keys.update import Update
from alphalens_keyctl.keys.within import Within
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.provenance import Act

_MOST_NAMED: Final = 10


class Targets(NamedTuple):
    """Which keys a change is for: the keys that `references` name, those that `wanted` selects, or of the named keys
    those that fit. At most `most` keys may change when filters select them; None: `MOST_BY_FILTER`. With `in_use` also
    keys that were used within the last hour may be stopped by filters."""

    references: Sequence[Reference] = ()
    wanted: Selection | None = None
    most: int | None = None
    in_use: bool = False


class Chosen(NamedTuple):
    """The ids of the keys that a change is for: those that it changes, and those that it leaves as they are.
    `stopped_by` is the error that stops the change."""

    changing: list[str]
    rest: list[str]
    stopped_by: KeyctlError | None = None


class Change(Protocol):
    """What is done to keys: a revocation or an update."""

    @property
    def verb(self) -> str:
        """The word for it, which is also the name of the command: "revoke"."""

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The statuses of the keys that filters select when the filters name none."""

    def meant(self, connection: Connection, reference: Reference, now: datetime, within: Within | None) -> list[Key]:
        """The keys that KEY means, the one that was named first. Raises `KeyctlError` as `lookup.find` does."""

    def applies(self, now: datetime) -> ColumnElement[bool] | None:
        """The condition for a key that would be changed; None where only `divided` can tell."""

    def divided(self, connection: Connection, key_ids: Sequence[str], now: datetime, *, named: bool) -> Changed:
        """Which of these keys would be changed, with every key that changes along with them, and which would not.

        `named` says that they were named, and not selected by filters alone. Raises `KeyctlError` for a key that must
        not be asked for.
        """

    def endangered(self, now: datetime) -> ColumnElement[bool] | None:
        """The condition for a key that the change takes from whoever uses it; None where the change takes none."""

    def apply(
        self, tx: Writing, attempts: Attempts, key_ids: Sequence[str], act: Act, tell: Callable[[int], None]
    ) -> Changed:
        """Change the keys. `tell` is called with the number of those that are done. Raises `KeyctlError`."""

    def still_open(self, connection: Connection, key_ids: Sequence[str], now: datetime) -> Iterator[Key] | None:
        """The keys of the same names that go on opening; None where the change does not say so."""


class RevocationChange(NamedTuple):
    """Revoke, suspend or resume keys. `reason` is for the audit log."""

    revocation: Revocation
    reason: str | None = None

    @property
    def verb(self) -> str:
        return self.revocation.value

    @property
    def statuses(self) -> tuple[Status, ...]:
        return (Status.SUSPENDED,) if self.revocation is Revocation.RESUME else ()

    def meant(self, connection: Connection, reference: Reference, now: datetime, within: Within | None) -> list[Key]:
        return lookup.all_meant_by(connection, reference, now=now, within=within)

    def applies(self, now: datetime) -> ColumnElement[bool]:
        return revocation.applies_to(self.revocation, now=now)

    def divided(self, connection: Connection, key_ids: Sequence[str], now: datetime, *, named: bool) -> Changed:
        changing = set(selection.ids(connection, Selection(final=True), also=self.applies(now), among=key_ids, now=now))
        return Changed(
            [each for each in key_ids if each in changing], [each for each in key_ids if each not in changing]
        )

    def endangered(self, now: datetime) -> ColumnElement[bool] | None:
        return None if self.revocation is Revocation.RESUME else self.applies(now)

    def apply(
        self, tx: Writing, attempts: Attempts, key_ids: Sequence[str], act: Act, tell: Callable[[int], None]
    ) -> Changed:
        return revocation.apply(tx, self.revocation, key_ids, act, reason=self.reason, tell=tell)

    def still_open(self, connection: Connection, key_ids: Sequence[str], now: datetime) -> Iterator[Key]:
        if self.revocation is Revocation.RESUME:
            return iter(())
        return lookup.still_opening(connection, key_ids, now=now)


class UpdateChange(NamedTuple):
    """Give keys new values. `reason` is for the audit log."""

    new: Update
    reason: str | None = None

    @property
    def verb(self) -> str:
        return "update"

    @property
    def statuses(self) -> tuple[Status, ...]:
        return ()

    def meant(self, connection: Connection, reference: Reference, now: datetime, within: Within | None) -> list[Key]:
        return [lookup.find(connection, reference, now=now, within=within)]

    def applies(self, now: datetime) -> ColumnElement[bool] | None:
        return None

    def divided(self, connection: Connection, key_ids: Sequence[str], now: datetime, *, named: bool) -> Changed:
        return updates.divided(connection, key_ids, self.new, named=named, now=now)

    def endangered(self, now: datetime) -> ColumnElement[bool] | None:
        return updates.narrowed(self.new)

    def apply(
        self, tx: Writing, attempts: Attempts, key_ids: Sequence[str], act: Act, tell: Callable[[int], None]
    ) -> Changed:
        return updates.apply(tx, attempts, key_ids, self.new, act, reason=self.reason, tell=tell)

    def still_open(self, connection: Connection, key_ids: Sequence[str], now: datetime) -> None:
        return None


def selecting(change: Change, wanted: Selection) -> Selection:
    """What filters select for a change: resuming is for suspended keys, unless the filters name a status."""
    # --expired names a status too.
    return wanted if wanted.statuses or wanted.expired else wanted._replace(statuses=change.statuses)


def choose(
    connection: Connection,
    change: Change,
    targets: Targets,
    now: datetime,
    *,
    look: bool = False,
    within: Within | None = None,
) -> Chosen:
    """The keys that a change is for: those that are named, those that the filters select, or of the named keys those
    that fit. Who sees only the keys `within` selects among these.

    Raises `KeyctlError`: usage without KEY and filters; as `lookup.find` does; for a key that must not be asked for;
    too_many and in_use where the guards stop the change, unless this is only a `look`: then `stopped_by` has that
    error.
    """
    wanted = None if targets.wanted is None else selecting(change, targets.wanted)
    if targets.references:
        return _named(connection, change, targets._replace(wanted=wanted), now, look=look, within=within)
    if wanted is None:
        raise which_keys(change.verb)
    return _filtered(connection, change, targets, wanted._replace(within=within), now, look=look)


def which_keys(verb: str) -> KeyctlError:
    """The error for a change that names no key and has no filter."""
    return KeyctlError(
        Code.USAGE, f"{verb} needs to know which keys", "Name a KEY, or filter as 'alphalens-keyctl list' does."
    )


def require_only(chosen: Chosen, only: AbstractSet[str]) -> None:
    """Raise `KeyctlError` (lost_race) where a key would change that is none of `only`: while a question stood, a
    rotation may have given the name to a key that the answer was not about."""
    if not set(chosen.changing) <= only:
        raise KeyctlError(
            Code.LOST_RACE,
            "other keys are meant than a moment ago; nothing was changed",
            "Look at them again, then repeat the command.",
        )


def refuse_left_out(
    meant: Sequence[Sequence[Key]], fitting: AbstractSet[str], wanted: Selection, *, settable: bool = False
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
                f"key '{keys[0].name}' ({keys[0].id}) is none of the keys {wording.selected(wanted)};"
                " nothing was changed",
                f"{selects}Leave the filter out, or the KEY.",
            )


def carry_out(
    tx: Writing, attempts: Attempts, change: Change, chosen: Chosen, act: Act, tell: Callable[[int], None]
) -> Changed:
    """Make the change to the keys that were chosen in this transaction. Raises `KeyctlError`."""
    done = change.apply(tx, attempts, chosen.changing, act, tell)
    unchanged = set(done.unchanged)
    # In the order in which the keys were named, as in a dry run.
    return Changed(
        [each for each in chosen.changing if each not in unchanged],
        [*(each for each in chosen.changing if each in unchanged), *chosen.rest],
    )


def _named(
    connection: Connection, change: Change, targets: Targets, now: datetime, *, look: bool, within: Within | None
) -> Chosen:
    meant = [change.meant(connection, each, now, within) for each in targets.references]
    fitting = list({key.id: key for keys in meant for key in keys})
    if targets.wanted is not None:
        fitting = selection.ids(connection, targets.wanted, among=fitting, now=now)
        refuse_left_out(meant, set(fitting), targets.wanted)
    changing, rest = change.divided(connection, fitting, now, named=True)
    stopped_by = None
    if targets.most is not None and len(changing) > targets.most:
        stopped_by = _too_many(len(changing), targets.most)
    return _allowed(changing, rest, stopped_by, look=look)


def _filtered(
    connection: Connection, change: Change, targets: Targets, wanted: Selection, now: datetime, *, look: bool
) -> Chosen:
    applies = change.applies(now)
    most = targets.most or MOST_BY_FILTER
    if applies is None:
        selected = selection.ids(connection, wanted, now=now)
        changing, rest = change.divided(connection, selected, now, named=False)
    else:
        changing = selection.ids(connection, wanted, also=applies, limit=None if look else most + 1, now=now)
        rest = []
    stopped_by = None
    if len(changing) > most:
        stopped_by = _too_many(selection.count(connection, wanted, now=now), most)
    elif changing and targets.most is None and not selection.leaves_any_out(connection, wanted, now=now):
        stopped_by = KeyctlError(
            Code.TOO_MANY,
            f"the filters select every key there is, {len(changing):,} in all; nothing was changed",
            f"If that is what you want, say --max {len(changing)}.",
        )
    elif not targets.in_use and (endangered := change.endangered(now)) is not None:
        stopped_by = _in_use(connection, wanted, endangered, now)
    if applies is not None and (stopped_by is None or look):
        rest = selection.ids(connection, wanted, also=~applies, now=now)
    return _allowed(changing, rest, stopped_by, look=look)


def _allowed(changing: list[str], rest: list[str], stopped_by: KeyctlError | None, *, look: bool) -> Chosen:
    if stopped_by is not None and not look:
        raise stopped_by
    return Chosen(changing, rest, stopped_by)


def _too_many(number: int, most: int) -> KeyctlError:
    return KeyctlError(
        Code.TOO_MANY,
        f"the filters select {number:,} keys, and at most {most:,} may change at once; nothing was changed",
        f"Filter more closely, or say --max {number}.",
    )


def _in_use(
    connection: Connection, wanted: Selection, endangered: ColumnElement[bool], now: datetime
) -> KeyctlError | None:
    busy = selection.used_since(connection, wanted, now - IN_USE, also=endangered, limit=_MOST_NAMED + 1, now=now)
    if not busy:
        return None
    named = ", ".join(f"'{key.name}' ({key.id})" for key in busy[:_MOST_NAMED])
    more = " and more" if len(busy) > _MOST_NAMED else ""
    return KeyctlError(
        Code.IN_USE,
        f"used within the last hour: {named}{more}; nothing was changed",
        "Filter them out, or say --in-use.",
    )
