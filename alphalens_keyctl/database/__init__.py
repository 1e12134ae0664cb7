"""Address → engine and transactions. What SQLite and PostgreSQL each need stands in a file of its own.

database = Database.open(parse_address("keys.db"), Limits())
with database.reading() as connection: ...
with database.writing() as tx: ...
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final, NewType, Protocol

from sqlalchemy import Connection, Engine

from alphalens_keyctl.address import Address, PostgreSQLAddress, SQLiteAddress, parse_address
from alphalens_keyctl.database import faults, lock_holders, postgresql, schema, sqlite
from alphalens_keyctl.database.attempt import Attempt
from alphalens_keyctl.database.session_attempts import SessionAttempts
from alphalens_keyctl.errors import Code, KeyctlError

if TYPE_CHECKING:
    from alphalens_keyctl.database.changes import Changes

__all__ = ["Address", "Attempt", "Attempts", "Database", "Limits", "Recording", "Writing", "exists", "parse_address"]

# Sessions that a program keeps which has one thread, or few.
FEW_SESSIONS: Final = 5
# The one transaction of this program that writes at a time. Only `Database.writing` makes a `Writing`, so a function
# that takes one cannot be called without the lock that keeps the audit chain and the successors single.
Writing = NewType("Writing", Connection)
# A transaction that records use and writes nothing else. Only `Database.recording` makes one.
Recording = NewType("Recording", Connection)


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds: for a connection, for a lock, for one answer (promise 11)."""

    connect_timeout: float = 5.0
    lock_timeout: float = 5.0
    query_timeout: float = 60.0


def exists(address: Address) -> bool:
    """Whether there is a database to open. Only opening tells whether a server is there, so a server counts as there.
    Raises `KeyctlError` for a path that leads to something else than a database file."""
    return isinstance(address, PostgreSQLAddress) or sqlite.exists(address.path)


class Attempts(Protocol):
    """Tells deliveries that still run from those whose process died."""

    def hold(self, key_id: str) -> AbstractContextManager[Attempt]:
        """Mark the delivery of a key as running while the block lasts. Raises `KeyctlError`."""

    def runs(self, connection: Connection, key_id: str) -> bool:
        """Whether the process that delivers the key is alive. Leases are judged by their end, not here."""


