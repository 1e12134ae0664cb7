"""What `audit --follow` does: print the events that are there, then each new one as it is written."""

import sys
from collections.abc import Callable, Iterable, Sequence

from alphalens_keyctl.cli.options.rows import TERMINAL_LIMIT
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.logs.audit import GENESIS, Head, LogFilter
from alphalens_keyctl.manager.backend import Backend
from alphalens_keyctl.manager.following import follow
from alphalens_keyctl.models import Event
from alphalens_keyctl.output import channel, documents, feeds
from alphalens_keyctl.output.documents import Format
from alphalens_keyctl.output.feeds import Feed

_Written = Callable[[Sequence[Event]], Iterable[str]]


def follow_log(
    run: Run,
    wanted: LogFilter,
    *,
    reference: str | RawKey | None,
    limit: int | None,
    machine: Format | Feed | None,
) -> None:
    """Print the events that fit, as `show_log` selects them, and go on with each new one, until whoever reads stdout
    has gone. Each lot of events is flushed.

    Raises `KeyctlError`: log_replaced where the log is no longer the one that was read, or ends before the event behind
    which to go on; an outage that lasts.
    """
    if machine is None and limit is None and wanted.after_seq is None:
        limit = TERMINAL_LIMIT
    # Before the first key there is nothing to follow, and an empty stand-in would never grow.
    with run.manager(create=False) as manager:
        if reference is not None:
            wanted = wanted._replace(key_ids=manager.key_ids(reference))
        first, place = _there(manager, wanted, limit)
        written = _story(run, first) if machine is None else _lines(machine)
        channel.write(written(first), utf8=machine is not None)
        for some in follow(manager, wanted, place, reader=sys.stdout.fileno(), tell=lambda error: _tell(run, error)):
            channel.write(written(some), utf8=machine is not None)


def _there(manager: Backend, wanted: LogFilter, limit: int | None) -> tuple[Sequence[Event], Head]:
    """The latest events that are there, and the place behind which to go on; where all are wanted, none, and the
    start."""
    last = manager.last_event()
    if wanted.after_seq is not None and wanted.after_seq > last.seq:
        raise KeyctlError(
            Code.LOG_REPLACED,
            f"the log ends with event {last.seq}, before the event {wanted.after_seq} of --after",
            "A backup was put back, or this is another log: 'audit verify --head' tells, with a head of before.",
        )
    if limit is None:
        return (), Head(0, GENESIS, None)
    with manager.events(wanted._replace(before_seq=last.seq + 1), limit=limit) as events:
        return list(events), last


def _story(run: Run, first: Sequence[Event]) -> _Written:
    from alphalens_keyctl.output.event_list import EventList

    drawn = EventList(first, screen=run.screen())
    channel.write([drawn.head()])
    return drawn.lines


def _lines(machine: Format | Feed) -> _Written:
    if isinstance(machine, Feed):
        return lambda events: feeds.events_as(machine, events)
    if machine is Format.CSV:
        channel.write(documents.event_rows(()), utf8=True)
        return lambda events: documents.event_rows(events, header=False)
    return lambda events: documents.events_as(machine, events)


def _tell(run: Run, error: KeyctlError | None) -> None:
    run.note("Reached again; going on." if error is None else f"Waiting: {error.message}")
