"""What a way to the keys offers: the one over the database (`over_database`), and the one over HTTP.

Whoever administers keys knows this protocol alone, so that a command prints the same over either way. Every method is
one transaction there, within the caller's rights, and raises `KeyctlError`: forbidden for whatever the caller may not
do or see. Instants are aware, in UTC.
"""

from __future__ import annotations  # for speed: a protocol needs no module that only its types come from

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

from alphalens_keyctl.errors import Code, KeyctlError

if TYPE_CHECKING:
    from datetime import datetime

    from alphalens_keyctl.database.changes import Changes
    from alphalens_keyctl.keyformat import RawKey
    from alphalens_keyctl.keys.bulk_file import Line
    from alphalens_keyctl.keys.bulk_issuance import Handout
    from alphalens_keyctl.keys.changes import Change, Targets
    from alphalens_keyctl.keys.issuance import Created, RotationPlan, Steps
    from alphalens_keyctl.keys.lookup import Reference
    from alphalens_keyctl.keys.policy import Finding, Rule
    from alphalens_keyctl.keys.rotation import Aborted
    from alphalens_keyctl.keys.selection import KeyDocument, Place, Selection, Sort
    from alphalens_keyctl.keys.stored_policy import StoredPolicy
    from alphalens_keyctl.logs.audit import Head, LogFilter, Verdict
    from alphalens_keyctl.logs.old_key_use import OldKeyUse
    from alphalens_keyctl.logs.proof import Proof
    from alphalens_keyctl.logs.recorded import Recorded
    from alphalens_keyctl.logs.report import Entry, Report
    from alphalens_keyctl.logs.usage import Buckets, Profile, Seen, Summary
    from alphalens_keyctl.logs.usage_rows import UsageFilter
    from alphalens_keyctl.models import Event, Key, Use
    from alphalens_keyctl.moments import Period
    from alphalens_keyctl.settings import Thresholds

# Told how much there is to do, yields the function to call with how much of it is done.
Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


def untold(_total: int) -> AbstractContextManager[Callable[[int], None]]:
    """The `Progress` that nobody follows."""
    return nullcontext(lambda _done: None)


class Outcome(Protocol):
    """What a change did, or in a dry run would do. Reading what the keys are now may take a transaction of its own."""

    @property
    def changed(self) -> Sequence[str]:
        """The ids of the keys that were changed, in the order in which they were named."""

    @property
    def unchanged(self) -> Sequence[str]:
        """The ids of the keys to which the change did not apply."""

    @property
    def stopped_by(self) -> KeyctlError | None:
        """In a dry run, the error that would stop the change."""

    @property
    def narrowed(self) -> Mapping[str, int]:
        """In a dry run, how many keys an update restricts for the first time, as `update.restricted_first` says."""

    def keys(self, key_ids: Sequence[str]) -> list[Key]:
        """The keys with these of the ids, in this order."""

    def documents(self, key_ids: Sequence[str]) -> Iterator[KeyDocument]:
        """The same for a machine format, streamed."""

    def still_open(self) -> Iterator[Key] | None:
        """The other keys of the same names that go on opening; None where the change does not say so."""


class Rotatable(NamedTuple):
    """The keys that a rotation of several is for, those that are `due` and the `rest`. `stopped_by` is the error that
    would stop the rotation of one that is due."""

    keys: list[Key]
    due: list[Key]
    rest: list[Key]
    stopped_by: KeyctlError | None


class Details(NamedTuple):
    """Everything about one key: its lineage, oldest first, as far as the caller sees it; its use over time; the use of
    the keys before it."""

    key: Key
    lineage: list[Key]
    used: Profile
    old_use: OldKeyUse | None


