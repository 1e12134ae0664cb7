"""What PostgreSQL needs: every wait bounded, one writer at a time, and locks that die with a session."""

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, create_engine, event, text

from alphalens_keyctl import interrupts
from alphalens_keyctl.database.address import PostgreSQLAddress
from alphalens_keyctl.database.attempt import Attempt
from alphalens_keyctl.database.server_errors import drop_values
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import UNREADABLE

if TYPE_CHECKING:
    from psycopg import Connection as PsycopgConnection
    from psycopg.adapt import AdaptersMap

    Driver = PsycopgConnection[Any]

LEASE: Final = 60.0  # seconds after which an attempt that no lock vouches for counts as dead
# Seconds that the client waits beyond the limit of the server before it takes the server for frozen.
_PATIENCE: Final = 5.0
_NO_SESSION: Final = "no session became free in time; a pooler may have too few for those who use it"


def dialer(address: PostgreSQLAddress, *, connect_timeout: float, answer_limit: float) -> "Callable[[], Driver]":
    """A function that connects to the server. Times are in seconds; an answer that takes longer than `answer_limit`
    raises `psycopg.OperationalError`.

    Raises `KeyctlError` (configuration_invalid) when psycopg is not installed or libpq does not take the URL.
    """
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise KeyctlError(
            Code.CONFIGURATION,
            "PostgreSQL needs psycopg, which is not installed",
            "Install it with: pip install 'alphalens-keyctl[postgres]'",
        ) from error
    try:
        parameters: dict[str, Any] = conninfo_to_dict(address.conninfo)
    except psycopg.Error as error:
        said = address.scrub(str(error).strip())
        raise KeyctlError(Code.CONFIGURATION, f"the database URL is not valid: {said}") from None
    # libpq waits that long for each host in turn, and takes less than 2 seconds for 2.
    hosts = str(parameters.get("host", "")).count(",") + 1
    parameters.setdefault("connect_timeout", max(2, round(connect_timeout / hosts)))
    parameters.setdefault("application_name", "alphalens-keyctl")
    limit = answer_limit

    class BoundedConnection(psycopg.Connection[Any]):
        """A connection that waits for each answer within a limit of the client, and whose errors show no value.

        A server that was stopped in its tracks keeps the socket open and says nothing, so none of its own limits ever
        fires.
        """

        answer_limit: float | None = limit
        answered = False

        def wait(self, gen: Any, *how: Any, **more: Any) -> Any:
            # A wait for notifications has a limit of its own, whose end is no fault of the server.
            bounded = self._bounded(gen) if more.get("timeout") is None else gen
            try:
                with interrupts.let_in():
                    return super().wait(bounded, *how, **more)
            except psycopg.Error as error:
                drop_values(error)
                raise

        def _bounded(self, gen: Any) -> Generator[Any, Any, Any]:
            """`gen`, which asks the server for something, given up after `answer_limit`.

            psycopg steps `gen` when the socket is ready, and every 0.1 s with nothing ready. A pooler takes a client in
            while it has no session to give, so the first answer is part of connecting.
            """
            limit = self.answer_limit if self.answered else connect_timeout
            deadline = math.inf if limit is None else time.monotonic() + limit
            ready = None
            while True:
                try:
                    wanted = gen.send(ready)
                except StopIteration as done:
                    self.answered = self.answered or ready is not None  # else nobody was asked
                    return done.value
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()  # what the server did is unknown: nothing more may go over this connection
                    raise psycopg.OperationalError("the server stopped answering" if self.answered else _NO_SESSION)
                ready = yield wanted

    context = _reading_any_time()

    def dial() -> BoundedConnection:
        # A prepared statement does not survive a pooler in transaction mode.
        with interrupts.let_in():
            return BoundedConnection.connect(
                **parameters, prepare_threshold=None, client_encoding="utf8", context=context
            )

    return dial


def _reading_any_time() -> "AdaptersMap":
    """How values are read: a time that Python cannot hold, infinity say, is `UNREADABLE` instead of the end of all."""
    import psycopg
    from psycopg.adapt import AdaptersMap, Loader
    from psycopg.pq import Format

    adapters = AdaptersMap(psycopg.adapters)
    for written in (Format.TEXT, Format.BINARY):
        known = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, written)
        assert known is not None  # noqa: S101  # psycopg reads each of its own types
        reader: type[Any] = known

        class ForgivingLoader(Loader):
            format = written
            read_by = reader

            def __init__(self, oid: int, context: Any = None) -> None:
                super().__init__(oid, context)
                self._read = self.read_by(oid, context).load

            def load(self, data: Any) -> Any:
                try:
                    return self._read(data)
                except psycopg.DataError:
                    return UNREADABLE

        adapters.register_loader("timestamptz", ForgivingLoader)
    return adapters


