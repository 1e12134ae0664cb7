"""The stored policy, bound to the audit log: the newest event that set it says what it is since then (promise 7)."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection

from alphalens_keyctl.moments import shortest_span
from alphalens_keyctl.vocabulary import Action

# By one statement, so that no change comes between the policy and its event.
_POLICY_AND_EVENT: Final = f"""SELECT policy.max_lifetime, policy.required, policy.name_pattern,
        (SELECT detail FROM audit_event WHERE action = '{Action.SET_POLICY}' ORDER BY seq DESC LIMIT 1)
    FROM (SELECT 1 AS one) AS asked LEFT JOIN key_policy AS policy ON policy.one = asked.one"""  # noqa: S608  # our own
_NOTHING: Final[dict[str, Any]] = {"max_lifetime": None, "require": [], "name_pattern": None}


def is_unbound(connection: Connection) -> bool:
    """Whether the stored policy is not what its newest event says. A user of the database who may not read the policy
    is told that it is."""
    if connection.dialect.name == "postgresql":
        may = connection.exec_driver_sql("SELECT has_table_privilege('key_policy', 'SELECT')").scalar()
        if not may:
            return False
    *row, detail = connection.exec_driver_sql(_POLICY_AND_EVENT).one()
    try:
        said = _NOTHING if detail is None else json.loads(detail)["after"]
        return bool(_said_of(row) != said)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return True


def _said_of(row: Sequence[Any]) -> dict[str, Any]:
    """What an event says of a policy that has this row; a row that is missing asks nothing."""
    seconds, required, pattern = row
    return {
        "max_lifetime": None if seconds is None else shortest_span(timedelta(seconds=seconds)),
        "require": required.split(",") if required else [],
        "name_pattern": pattern,
    }
