"""The API's server: uvicorn around the application, in this process or in several workers."""

import gc
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphalens_keyctl.api.tls import TlsFiles, check
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.settings import Settings
from alphalens_keyctl.web import listening, log, server
from alphalens_keyctl.web.client_address import TrustedProxies
from alphalens_keyctl.web.listening import Place
from alphalens_keyctl.web.server import Asking, Outcome

if TYPE_CHECKING:
    from fastapi import FastAPI

    from alphalens_keyctl import KeyVerifier
    from alphalens_keyctl.api.counting import Counting
    from alphalens_keyctl.api.doorway import Doorway
    from alphalens_keyctl.web.metrics import Desk

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiService:
    """What to serve, and where. `host` and `port` are used when `unix_socket` is None."""

    # Not in the repr: a URL may hold a password.
    settings: Settings = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8378
    unix_socket: Path | None = None
    tls: TlsFiles | None = None
    insecure_plaintext: bool = False
    workers: int = 1
    trusted_proxies: tuple[str, ...] = ()
    access_log: bool = False
    quiet: bool = False
    metrics: Place | None = None
    """Where to serve metrics; None for nowhere."""


def serve(service: ApiService, ask: Asking) -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests under way, write every use and return.

    Metrics, where they are asked for, have the numbers of keys by `ask`. Raises `KeyctlError` when the server cannot
    start, or when uses cannot be written at the end.
    """
    server.require("serve-api", "fastapi", "httptools", "uvicorn", extra="api")
    server.require_metrics(service.metrics)
    # What is wrong is an error before anything listens, and one error for all workers.
    TrustedProxies(service.trusted_proxies)
    if service.tls is not None:
        check(service.tls)
    elif service.unix_socket is None and not service.insecure_plaintext:
        _require_loopback(service.host)
    _verifier(service).close()
    log.configure(quiet=service.quiet)
    with _listening(service) as listener, server.desks(service.metrics, service.workers, ask) as desks:
        address = listening.address_of(listener)
        shown = address.replace("http:", "https:", 1) if service.tls is not None else address
        _log.info("listening", extra={"address": shown, "workers": service.workers})
        outcomes = server.in_processes(partial(_serve_here, listener, service), desks, quiet=service.quiet)
    server.report(outcomes)


def _serve_here(listener: socket.socket, service: ApiService, desk: "Desk | None") -> Outcome:
    """Serve until SIGTERM or SIGINT, in this process."""
    import uvicorn

    from alphalens_keyctl.api.application import application
    from alphalens_keyctl.api.doorway import MOST_READERS, MOST_WRITERS, Doorway

    settings = service.settings
    limits = Limits(settings.connect_timeout, settings.lock_timeout, settings.query_timeout)
    address = parse_address(settings.database_url)
    database = Database.open(address, limits, create=False, sessions=MOST_READERS + MOST_WRITERS)
    try:
        verifier = _verifier(service, flush_on_sigterm=True)
        app = application(database, verifier, settings)
        counting = None if desk is None else _counting(desk, app)
        proxies = TrustedProxies(service.trusted_proxies)
        door = Doorway(app, verifier, proxies, access_log=service.access_log, counting=counting)
        running = uvicorn.Server(_uvicorn_config(door, service))
        gc.collect()
        gc.freeze()
        with server.stopping_on_signals(running), _watching(counting, verifier):
            try:
                running.run(sockets=[listener])
            except SystemExit:  # uvicorn's way to say that it did not start
                return Outcome.NOT_STARTED
        if door.uses_lost:
            return Outcome.USES_LOST
        return Outcome.STOPPED if running.started else Outcome.NOT_STARTED
    finally:
        database.close()


def _counting(desk: "Desk", app: "FastAPI") -> "Counting":
    from alphalens_keyctl.api.application import routes
    from alphalens_keyctl.api.counting import Counting

    return Counting(desk, routes(app))


@contextmanager
def _watching(counting: "Counting | None", verifier: "KeyVerifier") -> Iterator[None]:
    """Count the state of the verifier too while the block lasts."""
    if counting is None:
        yield
        return
    counting.metrics.watch(verifier)
    try:
        yield
    finally:
        counting.metrics.watch_no_more()


def _verifier(service: ApiService, *, flush_on_sigterm: bool = False) -> "KeyVerifier":
    from alphalens_keyctl import KeyVerifier

    return KeyVerifier(settings=service.settings, flush_on_sigterm=flush_on_sigterm)


def _uvicorn_config(door: "Doorway", service: ApiService) -> Any:
    import uvicorn

    from alphalens_keyctl.api.connection import ApiConnection

    tls = service.tls
    return uvicorn.Config(
        door,
        interface="asgi3",
        http=ApiConnection,
        loop="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=listening.BACKLOG,
        timeout_keep_alive=server.KEEP_ALIVE,
        timeout_graceful_shutdown=server.GRACE,
        ssl_certfile=None if tls is None else str(tls.certificate),
        ssl_keyfile=None if tls is None else str(tls.key),
    )


@contextmanager
def _listening(service: ApiService) -> Iterator[socket.socket]:
    if service.unix_socket is not None:
        with listening.on_unix_socket(service.unix_socket) as listener:
            yield listener
    else:
        with listening.on_port(service.host, service.port) as listener:
            # The name may stand for more than one address.
            if service.tls is None and not service.insecure_plaintext:
                _require_loopback(listener.getsockname()[0])
            yield listener


def _require_loopback(host: str) -> None:
    """Raise `KeyctlError` (usage) for an address that others reach: raw keys would travel in the clear."""
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise KeyctlError(
            Code.USAGE,
            f"raw keys would travel to {host or 'every address'} in the clear",
            "Give --tls-cert and --tls-key, listen on 127.0.0.1 or --unix-socket behind a proxy that does TLS,"
            " or say --insecure-plaintext.",
        )
