"""What a caller may do to which keys. Every way in asks here, in the transaction that reads or changes (promise 13).

The rights are scopes of the caller's own key: `keyctl:admin` everything; `keyctl:team` the keys of the caller's owner;
`keyctl:audit` see everything and change nothing. Without any of them a key may see, rotate and revoke itself.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import Connection

from alphalens_keyctl import scopes
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import selection
from alphalens_keyctl.keys.selection import Selection, Within
from alphalens_keyctl.models import Key

ADMIN: Final = "keyctl:admin"
TEAM: Final = "keyctl:team"
AUDIT: Final = "keyctl:audit"


class Deed(StrEnum):
    """What a caller does. Each value is the word for it in a refusal."""

    SEE = "see"
    CREATE = "create"
    UPDATE = "update"
    ROTATE = "rotate"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"


# What every key may do to itself.
_TO_ITSELF: Final = frozenset({Deed.SEE, Deed.ROTATE, Deed.REVOKE})


class Rights(NamedTuple):
    """The rights of a caller, whose key is `key` as it is in this transaction; None stands for whoever opens the
    database itself, and may do everything."""

    key: Key | None = None

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

    def may(self, deed: Deed, key: Key) -> bool:
        """Whether the caller may do this to `key`."""
        if self.admin or (deed is Deed.SEE and self.sees_all):
            return True
        if self.team is not None and key.owner == self.team:
            # Nobody may stop whoever stands above: an administrator's key can belong to a team's owner too.
            return deed is Deed.SEE or scopes.grants(self._held, _reserved(key))
        return self._is_mine(key) and deed in _TO_ITSELF

    def require(self, deed: Deed, keys: Iterable[Key]) -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may do this to every one of the keys."""
        for key in keys:
            if not self.may(deed, key):
                raise KeyctlError(
                    Code.FORBIDDEN,
                    f"you may not {deed} key {key.id}",
                    f"That takes {ADMIN}, or {TEAM} on a key of the same owner."
                    if deed is not Deed.SEE
                    else f"That takes {ADMIN}, {AUDIT}, or {TEAM} on a key of the same owner.",
                )

    def require_all(self, what: str, *, to_see: bool = False) -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may do everything, or with `to_see` see everything. `what`
        follows "you may not"."""
        if not (self.sees_all if to_see else self.admin):
            raise KeyctlError(
                Code.FORBIDDEN, f"you may not {what}", f"That takes {ADMIN}{f' or {AUDIT}' if to_see else ''}."
            )

    def require_owner(self, owner: str | None) -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may give a key this owner."""
        if not self.admin and (self.team is None or owner != self.team):
            said = "no owner" if owner is None else f"the owner '{owner}'"
            raise KeyctlError(Code.FORBIDDEN, f"you may not give a key {said}", self._own())

    def require_grant(self, wanted: Sequence[str] | None) -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may give a key these scopes (None: unrestricted): nobody
        grants what they do not hold."""
        if self.admin or scopes.grants(self._held, wanted):
            return
        lacking = [scope for scope in wanted or () if not scopes.grants(self._held, [scope])]
        what = "an unrestricted key" if wanted is None else f"the scope {', '.join(lacking)}"
        raise KeyctlError(
            Code.FORBIDDEN, f"you may not grant {what}: your own key does not hold it", "Leave it out, or ask an admin."
        )

    def within(self, wanted: Selection) -> Selection:
        """The part of `wanted` that the caller may see."""
        if self.sees_all:
            return wanted
        assert self.key is not None  # noqa: S101  # whoever has no key sees all
        return wanted._replace(within=Within(self.team, self.key.id))

    @property
    def _held(self) -> Sequence[str] | None:
        return None if self.key is None else self.key.scopes

    def _holds(self, right: str) -> bool:
        return self.key is not None and scopes.covers(self.key.scopes, right)

    def _is_mine(self, key: Key) -> bool:
        """Whether `key` is the caller's own, or the successor of it that the caller is rotating to."""
        return self.key is not None and self.key.id in (key.id, key.replaces)

    def _own(self) -> str:
        return f"Yours is '{self.team}'." if self.team is not None else f"That takes {TEAM} or {ADMIN}."


def of(connection: Connection, caller: str | None, *, now: datetime) -> Rights:
    """The rights that the key with the id `caller` gives at `now`; every right for None.

    Raises `KeyctlError` (forbidden) where the key opens nothing any more.
    """
    if caller is None:
        return Rights()
    key = selection.get(connection, caller, now=now)
    if key is None or not key.opens:
        raise KeyctlError(Code.FORBIDDEN, f"key {caller}, which you came with, opens nothing any more")
    return Rights(key)


def _reserved(key: Key) -> list[str]:
    return [scope for scope in key.scopes or () if scope.startswith(scopes.RESERVED)]
