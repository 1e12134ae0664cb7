"""The rows of the keys, bound to the audit log.

Every event about a key says, as `row` in its detail, the digest of the key's row as the row is after the event. The
hash chain keeps the event, and the event keeps the row: a row that somebody changed, made or removed past this program
is not what its newest event says (promise 7).

The digest of a row is SHA-256 over a compact JSON array of `BOUND`, in this order, as the database writes JSON: times
in UTC as `2026-11-23 06:34:00.123456`, JSON as its text, the key's digest in upper-case hex.
"""

import hashlib
import json
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, TextClause, bindparam, text
from sqlalchemy.exc import OperationalError

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import key_table
from alphalens_keyctl.vocabulary import STATUS_SQL

# Whatever an event may set or change.
BOUND: Final = (
    "id", "name", "name_folded", "owner", "purpose", "labels", "created_at", "created_by", "activated_at",
    "expires_at", "retires_at", "suspended_at", "revoked_at", "revoked_by", "revoke_reason", "replaces", "replaced_by",
    "delivering_to", "scopes", "allow_from", "awaits_use_of", "grace_after_use", "digest", "digest_scheme",
)  # fmt: skip
# What recordings of use and leases write, without an event; and `status`, which the database derives from the others,
# and which is compared with them.
UNBOUND: Final = frozenset({"status", "last_used_at", "use_count", "first_used_at", "lease_until"})
_TIMES: Final = frozenset(name for name in BOUND if name.endswith("_at"))
_JSON: Final = frozenset({"labels", "scopes", "allow_from"})
_ROWS_AT_ONCE: Final = 2000
_KEYS_AT_ONCE: Final = 5000
_NO_JSON: Final = "JSON cannot hold BLOB values"

_AFTER: Final = "after_"

# Values that a change is about to write, by column of `BOUND`.
After = Mapping[str, "datetime | str | None"]


class RowFault(StrEnum):
    """How the rows of the keys are not what the audit log says. The words are part of the JSON contract."""

    ALTERED = "altered_key"
    UNKNOWN = "unknown_key"
    MISSING = "missing_key"


class Unbound(NamedTuple):
    """The first row that is not what its events say, or the key that has events and no row. `key_id` may be any text:
    whoever made the row chose it."""

    fault: RowFault
    key_id: str


def digests(connection: Connection, key_ids: Sequence[str]) -> dict[str, str]:
    """The digests, in hex, of the rows of the keys with these ids, by id.

    Raises `KeyctlError` (database_unusable) for a key that has no row, or none that the user of the database sees.
    """
    found: dict[str, str] = {}
    wanted = list(dict.fromkeys(key_ids))
    read = _on_postgresql if connection.dialect.name == "postgresql" else _on_sqlite
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        found.update(read(connection, wanted[start : start + _KEYS_AT_ONCE]))
    if len(found) != len(wanted):
        missing = next(key_id for key_id in wanted if key_id not in found)
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            f"the database does not show the row of key {missing}, which the audit log is to describe",
            "Check the database for row security and for triggers that are not ours.",
        )
    return found


def with_digests(connection: Connection, query: Select[Any], after: After) -> list[tuple[Any, ...]]:
    """The rows that a query of keys finds, and behind the columns of each the digest, in hex, of the key's row as the
    row will be once the columns of `after` have these values."""
    if connection.dialect.name == "postgresql":
        form = f"encode({_postgresql_digest(after)}, 'hex')"
        return list(map(tuple, connection.execute(query.add_columns(_with_values(form, after)))))
    try:
        found = connection.execute(query.add_columns(_with_values(_sqlite_row(after), after))).all()
    except OperationalError as error:
        if not _is_no_json(error):
            raise
        found = connection.execute(query.add_columns(_with_values(_sqlite_any_row(after), after))).all()
    sha256 = hashlib.sha256
    return [(*columns, sha256(form).hexdigest()) for *columns, form in found]


