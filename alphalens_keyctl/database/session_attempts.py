"""Which deliveries still run, on PostgreSQL: a lock that dies with the session of the process that delivers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Engine, text

from alphalens_keyctl.database.attempt import Attempt
from alphalens_keyctl.database.postgresql import begin_session, lock_number
from alphalens_keyctl.errors import Code, KeyctlError

if TYPE_CHECKING:
    from alphalens_keyctl.database.postgresql import Driver

LEASE: Final = 60.0  # seconds after which an attempt that no lock vouches for counts as dead
_ANSWER: Final = 60.0  # seconds that the session waits for an answer


class SessionAttempts:
    """Which deliveries are still running: a session advisory lock tells, or behind a pooler a lease."""

    def __init__(self, engine: Engine, translated: Callable[[], Any]) -> None:
        self._engine = engine
        self._translated = translated

    @contextmanager
    def hold(self, key_id: str) -> Iterator[Attempt]:
        """Mark the delivery of a key as running while the block lasts, by a lock, or with a lease behind a pooler,
        where the lock would stay on a session that belongs to nobody."""
        with self._translated():
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self._translated():
                driver: Driver = connection.connection.driver_connection  # type: ignore[assignment]  # psycopg's
                pooled = begin_session(driver, answer_limit=_ANSWER) is None
                if not pooled:
                    driver.execute(_KEEP_ALIVE)
                    connection.execute(_HOLD, {"lock": lock_number(key_id)})
            if pooled:
                yield Attempt(lease=LEASE)
            else:
                socket = driver.fileno()
                yield Attempt(descriptors=(socket,), alarm=socket, prove=lambda: _prove_alive(driver))
        finally:
            # Not returned to the pool: the lock has to end with the session.
            with suppress(Exception):
                connection.invalidate()
            with suppress(Exception):
                connection.close()

    def runs(self, connection: Connection, key_id: str) -> bool:
        """Whether a session still holds the lock of the key. Leases are judged by their end, not here."""
        number = lock_number(key_id) % 2**64
        return bool(connection.scalar(_RUNS, {"high": number >> 32, "low": number % 2**32}))


# Anybody who may connect can take any advisory lock. Only a role that could make the key can be delivering it.
_RUNS: Final = text(
    "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = CAST(:high AS bigint) AND objid = CAST(:low AS bigint) AND objsubid = 1"
    " AND has_table_privilege(usesysid, 'api_key', 'INSERT'))"
)


def _prove_alive(connection: "Driver") -> None:
    """Raise `KeyctlError` (database_unreachable) when the session has ended, and its lock with it: a session lock ends
    no other way."""
    import psycopg

    try:
        connection.execute("SELECT 1")
    except psycopg.Error as error:
        raise KeyctlError(
            Code.DATABASE_UNREACHABLE,
            "the database ended the session that marked this delivery as running, so another run may have taken over",
            "Run the command again.",
        ) from error


_HOLD: Final = text("SELECT pg_advisory_lock(:lock)")
# A machine that lost its power says nothing: without these settings the server would keep the lock of such a machine
# for hours.
_KEEP_ALIVE: Final = "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4"
