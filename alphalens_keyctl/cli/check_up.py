"""What `doctor` does: look at each thing by itself, within a limit, and say what to do.

Nothing here may depend on anything else being in order: the configuration may be broken, the home missing, the database
away.
"""

import os
import platform
import shlex
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

from alphalens_keyctl import __version__, migrations
from alphalens_keyctl import settings as setting
from alphalens_keyctl.address import PostgreSQLAddress
from alphalens_keyctl.cli import completion_script, server
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.completion import Shell
from alphalens_keyctl.cli.run import Start
from alphalens_keyctl.config_file import CONFIG_FILE, read_file
from alphalens_keyctl.database import Database, Limits, health, parse_address
from alphalens_keyctl.database.schema import SchemaState, require
from alphalens_keyctl.delivery import keyring
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.output import diagnoses, documents
from alphalens_keyctl.output.diagnoses import Diagnosis, State
from alphalens_keyctl.output.screen import Screen
from alphalens_keyctl.output.words import span
from alphalens_keyctl.settings import PROGRAM, Settings

# A difference from which on an expiry is visibly judged too early or too late.
_CLOCK: Final = timedelta(seconds=5)
_INTEGRITY: Final = 10.0  # seconds for the database's own check (promise 11)
_ON_DATABASE: Final = ("schema", "clock", "rights", "integrity")
_WORTH_KNOWING: Final = ("psycopg", "uvicorn", "keyring")


def check_up(start: Start, *, json: bool) -> None:
    """Look at everything, show what was found, and leave with exit status 5 when something is wrong."""
    found = list(_looks(start))
    if json:
        text = documents.json_document(diagnoses.document(found))
    else:
        text = diagnoses.listed(found, Screen.of_stdout(color=start.color))
    wrong = any(each.state is State.PROBLEM for each in found)
    runs.answer(text, status=ExitStatus.FOUND if wrong else ExitStatus.DONE)


def _looks(start: Start) -> Iterator[Diagnosis]:
    yield _alone("version", _version)
    settings: Settings | None = None
    try:
        settings = setting.of_this_process(start.given)
    except KeyctlError as error:
        yield Diagnosis("configuration", State.PROBLEM, error.message, error.hint)
        # A database that was named beside a broken file can be looked at all the same.
        url = start.given.database_url or os.environ.get(setting.DATABASE_VARIABLE)
        settings = Settings(url) if url else None
    else:
        yield _alone("configuration", partial(_configuration, settings))
    if settings is None:
        because = "not looked at: the configuration does not say where it is"
        yield from (Diagnosis(check, State.SKIPPED, because) for check in ("database", *_ON_DATABASE))
    elif settings.server is not None:
        yield _alone("server", partial(_server, settings))
    else:
        yield from _database(settings)
    yield _alone("keyring", _keyring)
    yield _alone("completion", _completion)


def _alone(check: str, look: Callable[[], Diagnosis]) -> Diagnosis:
    """Return what a look found. An error in one look is its own finding, and stops no other."""
    try:
        return look()
    except KeyctlError as error:
        return Diagnosis(check, State.PROBLEM, error.message, error.hint)
    except OSError as error:
        return Diagnosis(check, State.PROBLEM, f"cannot be looked at: {error.strerror}")
    except Exception as error:  # noqa: BLE001  # whatever is broken, the other looks are still worth having
        return Diagnosis(check, State.PROBLEM, f"cannot be looked at: {type(error).__name__}")


