"""What a caller may do to which keys. Every way in asks here, in the transaction that reads or changes (promise 13).

The rights are scopes of the caller's own key: `keyctl:admin` everything; `keyctl:team` the keys of the caller's owner;
`keyctl:audit` see everything and change nothing. Without any of them a key may see, rotate and revoke itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import Connection, bindparam, select

from alphalens_keyctl import scopes
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import selection, within
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.within import Within
from alphalens_keyctl.models import Key, key_table

if TYPE_CHECKING:
    from alphalens_keyctl.keys.update import Update  # for speed: few commands update

ADMIN, AUDIT, TEAM = scopes.RESERVED
_HOLD_BACK: Final = "Leave it out, or ask an admin."


class Deed(StrEnum):
    """What a caller does to a key. Each value is the word for it in a refusal."""

    SEE = "see"
    UPDATE = "update"
    ROTATE = "rotate"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"
    USE = "count a use of"


# What every key may do to itself.
_TO_ITSELF: Final = frozenset({Deed.SEE, Deed.ROTATE, Deed.REVOKE})


class Rights(NamedTuple):
    """The rights of a caller, whose key is `key` as it is in this transaction; None stands for whoever opens the
    database itself, and may do everything.

    `own` are the ids of that key and of its successors that are not delivered yet; `followers` the ids of the
    successors after those, which a caller who lost an answer may look at and no more: a key that leaked, and was
    rotated for that, must not reach the new one.
    """

    key: Key | None = None
    own: frozenset[str] = frozenset()
    followers: frozenset[str] = frozenset()

    @property
    def admin(self) -> bool:
        """Whether the caller may do everything."""
        return self.key is None or self._holds(ADMIN)

    @property
    def sees_all(self) -> bool:
        """Whether the caller may see every key and the whole log."""
        return self.admin or self._holds(AUDIT)

    @property
    def team(self) -> str | None:
        """The owner whose keys the caller manages; None where the caller manages no team's."""
        return self.key.owner if self.key is not None and self._holds(TEAM) else None

    @property
    def sight(self) -> Within | None:
        """The keys that the caller may see; None: all."""
        return None if self.sees_all else Within(self.team, self.own | self.followers)

    def may(self, deed: Deed, key: Key) -> bool:
        """Whether the caller may do this to `key`."""
        if self.admin or (deed is Deed.SEE and self.sees_all):
            return True
        if key.id in self.own and deed in _TO_ITSELF:
            return True
        if self.team is None or key.owner != self.team:
            return deed is Deed.SEE and key.id in self.followers
        # Nobody stops whoever stands above: an administrator's key can belong to a team's owner too. And whoever
        # rotates a key holds the raw key of what it may do.
        return deed is Deed.SEE or not self._lacking(key.scopes if deed is Deed.ROTATE else _reserved(key))

    def require(self, deed: Deed, keys: Iterable[Key]) -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may do this to every one of the keys."""
        for key in () if self.admin else keys:
            if self.may(deed, key):
                continue
            if deed is Deed.SEE:
                raise within.refusal(f"key {key.id}")
            if self.team is not None and key.owner == self.team:
                lacking = ", ".join(self._lacking(key.scopes if deed is Deed.ROTATE else _reserved(key)))
                hint = f"It may do what your own key may not: {lacking}. That takes {ADMIN}."
            else:
                hint = f"That takes {ADMIN}, or {TEAM} on a key of the same owner."
            raise KeyctlError(Code.FORBIDDEN, f"you may not {deed} key {key.id}", hint)

    def require_ids(self, connection: Connection, deed: Deed, key_ids: Sequence[str], now: datetime) -> None:
        """The same for the keys with these ids."""
        for some in selection.few_at_once(() if self.admin else key_ids):
            self.require(deed, selection.some(connection, some, now=now))

    def require_all(self, what: str, *, to_see: bool = False) -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may do everything, or with `to_see` see everything. `what`
        follows "you may not"."""
        if not (self.sees_all if to_see else self.admin):
            hint = f"That takes {ADMIN} or {AUDIT}." if to_see else f"That takes {ADMIN}."
            raise KeyctlError(Code.FORBIDDEN, f"you may not {what}", hint)

    def require_verifying(self, key: Key | None, *, recorded: bool) -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may hear whether the raw key of `key` opens, and with
        `recorded` let that count as a use. None stands for a raw key that is none of this database."""
        if key is not None:
            self.require(Deed.USE if recorded else Deed.SEE, [key])
        elif recorded:
            self.require_all("record a raw key that is none")

    def require_managing(self, what: str) -> None:
        """Raise `KeyctlError` (forbidden) for a caller that manages no keys but itself. `what` is as above."""
        if not self.sees_all and self.team is None:
            raise KeyctlError(Code.FORBIDDEN, f"you may not {what}", f"That takes {ADMIN}, {AUDIT} or {TEAM}.")

    def drafted(self, draft: Draft) -> Draft:
        """The draft of a new key as this caller may create it.

        A key that a team's member makes belongs to the member's owner, and without scopes of its own gets those of the
        member's key that administer nothing. Raises `KeyctlError` (forbidden) for any other owner, for scopes that the
        caller's own key does not cover, and for a draft that overrides the stored policy.
        """
        if self.admin:
            return draft
        if self.team is None:
            raise KeyctlError(
                Code.FORBIDDEN, "you may not create keys", f"That takes {ADMIN}, or {TEAM} on a key that has an owner."
            )
        if draft.owner is None:
            draft = draft._replace(owner=self.team)
        if draft.scopes is None:
            own = tuple(scope for scope in self._held or () if scope not in scopes.RESERVED)
            if not own:
                raise KeyctlError(
                    Code.FORBIDDEN,
                    "you may not make an unrestricted key, and your own key has no scope to pass on",
                    f"Name scopes that your key covers, or ask an admin: one with {ADMIN} makes any key.",
                )
            draft = draft._replace(scopes=own)
        self._require_owner(draft.owner)
        self._require_grant(draft.scopes or ())
        self.require_keeping_policy(draft.override)
        return draft

    def require_update(self, new: "Update") -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may give keys that the caller may update these values."""
        if self.admin:
            return
        if "owner" in new.fields:
            owner = new.fields["owner"]
            self._require_owner(None if owner is None else str(owner))
        if "scopes" in new.fields:
            raise KeyctlError(Code.FORBIDDEN, "you may not lift a key's restriction to scopes", f"That takes {ADMIN}.")
        self._require_grant(new.added.get("scopes", ()))
        self.require_keeping_policy(new.override)

    def require_keeping_policy(self, override: str | None) -> None:
        """Raise `KeyctlError` (forbidden) for a caller that would do what the stored policy forbids everybody."""
        if override is not None:
            self.require_all("override the stored policy")

    def _require_owner(self, owner: str | None) -> None:
        if self.team is None or owner != self.team:
            said = "no owner" if owner is None else f"the owner '{owner}'"
            hint = f"That takes {ADMIN}; {TEAM} of your key is for the owner '{self.team}'."
            raise KeyctlError(Code.FORBIDDEN, f"you may not give a key {said}", hint)

    def _require_grant(self, wanted: Sequence[str]) -> None:
        """Nobody grants what they do not hold."""
        if lacking := self._lacking(wanted):
            raise KeyctlError(
                Code.FORBIDDEN, f"you may not grant {', '.join(lacking)}: your own key does not hold it", _HOLD_BACK
            )

    def _lacking(self, wanted: Sequence[str] | None) -> list[str]:
        """Which of these scopes the caller does not hold; None wants everything."""
        if wanted is None:
            return [] if self._held is None else ["everything"]
        return [scope for scope in wanted if not scopes.covers(self._held, scope)]

    @property
    def _held(self) -> Sequence[str] | None:
        return None if self.key is None else self.key.scopes

    def _holds(self, right: str) -> bool:
        return self.key is not None and scopes.covers(self.key.scopes, right)


