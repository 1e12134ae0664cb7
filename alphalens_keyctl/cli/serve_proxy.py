"""What `serve` does: open the database once, then answer the proxy until a signal comes."""

import gc
from datetime import timedelta
from functools import partial
from pathlib import Path

from alphalens_keyctl.cli import key_counts
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.verification.recording_policy import RecordingPolicy
from alphalens_keyctl.web import listening, server


def serve_proxy(
    run: Run,
    *,
    host: str,
    port: int,
    unix_socket: Path | None,
    workers: int,
    trusted_proxies: tuple[str, ...],
    usage: RecordingPolicy,
    max_staleness: float,
    access_log: bool,
    warn_within: timedelta | None,
    metrics: str | None,
) -> None:
    """Serve until SIGTERM or SIGINT. `max_staleness` is in seconds. `warn_within`: None takes the setting. `metrics`:
    where to serve metrics, if anywhere.

    Raises `KeyctlError` when the database cannot be opened, when the server cannot start, or when uses are lost.
    """
    place = None if metrics is None else listening.parse_place(metrics, what="--metrics")
    # Opened here first, so that what is wrong with the database is an error of this command and not a line in a log.
    run.require_database("serve")
    with run.database(create=False):
        pass
    gc.enable()  # which the entry disabled, for commands that end soon
    server.serve(
        server.Service(
            settings=run.settings,
            host=host,
            port=port,
            unix_socket=unix_socket,
            workers=workers,
            trusted_proxies=trusted_proxies,
            usage=usage,
            max_staleness=max_staleness,
            access_log=access_log,
            warn_within=run.settings.warn_within if warn_within is None else warn_within,
            quiet=run.quiet,
            metrics=place,
        ),
        ask=partial(key_counts.counted, run.settings),
    )
