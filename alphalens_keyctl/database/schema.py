"""Which schema a database has, and how the database gets the schema that this program knows."""

from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from alphalens_keyctl import migrations
from alphalens_keyctl.errors import Code, KeyctlError

_EXISTS: Final = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :table",
    "postgresql": "SELECT to_regclass(:table)",
}


class SchemaState(StrEnum):
    """How the schema of a database relates to the one that this program knows."""

    CURRENT = "current"
    OUTDATED = "outdated"
    MISSING = "missing"
    NEWER = "newer"


class Schema(NamedTuple):
    """The revision of a database, None where it has no schema of this program, and what the revision means."""

    revision: str | None
    state: SchemaState


def read(connection: Connection) -> Schema:
    """The schema of a database. Writes nothing and does not load Alembic."""
    # In SQL written by hand: the inspector of SQLAlchemy takes longer than the command.
    exists = _EXISTS[connection.dialect.name]
    if connection.scalar(text(exists), {"table": migrations.VERSION_TABLE}) is None:
        return Schema(None, SchemaState.MISSING)
    revision = connection.scalar(text(f"SELECT version_num FROM {migrations.VERSION_TABLE}"))  # noqa: S608  # our own constant
    if revision is None:
        return Schema(None, SchemaState.MISSING)
    if revision not in migrations.REVISIONS:
        return Schema(revision, SchemaState.NEWER)
    state = SchemaState.CURRENT if revision == migrations.LATEST else SchemaState.OUTDATED
    return Schema(revision, state)


def require(schema: Schema) -> None:
    """Raise `KeyctlError` (schema_missing, schema_outdated, schema_newer) unless the schema is the one that this
    program knows."""
    if schema.state is SchemaState.MISSING:
        raise KeyctlError(
            Code.SCHEMA_MISSING,
            "the database has no tables of alphalens-keyctl",
            "Run 'alphalens-keyctl db upgrade' once to make them.",
        )
    if schema.state is SchemaState.OUTDATED:
        raise KeyctlError(
            Code.SCHEMA_OUTDATED,
            f"the database has schema {schema.revision}, this program needs {migrations.LATEST}",
            "Run 'alphalens-keyctl db upgrade'.",
        )
    refuse_newer(schema)


def refuse_newer(schema: Schema) -> None:
    """Raise `KeyctlError` (schema_newer) when a newer program made the schema: this one cannot know its meaning."""
    if schema.state is SchemaState.NEWER:
        raise KeyctlError(
            Code.SCHEMA_NEWER,
            "the database comes from a newer version of alphalens-keyctl",
            "Upgrade alphalens-keyctl; the database is left as it is.",
        )


def upgrade(connection: Connection) -> None:
    """Bring the schema to the latest revision inside the transaction of the caller. Raises `KeyctlError`
    (schema_newer).

    That transaction is the only one that writes, so of two processes the second finds nothing to do.
    """
    refuse_newer(read(connection))
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
