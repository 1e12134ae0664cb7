"""The way to the keys over a server, for every command: the server's address and the key for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import LONGEST, MalformedKeyError, RawKey, parse
from alphalens_keyctl.manager.http_exchange import Server, Waits
from alphalens_keyctl.manager.over_http import OverHttp
from alphalens_keyctl.server_address import ServerAddress, parse_server
from alphalens_keyctl.settings import API_KEY_VARIABLE, PROGRAM, Origin, Settings

_HOW: Final = f"'{PROGRAM} login' takes it on stdin and keeps it in the keyring; --api-key-file names a file of it."


@contextmanager
def manager(settings: Settings, key: RawKey | None = None) -> Iterator[OverHttp]:
    """The way over the server of the settings, for the block; with `key`, or with the key that the settings name.

    Raises `KeyctlError`.
    """
    at = address(settings)
    if settings.source("actor").origin is Origin.OPTION:
        raise KeyctlError(
            Code.USAGE, "--actor is for a database", "Over a server the audit log names the key that you go with."
        )
    way = OverHttp(Server(at, key or own_key(settings, at), Waits(settings.connect_timeout, settings.query_timeout)))
    try:
        yield way
    finally:
        way.close()


def address(settings: Settings) -> ServerAddress:
    """The server of the settings. Raises `KeyctlError`: usage where they name none, configuration_invalid."""
    if settings.server is None:
        raise KeyctlError(Code.USAGE, "no server is named", "Add --server URL, or set it in a profile.")
    return parse_server(settings.server, plaintext=settings.insecure_plaintext)


def own_key(settings: Settings, at: ServerAddress) -> RawKey:
    """The key of whoever calls: in the file that an option names, in the environment, in the file of config.toml, or in
    the keyring. Raises `KeyctlError`."""
    file, variable = settings.api_key_file, os.environ.get(API_KEY_VARIABLE)
    if file is not None and (variable is None or settings.source("api_key_file").origin is Origin.OPTION):
        return _in_file(str(file))
    if variable is not None:
        return _parsed(variable, API_KEY_VARIABLE)
    from alphalens_keyctl.delivery import keyring

    found = keyring.own_key(at.display)
    if found is None:
        raise KeyctlError(Code.CONFIGURATION, f"there is no key for the server at {at.display}", _HOW)
    return found


def _in_file(path: str) -> RawKey:
    try:
        content = standard_input.read_all(path, most=LONGEST + 2)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its name is not one"
        raise KeyctlError(Code.CONFIGURATION, f"the key for the server cannot be read: {path}: {why}", _HOW) from None
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    return _parsed(text, path)


def _parsed(text: str, where: str) -> RawKey:
    try:
        return parse(text.strip())
    except MalformedKeyError as error:
        raise KeyctlError(
            Code.CONFIGURATION, f"{where} holds no raw key: {error}", "It takes the raw key, and nothing else."
        ) from None
