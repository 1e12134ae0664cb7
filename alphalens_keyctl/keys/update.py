"""Update: new values for keys that there are, each key with its audit event.

As in `lifecycle`, every function works inside the transaction of the caller and never commits. A successor that is
being delivered changes with its predecessor, of which it is a copy: the handover of the name would undo the change
else. A name belongs to a lineage: when the current key is renamed, the keys that were rotated out and still open
follow, so that `revoke NAME` goes on ending all of them (promise 5). They follow as well when the current key is named
and gets other scopes or networks: an old key that went on doing what the new one may not would undo the restriction.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from alphalens_keyctl import networks, scopes
from alphalens_keyctl.damage import key_of
from alphalens_keyctl.database import Attempts, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import lifecycle, lookup, rotation, selection, stored_policy
from alphalens_keyctl.keys.conditions import holds_any, one_of
from alphalens_keyctl.keys.lifecycle import Changed
from alphalens_keyctl.keys.stored_policy import Breach, StoredPolicy
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import FINAL, Action, Key, Status, key_table
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.text import MOST_LABELS

_AT_ONCE: Final = 1000


class _List(NamedTuple):
    """A field that restricts a key: the word for one of its texts, the option's name for it, how many there may be, and
    what a module says of such texts."""

    what: str
    option: str
    most: int
    normal: Callable[[Iterable[str]], tuple[str, ...]]
    covers: Callable[[Sequence[str] | None, str], bool]


_LISTS: Final = {
    "scopes": _List("scope", "scope", scopes.MOST_SCOPES, scopes.normal, scopes.covers),
    "allow_from": _List("network", "allow-from", networks.MOST_NETWORKS, networks.normal, networks.covers),
}


class Update(NamedTuple):
    """New values for keys; every text is validated.

    `fields` has those of owner, purpose and expires_at (aware, to come) that are set; None takes the value away, and
    from scopes and allow_from, which are there only with None, every restriction. `labels` are set beside the labels
    that a key has, `unset_labels` are taken away. `override` says why the keys may break the stored policy; None: they
    may not. `added` and `removed` are texts by the field, scopes or allow_from. A key that is not restricted gets those
    of `added` as its only ones.
    """

    name: str | None = None
    fields: Mapping[str, str | datetime | None] = {}
    labels: Mapping[str, str] = {}
    unset_labels: frozenset[str] = frozenset()
    override: str | None = None
    added: Mapping[str, tuple[str, ...]] = {}
    removed: Mapping[str, tuple[str, ...]] = {}

    @property
    def restricts(self) -> bool:
        """Whether the update changes what keys may do or from where they may be used."""
        return bool(self.added or self.removed or not _LISTS.keys().isdisjoint(self.fields))


def divided(connection: Connection, key_ids: Sequence[str], new: Update, *, named: bool, now: datetime) -> Changed:
    """Which of these keys `new` changes, followed by the keys that change with them, and which keys have the new values
    already or are damaged.

    `named` says that somebody named the keys. Raises `KeyctlError`: wrong_state for a key that is revoked or retired,
    for a named key that is damaged, and for a new name of a key that is not the current one; invalid_input where a key
    would have too many labels, scopes or networks, none of the last two that is left, or still one that is taken away;
    policy_violation with every key whose new values break the stored policy.
    """
    policy = stored_policy.read(connection)
    broken: list[tuple[str, list[Breach]]] = []
    done = Changed([], [])
    for some in selection.few_at_once(key_ids):
        keys = selection.some(connection, some, now=now)
        for key in keys:
            _refuse_final(key, named=named)
            changes = {} if key.status == Status.DAMAGED else _changes(key, new)
            broken.append((f"key '{key.name}' ({key.id})", _breaches(policy, key, changes)))
            (done.changed if changes else done.unchanged).append(key.id)
        if new.name is not None:
            _refuse_all_but_the_current(connection, keys, now)
    if new.override is None:
        stored_policy.refuse(broken, expiry="--set-expires", now=now)
    known = {*done.changed, *done.unchanged}
    for key in _followers(connection, done.changed, new, now, named=named):
        if key.id not in known and key.status != Status.DAMAGED and _changes(key, _share(key, new)):
            known.add(key.id)
            done.changed.append(key.id)
    return done


def narrowed(new: Update) -> ColumnElement[bool] | None:
    """The condition for a key that ends sooner than before, may do less, or is used from fewer networks; None where
    `new` takes nothing from any key."""
    c = key_table.c
    conditions: list[ColumnElement[bool]] = [c[name].is_(None) for name in new.added]
    conditions += [holds_any(c[name], texts) for name, texts in new.removed.items()]
    if (expires_at := new.fields.get("expires_at")) is not None:
        conditions.append(or_(c.expires_at.is_(None), c.expires_at > expires_at))
    return or_(*conditions) if conditions else None


def restricted_first(connection: Connection, key_ids: Sequence[str], new: Update) -> dict[str, int]:
    """How many of these keys have no restriction of a field until `new` gives them their first, by the field."""
    found = {}
    for name in new.added:
        free = [
            connection.scalar(
                select(func.count()).where(one_of(connection, key_table.c.id, some), key_table.c[name].is_(None))
            )
            or 0
            for some in selection.few_at_once(key_ids)
        ]
        if any(free):
            found[name] = sum(free)
    return found


def apply(
    tx: Writing,
    attempts: Attempts,
    key_ids: Sequence[str],
    new: Update,
    act: Act,
    *,
    reason: str | None,
    tell: Callable[[int], None] = lambda _done: None,
) -> Changed:
    """Give the keys that `divided` found in this transaction their new values. With a new name the first of them is the
    key that was named.

    `tell` is called with the number of keys that are done. Raises `KeyctlError`: name_taken where the new name belongs
    to another key or begins an id; lost_race while another process delivers a key of the old name; database_unusable
    when the database does not take the change.
    """
    named = key_ids[0] if key_ids else None
    if new.name is not None and named is not None:
        _refuse_name(tx, attempts, lifecycle.require(tx, named, act.at), new.name, act)
    done = Changed([], [])
    policy = stored_policy.read(tx)
    # In the order in which a recorder of uses locks keys: two that wait for each other would both be stopped.
    wanted = sorted(set(key_ids))
    for start in range(0, len(wanted), _AT_ONCE):
        groups: dict[str, tuple[dict[str, Any], list[str]]] = {}
        events: list[tuple[str, str, Mapping[str, object]]] = []
        for key in _locked(tx, wanted[start : start + _AT_ONCE], act.at):
            changes = _changes(key, new if key.id == named else _share(key, new))
            if not changes:
                done.unchanged.append(key.id)
                continue
            done.changed.append(key.id)
            groups.setdefault(json.dumps(changes, default=str, sort_keys=True), (changes, []))[1].append(key.id)
            broken = _breaches(policy, key, changes)
            said = _said(key, changes) | {
                "reason": reason,
                "override": new.override,
                "breaches": [breach.rule for breach in broken] or None,
            }
            events.append((key.id, changes.get("name", key.name), said))
        for changes, ids in groups.values():
            _write(tx, ids, changes)
        audit.append_each(tx, act, Action.UPDATE, events)
        tell(len(done.changed) + len(done.unchanged))
    return done


def _changes(key: Key, new: Update) -> dict[str, Any]:
    """The fields in which `new` differs from what the key has, and their new values."""
    changes: dict[str, Any] = {name: value for name, value in new.fields.items() if getattr(key, name) != value}
    if new.name is not None and new.name != key.name:
        changes["name"] = new.name
    labels = {name: value for name, value in key.labels.items() if name not in new.unset_labels} | dict(new.labels)
    if labels != key.labels:
        if len(labels) > max(MOST_LABELS, len(key.labels)):
            raise KeyctlError(
                Code.INVALID_INPUT,
                f"key '{key.name}' ({key.id}) would have {len(labels)} labels; nothing was changed",
                f"Keep it to {MOST_LABELS} labels: --unset label:K takes one away.",
            )
        changes["labels"] = labels
    for name in sorted({*new.added, *new.removed}):
        texts = _listed(key, name, new)
        if texts != getattr(key, name):
            changes[name] = texts
    return changes


def _listed(key: Key, name: str, new: Update) -> tuple[str, ...] | None:
    """The scopes or networks that a key has with `new`. Raises `KeyctlError` (invalid_input)."""
    kind = _LISTS[name]
    held: tuple[str, ...] | None = getattr(key, name)
    removed = new.removed.get(name, ())
    left = None if held is None else frozenset(held) - frozenset(removed)
    texts = left if name not in new.added else (left or frozenset()) | frozenset(new.added[name])
    # What nobody takes away is as good as held: a wildcard, a wider network, no restriction at all.
    if (still := next((each for each in removed if kind.covers(_tuple(texts), each)), None)) is not None:
        by = "it is not restricted" if texts is None else "another one covers that"
        raise _refused_list(
            key, f"would keep {kind.what} '{still}': {by}", f"Take that one away, or use --set-{kind.option}."
        )
    if texts is not None and not texts and held:
        raise _refused_list(
            key,
            f"would have no {kind.what} left",
            f"--unset {name.replace('_', '-')} lifts the restriction; 'alphalens-keyctl suspend' stops the key.",
        )
    if texts is not None and len(texts) > max(kind.most, len(held or ())):
        raise _refused_list(
            key,
            f"would have {len(texts)} {kind.what}s",
            f"Keep it to {kind.most}: --unset {kind.option}:… takes one away.",
        )
    return None if texts is None else kind.normal(texts)


def _tuple(texts: frozenset[str] | None) -> tuple[str, ...] | None:
    return None if texts is None else tuple(texts)


def _refused_list(key: Key, problem: str, hint: str) -> KeyctlError:
    return KeyctlError(Code.INVALID_INPUT, f"key '{key.name}' ({key.id}) {problem}; nothing was changed", hint)


def _share(key: Key, new: Update) -> Update:
    """What of `new` concerns a key that may not have been asked for: with a new name, a key that was rotated out gets
    the name and the restrictions alone."""
    if new.name is None or key.is_unfinished:
        return new
    lifted = {name: None for name in new.fields if name in _LISTS}
    return Update(name=new.name, fields=lifted, added=new.added, removed=new.removed)


def _followers(
    connection: Connection, key_ids: Sequence[str], new: Update, now: datetime, *, named: bool
) -> Iterator[Key]:
    """The keys that change with these: their successors that are being delivered, or of which the delivery died; with a
    new name, and with a restriction of current keys that are `named`, every key of the name that opens or could come to
    open."""
    if new.name is not None:
        for key in selection.some(connection, key_ids[:1], now=now):
            yield from lookup.namesakes(connection, key, now=now)
        return
    if named and new.restricts:
        for key in selection.some(connection, key_ids, now=now):
            if key.is_current:
                yield from lookup.namesakes(connection, key, now=now)
    before: Sequence[str] = key_ids
    while before:
        found: list[Key] = []
        for some in selection.few_at_once(before):
            unfinished = and_(key_table.c.activated_at.is_(None), key_table.c.revoked_at.is_(None))
            query = selection.select_keys(now).where(one_of(connection, key_table.c.replaces, some), unfinished)
            found += [key_of(row) for row in connection.execute(query)]
        yield from found
        before = [key.id for key in found]


def _refuse_final(key: Key, *, named: bool) -> None:
    if key.status in FINAL or (named and key.status == Status.DAMAGED):
        raise KeyctlError(
            Code.WRONG_STATE,
            f"key '{key.name}' ({key.id}) is {key.status}, and stays as it is; nothing was changed",
            "Revoke it by its id." if key.status == Status.DAMAGED else "Name a key that opens or could come to open.",
        )


def _refuse_all_but_the_current(connection: Connection, keys: Sequence[Key], now: datetime) -> None:
    """A key that was rotated out keeps the name of its successor: who revokes the name means both."""
    for key in keys:
        holder = selection.current(connection, key.name, now=now)
        if holder is not None and holder.id != key.id:
            raise KeyctlError(
                Code.WRONG_STATE,
                f"key {key.id} is {key.status}; the name '{key.name}' belongs to key {holder.id}, nothing was changed",
                f"Rename that key, and this one follows; or revoke this one: alphalens-keyctl revoke {key.id}",
            )


def _refuse_name(tx: Writing, attempts: Attempts, key: Key, name: str, act: Act) -> None:
    """Raise `KeyctlError` unless the key, and all that share its name, can be called `name` from now on."""
    family = [key, *lookup.namesakes(tx, key, now=act.at)]
    for member in family:
        # Whoever delivers it has told the destinations its name.
        if member.is_unfinished and not lifecycle.has_died(tx, attempts, member):
            raise _unfinished(member)
    holder = selection.current(tx, name, now=act.at)
    ids = frozenset(member.id for member in family)
    if holder is not None and holder.id not in ids:
        raise lifecycle.name_taken(holder)
    rotation.dead_strays(tx, attempts, name, ids, act)
    lifecycle.require_no_id_start(tx, name)


def _unfinished(key: Key) -> KeyctlError:
    if key.suspended_at is not None:
        return KeyctlError(
            Code.WRONG_STATE,
            f"key {key.id}, also called '{key.name}', was suspended before it was delivered to its end",
            "Resume or revoke it first.",
        )
    return KeyctlError(
        Code.LOST_RACE,
        f"key {key.id}, also called '{key.name}', is being delivered by another process",
        "Run the command again when that is done.",
    )


def _locked(tx: Writing, key_ids: Sequence[str], now: datetime) -> list[Key]:
    """The keys with these ids that are there. No other transaction changes them until this one ends."""
    query = selection.select_keys(now).where(one_of(tx, key_table.c.id, key_ids)).order_by(key_table.c.id)
    return [key_of(row) for row in tx.execute(query.with_for_update(key_share=True)).all()]


def _write(tx: Writing, key_ids: Sequence[str], changes: Mapping[str, Any]) -> None:
    fields = {field: value for field, value in changes.items() if field != "name"}
    if "name" in changes:
        lifecycle.rename_each(tx, key_ids, changes["name"])
    if fields:
        lifecycle.change_each(tx, key_ids, **fields)


def _breaches(policy: StoredPolicy, key: Key, changes: Mapping[str, Any]) -> list[Breach]:
    """How the new values break the stored policy. What a key lacked before is no breach of a change elsewhere."""
    return stored_policy.breaches(policy, changes, created_at=key.created_at)


def _said(key: Key, changes: Mapping[str, object]) -> dict[str, object]:
    """What the audit event of a key says of the change."""
    return {
        "before": {name: _plain(getattr(key, name)) for name in changes},
        "after": {name: _plain(value) for name, value in changes.items()},
    }


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
