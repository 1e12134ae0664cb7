"""What PostgreSQL needs: every wait bounded, one writer at a time, and locks that die with a session."""

import hashlib
import math
import select
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError

from alphalens_keyctl import interrupts
from alphalens_keyctl.address import PostgreSQLAddress
from alphalens_keyctl.database import end_of_log
from alphalens_keyctl.database.server_errors import drop_values
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import UNREADABLE

if TYPE_CHECKING:
    from psycopg import Connection as PsycopgConnection
    from psycopg.adapt import AdaptersMap

    Driver = PsycopgConnection[Any]

# Seconds that the client waits beyond the limit of the server before it takes the server for frozen.
_PATIENCE: Final = 5.0
# Seconds after an answer in which a session is taken to live, unless the server has ended it.
_FRESH: Final = 1.0
_NO_SESSION: Final = "no session became free in time; a pooler may have too few for those who use it"


class ReadOnlyError(KeyctlError):
    """The server, or the role, takes no changes: nothing can be written here, however long one waits."""


def dialer(
    address: PostgreSQLAddress, *, connect_timeout: float, answer_limit: float, primary: bool = False
) -> "Callable[[], Driver]":
    """A function that connects to the server. Times are in seconds; an answer that takes longer than `answer_limit`
    raises `psycopg.OperationalError`. `primary`: never to a standby, whatever the URL says.

    Raises `KeyctlError` (configuration_invalid) when psycopg is not installed or libpq does not take the URL.
    """
    try:
        import psycopg
    except ImportError as error:
        raise KeyctlError(
            Code.CONFIGURATION,
            "PostgreSQL needs psycopg, which is not installed",
            "Install it with: pip install 'alphalens-keyctl[postgres]'",
        ) from error
    try:
        parameters = _parameters(address.conninfo, connect_timeout, primary=primary)
    except (psycopg.Error, ValueError) as error:
        said = address.scrub(str(error).strip())
        raise KeyctlError(Code.CONFIGURATION, f"the database URL is not valid: {said}") from None
    limit, first_limit = answer_limit, max(connect_timeout, float(parameters["connect_timeout"]))

    class BoundedConnection(psycopg.Connection[Any]):
        """A connection that waits for each answer within a limit of the client, and whose errors show no value.

        A server that was stopped in its tracks keeps the socket open and says nothing, so none of its own limits ever
        fires.
        """

        answer_limit: float | None = limit
        answered_at: float | None = None  # monotonic

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
            limit = first_limit if self.answered_at is None else self.answer_limit
            deadline = math.inf if limit is None else time.monotonic() + limit
            ready = None
            while True:
                try:
                    wanted = gen.send(ready)
                except StopIteration as done:
                    # Without an answer nobody was asked.
                    self.answered_at = self.answered_at if ready is None else time.monotonic()
                    return done.value
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()  # what the server did is unknown: nothing more may go over this connection
                    raise psycopg.OperationalError("the server stopped answering" if self.answered_at else _NO_SESSION)
                ready = yield wanted

    context = _reading_any_time()

    def dial() -> BoundedConnection:
        # A prepared statement does not survive a pooler in transaction mode.
        with interrupts.let_in():
            return BoundedConnection.connect(**parameters, prepare_threshold=None, context=context)

    return dial


def _parameters(conninfo: str, connect_timeout: float, *, primary: bool) -> dict[str, Any]:
    """What libpq is told: everything that the URL says but the encoding, which is ours, and where the URL says nothing,
    what suits us. Raises `psycopg.Error` or ValueError for what libpq does not take."""
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict

    parameters: dict[str, Any] = conninfo_to_dict(conninfo)
    in_all = _with_what_libpq_adds(conninfo)
    hosts = max(in_all.get(name, "").count(",") for name in ("host", "hostaddr")) + 1
    if not 0 < _number(parameters.get("connect_timeout", "0")) < math.inf:  # to libpq, 0 is to wait for ever
        # libpq waits that long for each host in turn, and takes less than 2 seconds for 2.
        parameters["connect_timeout"] = max(2, round(connect_timeout / hosts))
    if "application_name" not in parameters:
        parameters.setdefault("fallback_application_name", "alphalens-keyctl")
    # Of several servers the one that is written to, also for reading: a standby may not know yet that a key is revoked.
    ours = "primary" if pq.version() >= _FIRST_WITH_PRIMARY else "read-write"
    if primary:
        parameters["target_session_attrs"] = ours
    elif hosts > 1 and in_all.get("target_session_attrs", "any") == "any":
        parameters.setdefault("target_session_attrs", ours)
    parameters["client_encoding"] = "utf8"
    return parameters


