"""The history of the schema. Alembic runs the scripts in `versions`; every other command knows the revisions from the
list below, and does not load Alembic."""

from typing import Final

VERSION_TABLE: Final = "alphalens_keyctl_version"
# Oldest first. A test compares the list with the scripts in `versions`.
REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012")
LATEST: Final = REVISIONS[-1]
