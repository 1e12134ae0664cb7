"""How a way to the keys is opened: the database that an address names."""

from contextlib import suppress

from alphalens_keyctl.database import Address, Database, Limits
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keys import lifecycle
from alphalens_keyctl.manager.over_database import OverDatabase
from alphalens_keyctl.provenance import Act


def over_database(address: Address, limits: Limits, act: Act, *, prefix: str, create: bool) -> OverDatabase:
    """Open a database, and discard what killed processes left in it. The caller closes it.

    A SQLite file that does not exist is made with `create`. New raw keys begin with `prefix`. Raises `KeyctlError`.
    """
    database = Database.open(address, limits, create=create)
    try:
        _clean_up(database, act)
    except BaseException:
        database.close()
        raise
    return OverDatabase(database, act, prefix=prefix)


def _clean_up(database: Database, act: Act) -> None:
    # Where whoever opens may only read, or the database is busy, the next one does it: what killed processes left opens
    # nothing meanwhile.
    with suppress(KeyctlError):
        with database.reading() as connection:
            left_behind = lifecycle.abandoned(connection, database.attempts)
        if left_behind:
            with database.writing() as tx:
                lifecycle.discard_abandoned(tx, database.attempts, act.now())