def of(connection: Connection, caller: str | None, *, now: datetime) -> Rights:
    """The rights that the key with the id `caller` gives at `now`; every right for None.

    Raises `KeyctlError` (forbidden) where the key opens nothing any more.
    """
    return Rights() if caller is None else given(connection, caller, selection.get(connection, caller, now=now))


def given(connection: Connection, caller: str, key: Key | None) -> Rights:
    """The same, of a key that was read in this transaction; None where there is no key with the id `caller`."""
    if key is None or not key.opens:
        raise KeyctlError(
            Code.FORBIDDEN, f"your own key, {caller}, opens nothing any more", "Ask an admin for another one."
        )
    rights = Rights(key)
    if rights.admin:
        return rights
    own, followers = _successors(connection, caller)
    return rights._replace(own=own, followers=followers)


@contextmanager
def names_hidden(rights: Rights, connection: Connection, name: str, now: datetime) -> Iterator[None]:
    """In the block, an error about a name that a key has whom the caller may not see says no more than that."""
    try:
        yield
    except KeyctlError as error:
        told = Permit(rights, connection, now).told(error, name)
        if told is error:
            raise
        raise told from None


class Permit(NamedTuple):
    """`bulk_issuance.Permit`: what the rights of a caller allow in one transaction."""

    rights: Rights
    connection: Connection
    now: datetime

    def drafted(self, draft: Draft) -> Draft:
        return self.rights.drafted(draft)

    def require_replacing(self, keys: Sequence[Key]) -> None:
        self.rights.require(Deed.ROTATE, keys)

    def told(self, error: KeyctlError, name: str) -> KeyctlError:
        if error.code is not Code.NAME_TAKEN or self.rights.sight is None:
            return error
        holder = selection.current(self.connection, name, now=self.now)
        if holder is not None and self.rights.may(Deed.SEE, holder):
            return error
        return KeyctlError(
            Code.NAME_TAKEN, f"the name '{name}' is taken by a key that you may not see", "Choose another name."
        )


def _successors(connection: Connection, caller: str) -> tuple[frozenset[str], frozenset[str]]:
    """`own` and `followers` of the rights of a caller."""
    own, followers, latest = {caller}, set[str](), [caller]
    while latest:
        found = [row for row in connection.execute(_SUCCEEDING, {"replaced": latest}) if row.id not in own]
        latest = [row.id for row in found if row.activated_at is None]
        own.update(latest)
        followers.update(row.id for row in found if row.activated_at is not None)
    return frozenset(own), frozenset(followers)


_SUCCEEDING: Final = select(key_table.c.id, key_table.c.activated_at).where(
    key_table.c.replaces.in_(bindparam("replaced", expanding=True)),
    key_table.c.replaces.is_not(None),
    key_table.c.revoked_at.is_(None),
)


def _reserved(key: Key) -> list[str]:
    return [scope for scope in key.scopes or () if scope in scopes.RESERVED]
