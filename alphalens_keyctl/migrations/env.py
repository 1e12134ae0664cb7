"""Run by Alembic. The caller hands over an open connection and owns its transaction."""

from alembic import context
from sqlmodel import SQLModel

from alphalens_keyctl import models
from alphalens_keyctl.migrations import VERSION_TABLE

assert models.key_table is not None  # noqa: S101  # importing the models is what fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
