"""The socket that the server listens on, made once and shared by the workers."""

import errno
import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from alphalens_keyctl.errors import Code, KeyctlError

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 2048
_PLACE: Final = re.compile(
    r"(?:(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]/@\s]+)):)?(?P<port>[0-9]{1,5})", re.ASCII
)
_LAST_PORT: Final = 65535
# Read and write for the owner and the group: a proxy is put into the group.
_MASK: Final = 0o117


class Place(NamedTuple):
    """Where to listen. `host` and `port` are used when `unix_socket` is None."""

    host: str = LOOPBACK
    port: int = 0
    unix_socket: Path | None = None


def parse_place(text: str, *, what: str) -> Place:
    """Return the place of `PORT` (of this machine alone), `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`. Raises
    `KeyctlError` (usage) for anything else; `what` is the option."""
    if text.startswith("unix:") and text != "unix:":
        return Place(unix_socket=Path(text.removeprefix("unix:")))
    match = _PLACE.fullmatch(text)
    if match is None or int(match["port"]) > _LAST_PORT:
        raise KeyctlError(
            Code.USAGE, f"{what} is no place to listen", "Write PORT, HOST:PORT, [IPV6]:PORT or unix:PATH."
        )
    return Place(match["ipv6"] or match["host"] or LOOPBACK, int(match["port"]))


@contextmanager
def on(place: Place, *, option: str) -> Iterator[socket.socket]:
    """Listen while the block lasts. Raises `KeyctlError` (configuration_invalid), which names `option`."""
    if place.unix_socket is not None:
        with on_unix_socket(place.unix_socket, option) as listener:
            yield listener
    else:
        with on_port(place.host, place.port, option) as listener:
            yield listener


def address_of(listener: socket.socket) -> str:
    """Return where a socket listens, as the log says it."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def on_port(host: str, port: int, option: str = "--port") -> socket.socket:
    """Listen on a TCP port, on any free one for 0. Raises `KeyctlError` (configuration_invalid)."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise _refusal(f"there is no host '{host}' to listen on", "Name an address of this machine.") from None
    listener = socket.socket(family, kind, protocol)
    try:
        # Else a restart would have to wait until the system forgets the old connections.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Before the workers start: connections wait for the workers instead of being refused.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _taken_or_forbidden(error, f"port {port} of {host}", option) from error
    return listener


@contextmanager
def on_unix_socket(path: Path, option: str = "--unix-socket") -> Iterator[socket.socket]:
    """Listen on a unix socket of mode 0660 while the block lasts.

    A socket that a dead process left is replaced; anything else that stands there is left alone. Raises
    `KeyctlError` (configuration_invalid).
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone_in(path.parent):
            _make_room(path)
            mask = os.umask(_MASK)
            try:
                listener.bind(os.fspath(path))
            finally:
                os.umask(mask)
            # Before the lock is released: to another server a socket without a listener is a leftover.
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _taken_or_forbidden(error, f"the socket {path}", option) from error
    made = os.stat(path)
    try:
        yield listener
    finally:
        listener.close()
        with suppress(OSError):
            found = os.stat(path)
            # Another server may have put its socket here meanwhile.
            if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
                path.unlink()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder: of two servers that start at once, the second would remove the first one's socket
    between look and bind."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_room(path: Path) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _refusal(f"{path} is there and is no socket", "Name another path; this file is left as it is.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            # Connecting blocks where the other server's backlog is full; the server is there all the same.
            probe.setblocking(False)
            probe.connect(os.fspath(path))
        except BlockingIOError:
            pass
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _taken_or_forbidden(error: OSError, what: str, option: str) -> KeyctlError:
    if error.errno == errno.EADDRINUSE:
        return _refusal(f"{what} is taken", f"Another server listens there. Stop it, or choose another {option}.")
    return _refusal(f"{what} cannot be listened on: {error.strerror or error}", f"Choose another {option}.")


def _refusal(problem: str, hint: str) -> KeyctlError:
    return KeyctlError(Code.CONFIGURATION, problem, hint)
