"""Alembic runs this file for each upgrade. The caller passes an open connection and owns its transaction."""

from alembic import context
from sqlmodel import SQLModel

from alphalens_keyctl import models
from alphalens_keyctl.migrations import VERSION_TABLE

assert models.key_table is not None  # noqa: S101  # the import of the models fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
