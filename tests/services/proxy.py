"""What the real proxies share: how one is started by README's text, and what can be expected of it."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.tools import lack

_START: Final = 40.0  # seconds that a proxy gets until it listens


class Ports(NamedTuple):
    """Where a proxy listens, where `serve` does, and where the service behind the proxy does."""

    proxy: int
    serve: int
    service: int


class Proxy(NamedTuple):
    """A proxy by the text in README. `command` writes the text, for these ports, into a folder of its own."""

    name: str
    command: Callable[[Path, Ports], Sequence[str]]
    # What the proxy answers when `serve` is away; the same, or one of these, when `serve` hangs.
    away: int
    hung: tuple[int, ...]
    # Seconds within which the proxy says that `serve` hangs.
    patience: float = 15.0


def program(name: str, package: str) -> str:
    """The path of the program that a Python package brings."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        lack(f"needs {name}, from PyPI's {package}")
    return str(next(file.locate() for file in files if file.name == name and "bin" in file.parts))


@contextmanager
def running(proxy: Proxy, serve: int, service: int) -> Iterator[int]:
    """Run a proxy until the block ends; its port."""
    ports = Ports(free_port(), serve, service)
    with tempfile.TemporaryDirectory(prefix="keyctl-proxy-") as outside:
        folder = Path(outside)
        command = proxy.command(folder, ports)
        with started(command, folder, ports.proxy):
            yield ports.proxy


@contextmanager
def started(command: Sequence[str], folder: Path, port: int, user: str | None = None) -> Iterator[None]:
    """Run a server until the block ends; it must come to listen on `port`."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, user=user, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=folder
        )
    try:
        _wait_until_up(process, port, log)
        yield
    finally:
        process.terminate()
        process.wait(_START)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{process.args!r} did not start: {log.read_text()}") from None
            time.sleep(0.02)
        else:
            return
