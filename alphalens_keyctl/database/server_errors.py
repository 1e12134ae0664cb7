"""What a PostgreSQL server says of an error, without the values of the statement that failed (promise 1).

`DETAIL` shows the row that was refused, digest and all; `CONTEXT` may list parameters; and a value that does not fit is
quoted in the message itself.
"""

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from psycopg import Error

# SQLSTATE classes (PostgreSQL, "Error Codes") whose messages name tables, constraints, roles, settings, never values.
_NAMES_ALONE: Final = frozenset(
    ("08", "0A", "23", "25", "26", "28", "2B", "2D", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "P0", "XX")
)
# A trigger that is not ours may put anything into its message; a digest is known by its digits.
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{32,}")


def drop_values(error: "Error") -> None:
    """Leave, of the message of an error that the server reported, its first part alone, and where that may quote a
    value the name of the error. An error of the client is left as it is."""
    state, said = error.sqlstate, error.diag.message_primary
    if state is None or said is None:
        return
    kept = said if state[:2] in _NAMES_ALONE else f"{type(error).__name__} (SQLSTATE {state})"
    error.args = (_DIGEST.sub("***", kept),)