def make_engine(
    address: PostgreSQLAddress, *, connect_timeout: float, lock_timeout: float, query_timeout: float
) -> Engine:
    """An engine on a server, which connects on first use. Times are in seconds. Raises as `dialer` does."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=dialer(address, connect_timeout=connect_timeout, answer_limit=query_timeout + _PATIENCE),
        hide_parameters=True,
        pool_pre_ping=True,
        # A stricter level would read the head of the audit chain as it was before the lock of the writer was granted.
        isolation_level="READ COMMITTED",
        use_native_hstore=False,
    )
    _limit_transactions(engine, lock_timeout=lock_timeout, query_timeout=query_timeout)
    return engine


def is_pooled(connection: "Driver") -> bool:
    """Whether a pooler stands between client and server and lends a connection for one transaction at a time.

    The number of the process that answers is then not the number that the client was told at connecting.
    """
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or bool(row[0] != connection.info.backend_pid)


def _limit_transactions(engine: Engine, *, lock_timeout: float, query_timeout: float) -> None:
    @event.listens_for(engine, "connect")
    def know(connection: Any, record: Any) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in (None, "UTF8"):
            # A name that this encoding cannot hold would fail only when somebody looks for it.
            raise KeyctlError(
                Code.DATABASE_UNUSABLE,
                f"the database is encoded in {encoding}, and names may be any text",
                "Create it with ENCODING 'UTF8'.",
            )
        record.info["database_user"] = connection.info.user

    @event.listens_for(engine, "begin")
    def limit(connection: Connection) -> None:
        # Local to the transaction: the settings of a session would stay with the connection of a pooler. A limit of 0
        # would mean none to PostgreSQL.
        milliseconds = {"lock": max(1, round(lock_timeout * 1000)), "query": max(1, round(query_timeout * 1000))}
        # Closed at once: under the `yield_per` of a connection the result would be a cursor that the server keeps open.
        connection.execute(_SETTINGS, {name: f"{value}ms" for name, value in milliseconds.items()}).close()


_SETTINGS: Final = text(
    "SELECT set_config('lock_timeout', :lock, true),"
    " set_config('statement_timeout', :query, true),"
    # A role or a database may have other settings, and psycopg reads times in ISO style alone.
    " set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true)"
)


def lift_limits(connection: Connection) -> None:
    """Let the statements of the transaction take any time: the migration of a large table does."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.connection.driver_connection.answer_limit = None  # type: ignore[union-attr]  # our own class


def become_only_writer(connection: Connection) -> None:
    """Wait, `lock_timeout` at most, until no other transaction of this program writes; until this one ends."""
    connection.exec_driver_sql(_BE_ONLY_WRITER)


def become_only_migration(connection: Connection) -> None:
    """Wait, `lock_timeout` at most, until nobody else migrates or writes. The table that writers lock may not be there
    yet."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _lock_number("writer")})
    if connection.scalar(text("SELECT to_regclass('alphalens_keyctl_writer')")) is not None:
        become_only_writer(connection)


# Recorders and readers hold no lock that this one waits for, and cannot: they have no right on the table.
_BE_ONLY_WRITER: Final = "LOCK TABLE alphalens_keyctl_writer IN EXCLUSIVE MODE"


class Holder(NamedTuple):
    """A session that a writer may be waiting for. `since` is None where the server does not show it to this role."""

    pid: int
    role: str
    since: datetime | None


def holders(connection: Connection) -> list[Holder]:
    """The sessions that hold locks on what a change writes to, those that have held them longest first."""
    return [Holder(*row) for row in connection.execute(_HOLDERS)]


_HOLDERS: Final = text(
    "SELECT pid, usename, xact_start FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid IN ("
    " SELECT pid FROM pg_locks WHERE granted AND locktype = 'relation' AND mode NOT IN ('AccessShareLock')"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND relation IN (to_regclass('api_key'), to_regclass('audit_event'), to_regclass('alphalens_keyctl_writer')))"
    " ORDER BY xact_start NULLS LAST, pid"
)


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
                pooled = is_pooled(driver)
                if not pooled:
                    _keep_alive(driver)
                    connection.execute(_HOLD, {"lock": _lock_number(key_id)})
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
        number = _lock_number(key_id) % 2**64
        return bool(connection.scalar(_RUNS, {"high": number >> 32, "low": number % 2**32}))


# Anybody who may connect can take any advisory lock. Only a role that could make the key can be delivering it.
_RUNS: Final = text(
    "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = CAST(:high AS bigint) AND objid = CAST(:low AS bigint) AND objsubid = 1"
    " AND has_table_privilege(usesysid, 'api_key', 'INSERT'))"
)


def _keep_alive(connection: "Driver") -> None:
    """Let the session live as long as its client, however long it is idle."""
    if connection.info.server_version >= _IDLE_SESSIONS_END:
        connection.execute("SET idle_session_timeout = 0")
    # A machine that lost its power says nothing: without these settings the server would keep the lock of such a
    # machine for hours.
    connection.execute("SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4")


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


_IDLE_SESSIONS_END: Final = 140000  # the first version that has idle_session_timeout
_HOLD: Final = text("SELECT pg_advisory_lock(:lock)")


def _lock_number(name: str) -> int:
    """The number of the advisory lock of that name, the same in every process."""
    digest = hashlib.sha256(f"alphalens-keyctl {name}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
