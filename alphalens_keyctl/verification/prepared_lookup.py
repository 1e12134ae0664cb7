"""The SELECT of a key's record, prepared once on a connection and asked through libpq itself.

psycopg's cursor works out anew for each statement what never changes here, and takes as long over it as the server
takes to answer.
"""

import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format

from alphalens_keyctl.database.server_errors import drop_values

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from alphalens_keyctl.database.postgresql import Driver

_NAME: Final = b"alphalens_keyctl_record"
# Seconds that the client waits beyond the server's own limit, so that the server's word on it comes first.
_PATIENCE: Final = 0.1


class PreparedLookup:
    """A lookup by id over a connection that one thread at a time uses and no pooler shares. Times are in seconds.

    Every method raises `psycopg.Error`. The connection is closed where the server has not answered within
    `answer_limit`, and whenever a call does not end well: nobody knows what would come over it next.
    """

    def __init__(self, connection: "Driver", statement: bytes, *, answer_limit: float) -> None:
        """Prepare a SELECT whose one parameter, `$1`, is the id."""
        self._connection = connection
        self._server = connection.pgconn
        self._limit = answer_limit + _PATIENCE
        self._readable = select.poll()  # made once: psycopg makes one for every statement
        self._readable.register(self._server.socket, select.POLLIN)
        self._readers: tuple[Callable[[bytes], Any], ...] = ()
        self._ask(lambda: self._server.send_prepare(_NAME, statement), ExecStatus.COMMAND_OK)

    def row(self, key_id: str) -> tuple[Any, ...] | None:
        """The columns of the key with that id; None where there is none."""
        # In binary form, values depend on neither the session's time zone nor its date style.
        send = self._server.send_query_prepared
        result = self._ask(lambda: send(_NAME, [key_id.encode()], result_format=Format.BINARY), ExecStatus.TUPLES_OK)
        if result.ntuples == 0:
            return None
        # A prepared statement never changes the types of its columns: the server refuses it instead.
        readers = self._readers = self._readers or self._readers_of(result)
        value = result.get_value
        return tuple([None if (stored := value(0, at)) is None else read(stored) for at, read in enumerate(readers)])

    def _readers_of(self, result: "PGresult") -> tuple[Callable[[bytes], Any], ...]:
        """psycopg's own way to read each column; bytes stay bytes where psycopg has none."""
        adapters, types = self._connection.adapters, map(result.ftype, range(result.nfields))
        loaders = [(oid, adapters.get_loader(oid, Format.BINARY)) for oid in types]
        return tuple(loader(oid, self._connection).load if loader is not None else bytes for oid, loader in loaders)

    def _ask(self, send: Callable[[], None], wanted: ExecStatus) -> "PGresult":
        try:
            send()
            result = self._answer()
            if result.status != wanted:
                error = error_from_result(result)
                drop_values(error)
                raise error
        except BaseException:  # Ctrl-C, too
            self._server.finish()
            raise
        return result

    def _answer(self) -> "PGresult":
        server, until = self._server, time.monotonic() + self._limit
        if server.flush():
            # A question is shorter than any buffer, and the one before it was answered.
            raise psycopg.OperationalError("the connection takes no more")
        results: list[PGresult] = []
        while True:
            while server.is_busy():
                left = until - time.monotonic()
                if left <= 0 or not self._readable.poll(left * 1000):
                    raise psycopg.OperationalError("the server stopped answering")
                server.consume_input()
            if (result := server.get_result()) is None:
                return results[0]
            results.append(result)
