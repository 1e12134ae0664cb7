"""The way to the keys over the database: each method is one transaction, and asks there what its caller may do."""

from __future__ import annotations  # for speed, as below

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from alphalens_keyctl.keys import lifecycle, lookup, selection, stored_policy
from alphalens_keyctl.keys.selection import Sort
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.logs import audit
from alphalens_keyctl.manager.access import Access, Found
from alphalens_keyctl.manager.backend import Details, Progress, Rotatable, untold
from alphalens_keyctl.manager.outcome import ChangeOutcome
from alphalens_keyctl.manager.rights import Deed, Rights, names_hidden
from alphalens_keyctl.models import Action

# For speed: what few commands need is imported by the methods that do it.
if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from alphalens_keyctl.database import Database
    from alphalens_keyctl.database.changes import Changes
    from alphalens_keyctl.keys.bulk_file import Line
    from alphalens_keyctl.keys.bulk_issuance import Handout
    from alphalens_keyctl.keys.changes import Change, Chosen, Targets
    from alphalens_keyctl.keys.issuance import Created, RotationPlan
    from alphalens_keyctl.keys.lookup import Reference
    from alphalens_keyctl.keys.policy import Finding, Rule
    from alphalens_keyctl.keys.rotation import Aborted
    from alphalens_keyctl.keys.selection import KeyDocument, Place, Selection
    from alphalens_keyctl.logs.audit import Head, LogFilter, Verdict
    from alphalens_keyctl.logs.proof import Proof
    from alphalens_keyctl.logs.recorded import Recorded
    from alphalens_keyctl.logs.report import Entry, Report
    from alphalens_keyctl.logs.usage import Buckets, Seen, Summary
    from alphalens_keyctl.logs.usage_rows import UsageFilter
    from alphalens_keyctl.manager.bulk_steps import DatabaseBulkSteps
    from alphalens_keyctl.manager.issuing import DatabaseSteps
    from alphalens_keyctl.models import Event, Key, Use
    from alphalens_keyctl.moments import Period
    from alphalens_keyctl.provenance import Act
    from alphalens_keyctl.settings import Thresholds

_Filter = TypeVar("_Filter", "LogFilter", "UsageFilter")