class Backend(Protocol):
    """A way to the keys, of one caller."""

    @property
    def steps(self) -> Steps:
        """The steps of an issuance, for `issuance.create` and `issuance.rotate`."""

    # One key.

    def find(self, reference: Reference) -> Key:
        """The key that KEY means, as `lookup.find` says."""

    def details(self, reference: Reference) -> Details:
        """Everything about the key that KEY means."""

    def abort(self, reference: Reference) -> tuple[Aborted, list[str]]:
        """Take a rotation back, as `rotation.abort` does. Returns also the destinations that the discarded keys had
        been delivered to."""

    # Many keys.

    def create_each(self, lines: Sequence[Line], handout: Handout, *, progress: Progress = untold) -> list[Created]:
        """Create a key for each line, all or none, as `bulk_issuance.take_in` does."""

    def try_create_each(self, lines: Sequence[Line]) -> None:
        """Raise `KeyctlError` where `create_each` would before it writes anything."""

    def keys(self, wanted: Selection, *, sort: Sort, limit: int | None) -> AbstractContextManager[Iterator[Key]]:
        """The keys that the filters select, in order, `limit` at most, streamed while the block lasts."""

    def documents(
        self, wanted: Selection, *, sort: Sort, limit: int | None
    ) -> AbstractContextManager[Iterator[KeyDocument]]:
        """The same for a machine format."""

    def page(self, wanted: Selection, *, sort: Sort, after: Place | None, limit: int) -> list[KeyDocument]:
        """The first `limit` keys behind a place in the list, for a machine format."""

    def documents_of(self, keys: Sequence[Key]) -> Iterator[KeyDocument]:
        """These keys, which the way has given, for a machine format."""

    def count(self, wanted: Selection) -> int:
        """How many keys the filters select."""

    def owners_like(self, owner: str) -> list[str]:
        """Owners that may be meant, of keys that the caller sees, as `selection.owners_like` says."""

    def to_rotate(self, references: Sequence[Reference], wanted: Selection | None, plan: RotationPlan) -> Rotatable:
        """The keys that are named, or that the filters select, or of the named keys those that fit."""

    def preview(self, change: Change, targets: Targets) -> Outcome:
        """What the change would do. Raises whatever stops it before it is known which keys are meant."""

    def change(
        self,
        change: Change,
        targets: Targets,
        *,
        only: frozenset[str] | None = None,
        progress: Progress = untold,
    ) -> Outcome:
        """Make the change in one transaction. Raises `KeyctlError`: lost_race where a key would change that is none of
        `only`; what `preview` would have had in `stopped_by`; whatever the change raises."""

    def used_since(self, key_ids: Sequence[str], since: datetime) -> Mapping[str, tuple[int, int]]:
        """How much these keys were used, by id, as `usage.lately` says."""

    def seen(self, reference: Reference, since: datetime) -> tuple[Key, list[Seen]]:
        """From where the key that KEY means, or another of its lineage, was used, as `usage.seen` says."""

    # The logs.

    def events(
        self, wanted: LogFilter, *, limit: int | None, reverse: bool = False
    ) -> AbstractContextManager[Iterator[Event]]:
        """The events that fit, as `audit.read` orders and limits them; streamed while the block lasts."""

    def event(self, seq: int) -> Recorded:
        """The event of this number. Raises `KeyctlError`: event_not_found, also where the caller may not see it."""

    def last_event(self) -> Head:
        """The last event that the caller may see: the place behind which new events come."""

    def new_events(self, place: Head, wanted: LogFilter) -> tuple[Sequence[Event], Head]:
        """The next events behind a place that fit, and the place up to which the log was read, as `following.read_on`
        says."""

    def changes(self) -> AbstractContextManager[Changes]:
        """What tells, while the block lasts, that events may have been written."""

    def count_events(self, wanted: LogFilter) -> int:
        """How many events fit."""

    def head(self) -> Head:
        """The last event of the log."""

    def rooted_head(self, head: Head | None = None) -> Head:
        """The head, by default the last event of the log, with the tree over the events up to it, as `proof.rooted`
        says."""

    def prove(self, seq: int, size: int | None) -> tuple[Proof, bytes]:
        """The proof that an event is among the first `size`, by default among all, and the root over them, as
        `proof.prove` says."""

    def verify_log(self, saved: Head | None, *, log_only: bool = False) -> Verdict:
        """Whether the log is sound and the keys are what it says, as `audit.verify` finds out."""

    def report(self, period: Period, rules: Sequence[Rule], limits: Thresholds) -> Report:
        """What the logs say of a period, and what the keys are now, by the rules."""

    def report_entries(self, period: Period) -> AbstractContextManager[Iterator[Entry]]:
        """Every event of a period as a report has it, oldest first; streamed while the block lasts."""

    def uses(self, wanted: UsageFilter, *, limit: int | None) -> AbstractContextManager[Iterator[Use]]:
        """The rows of the usage log that fit, oldest first, the latest `limit`; streamed while the block lasts."""

    def usage_summary(self, wanted: UsageFilter, buckets: Buckets, *, most_keys: int) -> Summary:
        """The usage log over a span, as `usage.summary` sums it up."""

    def key_ids(self, reference: Reference) -> tuple[str, ...]:
        """The ids that KEY stands for in a log, as `lookup.meant_by` says."""

    def prune_usage(self, before: datetime, *, dry_run: bool) -> int:
        """Remove the rows of the usage log before an instant, or count them. Returns how many there are."""

    # The policy.

    def findings(
        self, rules: Sequence[Rule], limits: Thresholds, references: Sequence[Reference] = ()
    ) -> AbstractContextManager[Iterator[Finding]]:
        """The keys that break the rules, or of `references` those keys alone that each KEY means, as
        `lookup.all_meant_by` says; streamed while the block lasts."""

    def policy(self) -> StoredPolicy:
        """The stored policy."""

    def set_policy(self, changes: Mapping[str, object], *, reason: str | None) -> StoredPolicy:
        """Set these fields of the stored policy; return the whole."""

    def outside_policy(self) -> int:
        """How many keys stand outside the stored policy."""

    def close(self) -> None:
        """Give up what the way holds open."""


def issued(way: Backend, raw: RawKey) -> Key | None:
    """The key that a raw key is; None where none of its kind was issued there, or the caller may not see the key.
    Raises `KeyctlError`."""
    try:
        return way.find(raw)
    except KeyctlError as error:
        if error.code in (Code.KEY_NOT_FOUND, Code.FORBIDDEN):
            return None
        raise
