"""`config.toml` → plain values by the names of the settings.

What is wrong is named by file, table and key, never by its value, which may hold a password.
"""

import re
import stat
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from alphalens_keyctl import keyformat, text
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import parse_span

CONFIG_FILE: Final = "config.toml"
COLORS: Final = ("red", "yellow", "green", "cyan", "blue", "magenta")
_LARGEST_FILE: Final = 1 << 20  # bytes; reading a device would never end
_LONGEST_WAIT: Final = 3600.0  # seconds (promise 11: every wait has a limit)
_PROFILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class ConfigFile(NamedTuple):
    """What a configuration file holds, by the names of the settings: the top of the file, and each profile."""

    path: Path | None
    top: Mapping[str, Any]
    profiles: Mapping[str, Mapping[str, Any]]
    default_profile: str | None


def read_file(path: Path, *, required: bool) -> ConfigFile:
    """Read a configuration file; an absent one is empty, unless it is `required`.

    Raises `KeyctlError` (configuration_invalid), naming the file, the table and the setting, never a value.
    """
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise invalid(f"the configuration file {path} is a FIFO, which may never answer")
        with path.open("rb") as file:
            import tomllib  # where there is a file: every start would take longer by it, --help too

            found = tomllib.loads(file.read(_LARGEST_FILE).decode("utf-8"))
    except FileNotFoundError:
        if required:
            raise invalid(f"there is no configuration file {path}") from None
        return ConfigFile(None, {}, {}, None)
    except OSError as error:
        raise invalid(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        # The message of the parser may repeat the text of the file, a password even; line and column are enough.
        position = re.search(r" \(at line [0-9]+, column [0-9]+\)$", str(error))
        raise invalid(f"the configuration file {path} is not valid TOML{position[0] if position else ''}") from None
    profiles = _profiles(found.pop("profile", {}), path)
    default = found.pop("default_profile", None)
    if default is not None and (not isinstance(default, str) or default not in profiles):
        named = quoted(default) if isinstance(default, str) else "of that name"
        raise no_such_profile(f"{path}: 'default_profile': there is no profile {named}", profiles, path)
    top = _table(found, str(path), (*NAMES, *_AT_THE_TOP))
    beside = {name: _beside(path, table) for name, table in profiles.items()}
    return ConfigFile(path, _beside(path, top), beside, default)


def _beside(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the path of a SQLite file that is relative counted from the folder of the configuration
    file: whoever reads the file does not know where the command will run."""
    folder = path.absolute().parent
    return {
        name: _from_folder(folder, value) if name.endswith("database_url") else value for name, value in values.items()
    }


def _from_folder(folder: Path, url: str) -> str:
    from alphalens_keyctl.address import from_folder  # where there is a file, as tomllib

    return from_folder(folder, url)


def _profiles(found: object, path: Path) -> dict[str, Mapping[str, Any]]:
    if not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
        raise invalid(f"{path}: 'profile' must hold tables, as [profile.prod] is one")
    if not all(map(_PROFILE_NAME.fullmatch, found)):
        raise invalid(f"{path}: a profile's name is 1 to 40 of A-Z a-z 0-9 _ -, and begins with a letter or digit")
    return {name: _table(table, f"{path}: [profile.{name}]", NAMES) for name, table in found.items()}


def _table(found: Mapping[str, object], where: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of a table that holds settings, by their names; those of `check` as `check.NAME`."""
    values: dict[str, Any] = {}
    for key, value in found.items():
        parse = _PARSERS.get(key)
        if key == "check":
            values |= _check(value, f"{where}: 'check'")
        elif parse is None:
            raise invalid(f"{where}: '{_shown(key)}' is not a setting", f"There are: {', '.join(names)}.")
        else:
            values[key] = parse(value, f"{where}: '{key}'")
    return values


def _shown(key: str) -> str:
    # The name of a setting is shown only where it looks like one: it may be a URL that slipped to the wrong side.
    return keyformat.redact(key) if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", key) else "a key that is no word"


def database_url(value: object, where: str) -> str:
    """Return a URL that is a text, not empty and no raw key. Raises `KeyctlError` (configuration_invalid)."""
    if not isinstance(value, str):
        raise invalid(f"{where} must be a text")
    if keyformat.resembles_raw_key(value):
        raise invalid(f"{where} holds a raw key", "Name a database there. Consider the key leaked: rotate it.")
    if not value:
        # In CI a secret that does not exist arrives as an empty variable. The default database would be another one
        # than was meant.
        raise invalid(f"{where} is set but empty", "Give it a value, or unset it to use the default.")
    return value


def server(value: object, where: str) -> str:
    """Return the URL of a server. Raises `KeyctlError` (configuration_invalid)."""
    if not isinstance(value, str):
        raise invalid(f"{where} must be a text")
    if not value:
        raise invalid(f"{where} is set but empty", "Give it a value, or unset it to use a database.")
    from alphalens_keyctl.server_address import parse_server  # where there is a server, as tomllib

    try:
        # Whether http is allowed is another setting's affair.
        parse_server(value, plaintext=True)
    except KeyctlError as error:
        raise invalid(f"{where}: {error.message}", error.hint) from None
    return value


def _file(value: object, where: str) -> Path:
    if not isinstance(value, str) or not value or "\0" in value or keyformat.resembles_raw_key(value):
        raise invalid(f"{where} must be a path")
    path = Path(value)
    if path.parts[0] != "~" and not path.is_absolute():
        # From whatever folder a command is run, the file is the same.
        raise invalid(f"{where} must be a path from the root, or from ~")
    try:
        return path.expanduser()
    except RuntimeError:
        raise invalid(f"{where} begins with ~, and there is no home") from None


def _yes(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"{where} must be true or false")
    return value


def _actor(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"{where} must be a text")
    try:
        return text.parse_line(value, what="actor", longest=text.LONGEST_ACTOR)
    except KeyctlError as error:
        raise invalid(f"{where}: {error.message}", error.hint) from None


def _key_prefix(value: object, where: str) -> str:
    if not isinstance(value, str) or not keyformat.is_prefix(value):
        raise invalid(f"{where} must be a-z and then 1 to 9 of a-z 0-9")
    return value


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_WAIT:
        raise invalid(f"{where} must be a number of seconds above 0, {_LONGEST_WAIT:.0f} at most")
    return float(value)


def _check(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{where} must be a table")
    values: dict[str, Any] = {}
    for key, each in value.items():
        parse = _CHECK_PARSERS.get(key)
        if parse is None:
            raise invalid(f"{where}: '{_shown(key)}' is not a setting", f"There are: {', '.join(CHECK_NAMES)}.")
        values[f"check.{key}"] = parse(each, f"{where}: '{key}'")
    return values


def _duration(value: object, where: str) -> timedelta:
    try:
        return parse_span(value if isinstance(value, str) else "", what=where)
    except KeyctlError:
        raise invalid(f"{where} must be a duration: 90d, 12w") from None


def _warning(value: object, where: str) -> timedelta:
    return timedelta(0) if value == "0" else _duration(value, where)


def _color(value: object, where: str) -> str:
    if not isinstance(value, str) or value not in COLORS:
        raise invalid(f"{where} is not a colour that there is", f"There are: {', '.join(COLORS)}.")
    return value


def _owners(value: object, where: str) -> tuple[str, ...]:
    # Parsed as the owner of a key is: an owner that no key can have would never match, in silence.
    try:
        return tuple(text.parse_line(each, what="owner", longest=text.LONGEST_OWNER) for each in _texts(value, where))
    except KeyctlError as error:
        raise error if error.code is Code.CONFIGURATION else invalid(f"{where}: {error.message}", error.hint) from None


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise invalid(f"{where} must be a list of texts")
    return tuple(value)


_CHECK_PARSERS: Final[Mapping[str, Callable[[object, str], object]]] = {
    "rotation_age": _duration,
    "unused": _duration,
    "never_used": _duration,
    "expiring": _duration,
    "suspended": _duration,
    "delivering": _duration,
    "owners": _owners,
    "ignore": _texts,
}
CHECK_NAMES: Final = tuple(_CHECK_PARSERS)
_PARSERS: Final[Mapping[str, Callable[[object, str], object]]] = {
    "database_url": database_url,
    "usage_database_url": database_url,
    "server": server,
    "api_key_file": _file,
    "insecure_plaintext": _yes,
    "actor": _actor,
    "key_prefix": _key_prefix,
    "connect_timeout": _seconds,
    "lock_timeout": _seconds,
    "query_timeout": _seconds,
    "warn_within": _warning,
    "color": _color,
}
NAMES: Final = (*_PARSERS, "check")
_AT_THE_TOP: Final = ("default_profile", "profile")  # of the file alone


def no_such_profile(problem: str, profiles: Mapping[str, Any], path: Path | None) -> KeyctlError:
    """Return the error for a profile that does not exist, with those that do in its hint."""
    if profiles:
        return invalid(problem, f"There are: {', '.join(profiles)}.")
    where = CONFIG_FILE if path is None else str(path)
    return invalid(problem, f"There are none: a table [profile.NAME] in {where} makes one.")


def quoted(name: str) -> str:
    """Return the name of a profile as a message shows it: only where it looks like one (it may be a password)."""
    return f"'{keyformat.redact(name)}'" if _PROFILE_NAME.fullmatch(name) else "of that name"


def invalid(problem: str, hint: str = "") -> KeyctlError:
    """Return the error (configuration_invalid) for a setting that is not as it must be."""
    return KeyctlError(Code.CONFIGURATION, problem, hint or "Correct it and run the command again.")
