"""What `login` and `logout` do: keep the key for a server in the keyring, and remove it."""

from collections.abc import Callable

from alphalens_keyctl.cli import server
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.delivery import keyring
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import MalformedKeyError, parse
from alphalens_keyctl.moments import rfc3339


def login(run: Run, read: Callable[[], bytes]) -> None:
    """Keep the raw key that `read` gives, once the server has let it in. Raises `KeyctlError`."""
    at = server.address(run.settings)
    try:
        raw = parse(read().strip())
    except MalformedKeyError as error:
        raise KeyctlError(Code.INVALID_INPUT, f"this is no raw key: {error}", "Pass it on standard input.") from None
    with server.manager(run.settings, raw) as manager:
        key = manager.caller()
    keyring.keep_own_key(at.display, raw)
    until = "" if key.ends_at is None else f", which opens until {rfc3339(key.ends_at)}"
    run.note(f"Logged in at {at.display} with key '{key.name}' ({key.id}){until}.")


def logout(run: Run) -> None:
    """Remove the key for the server. Raises `KeyctlError`."""
    at = server.address(run.settings)
    there = keyring.forget_own_key(at.display)
    run.note(f"Logged out at {at.display}." if there else f"Nothing to do: no key for {at.display} is in the keyring.")
