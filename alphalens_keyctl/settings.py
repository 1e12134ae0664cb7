"""Options, environment, `config.toml`, defaults → one frozen object. The first of these that sets a value wins."""

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from alphalens_keyctl import keyformat, text
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import parse_span

PROGRAM: Final = "alphalens-keyctl"
DATABASE_FILE: Final = "keys.db"
CONFIG_FILE: Final = "config.toml"
DATABASE_VARIABLE: Final = "ALPHALENS_KEYCTL_DATABASE_URL"
USAGE_DATABASE_VARIABLE: Final = "ALPHALENS_KEYCTL_USAGE_DATABASE_URL"
ACTOR_VARIABLE: Final = "ALPHALENS_KEYCTL_ACTOR"
COMPLETE_VARIABLE: Final = "_ALPHALENS_KEYCTL_COMPLETE"  # set by the script of a shell, not by a person
_LARGEST_FILE: Final = 1 << 20  # bytes; reading a device would never end
_LONGEST_WAIT: Final = 3600.0  # seconds (promise 11: every wait has a limit)


@dataclass(frozen=True)
class Thresholds:
    """The table `check` of config.toml: from when on `audit check` objects to a key. `owners` are the owners that a key
    may have; empty, a key may have any owner. `ignore` are ids of rules."""

    rotation_age: timedelta = timedelta(days=90)
    unused: timedelta = timedelta(days=90)
    never_used: timedelta = timedelta(days=30)
    expiring: timedelta = timedelta(days=14)
    suspended: timedelta = timedelta(days=30)
    delivering: timedelta = timedelta(hours=1)
    owners: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """Everything that can be set. Times are in seconds. Where `actor` is None, the caller finds out who acts.
    `is_default_database` says that nobody named a database. `usage_database_url` is where services write uses, None
    where they write them to the database that they read."""

    database_url: str
    actor: str | None = None
    key_prefix: str = keyformat.DEFAULT_PREFIX
    connect_timeout: float = 5.0
    lock_timeout: float = 5.0
    query_timeout: float = 60.0
    check: Thresholds = Thresholds()
    is_default_database: bool = False
    usage_database_url: str | None = None


@dataclass(frozen=True)
class Given:
    """What the options and the environment set; None where they set nothing."""

    database_url: str | None = None
    actor: str | None = None
    config_file: Path | None = None
    usage_database_url: str | None = None


def load(given: Given, *, config_folder: Path | None, data_folder: Path | None) -> Settings:
    """Settle every setting.

    The configuration file is `given.config_file`, which must then exist, or `config.toml` in `config_folder`, which
    need not exist. A folder is None where there is no home that it could be in. Raises `KeyctlError`:
    configuration_invalid, naming the file and the setting; invalid_input for a given actor.
    """
    values: dict[str, Any] = {}
    if given.config_file is not None:
        values = _read_file(given.config_file, required=True)
    elif config_folder is not None:
        values = _read_file(config_folder / CONFIG_FILE, required=False)
    if given.database_url is not None:
        values["database_url"] = _database_url(given.database_url, "the database URL")
    if given.usage_database_url is not None:
        values["usage_database_url"] = _database_url(given.usage_database_url, "the usage database URL")
    if given.actor is not None:
        values["actor"] = text.parse_line(given.actor, what="actor", longest=text.LONGEST_ACTOR)
    if "database_url" not in values:
        if data_folder is None:
            raise _invalid(
                "there is no home folder for the default database: HOME is not set and the user has no entry in passwd",
                f"Name a database with --database or {DATABASE_VARIABLE}, or set HOME.",
            )
        values |= {"database_url": str(data_folder / DATABASE_FILE), "is_default_database": True}
    return Settings(**values)


def of_this_process(given: Given) -> Settings:
    """`load` with the environment for what `given` leaves out, and the folders of the platform."""
    from platformdirs import user_config_path, user_data_path

    # A variable that is set but empty counts as given, and `load` refuses it.
    url = given.database_url if given.database_url is not None else os.environ.get(DATABASE_VARIABLE)
    actor = given.actor if given.actor is not None else os.environ.get(ACTOR_VARIABLE)
    usage = given.usage_database_url
    if usage is None:
        usage = os.environ.get(USAGE_DATABASE_VARIABLE)
    return load(
        Given(url, actor, given.config_file, usage),
        config_folder=_folder(user_config_path),
        data_folder=_folder(user_data_path),
    )


