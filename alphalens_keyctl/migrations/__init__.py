"""The schema's history. Alembic runs it; the list below spares every other command from loading Alembic."""

from typing import Final

VERSION_TABLE: Final = "alphalens_keyctl_version"
# Oldest first; a test holds it equal to the scripts in `versions`.
REVISIONS: Final = ("0001", "0002", "0003", "0004")
LATEST: Final = REVISIONS[-1]
