"""What a scrape of metrics asks the database: how many keys there are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.keys import census, selection
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.settings import Settings
from alphalens_keyctl.web.server import KeyCounts

# How long a scrape of metrics may keep the database busy.
_LIMITS: Final = Limits(connect_timeout=2.0, lock_timeout=2.0, query_timeout=5.0)
_EXPIRING: Final = Selection(expires_within=timedelta(days=14))


@contextmanager
def counted(settings: Settings) -> Iterator[Callable[[], KeyCounts]]:
    """Open the database, for as long as the block lasts, and yield the function that counts keys: by status, and those
    that expire within 14 days. Raises `KeyctlError`."""
    database = Database.open(parse_address(settings.database_url), _LIMITS, create=False)

    def count() -> KeyCounts:
        now = utc_now()
        with database.reading() as connection:
            return KeyCounts(census.by_status(connection, now), selection.count(connection, _EXPIRING, now=now))

    try:
        yield count
    finally:
        database.close()
