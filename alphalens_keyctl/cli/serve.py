"""`serve`: answer the proxy in front of a service (forward auth)."""

import math
from pathlib import Path
from typing import Annotated, Final

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import parse_span
from alphalens_keyctl.verification.recording_policy import RecordingPolicy

HOST: Final = "127.0.0.1"
PORT: Final = 8377
_MOST_WORKERS: Final = 256
_MOST_STALENESS: Final = 3600.0


def serve(
    ctx: typer.Context,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="ADDRESS", show_default=False, help=f"Listen on this address. Default: {HOST}."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            show_default=False,
            help=f"Listen on this port; 0 picks a free one. Default: {PORT}.",
        ),
    ] = None,
    unix_socket: Annotated[
        Path | None,
        typer.Option(
            "--unix-socket", metavar="PATH", show_default=False, help="Listen on this Unix socket, made with mode 0660."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, max=_MOST_WORKERS, help="Serve in this many processes.")
    ] = 1,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            metavar="CIDR",
            show_default=False,
            help="Believe what this proxy says of the client: an address, a network, or unix; repeat for more.",
        ),
    ] = None,
    max_staleness: Annotated[
        float,
        typer.Option(
            "--max-staleness",
            metavar="SECONDS",
            help="How old a remembered key may be while PostgreSQL cannot notify of changes.",
        ),
    ] = 1.0,
    usage: Annotated[
        RecordingPolicy,
        typer.Option(
            "--usage",
            metavar="POLICY",
            help="When a use cannot be recorded: refuse the request (required), or answer it and count the loss "
            "(best-effort).",
        ),
    ] = RecordingPolicy.REQUIRED,
    warn_within: Annotated[
        str | None,
        typer.Option(
            "--warn-within",
            metavar="DUR",
            show_default=False,
            help="Tell a key's holder so long before it expires, by the header Sunset; 0: not at all."
            " Default: warn_within of config.toml, else 14d.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="PLACE",
            show_default=False,
            help="Serve metrics for Prometheus at /metrics of this PORT of 127.0.0.1, HOST:PORT or unix:PATH.",
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request.")] = False,
) -> None:
    """Tell a proxy whether a request carries a good key: 204 with the key's id, name and owner, or 401.

    The answer for a key that is retiring has the headers Deprecation and Sunset, and for one that expires soon Sunset,
    for the proxy to pass on to the client.

    For nginx auth_request, Traefik ForwardAuth, Caddy forward_auth, Envoy ext_authz and HAProxy. A request is at
    most 64 KiB and has 10 s to arrive; an idle connection is kept 75 s, and a worker keeps 4,096 connections. GET
    /healthz and /readyz, as the first request on a connection, report health; --metrics needs the extra metrics. Logs
    go to stderr, one JSON object per line. SIGTERM and Ctrl-C end it with exit 0, once every use is written.

    Examples:
      alphalens-keyctl serve --trusted-proxy 127.0.0.1
      alphalens-keyctl serve --unix-socket keyctl.sock --trusted-proxy unix --workers 2
    """
    run = runs.of(ctx)
    if unix_socket is not None and (host is not None or port is not None):
        raise KeyctlError(Code.USAGE, "--unix-socket excludes --host and --port", "Listen in one place.")
    if not (math.isfinite(max_staleness) and 0 <= max_staleness <= _MOST_STALENESS):
        raise KeyctlError(
            Code.USAGE, "--max-staleness is out of bounds", f"Write seconds from 0 to {_MOST_STALENESS:.0f}."
        )
    from alphalens_keyctl.cli import serve_proxy

    serve_proxy.serve_proxy(
        run,
        host=HOST if host is None else host,
        port=PORT if port is None else port,
        unix_socket=unix_socket,
        workers=workers,
        trusted_proxies=tuple(trusted_proxy or ()),
        usage=usage,
        max_staleness=max_staleness,
        access_log=access_log,
        metrics=metrics,
        warn_within=None if warn_within is None else parse_span(warn_within, what="--warn-within", zero=True),
    )