def _with_values(form: str, after: After) -> TextClause:
    types = key_table.c
    return text(form).bindparams(*(bindparam(_AFTER + name, value, types[name].type) for name, value in after.items()))


def first_unbound(connection: Connection) -> Unbound | None:
    """The first row that is not what its newest event says, or whose status is not what the row says, in constant
    memory; None where there is none."""
    number = 0
    with closing(_rows_and_events(connection)) as rows:
        for key_id, digest, detail in rows:
            number += 1
            if detail is None:
                return Unbound(RowFault.UNKNOWN, key_id)
            if _said_in(detail) != digest:
                return Unbound(RowFault.ALTERED, key_id)
    # Whoever owns the database can have it derive a status otherwise, and a verifier judges by the status.
    compared = "IS DISTINCT FROM" if connection.dialect.name == "postgresql" else "IS NOT"
    forged = connection.exec_driver_sql(_FORGED.format(compared)).scalar()
    if forged is not None:
        return Unbound(RowFault.ALTERED, _legible(forged))
    # Each row has its events: as many keys in the log as rows, and no key is missing.
    if connection.exec_driver_sql("SELECT count(DISTINCT key_id) FROM audit_event").scalar() == number:
        return None
    missing = connection.exec_driver_sql(_MISSING).scalar()
    return None if missing is None else Unbound(RowFault.MISSING, str(missing))


def _said_in(detail: Any) -> str | None:
    try:
        said = json.loads(detail)["row"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return said if isinstance(said, str) else None


def _rows_and_events(connection: Connection) -> Generator[tuple[str, str, Any], None, None]:
    """The id of each key, the digest of its row, and the detail of the newest event about it. A row and its event are
    read by one statement, so that no change comes between them."""
    if connection.dialect.name == "postgresql":
        own = connection.exec_driver_sql("SELECT has_column_privilege('api_key', 'digest', 'SELECT')").scalar()
        rows = f"({POSTGRESQL_FUNCTION}) AS key (id, row_digest)" if own else _for_readers(connection)
        newest = _NEWEST.format("key.id")
        query = f"SELECT key.id, encode(key.row_digest, 'hex'), ({newest}) FROM {rows}"  # noqa: S608  # our own constants
        yield from _streamed(connection, query)
        return
    try:
        yield from _hashed(_streamed(connection, _SQLITE_EVENTS.format(_sqlite_row({}))))
        return
    except OperationalError as error:
        if not _is_no_json(error):
            raise
    # Somebody stored what JSON cannot say. The transaction sees the same rows again: those that were sound still are.
    yield from _hashed(_streamed(connection, _SQLITE_EVENTS.format(_sqlite_any_row({}))))


def _hashed(rows: Iterator[Any]) -> Iterator[tuple[str, str, Any]]:
    for key_id, form, detail in rows:
        yield _legible(key_id), hashlib.sha256(form).hexdigest(), detail


def _legible(stored: object) -> str:
    return stored.decode("utf-8", "backslashreplace") if isinstance(stored, bytes) else str(stored)


def _for_readers(connection: Connection) -> str:
    """What stands for the table of keys where the user may not read the digests of keys: a function tells that user the
    digests of the rows alone. Raises `KeyctlError` where it is not the function that the migrations make."""
    source = connection.exec_driver_sql(
        "SELECT prosrc FROM pg_proc WHERE oid = to_regprocedure('alphalens_keyctl_row_digests()')"
    ).scalar()
    if source != POSTGRESQL_FUNCTION:
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            "the function alphalens_keyctl_row_digests is missing, or not the one that the migrations make",
            "'audit verify --log-only' checks the log without the keys.",
        )
    return "alphalens_keyctl_row_digests() AS key"


def _streamed(connection: Connection, query: str) -> Iterator[Any]:
    with connection.exec_driver_sql(query, execution_options={"yield_per": _ROWS_AT_ONCE}) as rows:
        yield from rows


