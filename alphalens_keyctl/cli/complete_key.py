"""What TAB does on a KEY: look up the ids of keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphalens_keyctl.cli.run import Start
from alphalens_keyctl.database import Database, parse_address
from alphalens_keyctl.keyformat import is_id
from alphalens_keyctl.keys import lookup
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.settings import Given

_MOST_IDS = 50


def ids_starting_with(options: Mapping[str, Any], start: str) -> list[str]:
    """Return ids of keys that begin with `start`. `options` are the options that stand before the command.

    Makes no database. Raises `KeyctlError` when the database cannot be read.
    """
    config, now = options.get("config"), utc_now()
    given = Given(options.get("database"), None, Path(config) if config else None, profile=options.get("profile"))
    run = Start(now, given, quiet=True, no_color=True).run()
    database = Database.open(parse_address(run.settings.database_url), run.limits, create=False)
    with database.reading() as connection:
        # A row written by hand can have any id, and zsh runs what it completes.
        return list(filter(is_id, lookup.ids_starting_with(connection, start, limit=_MOST_IDS)))
