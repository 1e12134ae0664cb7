"""Databases as an earlier version of the program left them."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from alphalens_keyctl import migrations
from alphalens_keyctl.database import Database, Limits, parse_address


def make(url: str, revision: str) -> Database:
    """Bring an empty database to an earlier revision, and open it."""
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).touch()
        # An empty file is refused as one that was cut off.
        import sqlite3

        with sqlite3.connect(url.removeprefix("sqlite:///")) as file:
            file.execute("PRAGMA journal_mode = WAL")
        file.close()
    database = Database.connect(parse_address(url), Limits())
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    with database.recording() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, revision)
    return database
