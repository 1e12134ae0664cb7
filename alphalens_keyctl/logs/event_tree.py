"""The Merkle tree over the hashes of the audit events, made in one pass when somebody asks for it.

The entry of an event is its hash, 32 bytes, which holds all that the event says and the hash of the event before; the
entry of event 1 has the index 0. Nothing of the tree is stored, so an event costs no more for it.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sqlalchemy import Connection

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import merkle_tree
from alphalens_keyctl.logs.merkle_tree import BLOCK

_HASH: Final = 32  # bytes
_READ_AT_ONCE: Final = 16 * BLOCK  # few reads, because each waits for the interpreter, which is hashing, when it ends
# How many hashes there are in a block, and they as one value: a row for each would take three times as long over a
# connection, and SQLite would keep the interpreter from hashing meanwhile. SQLite holds any type in any column.
_SQLITE: Final = """SELECT sum(typeof(hash) = 'blob' AND length(hash) = 32), group_concat(hex(hash), '')
    FROM (SELECT hash FROM audit_event WHERE seq > ? AND seq <= ? ORDER BY seq)"""
_POSTGRESQL: Final = """SELECT count(*) FILTER (WHERE length(hash) = 32),
        encode(string_agg(hash, ''::bytea ORDER BY seq), 'hex')
    FROM audit_event WHERE seq > %s AND seq <= %s"""


def root(connection: Connection, size: int) -> bytes:
    """Return the root over the first `size` events. Raises `KeyctlError` (unproven) where not all of them are there."""
    return merkle_tree.root(_blocks(connection, size))


def inclusion(connection: Connection, seq: int, size: int) -> tuple[bytes, list[bytes]]:
    """Return the root over the first `size` events, and the proof that event `seq` is one of them. Raises as `root`
    does."""
    return merkle_tree.inclusion(_blocks(connection, size), seq - 1)


def _blocks(connection: Connection, size: int) -> Iterator[list[bytes]]:
    """The hashes of the first `size` events, many of which are read while whoever asked hashes those before."""
    if size == 0:
        return
    with ThreadPoolExecutor(max_workers=1) as ahead:
        coming = ahead.submit(_read, connection, 0, min(_READ_AT_ONCE, size))
        for start in range(0, size, _READ_AT_ONCE):
            joined, end = coming.result(), min(start + _READ_AT_ONCE, size)
            if end < size:
                coming = ahead.submit(_read, connection, end, min(end + _READ_AT_ONCE, size))
            hashes = [joined[place : place + _HASH] for place in range(0, len(joined), _HASH)]
            yield from (hashes[first : first + BLOCK] for first in range(0, len(hashes), BLOCK))


def _read(connection: Connection, start: int, end: int) -> bytes:
    """The hashes of the events behind `start` up to `end`, one after the other."""
    statement = _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL
    whole, joined = connection.exec_driver_sql(statement, (start, end)).one()
    if whole != end - start or len(joined) != 2 * _HASH * whole:
        raise KeyctlError(
            Code.UNPROVEN,
            f"the audit log is not whole: of the events {start + 1} to {end} some are missing or altered",
            "'audit verify' names the first of them.",
        )
    return bytes.fromhex(joined)
