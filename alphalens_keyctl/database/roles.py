"""What a database role of a service and one of a reader may do: PostgreSQL alone, SQLite knows no roles."""

from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, text

from alphalens_keyctl.database import Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import key_table


class Part(StrEnum):
    """What a role is for. A verifier checks keys and records their use; an auditor reads keys and logs."""

    VERIFIER = "verifier"
    AUDITOR = "auditor"


_EVERYTHING: Final = (
    "ALL ON api_key, key_policy, api_reply, audit_event, usage_event",
    "ALL ON alphalens_keyctl_version, alphalens_keyctl_writer",
    "ALL ON SEQUENCE usage_event_id_seq",
    "ALL ON FUNCTION alphalens_keyctl_record_uses(jsonb, jsonb), alphalens_keyctl_make_partitions()",
    "ALL ON FUNCTION alphalens_keyctl_row_digests()",
)
_LEGIBLE: Final = ", ".join(column.name for column in key_table.columns if not column.name.startswith("digest"))
_RIGHTS: Final = {
    Part.VERIFIER: (
        "SELECT ON api_key, alphalens_keyctl_version",
        # To find out whether a batch whose commit was not answered was committed.
        "SELECT (at, key_id, outcome) ON usage_event",
        "EXECUTE ON FUNCTION alphalens_keyctl_record_uses(jsonb, jsonb), alphalens_keyctl_make_partitions()",
    ),
    Part.AUDITOR: (
        f"SELECT ({_LEGIBLE}) ON api_key",
        "SELECT ON audit_event, usage_event, key_policy, alphalens_keyctl_version",
        "EXECUTE ON FUNCTION alphalens_keyctl_row_digests()",
    ),
}


def grant(tx: Writing, part: Part, role: str) -> list[str]:
    """Give a role the rights of its part on the tables of this program and no other; returns the statements.

    Raises `KeyctlError` (invalid_input): no such role, or one that has every right whatever is granted.
    """
    _require_ordinary(tx, role)
    return _run(
        tx,
        role,
        [f"REVOKE {right} FROM {{role}}" for right in _EVERYTHING],
        [f"GRANT USAGE ON SCHEMA {_schema(tx)} TO {{role}}"],
        [f"GRANT {right} TO {{role}}" for right in _RIGHTS[part]],
    )


def revoke(tx: Writing, role: str) -> list[str]:
    """Take every right on the tables of this program from a role; returns the statements. Raises as `grant`."""
    _require_ordinary(tx, role)
    return _run(tx, role, [f"REVOKE {right} FROM {{role}}" for right in _EVERYTHING])


def _run(tx: Writing, role: str, *groups: list[str]) -> list[str]:
    quoted = tx.dialect.identifier_preparer.quote_identifier(role)
    statements = [statement.replace("{role}", quoted) for group in groups for statement in group]
    for statement in statements:
        tx.exec_driver_sql(statement.replace("%", "%%"))
    return statements


def _require_ordinary(tx: Connection, role: str) -> None:
    found = tx.execute(
        text(
            "SELECT pg_has_role(role.oid, owned.relowner, 'MEMBER') FROM pg_roles AS role, pg_class AS owned"
            " WHERE role.rolname = :role AND owned.oid = to_regclass('api_key')"
        ),
        {"role": role},
    ).first()
    if found is None:
        raise KeyctlError(
            Code.INVALID_INPUT, f"there is no role '{role}'", "Make it first: CREATE ROLE … LOGIN, then grant again."
        )
    if found[0]:
        raise KeyctlError(
            Code.INVALID_INPUT,
            f"role '{role}' owns the tables, belongs to the role that does, or is a superuser",
            "Such a role has every right whatever is granted: make one of its own for each service.",
        )


def _schema(tx: Connection) -> str:
    return str(tx.scalar(text("SELECT quote_ident(current_schema())")))