_FIRST_WITH_PRIMARY: Final = 140000


def _with_what_libpq_adds(conninfo: str) -> dict[str, str]:
    """The parameters with those of the service and of the environment, which libpq alone puts together."""
    from psycopg.conninfo import make_conninfo
    from psycopg.pq import PGconn

    # libpq refuses this sslmode once it has put them together, and before it connects anywhere.
    refused = PGconn.connect_start(make_conninfo(conninfo, sslmode="none such").encode())
    return {each.keyword.decode(): each.val.decode() for each in refused.info if each.val}


def _number(written: str) -> float:
    try:
        return float(written)
    except ValueError:
        raise ValueError("its connect_timeout is not a number of seconds") from None


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
    address: PostgreSQLAddress, *, connect_timeout: float, lock_timeout: float, query_timeout: float, sessions: int = 1
) -> Engine:
    """An engine on a server, which connects on first use, and keeps so many `sessions`. Times are in seconds. Raises as
    `dialer` does."""
    dial = dialer(address, connect_timeout=connect_timeout, answer_limit=query_timeout + _PATIENCE)

    def connect() -> "Driver":
        connection = dial()
        connection.autocommit = True  # `_begin_transactions` begins them, and in fewer exchanges than the driver
        return connection

    engine = create_engine(
        "postgresql+psycopg://",
        creator=connect,
        hide_parameters=True,
        pool_timeout=connect_timeout,
        pool_size=sessions,
        use_native_hstore=False,
    )
    _look_at_sessions(engine)
    _begin_transactions(engine, lock_timeout=lock_timeout, query_timeout=query_timeout)
    return engine


class Server(NamedTuple):
    """A server as it runs: when it was started, in microseconds since the epoch, tells it from its standbys and from
    every other; `standby` says whether it was one when the session began."""

    started: int
    standby: bool


def begin_session(connection: "Driver", *, answer_limit: float) -> Server | None:
    """Make a session that no setting of its role cuts short, whose statements end after `answer_limit` seconds.

    Returns the server; None behind a pooler, where the next statement may reach another, and the session's settings
    would stay with the connection of the pooler.
    """
    limit = max(1, round(answer_limit * 1000))
    settings = {"statement_timeout": limit, "lock_timeout": limit}
    version = connection.info.server_version
    settings |= {name: 0 for name, since in _NO_LIMIT.items() if version >= since}
    statement = _BEGIN_SESSION.format(
        "".join(f", set_config('{name}', '{value}', false)" for name, value in settings.items())
    )
    row = connection.execute(statement.encode(), {"pid": connection.info.backend_pid}).fetchone()
    return None if row is None else Server(*row[:2])


def cuts_short(connection: "Driver", *, answer_limit: float) -> bool:
    """Whether a setting of the role or the database ends a statement sooner than after `answer_limit` seconds."""
    limit = max(1, round(answer_limit * 1000))
    return connection.execute(_SHORTER, {"limit": limit}).fetchone() is not None


@contextmanager
def unhurried(connection: "Driver", *, answer_limit: float) -> Iterator[None]:
    """A transaction that no such setting cuts short: `begin_session` for a session that is the pooler's."""
    limit = max(1, round(answer_limit * 1000))
    with connection.transaction():
        connection.execute(_UNHURRIED, {"limit": str(limit)})
        yield


_SHORTER: Final = (
    "SELECT 1 FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout')"
    " AND CAST(setting AS bigint) BETWEEN 1 AND %(limit)s - 1"
)
_UNHURRIED: Final = (
    # The timer of a transaction that has begun is only ever switched off.
    "SELECT set_config(name, CASE name WHEN 'transaction_timeout' THEN '0' ELSE %(limit)s END, true) FROM pg_settings"
    " WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout')"
)
# One statement, so that a session costs no more than asking for the pooler did. The settings are made for the one row
# that there is where no pooler stands between.
_BEGIN_SESSION: Final = (
    "SELECT CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS bigint), pg_is_in_recovery(){}"
    " WHERE pg_backend_pid() = %(pid)s"
)
# Limits on sessions and transactions, and the version of PostgreSQL that brought each. A reader waits for requests.
_NO_LIMIT: Final = {"idle_session_timeout": 140000, "transaction_timeout": 170000}


def _look_at_sessions(engine: Engine) -> None:
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

    @event.listens_for(engine, "checkout")
    def ask_whether_it_lives(connection: Any, _record: Any, _taken: Any) -> None:
        # To ask each time, as `pool_pre_ping` does, is an exchange more in every transaction of a busy server.
        if not _lives(connection):
            raise InvalidatePoolError


