"""The Merkle tree over the hashes of the audit events, made in one pass when somebody asks for it.

The entry of an event is its hash, 32 bytes, which holds all that the event says and the hash of the event before; the
entry of event 1 has the index 0. Nothing of the tree is stored, so an event costs no more for it.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import merkle_tree
from alphalens_keyctl.logs.merkle_tree import BLOCK

_HASH: Final = 32  # bytes
_SQLITE: Final = "SELECT hash FROM audit_event WHERE seq > ? AND seq <= ? ORDER BY seq"
# A block of hashes as one value: over a connection a row for each hash would take three times as long.
_POSTGRESQL: Final = """SELECT encode(string_agg(hash, ''::bytea ORDER BY seq), 'hex')
    FROM audit_event WHERE seq > %s AND seq <= %s"""


def root(connection: Connection, size: int) -> bytes:
    """Return the root over the first `size` events. Raises `KeyctlError` (unproven) where not all of them are there."""
    return merkle_tree.root(_blocks(connection, size))


def inclusion(connection: Connection, seq: int, size: int) -> tuple[bytes, list[bytes]]:
    """Return the root over the first `size` events, and the proof that event `seq` is one of them. Raises as `root`
    does."""
    return merkle_tree.inclusion(_blocks(connection, size), seq - 1)


def _blocks(connection: Connection, size: int) -> Iterator[list[bytes]]:
    read = _block_of_file if connection.dialect.name == "sqlite" else _block_of_server
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        hashes = read(connection, start, end)
        if len(hashes) != end - start or {*map(type, hashes)} != {bytes} or {*map(len, hashes)} != {_HASH}:
            raise KeyctlError(
                Code.UNPROVEN,
                f"the audit log is not whole: of the events {start + 1} to {end} some are missing or altered",
                "'audit verify' names the first of them.",
            )
        yield hashes


def _block_of_file(connection: Connection, start: int, end: int) -> list[bytes]:
    found = connection.exec_driver_sql(_SQLITE, (start, end))
    # As tuples of the driver: SQLAlchemy takes as long to make rows of its own as SQLite to read them.
    return [stored for (stored,) in found.cursor_strategy.fetchall(found, found.cursor)]


def _block_of_server(connection: Connection, start: int, end: int) -> list[bytes]:
    joined = bytes.fromhex(connection.exec_driver_sql(_POSTGRESQL, (start, end)).scalar() or "")
    return [joined[place : place + _HASH] for place in range(0, len(joined), _HASH)]
