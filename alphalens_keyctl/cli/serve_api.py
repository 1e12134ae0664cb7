"""`serve-api`: the HTTP API."""

from pathlib import Path
from typing import Annotated, Final

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.errors import Code, KeyctlError

HOST: Final = "127.0.0.1"
PORT: Final = 8378
_MOST_WORKERS: Final = 256


def serve_api(
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
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="PATH", show_default=False, help="The certificate with its chain, in PEM."),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="PATH", show_default=False, help="The certificate's private key, in PEM."),
    ] = None,
    insecure_plaintext: Annotated[
        bool,
        typer.Option("--insecure-plaintext", help="Listen without TLS where others reach it: raw keys can be read."),
    ] = False,
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
    """Administer keys over HTTP: each caller within the rights of the key in the header API-Key.

    GET /openapi.json describes the API. Without TLS it listens on this machine alone. A request's body is at most
    1 MiB and has 10 s to arrive; each worker carries out 4 changes and 10 other requests at once, and answers 429 to
    more. --metrics needs the extra metrics. Logs go to stderr, one JSON object per line. SIGTERM and Ctrl-C end it with
    exit 0, once every use is written.

    Examples:
      alphalens-keyctl serve-api --unix-socket keyctl-api.sock --trusted-proxy unix
      alphalens-keyctl serve-api --host 0.0.0.0 --port 8443 --tls-cert cert.pem --tls-key key.pem --workers 2
    """
    run = runs.of(ctx)
    if unix_socket is not None and (host is not None or port is not None):
        raise KeyctlError(Code.USAGE, "--unix-socket excludes --host and --port", "Listen in one place.")
    if (tls_cert is None) != (tls_key is None):
        raise KeyctlError(Code.USAGE, "--tls-cert and --tls-key belong together", "Give both, or neither.")
    from alphalens_keyctl.cli import serve_http_api

    serve_http_api.serve_http_api(
        run,
        host=HOST if host is None else host,
        port=PORT if port is None else port,
        unix_socket=unix_socket,
        tls=None if tls_cert is None or tls_key is None else (tls_cert, tls_key),
        insecure_plaintext=insecure_plaintext,
        workers=workers,
        trusted_proxies=tuple(trusted_proxy or ()),
        access_log=access_log,
        metrics=metrics,
    )
