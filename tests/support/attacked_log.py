"""One attack on a log: a history whose owner attacks it, and what shows of an attack that was made.

An attack on the database is one transaction without triggers, constraints and foreign keys, in which `audit.verify`
looks at what the attack left, and which is undone. `tests.support.attacks` has the attacks.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, cast

from sqlalchemy import Connection, Table, delete, insert, select

from alphalens_keyctl import KeyManager
from alphalens_keyctl.database import Database, Writing
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.evidence import checkpoint, ssh_signature
from alphalens_keyctl.logs import audit, proof
from alphalens_keyctl.logs.audit import GENESIS, BreakKind, Head
from alphalens_keyctl.models import event_table, key_table, policy_table
from alphalens_keyctl.moments import rfc3339_exact, utc_now
from tests.support.ssh_signers import Signer, allowed
from tests.support.usage_rows import record, usage_row

Row = dict[str, Any]
GHOST: Final = "GhostGhost00"
_COLUMNS: Final = {
    table: [column for column in table.c if column.computed is None] for table in (event_table, key_table, policy_table)
}


class Found(NamedTuple):
    """Whether an attack shows: by the log alone, with the head, with the head where that was signed. None: there is
    nothing to look at."""

    alone: bool | None
    kept: bool | None
    signed: bool


ALWAYS: Final = Found(True, True, True)
BY_HEAD: Final = Found(False, True, True)
NEVER: Final = Found(False, False, False)


class Moment(NamedTuple):
    """What stood in the tables behind a command, and the head then."""

    events: list[Row]
    keys: list[Row]
    policy: list[Row]
    head: Head


class Try(Protocol):
    """One attack: in words, what has to show of it, and what does."""

    @property
    def what(self) -> str: ...
    @property
    def shows(self) -> Found: ...
    def found(self) -> Found: ...


class History:
    """A database with a short history of every kind of event, the moments behind its commands, and who signs heads."""

    def __init__(self, database: Database, url: str, folder: Path) -> None:
        self.database = database
        self.moments: list[Moment] = []
        record(database, [usage_row(utc_now() - timedelta(days=400))])  # to be pruned
        with KeyManager(url, actor="ann") as manager:
            for step in _STEPS:
                step(manager)
                with database.reading() as connection:
                    head = proof.rooted(connection, audit.head(connection))
                    events, keys, policy = (_rows(connection, table) for table in _COLUMNS)
                    self.moments.append(Moment(events, keys, policy, head))
        self.events, self.keys, _, self.head = self.moments[-1]
        self.ann, self.eve = Signer(folder, "ann"), Signer(folder, "eve")
        self.signers = allowed(folder, self.ann.line)

    @contextmanager
    def attacked(self) -> Iterator[Writing]:
        """A transaction of somebody who owns the database, undone at the end of the block."""
        with suppress(_UndoneError), self.database.writing() as tx:
            if self.database.one_writer:
                tx.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
                tx.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
                for (name,) in tx.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
                    tx.exec_driver_sql(f"DROP TRIGGER {name}")
            else:
                of_ours = "conrelid = to_regclass('api_key') AND contype IN ('c', 'f')"
                for (name,) in tx.exec_driver_sql(f"SELECT conname FROM pg_constraint WHERE {of_ours}").all():
                    tx.exec_driver_sql(f"ALTER TABLE api_key DROP CONSTRAINT {name}")
                for table in ("api_key", "audit_event"):
                    tx.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            yield tx
            raise _UndoneError

    def is_signed(self, head: Head, signature: str | None) -> bool:
        """Whether the signature on a head counts."""
        try:
            ssh_signature.signer(checkpoint.text(checkpoint.of(head)), signature, self.signers, None)
        except KeyctlError:
            return False
        return True


class OnDatabase(NamedTuple):
    """An attack on the database. It is judged by `head`, which was kept before, or for None by one that the attacker
    put in its place."""

    history: History
    what: str
    do: Callable[[Writing], None]
    head: Head | None
    shows: Found = ALWAYS
    breaks: frozenset[BreakKind] = frozenset(BreakKind)

    def found(self) -> Found:
        with self.history.attacked() as tx:
            self.do(tx)
            alone = self._broken(tx, None)
            own = proof.rooted(tx, audit.head(tx)) if self.head is None else None
            # What is broken in itself is broken beside any head.
            kept = alone or self._broken(tx, self.head or own)
        signed = kept or (own is not None and not self.history.is_signed(own, self._signed_by_eve(own)))
        return Found(alone, kept, signed)

    def _broken(self, tx: Connection, head: Head | None) -> bool:
        verdict = audit.verify(cast("Database", _Held(tx)), head)
        if head is not None:
            verdict = proof.compared(tx, verdict, head)
        if verdict.broken is not None:
            assert verdict.broken.kind in self.breaks, (self.what, verdict.broken)
        return verdict.broken is not None

    def _signed_by_eve(self, head: Head) -> str:
        return self.history.eve.sign(checkpoint.text(checkpoint.of(head)))


class OnDocument(NamedTuple):
    """An attack on what somebody outside was given."""

    what: str
    holds: Callable[[], bool]
    shows: Found

    def found(self) -> Found:
        return self.shows._replace(signed=not self.holds(), kept=None if self.shows.kept is None else not self.holds())


# --- the history ------------------------------------------------------------------------------------------------------

_STEPS: Final[Sequence[Callable[[KeyManager], object]]] = (
    lambda manager: manager.create("billing", owner="ops", expires="30d", labels={"a": "b"}, scopes=["prices:read"]),
    lambda manager: manager.create("ci", purpose="<&> ö", allow_from=["10.0.0.0/8"]),
    lambda manager: manager.rotate("ci", grace="1h", deadline="7d"),
    lambda manager: manager.suspend("billing", reason="leaked?"),
    lambda manager: manager.revoke("ci"),
    lambda manager: manager.resume("billing"),
    lambda manager: manager.update("billing", new={"owner": "web"}),
    lambda manager: manager.set_policy(max_lifetime="365d", require=["owner"], reason="audit"),
    lambda manager: manager._backend.prune_usage(utc_now(), dry_run=False),
)


class _UndoneError(Exception):
    pass


class _Held:
    """An attacked transaction in the place of the database: `audit.verify` takes two at once, and here they wait for
    each other."""

    def __init__(self, tx: Connection) -> None:
        self._tx = tx
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._lock:
            yield self._tx


def _rows(connection: Connection, table: Table) -> list[Row]:
    query = select(*_COLUMNS[table]).order_by(*table.primary_key)
    return [dict(row) for row in connection.execute(query).mappings()]


def put_rows(table: Table, rows: Iterable[Row]) -> Callable[[Connection], None]:
    """Make a table hold exactly these rows."""
    written = list(rows)

    def do(tx: Connection) -> None:
        tx.execute(delete(table))
        if written:
            tx.execute(insert(table), written)

    return do


def hashed(row: Row) -> Row:
    """An event with the hash that belongs to what it says."""
    form = audit.canonical(
        row["seq"], rfc3339_exact(row["at"]), row["actor"], row["action"], row["key_id"], row["key_name"],
        row["detail"], row["previous_hash"],
    )  # fmt: skip
    return row | {"hash": hashlib.sha256(form).digest()}


def rechained(rows: Iterable[Row]) -> list[Row]:
    """A log written anew from the start, sound in itself."""
    log: list[Row] = []
    for seq, row in enumerate(rows, 1):
        log.append(hashed(row | {"seq": seq, "previous_hash": log[-1]["hash"] if log else GENESIS}))
    return log


def numbered(rows: Iterable[Row]) -> list[Row]:
    return [row | {"seq": seq} for seq, row in enumerate(rows, 1)]


def _other(value: object) -> object:
    """Another value for a column of the same type."""
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, dict):
        return value | {"x": "y"}
    if isinstance(value, tuple):
        return (*value, "x")
    return value + 7 if isinstance(value, int) else f"{value}x"


# For a column that holds nothing yet.
_INVENTED: Final = {
    "scopes": ("x",), "allow_from": ("10.0.0.0/8",), "grace_after_use": 7, "key_id": "x", "key_name": "x",
    "owner": "mallory", "purpose": "mine", "revoked_by": "mallory", "revoke_reason": "why not", "delivering_to": "x",
}  # fmt: skip


def with_another(row: Row, column: str, others: Sequence[Row]) -> Row:
    if row[column] is not None:
        return row | {column: _other(row[column])}
    if column.endswith("_at"):
        return row | {column: row["created_at"]}
    if column in _INVENTED:
        return row | {column: _INVENTED[column]}
    return row | {column: next(other["id"] for other in others if other["id"] != row["id"])}  # a link to a key