def _on_postgresql(connection: Connection, key_ids: Sequence[str]) -> dict[str, str]:
    query = f"SELECT id, encode({_postgresql_digest({})}, 'hex') FROM api_key WHERE id = ANY(%(ids)s)"  # noqa: S608  # our own names
    return dict(map(tuple, connection.exec_driver_sql(query, {"ids": list(key_ids)})))


def _on_sqlite(connection: Connection, key_ids: Sequence[str]) -> dict[str, str]:
    ids = (json.dumps(list(key_ids)),)
    try:
        rows = connection.exec_driver_sql(_SQLITE_SOME.format(_sqlite_row({})), ids).all()
    except OperationalError as error:
        if not _is_no_json(error):
            raise
        rows = connection.exec_driver_sql(_SQLITE_SOME.format(_sqlite_any_row({})), ids).all()
    return {key_id: hashlib.sha256(form).hexdigest() for key_id, form in rows}


def _is_no_json(error: OperationalError) -> bool:
    return isinstance(error.orig, sqlite3.OperationalError) and str(error.orig) == _NO_JSON


def _sqlite_row(after: After) -> str:
    return _sqlite_form({name: name for name in BOUND}, after)


def _sqlite_any_row(after: After) -> str:
    """As `_sqlite_row`, and also of a row with bytes where no bytes belong, which JSON cannot say: a list of the bytes
    in hex stands for them. It takes longer."""
    forms = {name: f"CASE typeof({name}) WHEN 'blob' THEN json_array(hex({name})) ELSE {name} END" for name in BOUND}
    return _sqlite_form(forms, after)


def _sqlite_form(forms: Mapping[str, str], after: After) -> str:
    told = {**forms, "digest": "hex(digest)"} | {name: f":{_AFTER}{name}" for name in after}
    # As bytes, since text that is not UTF-8 is stored too.
    return f"CAST(json_array({', '.join(told[name] for name in BOUND)}) AS BLOB)"


def _postgresql_digest(after: After) -> str:
    values = ", ".join(_postgresql_json(name, after) for name in BOUND)
    return f"sha256(convert_to('[' || concat_ws(',', {values}) || ']', 'UTF8'))"


def _postgresql_json(name: str, after: After) -> str:
    if name == "digest":
        return "to_json(upper(encode(digest, 'hex')))"
    if name not in _TIMES:
        value = (
            f"CAST(:{_AFTER}{name} AS text)" if name in after else f"CAST({name} AS text)" if name in _JSON else name
        )
        return f"coalesce(CAST(to_json({value}) AS text), 'null')"
    value = f"CAST(:{_AFTER}{name} AS timestamptz)" if name in after else name
    # With the era, because without it 2026 BC would look like 2026.
    return (
        f"CASE WHEN {value} IS NULL THEN 'null' WHEN NOT isfinite({value}) THEN '\"infinite\"' ELSE '\"' ||"
        f" to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
        f" || CASE WHEN {value} < '0001-01-01 00:00:00+00' THEN ' BC\"' ELSE '\"' END END"
    )


_SQLITE_SOME: Final = "SELECT id, {} FROM api_key WHERE id IN (SELECT value FROM json_each(?))"
_NEWEST: Final = "SELECT detail FROM audit_event WHERE key_id = {} ORDER BY seq DESC LIMIT 1"
_SQLITE_EVENTS: Final = f"SELECT CAST(id AS BLOB), {{}}, ({_NEWEST.format('api_key.id')}) FROM api_key ORDER BY rowid"  # noqa: S608  # our own
_FORGED: Final = f"SELECT id FROM api_key WHERE status {{}} ({STATUS_SQL}) LIMIT 1"  # noqa: S608  # our own
_MISSING: Final = (
    "SELECT key_id FROM audit_event WHERE key_id IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM api_key WHERE id = key_id) ORDER BY key_id LIMIT 1"
)
# The body of the function that the migrations make for users who may not read `digest`.
POSTGRESQL_FUNCTION: Final = f"SELECT id, {_postgresql_digest({})} FROM api_key"  # noqa: S608  # our own names
