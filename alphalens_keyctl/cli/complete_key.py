"""What TAB does on a KEY: look up the ids of keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.database import Database, parse_address
from alphalens_keyctl.keyformat import is_id
from alphalens_keyctl.keys import lookup
from alphalens_keyctl.moments import utc_now

_MOST_IDS = 50


def ids_starting_with(options: Mapping[str, Any], start: str) -> list[str]:
    """Return ids of keys that begin with `start`. `options` are the options that stand before the command.

    Makes no database. Raises `KeyctlError` when the database cannot be read.
    """
    config, now = options.get("config"), utc_now()
    run = runs.start(
        now,
        database_url=options.get("database"),
        actor=None,
        config_file=Path(config) if config else None,
        quiet=True,
        no_color=True,
    )
    database = Database.open(parse_address(run.settings.database_url), run.limits, create=False)
    with database.reading() as connection:
        # A row written by hand can have any id, and zsh runs what it completes.
        return list(filter(is_id, lookup.ids_starting_with(connection, start, limit=_MOST_IDS)))
