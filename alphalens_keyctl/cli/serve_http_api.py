"""What `serve-api` does: open the database once, then answer requests until a signal comes."""

import gc
from functools import partial
from pathlib import Path

from alphalens_keyctl.api import server
from alphalens_keyctl.api.tls import TlsFiles
from alphalens_keyctl.cli import key_counts
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.web import listening


def serve_http_api(
    run: Run,
    *,
    host: str,
    port: int,
    unix_socket: Path | None,
    tls: tuple[Path, Path] | None,
    insecure_plaintext: bool,
    workers: int,
    trusted_proxies: tuple[str, ...],
    access_log: bool,
    metrics: str | None,
) -> None:
    """Serve until SIGTERM or SIGINT. `tls` is the certificate and its private key. `metrics`: where to serve metrics,
    if anywhere.

    Raises `KeyctlError` when the database cannot be opened, when the server cannot start, or when uses are lost.
    """
    place = None if metrics is None else listening.parse_place(metrics, what="--metrics")
    run.require_database("serve-api")
    # Opened here first, so that what is wrong with the database is an error of this command and not a line in a log.
    with run.database(create=False):
        pass
    gc.enable()  # which the entry disabled, for commands that end soon
    server.serve(
        server.ApiService(
            settings=run.settings,
            host=host,
            port=port,
            unix_socket=unix_socket,
            tls=None if tls is None else TlsFiles(*tls),
            insecure_plaintext=insecure_plaintext,
            workers=workers,
            trusted_proxies=trusted_proxies,
            access_log=access_log,
            quiet=run.quiet,
            metrics=place,
        ),
        ask=partial(key_counts.counted, run.settings),
    )
