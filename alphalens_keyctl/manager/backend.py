"""What a way to the keys offers: the one over the database (`over_database`), and the one over HTTP (`over_http`).

Whoever administers keys knows this protocol alone, so that a command prints the same over either way. Every method is
one transaction there, within the caller's rights, and raises `KeyctlError`. Instants are aware, in UTC.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys.changes import Change
from alphalens_keyctl.keys.issuance import RotationPlan, Steps
from alphalens_keyctl.keys.policy import Finding, Rule
from alphalens_keyctl.keys.rotation import Aborted
from alphalens_keyctl.keys.selection import KeyDocument, Selection, Sort
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.logs.audit import Head, LogFilter
from alphalens_keyctl.logs.old_key_use import OldKeyUse
from alphalens_keyctl.logs.usage import Profile, Summary, UsageFilter
from alphalens_keyctl.models import Event, Key, Use
from alphalens_keyctl.settings import Thresholds

# KEY, as the command line takes it: a name, an id, the start of an id, or a raw key.
Reference = str | RawKey


class Targets(NamedTuple):
    """Which keys a change is for: the keys that `references` name, those that `wanted` selects, or of the named keys
    those that fit. At most `most` keys may change when filters select them; None: `changes.MOST_BY_FILTER`. With
    `in_use` also keys that were used within the last hour may be stopped by filters."""

    references: Sequence[Reference] = ()
    wanted: Selection | None = None
    most: int | None = None
    in_use: bool = False


class Preview(NamedTuple):
    """What a change would do: the ids of the keys that it changes and of those that it leaves. `stopped_by` is the
    error that would stop it. `first` are the keys to show before it is made, all that were named, and the first of
    those that filters select; `lately` is their use, by id, as `usage.lately` tells it."""

    changing: Sequence[str]
    rest: Sequence[str]
    stopped_by: KeyctlError | None
    first: Sequence[Key]
    lately: Mapping[str, tuple[int, int]]


class Outcome(Protocol):
    """What a change did, or in a dry run would do. Reading what the keys are now may take a transaction of its own."""

    @property
    def changed(self) -> Sequence[str]:
        """The ids of the keys that were changed, in the order in which they were named."""

    @property
    def unchanged(self) -> Sequence[str]:
        """The ids of the keys to which the change did not apply."""

    def keys(self, key_ids: Sequence[str]) -> list[Key]:
        """The keys with these of the ids, in this order."""

    def documents(self, key_ids: Sequence[str]) -> Iterator[KeyDocument]:
        """The same for a machine format, streamed."""

    def still_open(self) -> Iterator[Key] | None:
        """The other keys of the same names that go on opening; None where the change does not say so."""


class Details(NamedTuple):
    """Everything about one key: its lineage, oldest first; its use over time; the use of the keys before it."""

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

    def digests(self, keys: Sequence[Key]) -> Mapping[str, bytes]:
        """The digests of the raw keys of these keys, by id; empty where the way tells none."""

    def abort(self, reference: Reference) -> tuple[Aborted, list[str]]:
        """Take a rotation back, as `rotation.abort` does. Returns also the destinations that the discarded keys had
        been delivered to."""

    # Many keys.

    def keys(self, wanted: Selection, *, sort: Sort, limit: int | None) -> AbstractContextManager[Iterator[Key]]:
        """The keys that the filters select, in order, `limit` at most, streamed while the block lasts."""

    def documents(
        self, wanted: Selection, *, sort: Sort, limit: int | None
    ) -> AbstractContextManager[Iterator[KeyDocument]]:
        """The same for a machine format."""

    def count(self, wanted: Selection) -> int:
        """How many keys the filters select."""

    def to_rotate(self, references: Sequence[Reference], wanted: Selection | None, plan: RotationPlan) -> list[Key]:
        """The keys that were named, or that the filters select, or of the named keys those that fit."""

    def preview(self, change: Change, targets: Targets) -> Preview:
        """What the change would do. Raises whatever stops it before it is known which keys are meant."""

    def change(
        self,
        change: Change,
        targets: Targets,
        *,
        only: frozenset[str] | None = None,
        tell: Callable[[int], None] = lambda _done: None,
    ) -> Outcome:
        """Make the change in one transaction. Raises `KeyctlError`: lost_race where a key would change that is none of
        `only`; what `preview` would have had in `stopped_by`; whatever the change raises. `tell` is called with the
        number of keys that are done, where the way can say so."""

    # The logs.

    def events(self, wanted: LogFilter, *, limit: int | None) -> AbstractContextManager[Iterator[Event]]:
        """The events that fit, oldest first, the latest `limit`; streamed while the block lasts."""

    def count_events(self, wanted: LogFilter) -> int:
        """How many events fit."""

    def head(self) -> Head:
        """The last event of the log."""

    def uses(self, wanted: UsageFilter, *, limit: int | None) -> AbstractContextManager[Iterator[Use]]:
        """The rows of the usage log that fit, oldest first, the latest `limit`; streamed while the block lasts."""

    def usage_summary(
        self, wanted: UsageFilter, *, since: datetime, until: datetime, most_keys: int
    ) -> Summary:
        """The usage log over a span, as `usage.summary` sums it up."""

    def key_ids(self, reference: Reference) -> tuple[str, ...]:
        """The ids that KEY stands for in a log, as `lookup.meant_by` says."""

    # The policy.

    def findings(self, rules: Sequence[Rule], limits: Thresholds) -> AbstractContextManager[Iterator[Finding]]:
        """The keys that break the rules, streamed while the block lasts."""

    def policy(self) -> StoredPolicy:
        """The stored policy."""

    def set_policy(self, changes: Mapping[str, object], *, reason: str | None) -> tuple[StoredPolicy, int]:
        """Set these fields of the stored policy. Returns the policy, and how many keys stand outside it."""

    def close(self) -> None:
        """Give up what the way holds open."""
