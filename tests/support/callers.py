"""Callers of the manager: keys of each role, made in the database, and the way to the keys that each of them has."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import func, select

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import issuance
from alphalens_keyctl.keys.changes import RevocationChange, Targets
from alphalens_keyctl.keys.issuance import RotationPlan
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.manager.block import Block
from alphalens_keyctl.manager.over_database import OverDatabase
from alphalens_keyctl.models import Key, event_table
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.provenance import Act, Origin
from tests.support.key_rows import change, put

TEAM: Final = "team-a"
OTHER: Final = "team-b"
DAY: Final = timedelta(days=1)


class Role(NamedTuple):
    """A role: the scopes of the key of who has it, and its owner."""

    scopes: tuple[str, ...] | None
    owner: str | None = TEAM


ROLES: Final = {
    "admin": Role(("keyctl:admin",)),
    "team": Role(("keyctl:team", "prices:read", "reports:*")),
    "team of nobody": Role(("keyctl:team", "prices:read", "reports:*"), owner=None),
    "audit": Role(("keyctl:audit", "prices:read")),
    "plain": Role(("prices:read",)),
    "unrestricted": Role(None),
}
# Callers whose key opens nothing any more, though it holds every right.
DEAD: Final = ("retired", "revoked", "suspended", "expired")


class House:
    """A database with keys of several owners, and the ways to it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.root = self.as_caller(None)
        self._made = 0

    def as_caller(self, caller: str | None) -> OverDatabase:
        act = Act(utc_now(), "root" if caller is None else f"key:{caller}", Origin(None, None, None, None))
        return OverDatabase(self.database, act, caller, prefix="alk")

    def key(self, owner: str | None = TEAM, scopes: Sequence[str] | None = ("prices:read",), name: str = "") -> Key:
        """A new active key."""
        self._made += 1
        made = put(self.database, name or f"key-{self._made}", owner=owner, scopes=scopes and tuple(scopes))
        return self.now(made)

    def create(self, way: OverDatabase, draft: Draft) -> issuance.Created:
        return issuance.create(way.steps, draft, Block(), shown_to_nobody, if_missing=False)

    def rotate(self, way: OverDatabase, key_id: str, grace: timedelta = DAY) -> issuance.Rotated:
        plan = RotationPlan(utc_now(), Retirement(grace))
        return issuance.rotate(way.steps, key_id, plan, Block(), shown_to_nobody)

    def caller(self, role: str) -> Key:
        """The key of a caller of this role."""
        if role not in DEAD:
            return self.key(ROLES[role].owner, ROLES[role].scopes)
        key = self.key(TEAM, ("keyctl:admin", "keyctl:team"))
        self.end(key.id, role)
        return key

    def end(self, key_id: str, role: str) -> None:
        """Let a key open nothing any more, in the way that `DEAD` names; any other role keeps its key."""
        if role == "retired":
            self.rotate(self.root, key_id, timedelta(0))
        elif role == "expired":
            change(self.database, key_id, expires_at=utc_now() - DAY)
        elif role in DEAD:
            revocation = Revocation.REVOKE if role == "revoked" else Revocation.SUSPEND
            self.root.change(RevocationChange(revocation), Targets([key_id]))

    def events(self) -> int:
        with self.database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(event_table)) or 0

    def now(self, key_id: str) -> Key:
        return self.root.find(key_id)


def shown_to_nobody(_made: object, _raw: RawKey) -> Sequence[str]:
    return ()
