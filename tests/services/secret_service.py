"""A real Secret Service: gnome-keyring under a D-Bus of its own, in a folder of its own, unlocked or locked."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import jeepney
import secretstorage

from tests.support.commands import LIMIT
from tests.support.tools import require_tool
from tests.support.waiting import wait_for

PASSWORD = b"correct horse"
# The daemon keeps the bus alive as long as it runs.
_SERVE = 'echo "$DBUS_SESSION_BUS_ADDRESS"; exec gnome-keyring-daemon --foreground --components=secrets "$@"'
# What Python's keyring adds to the two by which an entry is found; it replaces only what has all three.
_BY_KEYRING = {"application": "Python keyring library"}


class SecretService:
    """A running daemon. `environment` is what a program needs to reach it."""

    def __init__(self, folder: Path, *, unlocked: bool) -> None:
        require_tool("gnome-keyring-daemon", "gnome-keyring")
        run = require_tool("dbus-run-session", "dbus")
        for name in ("data", "run"):
            (folder / name).mkdir(0o700, parents=True, exist_ok=True)
        # No DISPLAY: a prompt that nobody sees is refused, or never answered.
        here = {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "XDG_RUNTIME_DIR": str(folder / "run")}
        self._process = subprocess.Popen(
            [run, "--", "sh", "-c", _SERVE, "sh", *(["--unlock"] if unlocked else [])],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | here,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if unlocked:
            self._process.stdin.write(PASSWORD)
        self._process.stdin.close()
        address = self._process.stdout.readline().decode().strip()
        self.environment = {"DBUS_SESSION_BUS_ADDRESS": address, "XDG_DATA_HOME": here["XDG_DATA_HOME"]}
        wait_for(self._unlocked if unlocked else self._there)

    def read(self, user: str) -> str | None:
        """What another client of the Secret Service finds there."""
        with self._collection() as collection:
            found = [item.get_secret().decode() for item in collection.search_items(_attributes(user))]
        assert len(found) <= 1
        return found[0] if found else None

    def write(self, user: str, secret: str) -> None:
        """Put a secret where the program looks, in place of what is there."""
        with self._collection() as collection:
            collection.create_item(user, _attributes(user) | _BY_KEYRING, secret.encode(), replace=True)

    def lock(self) -> None:
        """Lock the collection, as a screen lock does."""
        with self._collection() as collection:
            collection.lock()
            assert collection.is_locked()

    def _there(self) -> bool:
        """Whether the daemon has its name on the bus. Whoever asked for it before would start another daemon."""
        with self._bus() as bus:
            answer = bus.send_and_get_reply(jeepney.message_bus.NameHasOwner("org.freedesktop.secrets"))
            return bool(answer.body[0])

    def _unlocked(self) -> bool:
        if not self._there():
            return False
        with suppress(secretstorage.ItemNotFoundException), self._collection() as collection:
            return not collection.is_locked()
        return False

    @contextmanager
    def _collection(self) -> "Iterator[secretstorage.Collection]":
        with self._bus() as bus:
            yield secretstorage.get_collection_by_alias(bus, "default")

    @contextmanager
    def _bus(self) -> "Iterator[jeepney.io.blocking.DBusConnection]":
        with patch.dict(os.environ, self.environment):
            bus = secretstorage.dbus_init()
        with closing(bus):
            yield bus

    def close(self) -> None:
        assert self._process.stdout is not None
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(LIMIT)
        self._process.stdout.close()


def _attributes(user: str) -> dict[str, str]:
    return {"service": "alphalens-keyctl", "username": user}


@contextmanager
def secret_service(folder: Path, *, unlocked: bool = True) -> Iterator[SecretService]:
    """A Secret Service for the length of a block; a second one on the same folder has what the first was given."""
    service = SecretService(folder, unlocked=unlocked)
    try:
        yield service
    finally:
        service.close()
