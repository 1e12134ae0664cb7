"""The forward-auth server: uvicorn around `ForwardAuth`, in this process or in several workers."""

import gc
import logging
import signal
import socket
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.settings import Settings
from alphalens_keyctl.verification.recording_policy import RecordingPolicy
from alphalens_keyctl.vocabulary import Status
from alphalens_keyctl.web import listening, log, workers
from alphalens_keyctl.web.client_address import TrustedProxies
from alphalens_keyctl.web.listening import Place

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier
    from alphalens_keyctl.web.forward_auth import ForwardAuth
    from alphalens_keyctl.web.metrics import Desk, Metrics

# Seconds that requests under way get to end when the server stops.
GRACE: Final = 5
# Seconds that an idle connection is kept: longer than nginx keeps a connection to its upstream (60), so that nginx
# closes first, and never sends a request into a connection that is being closed.
KEEP_ALIVE: Final = 75

_log = logging.getLogger(__name__)


class Outcome(IntEnum):
    """How a server ended: the exit status of a worker."""

    STOPPED = 0
    NOT_STARTED = 3
    USES_LOST = 4


@dataclass(frozen=True)
class Service:
    """What to serve, and where. `host` and `port` are used when `unix_socket` is None."""

    # Not in the repr: a URL may hold a password.
    settings: Settings = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8377
    unix_socket: Path | None = None
    workers: int = 1
    trusted_proxies: tuple[str, ...] = ()
    usage: RecordingPolicy = RecordingPolicy.REQUIRED
    max_staleness: float = 1.0
    access_log: bool = False
    warn_within: timedelta | None = None
    quiet: bool = False
    metrics: Place | None = None
    """Where to serve metrics; None for nowhere."""


class KeyCounts(NamedTuple):
    """The numbers of keys by status, and of keys that expire within 14 days."""

    by_status: Mapping[Status, int]
    expiring: int


# Opens the database, and gives the function that counts; both raise `KeyctlError` where the database does not answer.
Asking = Callable[[], AbstractContextManager[Callable[[], KeyCounts]]]


def serve(service: Service, ask: Asking) -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests under way, write every use and return.

    Metrics, where they are asked for, have the numbers of keys by `ask`. Raises `KeyctlError` when the server cannot
    start, or when uses cannot be written at the end.
    """
    require("serve", "uvicorn", "httptools", extra="server")
    require_metrics(service.metrics)
    # A wrong option is an error before anything listens, and one error for all workers.
    TrustedProxies(service.trusted_proxies)
    _verifier(service).close()
    log.configure(quiet=service.quiet)
    with _listening(service) as listener, desks(service.metrics, service.workers, ask) as each_desk:
        _log.info("listening", extra={"address": listening.address_of(listener), "workers": service.workers})
        outcomes = in_processes(partial(_serve_here, listener, service), each_desk, quiet=service.quiet)
    report(outcomes)


def report(outcomes: Container[int | None]) -> None:
    """Say how a server ended. Raises `KeyctlError` where it did not start, or lost uses."""
    if Outcome.NOT_STARTED in outcomes:
        raise KeyctlError(Code.CONFIGURATION, "the server did not start", "The log above says why.")
    if Outcome.USES_LOST in outcomes:
        raise KeyctlError(
            Code.DATABASE_UNREACHABLE, "uses are lost: they could not be written", "The log above says why."
        )
    _log.info("stopped")


def in_processes(
    serve_here: "Callable[[Desk | None], Outcome]", desks: "Sequence[Desk | None]", *, quiet: bool
) -> Container[int | None]:
    """Serve until SIGTERM or SIGINT: in this process, or in a worker a desk where there are several or one counts.
    `serve_here` must be one that can be pickled. Returns how each process ended."""
    if len(desks) == 1 and desks[0] is None:
        return {serve_here(None)}
    works = [partial(_as_worker, serve_here, desk, quiet) for desk in desks]
    return workers.supervise(works, fatal=Outcome.NOT_STARTED)


def _as_worker(serve_here: "Callable[[Desk | None], Outcome]", desk: "Desk | None", quiet: bool) -> int:
    log.configure(quiet=quiet)
    return serve_here(desk)


def _serve_here(listener: socket.socket, service: Service, desk: "Desk | None") -> Outcome:
    """Serve until SIGTERM or SIGINT, in this process."""
    import uvicorn

    from alphalens_keyctl.web.forward_auth import ForwardAuth

    verifier = _verifier(service, flush_on_sigterm=True)
    app = ForwardAuth(
        verifier,
        trusted_proxies=service.trusted_proxies,
        access_log=service.access_log,
        warn_within=service.warn_within,
        metrics=None if desk is None else _counting(desk),
    )
    server = uvicorn.Server(_uvicorn_config(partial(_loaded, app)))
    with stopping_on_signals(server):
        try:
            server.run(sockets=[listener])
        except SystemExit:  # uvicorn's way to say that it did not start
            return Outcome.NOT_STARTED
    if app.uses_lost:
        return Outcome.USES_LOST
    return Outcome.STOPPED if server.started else Outcome.NOT_STARTED


def _loaded(app: "ForwardAuth") -> "ForwardAuth":
    """Return `app`. uvicorn calls this function when it has loaded its modules."""
    # What exists now lives as long as the process; collections that scan it would only delay requests.
    gc.collect()
    gc.freeze()
    return app


def _verifier(service: Service, *, flush_on_sigterm: bool = False) -> "KeyVerifier":
    from alphalens_keyctl import KeyVerifier

    return KeyVerifier(
        settings=service.settings,
        usage=service.usage,
        max_staleness=service.max_staleness,
        flush_on_sigterm=flush_on_sigterm,
    )


def _uvicorn_config(make_app: Callable[[], "ForwardAuth"]) -> Any:
    import uvicorn

    from alphalens_keyctl.web.connection import Connection

    return uvicorn.Config(
        make_app,
        factory=True,
        interface="asgi3",
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


def _counting(desk: "Desk") -> "Metrics":
    from alphalens_keyctl.web.forward_auth import ANSWERS
    from alphalens_keyctl.web.metrics import Metrics

    return Metrics(desk, ANSWERS)


def require_metrics(place: Place | None) -> None:
    """Raise `KeyctlError` (configuration) where metrics are asked for and cannot be counted."""
    if place is not None:
        require("--metrics", "prometheus_client", extra="metrics")


@contextmanager
def desks(place: Place | None, processes: int, ask: Asking) -> "Iterator[Sequence[Desk | None]]":
    """Serve metrics at `place` while the block lasts, if there is one. Yields where each process counts, if
    anywhere. Raises as `metrics_listener.serving`."""
    if place is None:
        yield [None] * processes
        return
    from alphalens_keyctl.web import metrics_listener

    with metrics_listener.serving(place, processes, ask) as each_desk:
        yield each_desk


@contextmanager
def _listening(service: Service) -> Iterator[socket.socket]:
    if service.unix_socket is not None:
        with listening.on_unix_socket(service.unix_socket) as listener:
            yield listener
    else:
        with listening.on_port(service.host, service.port) as listener:
            yield listener


@contextmanager
def stopping_on_signals(server: Any) -> Iterator[None]:
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


def require(what: str, *modules: str, extra: str) -> None:
    """Raise `KeyctlError` (configuration) where `what` needs a module that is not installed; `extra` brings it."""
    try:
        for module in modules:
            import_module(module)
    except ImportError as error:
        raise KeyctlError(
            Code.CONFIGURATION,
            f"{what} needs {error.name}, which is not installed",
            f"Install alphalens-keyctl[{extra}].",
        ) from error
