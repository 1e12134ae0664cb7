"""A database as one caller has it: every transaction comes with the rights that the caller holds in that transaction
(promise 13)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from alphalens_keyctl.database import Attempts, Database, Writing
from alphalens_keyctl.keys import lookup
from alphalens_keyctl.keys.lookup import Reference
from alphalens_keyctl.manager import rights
from alphalens_keyctl.manager.rights import Permit, Rights
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.values import Key


class Reading(NamedTuple):
    """A transaction for reading, what its caller may see, and the act that reads, at the instant of the transaction."""

    connection: Connection
    rights: Rights
    act: Act


class Found(NamedTuple):
    """A transaction for reading, the key that was found in it, and what `lookup.lineage` need not ask again."""

    reading: Reading
    key: Key
    delivering: Mapping[str, str | None]


class Changing(NamedTuple):
    """The one transaction that writes, what its caller may do, and the act that changes, at the instant of the
    transaction."""

    tx: Writing
    rights: Rights
    act: Act


class Access:
    """The transactions of one caller."""

    def __init__(self, database: Database, act: Act, caller: str | None = None) -> None:
        """`caller` is the id of the key that the caller was let in by. None stands for whoever opens the database
        itself: the rights of that caller are the rights of the database's role."""
        self.database = database
        self._act = act
        self._caller = caller

    @property
    def attempts(self) -> Attempts:
        """What tells deliveries that still run."""
        return self.database.attempts

    def permit(self, connection: Connection, now: datetime) -> Permit:
        """What the caller may do in a transaction that somebody else began. Raises as `reading` does."""
        return Permit(rights.of(connection, self._caller, now=now), connection, now)

    def permit_of(self, held: Rights, connection: Connection, now: datetime) -> Permit:
        """What these rights allow in a transaction."""
        return Permit(held, connection, now)

    @property
    def act(self) -> Act:
        """Who acts."""
        return self._act

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """A transaction for reading. Raises `KeyctlError`: forbidden for a caller whose key opens nothing any more."""
        with self.database.reading() as connection:
            act = self._act.now()
            yield Reading(connection, rights.of(connection, self._caller, now=act.at), act)

    @contextmanager
    def finding(self, reference: Reference) -> Iterator[Found]:
        """A transaction for reading, with the key that KEY means among those that the caller may see. Raises as
        `reading` and `lookup.find` do."""
        with self.database.reading() as connection:
            act, found = self._act.now(), None
            delivering: Mapping[str, str | None] = {}
            if self._caller is None or not isinstance(reference, str):
                held = rights.of(connection, self._caller, now=act.at)
            else:
                # One statement for both, in which a server of keys saves a third of its exchanges with the database.
                both = lookup.beside(connection, self._caller, reference, now=act.at)
                held = rights.given(connection, self._caller, both.caller)
                if held.sight is None:
                    found, delivering = both.fitting, both.delivering
            key = lookup.find(connection, reference, now=act.at, within=held.sight, found=found)
            yield Found(Reading(connection, held, act), key, delivering)

    @contextmanager
    def reporting(self) -> Iterator[tuple[Connection, Act]]:
        """A transaction in which to tell the caller what a change did that was within the caller's rights. They are not
        asked again: the change may have ended the caller's own key."""
        with self.database.reading() as connection:
            yield connection, self._act.now()

    @contextmanager
    def writing(self) -> Iterator[Changing]:
        """The one transaction that writes, which commits at the end of the block. Raises as `reading` does."""
        with self.database.writing() as tx:
            act = self._act.now()
            # Read in the transaction that makes the change: a key that was narrowed or revoked a moment ago must not
            # go on with what it was let in for.
            yield Changing(tx, rights.of(tx, self._caller, now=act.at), act)