class OverDatabase:
    """`Backend` over an open database."""

    def __init__(
        self, database: Database, act: Act, caller: str | None = None, *, prefix: str, lease: float | None = None
    ) -> None:
        """`act` says who acts and from where; each transaction takes its own instant. `caller` is the id of the key
        that the caller was let in by, None for whoever opens the database itself. New raw keys begin with `prefix`;
        `lease` is as in `DatabaseSteps`. `close` closes the database."""
        self._access = Access(database, act, caller)
        self._prefix = prefix
        self._lease = lease

    @cached_property
    def steps(self) -> DatabaseSteps:
        from alphalens_keyctl.manager.issuing import DatabaseSteps

        return DatabaseSteps(self._access, prefix=self._prefix, lease=self._lease)

    @cached_property
    def bulk_steps(self) -> DatabaseBulkSteps:
        """The steps of taking a fleet in."""
        from alphalens_keyctl.manager.bulk_steps import DatabaseBulkSteps

        return DatabaseBulkSteps(self._access, prefix=self._prefix)

    def rights(self) -> Rights:
        """What the caller may do now."""
        with self._access.reading() as reading:
            return reading.rights

    def find(self, reference: Reference) -> Key:
        with self._access.finding(reference) as found:
            return found.key

    def left(self, key_id: str) -> Key:
        """The key as a step left it that this caller was allowed: its own key may have ended by that step."""
        with self._access.reporting() as (connection, act):
            return lifecycle.require(connection, key_id, act.at)

    def details(self, reference: Reference) -> Details:
        from alphalens_keyctl.logs import old_key_use, usage

        with self._access.finding(reference) as found:
            (connection, _rights, act), lineage = found.reading, _lineage(found)
            used = usage.profile(connection, found.key.id, now=act.at)
            return Details(found.key, lineage, used, old_key_use.read(connection, lineage))

    def require_evidence(self, what: str) -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may see the whole log. `what` follows "you may not"."""
        self.rights().require_all(what, to_see=True)

    def require_verifying(self, key: Key | None, *, recorded: bool) -> None:
        """Raise as `Rights.require_verifying` does."""
        self.rights().require_verifying(key, recorded=recorded)

    def abort(self, reference: Reference) -> tuple[Aborted, list[str]]:
        from alphalens_keyctl.keys import rotation

        with self._access.writing() as (tx, rights, act):
            found = lookup.find(tx, reference, now=act.at, within=rights.sight)
            done = rotation.abort(tx, self._access.attempts, found.id, act)
            # Asked afterwards, when it is known which keys these are; an error takes all of it back.
            rights.require(Deed.ROTATE, [done.key, *done.successors])
            return done, _delivered_to(tx, done.successors)

    def create_each(self, lines: Sequence[Line], handout: Handout, *, progress: Progress = untold) -> list[Created]:
        from alphalens_keyctl.keys import bulk_issuance

        with progress(len(lines)) as tell:
            return bulk_issuance.take_in(self.bulk_steps, lines, handout, tell=tell)

    def try_create_each(self, lines: Sequence[Line]) -> None:
        self.bulk_steps.try_begin(lines)

    @contextmanager
    def keys(self, wanted: Selection, *, sort: Sort, limit: int | None) -> Iterator[Iterator[Key]]:
        with self._access.reading() as (connection, rights, act):
            yield selection.stream(connection, _narrowed(wanted, rights), sort=sort, limit=limit, now=act.at)

    @contextmanager
    def documents(self, wanted: Selection, *, sort: Sort, limit: int | None) -> Iterator[Iterator[KeyDocument]]:
        with self._access.reading() as (connection, rights, act):
            yield selection.documents(connection, _narrowed(wanted, rights), sort=sort, limit=limit, now=act.at)

    def page(self, wanted: Selection, *, sort: Sort, after: Place | None, limit: int) -> list[KeyDocument]:
        with self._access.reading() as (connection, rights, act):
            narrowed = _narrowed(wanted, rights)
            return selection.page(connection, narrowed, sort=sort, after=after, limit=limit, now=act.at)

    def documents_of(self, keys: Sequence[Key]) -> Iterator[KeyDocument]:
        with self._access.reading() as (connection, rights, act):
            rights.require_ids(connection, Deed.SEE, [key.id for key in keys], act.at)
            yield from selection.documents_of(connection, [key.id for key in keys], now=act.at)

    def count(self, wanted: Selection) -> int:
        with self._access.reading() as (connection, rights, act):
            return selection.count(connection, _narrowed(wanted, rights), now=act.at)

    def owners_like(self, owner: str) -> list[str]:
        with self._access.reading() as (connection, rights, _act):
            return selection.owners_like(connection, owner, within=rights.sight)

    def to_rotate(self, references: Sequence[Reference], wanted: Selection | None, plan: RotationPlan) -> Rotatable:
        from alphalens_keyctl.manager import rotatable

        with self._access.reading() as reading:
            return rotatable.found(reading, references, wanted, plan)

    def preview(self, change: Change, targets: Targets) -> ChangeOutcome:
        from alphalens_keyctl.keys import changes
        from alphalens_keyctl.keys import update as updates

        with self._access.reading() as (connection, rights, act):
            chosen = changes.choose(connection, change, targets, act.at, look=True, within=rights.sight)
            _require_change(rights, connection, change, chosen, act.at)
            narrowed: Mapping[str, int] = {}
            if isinstance(change, changes.UpdateChange):
                narrowed = updates.restricted_first(connection, chosen.changing, change.new)
        return ChangeOutcome(self._access, rights, change, targets, chosen, narrowed)

    def change(
        self, change: Change, targets: Targets, *, only: frozenset[str] | None = None, progress: Progress = untold
    ) -> ChangeOutcome:
        from alphalens_keyctl.keys import changes

        with self._access.writing() as (tx, rights, act):
            chosen = changes.choose(tx, change, targets, act.at, within=rights.sight)
            _require_change(rights, tx, change, chosen, act.at)
            if only is not None:
                changes.require_only(chosen, only)
            name = change.new.name if isinstance(change, changes.UpdateChange) else None
            with names_hidden(rights, tx, name or "", act.at), progress(len(chosen.changing)) as tell:
                done = changes.carry_out(tx, self._access.attempts, change, chosen, act, tell)
        return ChangeOutcome(self._access, rights, change, targets, changes.Chosen(done.changed, done.unchanged))

    def used_since(self, key_ids: Sequence[str], since: datetime) -> Mapping[str, tuple[int, int]]:
        from alphalens_keyctl.logs import usage

        with self._access.reading() as (connection, rights, act):
            rights.require_ids(connection, Deed.SEE, key_ids, act.at)
            return usage.lately(connection, key_ids, since=since)

    def seen(self, reference: Reference, since: datetime) -> tuple[Key, list[Seen]]:
        from alphalens_keyctl.logs import usage

        with self._access.finding(reference) as found:
            ids = [member.id for member in _lineage(found)]
            return found.key, usage.seen(found.reading.connection, ids, since=since)

    @contextmanager
    def events(self, wanted: LogFilter, *, limit: int | None, reverse: bool = False) -> Iterator[Iterator[Event]]:
        with self._access.reading() as (connection, rights, _act):
            yield audit.read(connection, _visible(wanted, rights), limit=limit, reverse=reverse)

    def event(self, seq: int) -> Recorded:
        from alphalens_keyctl.logs import recorded

        with self._access.reading() as (connection, rights, _act):
            return recorded.find(connection, _visible(audit.LogFilter(), rights), seq)

    def last_event(self) -> Head:
        from alphalens_keyctl.logs import following

        with self._access.reading() as (connection, rights, _act):
            return following.last(connection, _visible(audit.LogFilter(), rights))

    def new_events(self, place: Head, wanted: LogFilter) -> tuple[Sequence[Event], Head]:
        from alphalens_keyctl.logs import following

        with self._access.reading() as (connection, rights, _act):
            seen, fitting = (_visible(each, rights) for each in (audit.LogFilter(), wanted))
            return following.read_on(connection, place, fitting, seen)

    def changes(self) -> AbstractContextManager[Changes]:
        return self._access.database.changes()

    def count_events(self, wanted: LogFilter) -> int:
        with self._access.reading() as (connection, rights, _act):
            return audit.count(connection, _visible(wanted, rights))

    def head(self) -> Head:
        with self._access.reading() as (connection, rights, _act):
            rights.require_all("see the head of the log", to_see=True)
            return audit.head(connection)

    def rooted_head(self, head: Head | None = None) -> Head:
        from alphalens_keyctl.logs import proof

        with self._access.reading() as (connection, rights, _act):
            rights.require_all("see the head of the log", to_see=True)
            return proof.rooted(connection, head or audit.head(connection))

    def prove(self, seq: int, size: int | None) -> tuple[Proof, bytes]:
        from alphalens_keyctl.logs import proof

        with self._access.reading() as (connection, rights, _act):
            rights.require_all("prove an event of the log", to_see=True)
            return proof.prove(connection, seq, size)

    def verify_log(self, saved: Head | None, *, log_only: bool = False) -> Verdict:
        self.require_evidence("verify the log")
        # A checkpoint has the tree alone, and no hash of its last event.
        known = saved if saved is not None and saved.hash else None
        verdict = audit.verify(self._access.database, known, log_only=log_only)
        if saved is None:
            return verdict
        from alphalens_keyctl.logs import proof

        with self._access.reading() as (connection, _rights, _act):
            return proof.compared(connection, verdict, saved)

    def report(self, period: Period, rules: Sequence[Rule], limits: Thresholds) -> Report:
        from alphalens_keyctl.manager import reporting

        return reporting.made(self._access, period, rules, limits)

    @contextmanager
    def report_entries(self, period: Period) -> Iterator[Iterator[Entry]]:
        from alphalens_keyctl.manager import reporting

        with self._access.reading() as (connection, rights, _act):
            yield reporting.entries(connection, rights, period)

    @contextmanager
    def uses(self, wanted: UsageFilter, *, limit: int | None) -> Iterator[Iterator[Use]]:
        from alphalens_keyctl.logs import usage_rows

        with self._access.reading() as (connection, rights, _act):
            yield usage_rows.documents(connection, _visible(wanted, rights), limit=limit)

    def usage_summary(self, wanted: UsageFilter, buckets: Buckets, *, most_keys: int) -> Summary:
        from alphalens_keyctl.logs import usage

        with self._access.reading() as (connection, rights, _act):
            return usage.summary(connection, _visible(wanted, rights), buckets, most_keys=most_keys)

    def key_ids(self, reference: Reference) -> tuple[str, ...]:
        with self._access.reading() as (connection, rights, act):
            return lookup.meant_by(connection, reference, now=act.at, within=rights.sight)

    def prune_usage(self, before: datetime, *, dry_run: bool) -> int:
        from alphalens_keyctl.logs import usage_retention

        if dry_run:
            with self._access.reading() as (connection, rights, _act):
                rights.require_all("remove rows of the usage log")
                return usage_retention.older(connection, before)
        with self._access.writing() as (tx, rights, act):
            rights.require_all("remove rows of the usage log")
            return usage_retention.prune(tx, before, act)

    @contextmanager
    def findings(
        self, rules: Sequence[Rule], limits: Thresholds, references: Sequence[Reference] = ()
    ) -> Iterator[Iterator[Finding]]:
        from alphalens_keyctl.keys import policy

        with self._access.reading() as (connection, rights, act):
            sight, meant = rights.sight, list[str]()
            for reference in references:
                meant += [key.id for key in lookup.all_meant_by(connection, reference, now=act.at, within=sight)]
            among = meant if references else None
            yield policy.check(connection, rules, limits, among=among, now=act.at, within=sight)

    def policy(self) -> StoredPolicy:
        with self._access.reading() as (connection, rights, _act):
            rights.require_managing("see the stored policy")
            return stored_policy.read(connection)

    def set_policy(self, changes: Mapping[str, Any], *, reason: str | None) -> StoredPolicy:
        with self._access.writing() as (tx, rights, act):
            rights.require_all("set the stored policy")
            before = stored_policy.before(tx, changes)
            now = (before or StoredPolicy())._replace(**changes)
            if now != before:
                stored_policy.write(tx, before, now, act, reason=reason)
            return now

    def outside_policy(self) -> int:
        from alphalens_keyctl.keys import policy

        with self._access.reading() as (connection, rights, act):
            rights.require_all("count the keys outside the stored policy", to_see=True)
            return policy.outside(connection, now=act.at)

    def close(self) -> None:
        self._access.database.close()


def _lineage(found: Found) -> list[Key]:
    """As much of the lineage of a key as the caller may see."""
    connection, rights, act = found.reading
    members = lookup.lineage(connection, found.key, now=act.at, delivering=found.delivering)
    return [member for member in members if rights.may(Deed.SEE, member)]


def _narrowed(wanted: Selection, rights: Rights) -> Selection:
    return wanted._replace(within=rights.sight)


def _visible(wanted: _Filter, rights: Rights) -> _Filter:
    return wanted._replace(among=None if rights.sight is None else rights.sight.key_ids())


def _require_change(rights: Rights, connection: Connection, change: Change, chosen: Chosen, now: datetime) -> None:
    from alphalens_keyctl.keys import changes

    rights.require_ids(connection, Deed(change.verb), chosen.changing, now)
    rights.require_ids(connection, Deed.SEE, chosen.rest, now)
    if isinstance(change, changes.UpdateChange):
        rights.require_update(change.new)


def _delivered_to(connection: Connection, keys: Sequence[Key]) -> list[str]:
    """The destinations that discarded keys had been delivered to, as the audit log has them."""
    wanted = audit.LogFilter(key_ids=tuple(key.id for key in keys), action=Action.ACTIVATE)
    destinations = [
        destination for event in audit.read(connection, wanted) for destination in event.detail.get("delivered_to", [])
    ]
    return destinations + [key.delivering_to for key in keys if key.delivering_to]