def _lives(connection: Any) -> bool:
    """Whether a session of `dialer` lives. The server is asked only of one that was silent for a while, or where it has
    said something unasked: that the session is over."""
    import psycopg

    if connection.answered_at is None:  # new: the first statement will tell
        return True
    if time.monotonic() - connection.answered_at < _FRESH:
        unasked = select.poll()
        unasked.register(connection.fileno(), select.POLLIN)
        if not unasked.poll(0):
            return True
    try:
        connection.execute("")
    except psycopg.OperationalError:
        return False
    return True


def _begin_transactions(engine: Engine, *, lock_timeout: float, query_timeout: float) -> None:
    # Local to the transaction: the settings of a session would stay with the connection of a pooler. A limit of 0 would
    # mean none to PostgreSQL. One text, so that beginning takes one exchange with the server.
    statements = (
        # A stricter level would read the head of the audit chain as it was before the lock of the writer was granted.
        "BEGIN ISOLATION LEVEL READ COMMITTED",
        f"SET LOCAL lock_timeout = {max(1, round(lock_timeout * 1000))}",
        f"SET LOCAL statement_timeout = {max(1, round(query_timeout * 1000))}",
        # A role or a database may have other settings, and psycopg reads times in ISO style alone.
        "SET LOCAL TimeZone = 'UTC'",
        "SET LOCAL DateStyle = 'ISO, MDY'",
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("; ".join(statements), execution_options=_PLAIN)


# Not by a cursor of the server, which a connection with `yield_per` has for its other statements.
_PLAIN: Final = {"yield_per": None, "stream_results": False}
_STATE: Final = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')"
# SQLSTATE read_only_sql_transaction: PostgreSQL, "Error Codes".
_READ_ONLY: Final = "25006"


def require_writable(connection: Connection) -> None:
    """Raise `ReadOnlyError` where the transaction can change nothing."""
    _refuse_read_only(connection, _STATE)


def _refuse_read_only(connection: Connection, statements: str) -> Any:
    """Run statements that begin with `_STATE`, as one text, and raise `ReadOnlyError` unless changes are taken. Returns
    the first row of what the last of them answered, or None."""
    try:
        with connection.exec_driver_sql(statements, execution_options=_PLAIN) as answers:
            in_recovery, read_only = answers.cursor.fetchall()[0]
            while answers.cursor.nextset():
                pass
            last = answers.cursor.fetchone()
    except DBAPIError as error:
        # A standby takes no lock that keeps writers out. Where only a role's transactions are read-only, it does.
        in_recovery, read_only = getattr(error.orig, "sqlstate", None) == _READ_ONLY, ""
        if not in_recovery:
            raise
    if in_recovery:
        raise ReadOnlyError(
            Code.DATABASE_UNUSABLE,
            "this server is a standby, which takes no changes",
            "Name the primary, or every server (postgresql://A,B/DATABASE, without target_session_attrs): the one that"
            " takes changes is found.",
        )
    if read_only == "on":
        raise ReadOnlyError(
            Code.DATABASE_UNUSABLE,
            "the transactions of this role are read-only",
            "Use another role, or set default_transaction_read_only to off for this one (ALTER ROLE, or options in the"
            " URL).",
        )
    return last


def lift_limits(connection: Connection) -> None:
    """Let the statements of the transaction take any time: the migration of a large table does."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.connection.driver_connection.answer_limit = None  # type: ignore[union-attr]  # our own class


def become_only_writer(connection: Connection) -> None:
    """Wait, `lock_timeout` at most, until no other transaction of this program writes; until this one ends."""
    # One text, so that this takes one exchange; the last statement sees what the writer before has committed.
    end_of_log.keep(connection, _refuse_read_only(connection, f"{_STATE}; {_BE_ONLY_WRITER}; {end_of_log.LAST_LINK}"))


def become_only_migration(connection: Connection) -> None:
    """Wait, `lock_timeout` at most, until nobody else migrates or writes. The table that writers lock may not be there
    yet."""
    require_writable(connection)
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock_number("writer")})
    if connection.scalar(text("SELECT to_regclass('alphalens_keyctl_writer')")) is not None:
        become_only_writer(connection)


# Recorders and readers hold no lock that this one waits for, and cannot: they have no right on the table.
_BE_ONLY_WRITER: Final = "LOCK TABLE alphalens_keyctl_writer IN EXCLUSIVE MODE"


def lock_number(name: str) -> int:
    """The number of the advisory lock of that name, the same in every process."""
    digest = hashlib.sha256(f"alphalens-keyctl {name}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