def _folder(find: Callable[..., Path]) -> Path | None:
    """The folder of the platform; None where there is no home: a container's user may have none."""
    try:
        folder = find(PROGRAM, appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # a `~` that older releases leave as it is


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise _invalid(f"the configuration file {path} is a FIFO, which may never answer")
        with path.open("rb") as file:
            found = tomllib.loads(file.read(_LARGEST_FILE).decode("utf-8"))
    except FileNotFoundError:
        if required:
            raise _invalid(f"there is no configuration file {path}") from None
        return {}
    except OSError as error:
        raise _invalid(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        # The message of the parser may repeat the text of the file, a password even; line and column are enough.
        position = re.search(r" \(at line [0-9]+, column [0-9]+\)$", str(error))
        raise _invalid(f"the configuration file {path} is not valid TOML{position[0] if position else ''}") from None
    return {key: _read_value(key, value, path) for key, value in found.items()}


def _read_value(key: str, value: object, path: Path) -> object:
    parse = _PARSERS.get(key)
    if parse is None:
        raise _invalid(f"{path}: '{_shown(key)}' is not a setting", f"There are: {', '.join(NAMES)}.")
    return parse(value, f"{path}: '{key}'")


def _shown(key: str) -> str:
    # The name of a setting is shown only where it looks like one: it may be a URL that slipped to the wrong side.
    return keyformat.redact(key) if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", key) else "a key that is no word"


def _database_url(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _invalid(f"{where} must be a text")
    if keyformat.resembles_raw_key(value):
        raise _invalid(f"{where} holds a raw key", "Name a database there. Consider the key leaked: rotate it.")
    if not value:
        # In CI a secret that does not exist arrives as an empty variable. The default database would be another one
        # than was meant.
        raise _invalid(f"{where} is set but empty", "Give it a value, or unset it to use the default.")
    return value


def _actor(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _invalid(f"{where} must be a text")
    try:
        return text.parse_line(value, what="actor", longest=text.LONGEST_ACTOR)
    except KeyctlError as error:
        raise _invalid(f"{where}: {error.message}", error.hint) from None


def _key_prefix(value: object, where: str) -> str:
    if not isinstance(value, str) or not keyformat.is_prefix(value):
        raise _invalid(f"{where} must be a-z and then 1 to 9 of a-z 0-9")
    return value


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_WAIT:
        raise _invalid(f"{where} must be a number of seconds above 0, {_LONGEST_WAIT:.0f} at most")
    return float(value)


def _check(value: object, where: str) -> Thresholds:
    if not isinstance(value, dict):
        raise _invalid(f"{where} must be a table")
    values: dict[str, Any] = {}
    for key, each in value.items():
        if key not in CHECK_NAMES:
            raise _invalid(f"{where}: '{_shown(key)}' is not a setting", f"There are: {', '.join(CHECK_NAMES)}.")
        values[key] = _CHECK_PARSERS.get(key, _duration)(each, f"{where}: '{key}'")
    return Thresholds(**values)


def _duration(value: object, where: str) -> timedelta:
    try:
        return parse_span(value if isinstance(value, str) else "", what=where)
    except KeyctlError:
        raise _invalid(f"{where} must be a duration: 90d, 12w") from None


def _owners(value: object, where: str) -> tuple[str, ...]:
    # Parsed as the owner of a key is: an owner that no key can have would never match, in silence.
    try:
        return tuple(text.parse_line(each, what="owner", longest=text.LONGEST_OWNER) for each in _texts(value, where))
    except KeyctlError as error:
        raise error if error.code is Code.CONFIGURATION else _invalid(f"{where}: {error.message}", error.hint) from None


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _invalid(f"{where} must be a list of texts")
    return tuple(value)


_CHECK_PARSERS: Final[Mapping[str, Callable[[object, str], object]]] = {"owners": _owners, "ignore": _texts}
_PARSERS: Final[Mapping[str, Callable[[object, str], object]]] = {
    "database_url": _database_url,
    "usage_database_url": _database_url,
    "actor": _actor,
    "key_prefix": _key_prefix,
    "connect_timeout": _seconds,
    "lock_timeout": _seconds,
    "query_timeout": _seconds,
    "check": _check,
}
NAMES: Final = tuple(_PARSERS)
CHECK_NAMES: Final = tuple(field.name for field in fields(Thresholds))


def _invalid(problem: str, hint: str = "") -> KeyctlError:
    return KeyctlError(Code.CONFIGURATION, problem, hint or "Correct it and run the command again.")