class Database:
    """An open database, which hands out transactions as blocks: the end of a writing block commits."""

    def __init__(self, address: Address, engine: Engine, attempts: Attempts) -> None:
        self.address = address
        self.attempts = attempts
        self._engine = engine

    @classmethod
    def open(cls, address: Address, limits: Limits, *, create: bool = True, sessions: int = FEW_SESSIONS) -> "Database":
        """Open a database and check its schema. So many `sessions` are kept for the next transactions, and those beyond
        are opened for one each.

        With `create`, a SQLite file is created where there is none. An older schema of a SQLite file is brought up to
        date; only `upgrade` ever changes a schema on PostgreSQL. Raises `KeyctlError`.
        """
        database = cls.connect(address, limits, create=create, sessions=sessions)
        try:
            found = database.schema()
            if isinstance(address, SQLiteAddress) and found.state is schema.SchemaState.OUTDATED:
                database.upgrade()
            else:
                schema.require(found)
        except BaseException:
            # A caller that tries again and again would use the connections of the server up.
            database.close()
            raise
        return database

    @classmethod
    def connect(
        cls, address: Address, limits: Limits, *, create: bool = True, sessions: int = FEW_SESSIONS
    ) -> "Database":
        """Open a database, as `open` does, without checking its schema. Raises `KeyctlError`."""
        if isinstance(address, PostgreSQLAddress):
            return cls._on_server(address, limits, sessions)
        if not sqlite.exists(address.path):
            if not create:
                raise KeyctlError(
                    Code.DATABASE_MISSING,
                    f"there is no database at {address.display}",
                    f"A first key makes it: alphalens-keyctl --database {quote(address.display)} create NAME",
                )
            sqlite.bring_to_life(address.path, lambda draft: cls._fill(draft, limits), lock_timeout=limits.lock_timeout)
        return cls._on_file(address, limits, sessions)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction for reading, rolled back at the end of the block. Raises `KeyctlError`."""
        with faults.translated(self.address), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """The one transaction that writes, waited for within the lock limit. It commits at the end of the block, and
        rolls back when an exception leaves the block. Raises `KeyctlError`."""
        with self._alone(postgresql.become_only_writer) as tx:
            yield tx

    @contextmanager
    def recording(self) -> Iterator[Recording]:
        """A transaction that records use. On PostgreSQL it does not wait for the transaction that writes, which may be
        changing a million keys: recording touches no column that a writer decides on. Raises `KeyctlError`."""
        with faults.translated(self.address), self._engine.connect() as connection:
            connection = connection.execution_options(**{sqlite.WRITES: True})
            with connection.begin():
                if isinstance(self.address, PostgreSQLAddress):
                    postgresql.require_writable(connection)
                yield Recording(connection)

    def upgrade(self) -> None:
        """Bring the schema to the latest revision, where it is not there already. Two upgrades at once do no harm.
        Raises `KeyctlError`."""
        with self._alone(postgresql.become_only_migration) as tx:
            if isinstance(self.address, PostgreSQLAddress):
                postgresql.lift_limits(tx)
            schema.upgrade(tx)

    def schema(self) -> schema.Schema:
        """The schema that the database has. Raises `KeyctlError` for a SQLite file without one: every file
        of this program has a schema, so the file belongs to another program."""
        with self.reading() as connection:
            found = schema.read(connection)
        if isinstance(self.address, SQLiteAddress) and found.state is schema.SchemaState.MISSING:
            raise KeyctlError(
                Code.DATABASE_UNUSABLE,
                f"{self.address.display} is a database of another program",
                "Name another file; this one is left as it is.",
            )
        return found

    @contextmanager
    def changes(self) -> Iterator["Changes"]:
        """What tells, while the block lasts, that events may have been written. Raises `KeyctlError`."""
        from alphalens_keyctl.database import changes  # for speed: for one command alone

        with changes.of(self.address, self._engine) as told:
            yield told

    @property
    def one_writer(self) -> bool:
        """Whether a transaction that writes keeps every other out, and a process must not fork with the database open.
        So it is with SQLite."""
        return isinstance(self.address, SQLiteAddress)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _alone(self, on_server: Callable[[Connection], None]) -> Iterator[Writing]:
        """A transaction that no other of this program writes beside; `on_server` waits for that on PostgreSQL."""
        try:
            with faults.translated(self.address), self._engine.connect() as connection:
                connection = connection.execution_options(**{sqlite.WRITES: True})
                with connection.begin():
                    if isinstance(self.address, PostgreSQLAddress):
                        on_server(connection)
                    else:
                        sqlite.make_room(connection)
                    yield Writing(connection)
        except KeyctlError as error:
            if isinstance(self.address, PostgreSQLAddress) and faults.is_lock_timeout(error):
                raise faults.held_by(self._holders()) from error
            raise

    def _holders(self) -> list[lock_holders.Holder]:
        # Asked over another connection: the transaction that waited is over, whoever it waited for goes on.
        try:
            with self.reading() as connection:
                return lock_holders.holders(connection)
        except KeyctlError:
            return []

    @classmethod
    def _on_file(cls, address: SQLiteAddress, limits: Limits, sessions: int) -> "Database":
        engine = sqlite.make_engine(address.path, lock_timeout=limits.lock_timeout, sessions=sessions)
        return cls(address, engine, sqlite.FileAttempts(address.path, lock_timeout=limits.lock_timeout))

    @classmethod
    def _on_server(cls, address: PostgreSQLAddress, limits: Limits, sessions: int) -> "Database":
        engine = postgresql.make_engine(
            address,
            connect_timeout=limits.connect_timeout,
            lock_timeout=limits.lock_timeout,
            query_timeout=limits.query_timeout,
            sessions=sessions,
        )
        attempts = SessionAttempts(engine, lambda: faults.translated(address))
        return cls(address, engine, attempts)

    @classmethod
    def _fill(cls, draft: Path, limits: Limits) -> None:
        database = cls._on_file(SQLiteAddress(draft), limits, 1)
        database.upgrade()
        database.close()
