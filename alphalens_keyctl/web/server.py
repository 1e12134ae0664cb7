"""The forward-auth server: uvicorn around `ForwardAuth`, in this process or in several workers."""

import gc
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Literal

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.web import listening, log
from alphalens_keyctl.web.client_address import TrustedProxies

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier

# Seconds that requests under way get to end when the server stops.
GRACE: Final = 5
# Seconds that an idle connection is kept: longer than nginx keeps a connection to its upstream (60), so that nginx
# closes first, and never sends a request into a connection that is being closed.
KEEP_ALIVE: Final = 75
# The exit status of a uvicorn worker that could not start.
_STARTUP_FAILURE: Final = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What to serve, and where. `host` and `port` are used when `unix_socket` is None."""

    # Not in the repr: a URL may hold a password.
    database_url: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8377
    unix_socket: Path | None = None
    workers: int = 1
    trusted_proxies: tuple[str, ...] = ()
    usage: Literal["required", "best-effort"] = "required"
    max_staleness: float = 1.0
    access_log: bool = False
    quiet: bool = False


def serve(service: Service) -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests under way, write every use and return.

    Raises `KeyctlError` when the server cannot start, or when uses cannot be written at the end.
    """
    _require_uvicorn()
    # A wrong option is an error before anything listens, and one error for all workers.
    TrustedProxies(service.trusted_proxies)
    _verifier(service).close()
    log.configure(quiet=service.quiet)
    with _listening(service) as listener:
        facts = {"address": _address(listener), "workers": service.workers}
        _log.info("listening", extra=facts)
        if service.workers == 1:
            _serve_here(service, listener)
        else:
            _supervise(service, listener)
    _log.info("stopped")


def application(service: Service) -> Any:
    """Return the application of one worker. uvicorn calls this function in each worker's process."""
    from alphalens_keyctl.web.forward_auth import ForwardAuth

    log.configure(quiet=service.quiet)
    _end_with_the_supervisor()
    verifier = _verifier(service)
    app = ForwardAuth(verifier, trusted_proxies=service.trusted_proxies, access_log=service.access_log)
    # What exists now lives as long as the process; collections that scan it would only delay requests.
    gc.collect()
    gc.freeze()
    return app


def _verifier(service: Service) -> "KeyVerifier":
    from alphalens_keyctl import KeyVerifier

    return KeyVerifier(service.database_url, usage=service.usage, max_staleness=service.max_staleness)


def _end_with_the_supervisor() -> None:
    """End this worker when the supervisor dies: the worker would hold the port, and nobody would restart it."""
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        return

    def follow() -> None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True, name="alphalens-keyctl-supervisor").start()


def _serve_here(service: Service, listener: socket.socket) -> None:
    import uvicorn

    server = uvicorn.Server(_uvicorn_config(service))
    with _stopping_on_signals(server):
        try:
            server.run(sockets=[listener])
        except SystemExit as left:  # uvicorn's way to say that it did not start
            raise _did_not_start() from left
    if server.lifespan.shutdown_failed:
        raise KeyctlError(
            Code.DATABASE_UNREACHABLE, "uses are lost: they could not be written", "The log above says why."
        )


def _supervise(service: Service, listener: socket.socket) -> None:
    from uvicorn.supervisors import Multiprocess

    # The supervisor logs the death of a worker at INFO.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING if service.quiet else logging.INFO)
    supervisor = Multiprocess(_uvicorn_config(service), sockets=[listener])
    supervisor.run()
    if any(worker.exitcode == _STARTUP_FAILURE for worker in supervisor.processes):
        raise _did_not_start()


def _uvicorn_config(service: Service) -> Any:
    import uvicorn

    from alphalens_keyctl.web.connection import Connection

    return uvicorn.Config(
        # A worker gets the service pickled, through a pipe: the URL's password is in no argument and no variable.
        partial(application, service),
        factory=True,
        interface="asgi3",
        workers=service.workers,
        http=Connection,
        loop="auto",  # uvloop, where it runs
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        # --trusted-proxy alone decides whose word about the client is taken.
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=listening.BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )


@contextmanager
def _listening(service: Service) -> Iterator[socket.socket]:
    if service.unix_socket is not None:
        with listening.on_unix_socket(service.unix_socket) as listener:
            yield listener
    else:
        with listening.on_port(service.host, service.port) as listener:
            yield listener


@contextmanager
def _stopping_on_signals(server: Any) -> Iterator[None]:
    """Handle SIGTERM and SIGINT while the block lasts.

    When uvicorn has stopped, it raises the signal again for the handlers that stood before; the default handlers
    would kill the process before it has reported lost uses. These handlers also catch a signal that comes before
    uvicorn handles signals.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _address(listener: socket.socket) -> str:
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _require_uvicorn() -> None:
    try:
        import httptools  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise KeyctlError(
            Code.CONFIGURATION,
            f"serve needs {error.name}, which is not installed",
            "Install alphalens-keyctl[server].",
        ) from error


def _did_not_start() -> KeyctlError:
    return KeyctlError(Code.CONFIGURATION, "the server did not start", "The log above says why.")
