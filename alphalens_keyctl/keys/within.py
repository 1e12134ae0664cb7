"""The keys that a caller with few rights may see, as a condition (promise 13)."""

from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, or_, select

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import key_table

# Which right is missing where somebody may not see a key.
SEEING_TAKES = "That takes keyctl:admin, keyctl:audit, or keyctl:team on a key of the same owner."


class Within(NamedTuple):
    """The keys with these `ids` and, where `owner` is not None, the keys of exactly this owner."""

    owner: str | None
    ids: frozenset[str]

    def condition(self) -> ColumnElement[bool]:
        """The condition for a key that is within."""
        named = key_table.c.id.in_(sorted(self.ids))
        return named if self.owner is None else or_(named, key_table.c.owner == self.owner)

    def parameters(self) -> dict[str, object]:
        """The parameters of `bound`."""
        return {"within_ids": sorted(self.ids), "within_owner": self.owner}

    def key_ids(self) -> Select[tuple[str]]:
        """A query for the ids of the keys that are within."""
        return select(key_table.c.id).where(self.condition())


def bound(*, owner: bool) -> ColumnElement[bool]:
    """`Within.condition` for a statement that is made once; `owner` says whether `Within.owner` is not None."""
    named = key_table.c.id.in_(bindparam("within_ids", expanding=True))
    return or_(named, key_table.c.owner == bindparam("within_owner")) if owner else named


def refusal(which: str) -> KeyctlError:
    """The error for a key that is not within; `which` follows "you may not see"."""
    return KeyctlError(Code.FORBIDDEN, f"you may not see {which}", SEEING_TAKES)
