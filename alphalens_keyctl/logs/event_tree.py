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
# A block of hashes as one value: a row for each hash would take three times as long.
_SQLITE: Final = """SELECT group_concat(hex(hash), '')
    FROM (SELECT hash FROM audit_event WHERE seq > ? AND seq <= ? ORDER BY seq)"""
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
    query = _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        joined = bytes.fromhex(connection.exec_driver_sql(query, (start, end)).scalar() or "")
        if len(joined) != (end - start) * _HASH:
            raise KeyctlError(
                Code.UNPROVEN,
                f"the audit log is not whole: of the events {start + 1} to {end} some are missing or altered",
                "'audit verify' names the first of them.",
            )
        yield [joined[place : place + _HASH] for place in range(0, len(joined), _HASH)]
