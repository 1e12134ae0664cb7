"""A real Secret Service: gnome-keyring under a D-Bus of its own, in a folder of its own, unlocked or locked."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.commands import LIMIT, ROOT
from tests.support.tools import require_tool

PASSWORD = b"correct horse"
# The daemon keeps the bus alive as long as it runs.
_SERVE = 'echo "$DBUS_SESSION_BUS_ADDRESS"; exec gnome-keyring-daemon --foreground --components=secrets "$@"'
_READ = "import sys, keyring; print(keyring.get_password('alphalens-keyctl', sys.argv[1]))"
_LOCK = """
import secretstorage
collection = secretstorage.get_default_collection(secretstorage.dbus_init())
collection.lock()
assert collection.is_locked()
"""
_WRITE = "import sys, keyring; keyring.set_password('alphalens-keyctl', sys.argv[1], sys.stdin.read())"


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

    def read(self, user: str) -> str | None:
        """What Python's keyring finds there, in another process."""
        said = self._python(_READ, user).removesuffix("\n")
        return None if said == "None" else said

    def write(self, user: str, secret: str) -> None:
        self._python(_WRITE, user, stdin=secret)

    def lock(self) -> None:
        """Lock the collection, as a screen lock does."""
        self._python(_LOCK)

    def close(self) -> None:
        assert self._process.stdout is not None
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(LIMIT)
        self._process.stdout.close()

    def _python(self, code: str, user: str = "", stdin: str = "") -> str:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | self.environment
        return subprocess.run(
            [sys.executable, "-c", code, user],
            env=environment, input=stdin, capture_output=True, text=True, timeout=LIMIT, check=True,
        ).stdout  # fmt: skip


@contextmanager
def secret_service(folder: Path, *, unlocked: bool = True) -> Iterator[SecretService]:
    """A Secret Service for the length of a block; a second one on the same folder has what the first was given."""
    service = SecretService(folder, unlocked=unlocked)
    try:
        yield service
    finally:
        service.close()
