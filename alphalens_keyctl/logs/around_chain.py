"""What may be wrong around a sound chain: with the tables and indexes by which its rows and keys are found, with the
labels of keys, and with the stored policy."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from alphalens_keyctl.database import Database
from alphalens_keyctl.logs import bound_policy


class Trouble(StrEnum):
    """What is wrong. The words are part of the JSON contract."""

    DAMAGED = "damaged"
    INDEX = "index"
    ALTERED_POLICY = "altered_policy"


class Fault(NamedTuple):
    """What is wrong, and in words about what."""

    trouble: Trouble
    about: str | None = None


def faults(database: Database, stopped: Callable[[], bool], *, log_only: bool) -> tuple[Fault | None, Fault | None]:
    """The first fault of the tables and indexes, which may hide rows of the log; and where there is none, and unless
    `log_only`, of the labels or the policy. `stopped` is asked now and then, and ends the check with an error."""
    from alphalens_keyctl.database import indexes  # for speed: every command loads this file

    with database.reading() as connection:
        if (about := indexes.unsound(connection, stop=stopped)) is not None:
            return Fault(Trouble.DAMAGED, about), None
        if (about := indexes.altered(connection)) is not None:
            return Fault(Trouble.INDEX, about), None
        if log_only:
            return None, None
        if (about := indexes.mislabelled(connection)) is not None:
            return None, Fault(Trouble.INDEX, about)
        return None, Fault(Trouble.ALTERED_POLICY) if bound_policy.is_unbound(connection) else None