def _version() -> Diagnosis:
    parts = [f"{PROGRAM} {__version__}", f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for package in _WORTH_KNOWING:
        with suppress(metadata.PackageNotFoundError):
            parts.append(f"{package} {metadata.version(package)}")
    return Diagnosis("version", State.OK, ", ".join(parts))


def _configuration(settings: Settings) -> Diagnosis:
    path = settings.config_file
    if path is None:
        folder = setting.config_folder()
        where = f"{folder / CONFIG_FILE} does not exist" if folder is not None else "there is no home it could be in"
        return Diagnosis("configuration", State.OK, f"no file ({where}): environment and defaults hold")
    profile = f", profile {settings.profile}" if settings.profile is not None else ""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o022:
        return Diagnosis(
            "configuration",
            State.PROBLEM,
            f"{path} can be changed by others, who could name another database",
            f"chmod go-w {shlex.quote(str(path))}",
        )
    if mode & 0o044 and _holds_password(path):
        return Diagnosis(
            "configuration",
            State.PROBLEM,
            f"{path} holds a password and can be read by others",
            f"chmod 600 {shlex.quote(str(path))}",
        )
    return Diagnosis("configuration", State.OK, f"{path}{profile}")


def _holds_password(path: Path) -> bool:
    file = read_file(path, required=True)
    tables = (file.top, *file.profiles.values())
    urls = [table[name] for table in tables for name in ("database_url", "usage_database_url") if name in table]
    for url in urls:
        with suppress(KeyctlError):
            address = parse_address(url)
            if isinstance(address, PostgreSQLAddress) and address.holds_password:
                return True
    return False


def _server(settings: Settings) -> Diagnosis:
    with server.manager(settings) as manager:
        key = manager.caller()
    said = f"{settings.server} lets in key '{key.name}' ({key.id})"
    return Diagnosis("server", State.OK, said if key.ends_at is None else f"{said} until {rfc3339(key.ends_at)}")


def _database(settings: Settings) -> Iterator[Diagnosis]:
    try:
        address = parse_address(settings.database_url)
        limits = Limits(settings.connect_timeout, settings.lock_timeout, min(settings.query_timeout, _INTEGRITY))
        database = Database.connect(address, limits, create=False)
    except KeyctlError as error:
        yield _not_opened(error, settings)
        yield from (Diagnosis(check, State.SKIPPED, "not looked at: no database") for check in _ON_DATABASE)
        return
    try:
        reached = _alone("database", lambda: _reached(database))
        yield reached
        if reached.state is State.PROBLEM:
            because = "not looked at: the database cannot be used"
            yield from (Diagnosis(check, State.SKIPPED, because) for check in _ON_DATABASE)
            return
        schema = _alone("schema", lambda: _schema(database))
        yield schema
        yield _alone("clock", partial(_clock, database))
        yield _alone("rights", partial(_rights, database))
        if schema.state is State.OK:
            yield _alone("integrity", partial(_integrity, database))
        else:
            yield Diagnosis("integrity", State.SKIPPED, "not looked at: the schema is not this version's")
    finally:
        database.close()


def _not_opened(error: KeyctlError, settings: Settings) -> Diagnosis:
    if error.code is Code.DATABASE_MISSING and settings.is_default_database:
        return Diagnosis("database", State.OK, f"{error.message} yet", "'alphalens-keyctl create NAME' makes it.")
    return Diagnosis("database", State.PROBLEM, error.message, error.hint)


def _reached(database: Database) -> Diagnosis:
    with database.reading() as connection:
        version = ".".join(map(str, connection.dialect.server_version_info or ()))
    name = "PostgreSQL" if isinstance(database.address, PostgreSQLAddress) else "SQLite"
    return Diagnosis("database", State.OK, f"{database.address.display} ({name} {version})")


def _schema(database: Database) -> Diagnosis:
    found = database.schema()
    if found.state is SchemaState.OUTDATED and not isinstance(database.address, PostgreSQLAddress):
        return Diagnosis(
            "schema",
            State.WARNING,
            f"{found.revision}; this version has {migrations.LATEST}",
            "The next command brings the file to this version's.",
        )
    require(found)
    return Diagnosis("schema", State.OK, f"{found.revision}, this version's")


def _clock(database: Database) -> Diagnosis:
    with database.reading() as connection:
        difference = health.clock_difference(connection)
    if difference is None:
        return Diagnosis("clock", State.OK, "a file: this machine's own clock counts")
    if abs(difference) < _CLOCK:
        return Diagnosis("clock", State.OK, "the server's clock and this machine's agree")
    side = "ahead of" if difference > timedelta(0) else "behind"
    return Diagnosis(
        "clock",
        State.PROBLEM,
        f"the server's clock is {span(abs(difference))} {side} this machine's",
        "Synchronise both clocks (NTP): expiry and the order of events go by them.",
    )


def _rights(database: Database) -> Diagnosis:
    with database.reading() as connection:
        may = health.rights(connection, database.address)
    words = [
        word
        for right, word in (
            (may.change, "change keys"),
            (may.check, "check keys and record their use"),
            (may.read, "read keys and logs"),
        )
        if right
    ]
    if not words:
        return Diagnosis(
            "rights",
            State.PROBLEM,
            "this role may do nothing with keys",
            f"Have the owner of the tables run '{PROGRAM} db grant'; for a file, check who owns it and its folder.",
        )
    said = f"may {', '.join(words)}"
    if may.read_only is not None:
        return Diagnosis("rights", State.WARNING, f"{said}; but {may.read_only.message}", may.read_only.hint)
    return Diagnosis("rights", State.OK, said)


def _integrity(database: Database) -> Diagnosis:
    unfinished = Diagnosis(
        "integrity",
        State.WARNING,
        f"nothing found within {_INTEGRITY:.0f} seconds, and not all was looked at",
        f"'{PROGRAM} audit verify' takes the time it needs.",
    )
    try:
        with database.reading() as connection:
            found = health.damage(connection, within=_INTEGRITY)
    except TimeoutError:
        return unfinished
    except KeyctlError as error:
        if error.code is Code.DATABASE_BUSY:  # the limit of one answer, on a server
            return unfinished
        raise
    if found is not None:
        return Diagnosis(
            "integrity", State.PROBLEM, found, "Restore the database from a backup, or make the index anew."
        )
    return Diagnosis("integrity", State.OK, f"tables and indexes are sound ('{PROGRAM} audit verify' proves the log)")


def _keyring() -> Diagnosis:
    try:
        return Diagnosis("keyring", State.OK, keyring.backend())
    except KeyctlError as error:
        # Most servers and containers have none, and need none.
        return Diagnosis("keyring", State.WARNING, error.message, error.hint)


def _completion() -> Diagnosis:
    shell = Path(os.environ.get("SHELL", "")).name
    found = {kind.value: path for kind in Shell for path in completion_script.places(kind) if path.is_file()}
    if shell in found:
        if completion_script.is_loaded(Shell(shell)):
            return Diagnosis("completion", State.OK, f"{shell}: {found[shell]}")
        return Diagnosis(
            "completion",
            State.WARNING,
            f"{found[shell]} is there, but a new {shell} does not load it",
            " ".join(completion_script.next_step(Shell(shell), found[shell]).split()),
        )
    if shell in set(Shell):
        return Diagnosis(
            "completion", State.WARNING, f"not installed for {shell}", f"{PROGRAM} completion {shell} --install"
        )
    return Diagnosis("completion", State.OK, f"installed for {', '.join(found)}" if found else "no shell of ours runs")
