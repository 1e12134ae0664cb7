"""The audit log binds the rows of the keys: one event for each key that stands, with the digest of its row.

Written out rather than taken from `logs`: a migration says what was true when it was written.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_AT_ONCE: Final = 5000
_ACTOR: Final = "alphalens-keyctl db upgrade"
_ACTION: Final = "key.bind"
_BOUND: Final = (
    "id", "name", "name_folded", "owner", "purpose", "labels", "created_at", "created_by", "activated_at",
    "expires_at", "retires_at", "suspended_at", "revoked_at", "revoked_by", "revoke_reason", "replaces", "replaced_by",
    "delivering_to", "scopes", "allow_from", "awaits_use_of", "grace_after_use", "digest", "digest_scheme",
)  # fmt: skip


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        schema = connection.scalar(sa.text("SELECT quote_ident(current_schema())"))
        for statement in (_FUNCTION.replace("{schema}", schema), *_RIGHTS):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    _bind_each(connection)


def _bind_each(connection: Any) -> None:
    last = connection.exec_driver_sql("SELECT seq, hash FROM audit_event ORDER BY seq DESC LIMIT 1").first()
    seq, previous = (last[0], bytes(last[1])) if last else (0, bytes(32))
    at, beyond = datetime.now(UTC), ""
    user = (
        connection.exec_driver_sql("SELECT session_user").scalar() if connection.dialect.name == "postgresql" else None
    )
    origin = {} if user is None else {"database_user": user}
    while keys := _digests(connection, beyond):
        rows = []
        for key_id, name, digest in keys:
            seq += 1
            detail = _compact({"origin": origin, "row": digest})
            written = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            form = _compact([seq, written, _ACTOR, _ACTION, key_id, name, detail, previous.hex()])
            following = hashlib.sha256(form.encode("ascii")).digest()
            rows.append((seq, key_id, name, detail, previous, following))
            previous, beyond = following, key_id
        _insert(connection, at, rows)


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digests(connection: Any, beyond: str) -> list[tuple[str, str, str]]:
    """The id, the name and the digest of the row, in hex, of the next keys beyond an id."""
    if connection.dialect.name == "postgresql":
        query = f"SELECT id, name, encode({_ROW_DIGEST}, 'hex') FROM api_key WHERE id > %s ORDER BY id LIMIT {_AT_ONCE}"
        return [(key_id, name, digest) for key_id, name, digest in connection.exec_driver_sql(query, (beyond,))]
    query = f"SELECT id, CAST(name AS BLOB), {_SQLITE_ROW} FROM api_key WHERE id > ? ORDER BY id LIMIT {_AT_ONCE}"
    return [
        (key_id, _text(name), hashlib.sha256(row).hexdigest())
        for key_id, name, row in connection.exec_driver_sql(query, (beyond,))
    ]


def _text(name: bytes) -> str:
    """The name as a log can hold it. A damaged row, which holds bytes that are no text, is bound as it stands."""
    return name.decode("utf-8", "backslashreplace")


def _insert(connection: Any, at: datetime, rows: list[tuple[int, str, str, str, bytes, bytes]]) -> None:
    columns = "seq, at, actor, action, key_id, key_name, detail, previous_hash, hash"
    if connection.dialect.name == "sqlite":
        stored = at.strftime("%Y-%m-%d %H:%M:%S.%f")
        connection.exec_driver_sql(
            f"INSERT INTO audit_event ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(seq, stored, _ACTOR, _ACTION, *rest) for seq, *rest in rows],
        )
        return
    # As one statement, since PostgreSQL looks at the chain once for each.
    names = ("seqs", "ids", "names", "details", "befores", "hashes")
    connection.exec_driver_sql(
        f"""INSERT INTO audit_event ({columns})
        SELECT seq, %(at)s, %(actor)s, %(action)s, id, name, detail, before, hash
        FROM unnest(CAST(%(seqs)s AS bigint[]), CAST(%(ids)s AS text[]), CAST(%(names)s AS text[]),
            CAST(%(details)s AS text[]), CAST(%(befores)s AS bytea[]), CAST(%(hashes)s AS bytea[]))
            AS bound (seq, id, name, detail, before, hash)""",
        {
            "at": at, "actor": _ACTOR, "action": _ACTION,
            **dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)),
        },
    )  # fmt: skip


def _in_sqlite(name: str) -> str:
    if name == "digest":
        return "hex(digest)"
    # Bytes where no bytes belong, which JSON cannot say.
    return f"CASE typeof({name}) WHEN 'blob' THEN json_array(hex({name})) ELSE {name} END"


def _in_postgresql(name: str) -> str:
    if name == "digest":
        return "to_json(upper(encode(digest, 'hex')))"
    if name.endswith("_at"):
        return (
            f"CASE WHEN {name} IS NULL THEN 'null' WHEN NOT isfinite({name}) THEN '\"infinite\"' ELSE '\"' ||"
            f" to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
            f" || CASE WHEN {name} < '0001-01-01 00:00:00+00' THEN ' BC\"' ELSE '\"' END END"
        )
    value = f"CAST({name} AS text)" if name in ("labels", "scopes", "allow_from") else name
    return f"coalesce(CAST(to_json({value}) AS text), 'null')"


_SQLITE_ROW: Final = f"CAST(json_array({', '.join(map(_in_sqlite, _BOUND))}) AS BLOB)"
_ROW_DIGEST: Final = (
    f"sha256(convert_to('[' || concat_ws(',', {', '.join(map(_in_postgresql, _BOUND))}) || ']', 'UTF8'))"
)
# For a reader who may not see the digests of keys: what it tells is a digest of a row with such a digest in it.
_FUNCTION: Final = f"""CREATE FUNCTION alphalens_keyctl_row_digests() RETURNS TABLE (id text, row_digest bytea)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {{schema}}, pg_temp
    AS $$SELECT id, {_ROW_DIGEST} FROM api_key$$"""
_RIGHTS: Final = (
    "REVOKE ALL ON FUNCTION alphalens_keyctl_row_digests() FROM PUBLIC",
    # Who reads the log and all other columns but the digest, an auditor, goes on with every command.
    """DO $$
DECLARE
    who name;
BEGIN
    FOR who IN SELECT rolname FROM pg_roles WHERE NOT pg_has_role(oid, current_user, 'USAGE') AND NOT rolsuper
        AND has_table_privilege(oid, 'audit_event', 'SELECT')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION alphalens_keyctl_row_digests() TO %I', who);
    END LOOP;
END $$""",
)
