"""The steps of an issuance over the database: each is one transaction, within the rights of its caller."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Final

from alphalens_keyctl import keyformat
from alphalens_keyctl.database import Attempt
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import last_copy, lifecycle, rotation, selection
from alphalens_keyctl.keys.issuance import Begun, RotationPlan, Standing
from alphalens_keyctl.keys.last_copy import Held
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.rotation import Predecessors, Retirement
from alphalens_keyctl.manager.access import Access, Changing
from alphalens_keyctl.manager.rights import ADMIN, TEAM, Deed, Rights, names_hidden
from alphalens_keyctl.models import Key

_NOT_DISCARDED: Final = "Key {} could not be discarded; the next command looks after it."


class DatabaseSteps:
    """`issuance.Steps` over the database. New raw keys begin with `prefix`.

    With `lease`, an attempt lasts for so many seconds whatever becomes of this process, and of the block that began it:
    for a server, whose client takes the next step in another request.
    """

    def __init__(self, access: Access, *, prefix: str, lease: float | None = None) -> None:
        self._access = access
        self._prefix = prefix
        self._lease = lease

    @contextmanager
    def begin_create(self, draft: Draft, *, if_missing: bool) -> Iterator[Begun]:
        """Write a new key that opens nothing yet. Raises `KeyctlError`: forbidden as `Rights.drafted` does; else as
        `lifecycle.create_pending` does."""
        raw = keyformat.generate(self._prefix)
        with self._held(raw) as attempt:
            with self._nothing_left(raw), self._access.writing() as changing:
                begun = self._create(changing, draft, raw, attempt, if_missing=if_missing)
            yield begun

    @contextmanager
    def begin_rotation(self, key_id: str, plan: RotationPlan) -> Iterator[Begun]:
        """Write a successor that opens nothing yet. Raises `KeyctlError`: forbidden where the caller may not rotate the
        key; lost_race when another rotation of the key was first; else as `rotation.rotatable` does."""
        raw = keyformat.generate(self._prefix)
        with self._held(raw) as attempt:
            with self._nothing_left(raw), self._access.writing() as changing:
                begun = self._succeed(changing, key_id, raw, plan, attempt)
            yield begun

    def begin_delivering(
        self, begun: Begun, destinations: Sequence[str], *, limit: float, held: Sequence[Held] = ()
    ) -> None:
        """Let the key open, since `destinations` are about to hold it."""
        # From here on the delivery takes as long as the destinations allow; a lease that ended earlier would let
        # another attempt take this one for dead.
        lease = None if begun.attempt.lease is None else begun.attempt.lease + limit
        with self._access.writing() as (tx, rights, act):
            rights.require(Deed.ROTATE, [lifecycle.require(tx, begun.key.id, act.at)])
            lifecycle.begin_delivering(tx, begun.key.id, act, destinations=destinations, lease=lease)
            # In this transaction, so that no key comes to open between the look and the delivery.
            last_copy.refuse(
                tx, held, replaced=begun.replaced, now=act.at, visible=lambda key: rights.may(Deed.SEE, key)
            )

    def hand_over_name(
        self, begun: Begun, *, at: datetime, retirement: Retirement, delivered_to: Sequence[str]
    ) -> None:
        """Make the key current."""
        with self._access.writing() as (tx, rights, act):
            rights.require(Deed.ROTATE, [lifecycle.require(tx, begun.key.id, act.at)])
            rotation.hand_over_name(
                tx, begun.key.id, act, at=at, retirement=retirement, delivered_to=list(delivered_to)
            )

    def standing(self, key_id: str) -> Standing:
        """How the key stands now."""
        with self._access.reading() as (connection, rights, act):
            now = act.now().at
            key = selection.get(connection, key_id, now=now)
            if key is None:
                return Standing(None, overtaken=False)
            rights.require(Deed.SEE, [key])
            return Standing(key, rotation.is_overtaken(connection, key, now))

    def discard(self, key_id: str, *, reason: str) -> bool:
        """Give the key up."""
        with self._access.writing() as (tx, rights, act):
            key = selection.get(tx, key_id, now=act.at)
            rights.require(Deed.ROTATE, [key] if key is not None else [])
            return lifecycle.discard(tx, key_id, act, reason=reason)

    def take_back(self, key_id: str, *, destinations: str | None, reason: str) -> Key:
        """Undo the handover of the name."""
        with self._access.writing() as (tx, rights, act):
            new = lifecycle.require(tx, key_id, act.at)
            rights.require(Deed.ROTATE, [new])
            rotation.take_back(tx, new, act, destinations=destinations, reason=reason)
            return lifecycle.require(tx, key_id, act.at)

    def _held(self, raw: RawKey) -> AbstractContextManager[Attempt]:
        return self._access.attempts.hold(raw.id) if self._lease is None else nullcontext(Attempt(lease=self._lease))

    def _create(self, changing: Changing, draft: Draft, raw: RawKey, attempt: Attempt, *, if_missing: bool) -> Begun:
        tx, rights, act = changing
        attempts = self._access.attempts
        lifecycle.discard_abandoned(tx, attempts, act)
        holder = selection.current(tx, draft.name, now=act.at)
        with names_hidden(rights, tx, draft.name, act.at):
            left = [] if holder is None else rotation.left_behind(tx, attempts, holder, act)
            if if_missing and holder is not None and not left:
                if holder.is_unfinished or not rights.may(Deed.SEE, holder):
                    raise lifecycle.name_taken(holder)
                return Begun(holder, None)
            draft = rights.drafted(draft)
            replaced = frozenset(key.id for key in left)
            strays = rotation.dead_strays(tx, attempts, draft.name, replaced, act)
            # The new key lets these retire.
            rights.require(Deed.ROTATE, [*left, *strays])
            replaces = left[-1].id if left else None
            pending = lifecycle.create_pending(tx, draft, raw, act, replaces=replaces, lease=attempt.lease)
        return Begun(pending, raw, None, replaced | {key.id for key in strays}, attempt)

    def _succeed(self, changing: Changing, key_id: str, raw: RawKey, plan: RotationPlan, attempt: Attempt) -> Begun:
        tx, rights, act = changing
        attempts = self._access.attempts
        asked = lifecycle.require(tx, key_id, act.at)
        rights.require(Deed.ROTATE, [asked])
        rights.require_keeping_policy(plan.override)
        _require_lifetime(rights, asked, plan, act.at)
        lifecycle.discard_abandoned(tx, attempts, act)
        predecessors = rotation.rotatable(tx, attempts, key_id, act)
        old = predecessors.key
        _refuse_if_just_rotated(old, plan.asked_at)
        # A successor that destinations may hold and that is not current is a job half done, so it is due.
        if not plan.due.applies(old, act.at) and not predecessors.unfinished:
            return Begun(old, None)
        with names_hidden(rights, tx, old.name, act.at):
            strays = rotation.dead_strays(tx, attempts, old.name, predecessors.ids, act)
        rights.require(Deed.ROTATE, [*predecessors.unfinished, *strays])
        replaced = predecessors.ids | {key.id for key in strays}
        pending = rotation.succeed_pending(
            tx, predecessors, raw, plan.expiry(old, act.at), act, override=plan.override, lease=attempt.lease
        )
        return Begun(pending, raw, _followed(predecessors, raw.id), replaced, attempt)

    @contextmanager
    def _nothing_left(self, raw: RawKey) -> Iterator[None]:
        """When the block fails, discard the key: the database may have committed before this process heard of it."""
        try:
            yield
        except BaseException as failure:
            if isinstance(failure, KeyctlError) and failure.code is Code.FORBIDDEN:
                raise  # nothing was written, and the caller may not even look
            try:
                if self.standing(raw.id).key is not None:
                    self.discard(raw.id, reason=lifecycle.DELIVERY_FAILED)
            except (KeyctlError, KeyboardInterrupt):
                failure.add_note(_NOT_DISCARDED.format(raw.id))
            raise


def _followed(predecessors: Predecessors, successor: str) -> Key:
    """The key that is being rotated, with the key that will follow it directly."""
    follower = predecessors.unfinished[0].id if predecessors.unfinished else successor
    return predecessors.key._replace(replaced_by=follower)


def _require_lifetime(rights: Rights, key: Key, plan: RotationPlan, now: datetime) -> None:
    """Raise `KeyctlError` (forbidden) where a key that may rotate itself and nothing else would live longer than it was
    given: who set its end meant it."""
    if rights.admin or rights.team is not None or plan.same_lifetime:
        return
    given = plan._replace(same_lifetime=True).expiry(key, now)
    if given is not None and (plan.expires_at is None or plan.expires_at > given):
        raise KeyctlError(
            Code.FORBIDDEN,
            f"you may not give key {key.id} a longer life than it had",
            f"Leave --expires out. A longer life takes {ADMIN}, or {TEAM} on a key of the same owner.",
        )


def _refuse_if_just_rotated(key: Key, asked_at: datetime) -> None:
    """Of rotations at once only one may win (promise 4), also where a name already means the new key of the winner."""
    if key.replaces is not None and key.activated_at is not None and key.activated_at > asked_at:
        raise KeyctlError(
            Code.LOST_RACE,
            f"another rotation finished first; the current key is {key.id}",
            "Run the command again if another rotation is what you want.",
        )
