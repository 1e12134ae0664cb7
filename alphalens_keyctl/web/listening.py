"""The socket that the server listens on, made once and shared by the workers."""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from alphalens_keyctl.errors import Code, KeyctlError

BACKLOG: Final = 2048
# Read and write for the owner and the group: a proxy is put into the group.
_MASK: Final = 0o117


def on_port(host: str, port: int) -> socket.socket:
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
        raise _taken_or_forbidden(error, f"port {port} of {host}", "--port") from error
    return listener


@contextmanager
def on_unix_socket(path: Path) -> Iterator[socket.socket]:
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
        raise _taken_or_forbidden(error, f"the socket {path}", "--unix-socket") from error
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
