"""Options, environment, profile, top of `config.toml`, defaults → one frozen object. The first that sets a value wins.

A profile that an option names counts as an option: its values win over the environment. Who types `--profile prod`
means the database of that profile, whatever an earlier `export` left behind.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from alphalens_keyctl import config_file, keyformat, text
from alphalens_keyctl.config_file import CHECK_NAMES, CONFIG_FILE, ConfigFile
from alphalens_keyctl.errors import Code, KeyctlError

PROGRAM: Final = "alphalens-keyctl"
DATABASE_FILE: Final = "keys.db"
DATABASE_VARIABLE: Final = "ALPHALENS_KEYCTL_DATABASE_URL"
USAGE_DATABASE_VARIABLE: Final = "ALPHALENS_KEYCTL_USAGE_DATABASE_URL"
ACTOR_VARIABLE: Final = "ALPHALENS_KEYCTL_ACTOR"
PROFILE_VARIABLE: Final = "ALPHALENS_KEYCTL_PROFILE"
SERVER_VARIABLE: Final = "ALPHALENS_KEYCTL_SERVER"
# Holds a raw key, and is read where the key is used alone.
API_KEY_VARIABLE: Final = "ALPHALENS_KEYCTL_API_KEY"


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


class Origin(StrEnum):
    """The kinds of sources that a value can come from."""

    OPTION = "option"
    ENVIRONMENT = "environment"
    PROFILE = "profile"
    FILE = "file"
    DEFAULT = "default"


class Source(NamedTuple):
    """Where a value comes from. `name` is the option, the variable, the table or the file; None for a default."""

    origin: Origin
    name: str | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that can be set. Times are in seconds. Where `actor` is None, the caller finds out who acts.
    `is_default_database` says that nobody named a database. `usage_database_url` is where services write uses, None
    where they write them to the database that they read. A key that expires within `warn_within` is said to.
    `server` is the URL of the HTTP API through which keys are administered, None where it is the database itself;
    `api_key_file` holds the key for it, where a file does. `insecure_plaintext` allows http to another machine.

    `profile` is the profile in force and `color` the colour of its name in a question, None where there is none.
    `config_file` is the file that was read, None where there is none. `sources` says where each value comes from, by
    their names, those of the table `check` as `check.NAME`; a default has no entry.
    """

    database_url: str
    actor: str | None = None
    key_prefix: str = keyformat.DEFAULT_PREFIX
    connect_timeout: float = 5.0
    lock_timeout: float = 5.0
    query_timeout: float = 60.0
    check: Thresholds = Thresholds()
    is_default_database: bool = False
    usage_database_url: str | None = None
    warn_within: timedelta = timedelta(days=14)
    color: str | None = None
    profile: str | None = None
    server: str | None = None
    api_key_file: Path | None = None
    insecure_plaintext: bool = False
    config_file: Path | None = field(default=None, compare=False)
    sources: Mapping[str, Source] = field(default_factory=dict, compare=False, repr=False)

    def source(self, name: str) -> Source:
        """Return where the value of a setting comes from."""
        return self.sources.get(name, Source(Origin.DEFAULT))


@dataclass(frozen=True)
class Given:
    """What the options set, or what the environment sets; None where they set nothing."""

    database_url: str | None = None
    actor: str | None = None
    config_file: Path | None = None
    usage_database_url: str | None = None
    profile: str | None = None
    server: str | None = None
    api_key_file: Path | None = None
    insecure_plaintext: bool | None = None


class _Layer(NamedTuple):
    values: Mapping[str, Any]
    origin: Origin
    names: Mapping[str, str] | str | None


def load(
    given: Given, environment: Given | None = None, *, config_folder: Path | None, data_folder: Path | None
) -> Settings:
    """Settle every setting, of which `given` is what the options set.

    The configuration file is `given.config_file`, which must then exist, or `config.toml` in `config_folder`, which
    need not exist. A folder is None where there is no home that it could be in. Raises `KeyctlError`:
    configuration_invalid, naming the file and the setting, or the profiles that there are; invalid_input for a given
    actor; usage where options name a server and a database.
    """
    environment = environment or Given()
    if given.server is not None and given.database_url is not None:
        raise KeyctlError(Code.USAGE, "--server and --database exclude each other", "Leave one of them out.")
    file = _file_of(given, config_folder)
    looked_at = file.path or given.config_file or (config_folder and config_folder / CONFIG_FILE)
    profile = _profile(file, given, environment, looked_at)
    layers = [
        _Layer(file.top, Origin.FILE, str(file.path)),
        _Layer(file.profiles.get(profile or "", {}), Origin.PROFILE, f"[profile.{profile}]"),
        _Layer(_stated(environment), Origin.ENVIRONMENT, _VARIABLES),
        _Layer(_stated(given), Origin.OPTION, _OPTIONS),
    ]
    if given.profile is not None:
        layers[1], layers[2] = layers[2], layers[1]
    values, sources = _settled(layers)
    sources |= _choices(file, given, environment)
    if "database_url" not in values:
        if data_folder is None:
            raise config_file.invalid(
                "there is no home folder for the default database: HOME is not set and the user has no entry in passwd",
                f"Name a database with --database or {DATABASE_VARIABLE}, or set HOME.",
            )
        values |= {"database_url": str(data_folder / DATABASE_FILE), "is_default_database": True}
    thresholds = {name: values.pop(f"check.{name}") for name in CHECK_NAMES if f"check.{name}" in values}
    return Settings(**values, check=Thresholds(**thresholds), profile=profile, config_file=file.path, sources=sources)


