"""Alembic runs this file for each upgrade. The caller passes an open connection and owns its transaction."""

from alembic import context
from sqlmodel import SQLModel

from alphalens_keyctl.migrations import VERSION_TABLE, indexes

assert indexes.INDEXES  # noqa: S101  # the import of tables and indexes fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
