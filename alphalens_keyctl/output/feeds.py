"""The logs in the formats that security teams collect, a line an event, streamed."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from alphalens_keyctl.models import Event, Use
from alphalens_keyctl.output import ocsf, syslog


class Feed(StrEnum):
    """A format of `--format`."""

    OCSF = "ocsf"
    CEF = "cef"
    SYSLOG = "syslog"


def events_as(feed: Feed, events: Iterable[Event]) -> Iterator[str]:
    """Audit events, a line each."""
    if feed is Feed.OCSF:
        return (f"{json.dumps(ocsf.event_object(event))}\n" for event in events)
    return map(syslog.event_as_cef if feed is Feed.CEF else syslog.event_as_syslog, events)


def uses_as(feed: Feed, uses: Iterable[Use]) -> Iterator[str]:
    """Rows of the usage log, a line each."""
    whole = map(_legible, uses)
    if feed is Feed.OCSF:
        return (f"{json.dumps(ocsf.use_object(use))}\n" for use in whole)
    return map(syslog.use_as_cef if feed is Feed.CEF else syslog.use_as_syslog, whole)


def _legible(row: Sequence[Any]) -> Use:
    """Return a row as a use. A time that somebody wrote and that is none is left out (promise 14)."""
    use = Use._make(row)
    try:
        datetime.fromisoformat(use.at or "")
    except (ValueError, TypeError):
        return use._replace(at=None)
    return use
