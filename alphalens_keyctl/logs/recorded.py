"""One event whole: its link of the chain, and which of what it says of its origin is fact and which is claim.

A fact is what the operating system, the database or the server told of whoever acted; a claim is what whoever acted
could say at will: a name given with `--actor`, the variables of `sudo` and of CI systems, the id of a request.
"""

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from alphalens_keyctl.database.instants import microsecond_text
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import audit
from alphalens_keyctl.logs.audit import COLUMNS_OF_E, LogFilter
from alphalens_keyctl.models import Event, event_table
from alphalens_keyctl.provenance import actor_name

# The fields of an origin that are facts, and those that are claims, in the order in which people are told.
_FACTS: Final = ("os_user", "host", "database_user", "address")
_CLAIMS: Final = ("ci", "ci_run_url", "request_id")
_KEY: Final = "key:"  # an actor over HTTP is "key:ID NAME"


class Recorded(NamedTuple):
    """An event with its link of the chain. `intact` says that its hash is the one of what it says."""

    event: Event
    previous_hash: bytes
    intact: bool


class Origins(NamedTuple):
    """From where an event came: what is known, and what was said, each by the name of the thing."""

    facts: Mapping[str, str]
    claims: Mapping[str, str]


def find(connection: Connection, wanted: LogFilter, seq: int) -> Recorded:
    """The event of this number as it stands. Raises `KeyctlError` (event_not_found) where there is none, or where
    `wanted` leaves it out."""
    column = event_table.c
    query = select(*COLUMNS_OF_E, column.previous_hash, microsecond_text(column.at))
    row = connection.execute(query.where(audit.fits(wanted), column.seq == seq)).first()
    if row is None:
        raise KeyctlError(Code.EVENT_NOT_FOUND, f"there is no event {seq}", "'audit' shows which there are.")
    *whole, previous_hash, at = row
    _seq, _at, actor, action, key_id, key_name, detail, stored = whole
    try:
        form = audit.canonical(seq, at, actor, action, key_id, key_name, detail, previous_hash)
        intact = hashlib.sha256(form).digest() == stored
    except (TypeError, AttributeError):  # SQLite stores a value of any type in any column
        intact = False
    return Recorded(audit.event_of(whole), audit.stored_bytes(previous_hash), intact)


def origins(event: Event) -> Origins:
    """What the event says of its origin, facts and claims apart. What somebody made unreadable is left out."""
    said = event.detail.get("origin")
    origin = said if isinstance(said, Mapping) else {}
    facts = {name: str(origin[name]) for name in _FACTS if origin.get(name)}
    claims = {name: str(origin[name]) for name in _CLAIMS if origin.get(name)}
    if isinstance(users := origin.get("claims"), Mapping):
        claims = {str(name): str(user) for name, user in users.items()} | claims
    if "address" in facts and event.actor.startswith(_KEY):
        # The server itself names the key that it let the caller in by.
        facts = {"api_key": event.actor.removeprefix(_KEY).partition(" ")[0]} | facts
    elif event.actor != actor_name(None, None, facts.get("os_user")):
        claims = {"actor": event.actor} | claims
    return Origins(facts, claims)
