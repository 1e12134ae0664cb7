"""`KeyManager`, with which a program administers keys: everything that the commands do, on values."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Unpack

from alphalens_keyctl import interrupts, provenance, text
from alphalens_keyctl.database import Limits, parse_address
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import issuance, policy, stored_policy
from alphalens_keyctl.keys.changes import Change, RevocationChange, Targets, UpdateChange
from alphalens_keyctl.keys.issuance import Created, Rotated
from alphalens_keyctl.keys.policy import Finding
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.keys.selection import Sort
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.logs.audit import GENESIS, Head, LogFilter, Verdict
from alphalens_keyctl.logs.proof import Proof
from alphalens_keyctl.logs.recorded import Recorded
from alphalens_keyctl.logs.report import Report
from alphalens_keyctl.logs.usage_rows import UsageFilter
from alphalens_keyctl.manager import following, opening, values
from alphalens_keyctl.manager.backend import Backend, Details
from alphalens_keyctl.manager.block import Block
from alphalens_keyctl.manager.http_exchange import Server, Waits
from alphalens_keyctl.manager.over_http import OverHttp
from alphalens_keyctl.manager.values import Filters, Guards, NewValues, Rotation, Store, Updated, When
from alphalens_keyctl.models import Action, Event, Key, Reason, Use
from alphalens_keyctl.moments import parse_period, utc_now
from alphalens_keyctl.server_address import is_server_url, parse_server
from alphalens_keyctl.settings import Given, Settings, of_this_process
from alphalens_keyctl.text import one_of


class NewKey:
    """A key that was made, or is being made: `key`, and for a rotation `previous`, the key before it. Its `repr` does
    not show the raw key (promise 1)."""

    def __init__(self, made: Created | Rotated) -> None:
        self.key: Key = made.key
        self.previous: Key | None = made.previous if isinstance(made, Rotated) else None
        self._raw: RawKey | None = made.raw

    @property
    def made(self) -> bool:
        """False where there was nothing to make: a key of the name was there already, or was not due for rotation."""
        return self._raw is not None

    @property
    def raw_key(self) -> str:
        """The raw key, which nothing else ever shows again. Raises `KeyctlError` (wrong_state) where none was made."""
        if self._raw is None:
            raise KeyctlError(Code.WRONG_STATE, f"no key was made: there is key {self.key.id}", "Ask for 'made' first.")
        return self._raw.reveal()

    def __repr__(self) -> str:
        return f"NewKey({self.key.name!r}, id={self.key.id!r})"


class Changes(NamedTuple):
    """What a change did, or in a dry run would do: the keys that it changed, as they are now; those to which it did not
    apply; and, of a revocation, the other keys of the same names that go on opening."""

    changed: list[Key]
    unchanged: list[Key]
    still_open: list[Key]


class KeyManager:
    """The keys of a database, for whoever may administer them.

    `KeyManager("postgresql://…")`, `KeyManager("sqlite:///…")`, or without a URL the database that the commands use;
    `KeyManager("https://…", api_key=…)` goes through `serve-api`, within the rights of that key.
    Any thread may call it. Close it, or use it in a `with` block. Every method raises `KeyctlError`, whose `code` a
    program can compare; none prints or asks. A KEY is a name, an id, the start of an id, or a raw key. Instants are
    aware datetimes, or the texts and lengths of time that the commands take: `90d`, `2027-01-31`, timedelta(days=90).
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        actor: str | None = None,
        create: bool | None = None,
        settings: Settings | None = None,
        api_key: str | RawKey | None = None,
    ) -> None:
        """`api_key` is the raw key for a server; a server's audit log names that key as the actor. In that of a
        database `actor` says who acts; without it, it is found out as for the commands. A SQLite file that
        does not exist is made with `create`; where `create` is None, if nobody named the file. `settings` replace what
        environment and config.toml say. Raises `KeyctlError`."""
        given = Given(server=url) if url and is_server_url(url) else Given(database_url=url, actor=actor)
        self._settings = chosen = settings or of_this_process(given)
        if (server := given.server or chosen.server) is not None:
            if actor is not None:
                raise KeyctlError(Code.USAGE, "an actor is for a database", "A server's log names the key of api_key.")
            self._backend: Backend = _over_http(server, api_key, chosen)
            return
        if api_key is not None:
            raise KeyctlError(Code.USAGE, "api_key is for a server", "Name it: KeyManager('https://…', api_key=…).")
        act = provenance.act_of_this_process(actor or chosen.actor, utc_now())
        self._backend = opening.over_database(
            parse_address(chosen.database_url),
            Limits(chosen.connect_timeout, chosen.lock_timeout, chosen.query_timeout),
            act,
            prefix=chosen.key_prefix,
            create=chosen.is_default_database if create is None else create,
        )

    def close(self) -> None:
        """Close all connections."""
        self._backend.close()

    def __enter__(self) -> "KeyManager":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # Making keys.

    def create(self, name: str, *, if_missing: bool = False, **new: Unpack[NewValues]) -> NewKey:
        """Create a key, active at once. With `if_missing`, make none where a key has the name.

        A process that dies before it has kept the raw key leaves a live key that nobody holds; `creating` leaves none.
        """
        draft = values.draft(name, new, now=utc_now())
        return NewKey(issuance.create(self._backend.steps, draft, Block(), _show_nobody, if_missing=if_missing))

    @contextmanager
    def creating(
        self, name: str, *, if_missing: bool = False, store: Store | None = None, **new: Unpack[NewValues]
    ) -> Iterator[NewKey]:
        """Create a key around a block that keeps its raw key: leaving the block well activates the key, an exception
        discards it.

        Until then the key is pending and opens nothing: a process that dies in the block leaves a name that is free
        again. A block that fills a `store` which outlives the process names it; then the key is delivering from the
        start of the block. It opens, so that the store never holds a dead key, and `show` says where it was going.
        """
        draft = values.draft(name, new, now=utc_now())
        with interrupts.held():
            steps, block = self._backend.steps, _block(store)
            with (
                issuance.creating(steps, draft, block, (), if_missing=if_missing) as made,
                interrupts.let_in(),
            ):
                yield NewKey(made)

    def rotate(self, key: str, **how: Unpack[Rotation]) -> NewKey:
        """Give a key a successor, current at once; the old key opens until its grace is over. As with `create`,
        `rotating` is the safe way."""
        plan = values.rotation_plan(how, now=utc_now())
        return NewKey(issuance.rotate(self._backend.steps, self.key(key).id, plan, Block(), _show_nobody))

    @contextmanager
    def rotating(self, key: str, *, store: Store | None = None, **how: Unpack[Rotation]) -> Iterator[NewKey]:
        """Give a key a successor around a block that keeps its raw key: leaving the block well makes the successor
        current, an exception leaves the old key as it was.

        A block that fills a `store` which held the old key names it, as in `creating`: else a process that dies leaves
        there a successor that opens nothing. Where such a block raises, and nothing put the old key back, both keys
        open until the next rotation, which finishes the job.
        """
        plan = values.rotation_plan(how, now=utc_now())
        with interrupts.held():
            steps, block = self._backend.steps, _block(store)
            with (
                issuance.rotating(steps, self.key(key).id, plan, block, ()) as made,
                interrupts.let_in(),
            ):
                yield NewKey(made)

    def abort_rotation(self, key: str) -> Key:
        """Take a rotation back whose new key nobody has used. Returns the key that is current again."""
        return self._backend.abort(values.reference(key))[0].key

    # Looking.

    def keys(self, *, where: Filters | None = None, sort: str = "created", limit: int | None = None) -> Iterator[Key]:
        """The keys that the filters select, in order, streamed."""
        wanted, order = values.selection(where or {}), one_of(Sort, sort, "order")
        with self._backend.keys(wanted, sort=order, limit=limit) as found:
            yield from found

    def key(self, key: str) -> Key:
        """The one key that KEY means; a name means its current key. Raises `KeyctlError`: key_not_found,
        ambiguous_key."""
        return self._backend.find(values.reference(key))

    def details(self, key: str) -> Details:
        """Everything about one key: its lineage, oldest first, its use over 30 days, and who still uses the key before
        it."""
        return self._backend.details(values.reference(key))

    # Changing.

    def revoke(self, *keys: str, where: Filters | None = None, **guards: Unpack[Guards]) -> Changes:
        """Revoke keys for good: those that are named, those that the filters select, or of the named keys those that
        fit. A name means every key of that name that opens or could come to open."""
        return self._revoke(Revocation.REVOKE, keys, where, guards)

    def suspend(self, *keys: str, where: Filters | None = None, **guards: Unpack[Guards]) -> Changes:
        """Suspend keys; which ones is said as in `revoke`."""
        return self._revoke(Revocation.SUSPEND, keys, where, guards)

    def resume(self, *keys: str, where: Filters | None = None, **guards: Unpack[Guards]) -> Changes:
        """Resume suspended keys; which ones is said as in `revoke`."""
        return self._revoke(Revocation.RESUME, keys, where, guards)

    def update(self, *keys: str, new: Updated, where: Filters | None = None, **guards: Unpack[Guards]) -> Changes:
        """Give keys new values; which ones is said as in `revoke`, but a name means its current key."""
        if new.get("name") is not None and len(keys) != 1:
            raise KeyctlError(Code.USAGE, "a new name is for one KEY", "Two keys cannot have one name.")
        change = UpdateChange(values.update(new, now=utc_now()), _reason(guards))
        return self._change(change, keys, where, guards)

    def _revoke(self, revocation: Revocation, keys: Sequence[str], where: Filters | None, guards: Guards) -> Changes:
        return self._change(RevocationChange(revocation, _reason(guards)), keys, where, guards)

    def _change(self, change: Change, keys: Sequence[str], where: Filters | None, guards: Guards) -> Changes:
        targets = Targets(
            [values.reference(key) for key in keys],
            None if where is None else values.selection(where),
            guards.get("most"),
            guards.get("in_use", False),
        )
        dry_run = guards.get("dry_run", False)
        outcome = self._backend.preview(change, targets) if dry_run else self._backend.change(change, targets)
        if outcome.stopped_by is not None:
            raise outcome.stopped_by
        return Changes(outcome.keys(outcome.changed), outcome.keys(outcome.unchanged), list(outcome.still_open() or ()))

    # The logs.

    def events(
        self,
        key: str | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
        since: When | None = None,
        until: When | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """The audit events that fit, oldest first, the latest `limit`, or the next behind the event with the number
        `after`; streamed."""
        now = utc_now()
        wanted = LogFilter(
            None if key is None else self._backend.key_ids(values.reference(key)),
            actor,
            None if action is None else one_of(Action, action, "action"),
            values.since(since, "start", now=now),
            values.since(until, "end", now=now),
            after_seq=after,
        )
        with self._backend.events(wanted, limit=limit) as found:
            yield from found

    def event(self, seq: int) -> Recorded:
        """One audit event whole. Raises `KeyctlError` (event_not_found)."""
        return self._backend.event(seq)

    def follow(
        self, key: str | None = None, *, after: int | None = None, actor: str | None = None, action: str | None = None
    ) -> Iterator[Event]:
        """The audit events that fit as they are written, without end: from now on, or with `after` all behind the event
        of that number. An outage is waited out, ten minutes at most. Raises `KeyctlError` (log_replaced) where the log
        is no longer the one that was read."""
        wanted = LogFilter(
            None if key is None else self._backend.key_ids(values.reference(key)),
            actor,
            None if action is None else one_of(Action, action, "action"),
            after_seq=after,
        )
        place = self._backend.last_event() if after is None else Head(0, GENESIS, None)
        for some in following.follow(self._backend, wanted, place):
            yield from some

    def head(self, *, rooted: bool = False) -> Head:
        """The last event of the audit log. Kept elsewhere, it shows a log that was cut off or rewritten.

        With `rooted` it has the root of the tree over all events, for which their hashes are read, a million in some
        seconds; proofs are checked against the root.
        """
        return self._backend.rooted_head() if rooted else self._backend.head()

    def prove(self, seq: int, *, size: int | None = None) -> Proof:
        """The proof that event `seq` is in the log of a head at event `size`, by default of today's head."""
        return self._backend.prove(seq, size)[0]

    def verify_log(self, saved: Head | None = None, *, log_only: bool = False) -> Verdict:
        """Whether the audit log is sound; whether it extends a head that was saved; and, unless `log_only`, whether
        each key is what its newest event says."""
        return self._backend.verify_log(saved, log_only=log_only)

    def report(self, period: str) -> Report:
        """What the logs say of a period (`2026-Q3`), and what the keys are now; `verify_log(report.head)` checks the
        log that it is from."""
        limits = self._settings.check
        rules = policy.chosen((), ignored=limits.ignore)
        return self._backend.report(parse_period(period, now=utc_now()), rules, limits)

    def usage(
        self,
        key: str | None = None,
        *,
        outcome: str | None = None,
        since: When | None = None,
        until: When | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> Iterator[Use]:
        """The rows of the usage log that fit, oldest first, the latest `limit`, or by their ids the next behind the row
        with the id `after`; streamed."""
        now = utc_now()
        wanted = UsageFilter(
            None if key is None else self._backend.key_ids(values.reference(key)),
            None if outcome is None else one_of(Reason, outcome, "outcome"),
            values.since(since, "start", now=now),
            values.since(until, "end", now=now),
            after_id=after,
        )
        with self._backend.uses(wanted, limit=limit) as found:
            yield from found

    # The policy.

    def check(self, *rules: str, keys: Sequence[str] = ()) -> Iterator[Finding]:
        """The keys that break the rules with these ids, or any rule; streamed. With `keys`, the keys alone that each
        KEY means. The thresholds are those of the settings."""
        limits = self._settings.check
        chosen, meant = policy.chosen(rules, ignored=limits.ignore), [values.reference(key) for key in keys]
        with self._backend.findings(chosen, limits, meant) as found:
            yield from found

    def policy(self) -> StoredPolicy:
        """The stored policy."""
        return self._backend.policy()

    def set_policy(self, *, reason: str | None = None, **changes: Any) -> StoredPolicy:
        """Set fields of `StoredPolicy`; None and () ask nothing. Returns the whole policy."""
        if unknown := sorted(set(changes) - set(StoredPolicy._fields)):
            raise KeyctlError(
                Code.USAGE, f"the policy has no '{unknown[0]}'", f"It has: {', '.join(StoredPolicy._fields)}."
            )
        if "max_lifetime" in changes:
            changes["max_lifetime"] = values.span(changes["max_lifetime"], "max lifetime")
        if "require" in changes:
            changes["require"] = stored_policy.parse_required(changes["require"])
        if "name_pattern" in changes:
            changes["name_pattern"] = values.line(changes["name_pattern"], "name pattern", text.LONGEST_NAME)
        return self._backend.set_policy(changes, reason=values.line(reason, "reason", text.LONGEST_REASON))


def _over_http(url: str, api_key: str | RawKey | None, settings: Settings) -> OverHttp:
    address = parse_server(url, plaintext=settings.insecure_plaintext)
    if api_key is None:
        raise KeyctlError(Code.USAGE, "a server needs an api_key", "Give the raw key that it lets you in by.")
    key = values.reference(api_key)
    if not isinstance(key, RawKey):
        raise KeyctlError(Code.INVALID_INPUT, "the api_key is no raw key", "Give it whole and alone.")
    return OverHttp(Server(address, key, Waits(settings.connect_timeout, settings.query_timeout)))


def _show_nobody(_new: Created | Rotated, _raw: RawKey) -> Sequence[str]:
    """For a raw key that the caller gets as a value."""
    return ()


def _block(store: Store | None) -> Block:
    given = store or {}
    destination = values.line(given.get("destination"), "destination", text.LONGEST_NAME)
    return Block(destination, given.get("put_back"), given.get("limit", 60.0))


def _reason(guards: Guards) -> str | None:
    return values.line(guards.get("reason"), "reason", text.LONGEST_REASON)
