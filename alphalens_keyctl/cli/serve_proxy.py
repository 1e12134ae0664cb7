"""What `serve` does: open the database once, then answer the proxy until a signal comes."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.keys import census, selection
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.settings import Settings
from alphalens_keyctl.verification.recording_policy import RecordingPolicy
from alphalens_keyctl.web import listening, server
from alphalens_keyctl.web.server import KeyCounts

# How long a scrape of metrics may keep the database busy.
_LIMITS: Final = Limits(connect_timeout=2.0, lock_timeout=2.0, query_timeout=5.0)
_EXPIRING: Final = Selection(expires_within=timedelta(days=14))


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
        ask=partial(_keys, run.settings),
    )


@contextmanager
def _keys(settings: Settings) -> Iterator[Callable[[], KeyCounts]]:
    """Open the database, for as long as the block lasts, and yield the function that counts keys: by status, and those
    that expire within 14 days. Raises `KeyctlError`."""
    database = Database.open(parse_address(settings.database_url), _LIMITS, create=False)

    def count() -> KeyCounts:
        now = utc_now()
        with database.reading() as connection:
            return KeyCounts(census.by_status(connection, now), selection.count(connection, _EXPIRING, now=now))

    try:
        yield count
    finally:
        database.close()