def of_this_process(given: Given) -> Settings:
    """`load` with the environment of this process, and the folders of the platform."""
    # A variable that is set but empty counts as given, and `load` refuses it.
    environment = Given(
        database_url=os.environ.get(DATABASE_VARIABLE),
        actor=os.environ.get(ACTOR_VARIABLE),
        usage_database_url=os.environ.get(USAGE_DATABASE_VARIABLE),
        profile=os.environ.get(PROFILE_VARIABLE),
        server=os.environ.get(SERVER_VARIABLE),
    )
    return load(given, environment, config_folder=config_folder(), data_folder=data_folder())


def config_folder() -> Path | None:
    """Return the platform's folder for configuration files of this user; None where there is no home."""
    from platformdirs import user_config_path

    return _folder(user_config_path)


def data_folder() -> Path | None:
    """Return the platform's folder for data of this user; None where there is no home."""
    from platformdirs import user_data_path

    return _folder(user_data_path)


def _settled(layers: list[_Layer]) -> tuple[dict[str, Any], dict[str, Source]]:
    """Return the values that hold, of layers of which a later one wins, and where each comes from."""
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for layer in layers:
        if "server" in layer.values and "database_url" in layer.values:
            raise config_file.invalid(
                f"{_layer_name(layer)} names both a server and a database", "Keys are administered through one of them."
            )
        if "server" in layer.values:
            values.pop("database_url", None)
            sources.pop("database_url", None)
        if "database_url" in layer.values:
            values.pop("server", None)
            sources.pop("server", None)
            # Where the uses of one database go says nothing of another one: its uses would get lost there.
            values.pop("usage_database_url", None)
            sources.pop("usage_database_url", None)
        for name, value in layer.values.items():
            values[name] = value
            named = layer.names.get(name) if isinstance(layer.names, Mapping) else layer.names
            sources[name] = Source(layer.origin, named)
    return values, sources


def _layer_name(layer: _Layer) -> str:
    return layer.names if isinstance(layer.names, str) else f"the {layer.origin}"


def _stated(given: Given) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if given.server is not None:
        values["server"] = config_file.server(given.server, "the server")
    if given.api_key_file is not None:
        values["api_key_file"] = given.api_key_file
    if given.insecure_plaintext:
        values["insecure_plaintext"] = True
    if given.database_url is not None:
        values["database_url"] = config_file.database_url(given.database_url, "the database URL")
    if given.usage_database_url is not None:
        values["usage_database_url"] = config_file.database_url(given.usage_database_url, "the usage database URL")
    if given.actor is not None:
        values["actor"] = text.parse_line(given.actor, what="actor", longest=text.LONGEST_ACTOR)
    return values


def _profile(file: ConfigFile, given: Given, environment: Given, looked_at: Path | None) -> str | None:
    """Return the name of the profile in force, None where nobody names one."""
    name = given.profile if given.profile is not None else environment.profile
    if name is None:
        return file.default_profile
    if not name:
        raise config_file.invalid("the profile is set but empty", f"Name one, or unset {PROFILE_VARIABLE}.")
    if name not in file.profiles:
        raise config_file.no_such_profile(f"there is no profile {config_file.quoted(name)}", file.profiles, looked_at)
    return name


def _choices(file: ConfigFile, given: Given, environment: Given) -> dict[str, Source]:
    """Return what chose the file and the profile."""
    sources = {"config_file": Source(Origin.OPTION, "--config")} if given.config_file is not None else {}
    if given.profile is not None:
        sources["profile"] = Source(Origin.OPTION, "--profile")
    elif environment.profile is not None:
        sources["profile"] = Source(Origin.ENVIRONMENT, PROFILE_VARIABLE)
    elif file.default_profile is not None:
        sources["profile"] = Source(Origin.FILE, str(file.path))
    return sources


def _folder(find: Callable[..., Path]) -> Path | None:
    """The folder of the platform; None where there is no home: a container's user may have none."""
    try:
        folder = find(PROGRAM, appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # a `~` that older releases leave as it is


def _file_of(given: Given, config_folder: Path | None) -> ConfigFile:
    if given.config_file is not None:
        return config_file.read_file(given.config_file, required=True)
    if config_folder is not None:
        return config_file.read_file(config_folder / CONFIG_FILE, required=False)
    return ConfigFile(None, {}, {}, None)


_VARIABLES: Final = {
    "database_url": DATABASE_VARIABLE,
    "usage_database_url": USAGE_DATABASE_VARIABLE,
    "actor": ACTOR_VARIABLE,
    "server": SERVER_VARIABLE,
}
_OPTIONS: Final = {
    "database_url": "--database",
    "actor": "--actor",
    "server": "--server",
    "api_key_file": "--api-key-file",
    "insecure_plaintext": "--insecure-plaintext",
}
