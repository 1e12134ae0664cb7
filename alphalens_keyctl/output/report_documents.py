"""The report on a period → one JSON document; its entries → JSON Lines and CSV. The names are a contract."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from alphalens_keyctl.logs.audit import Verdict
from alphalens_keyctl.logs.report import Entry, Listed, Report
from alphalens_keyctl.moments import UNREADABLE, rfc3339, rfc3339_exact
from alphalens_keyctl.output.csv_rows import csv_rows
from alphalens_keyctl.output.documents import head_object
from alphalens_keyctl.output.evidence import verdict_object


def checked_report_object(report: Report, verdict: Verdict) -> dict[str, Any]:
    """What `audit report` answers: the report, and what a check of the log and the keys found."""
    return report_object(report) | {"sound": verdict.broken is None, "verification": verdict_object(verdict)}


def report_object(report: Report) -> dict[str, Any]:
    """A report. Ages and their limit are in days."""
    activity, root = report.activity, report.head.root
    return {
        "period": {
            "name": report.period.name,
            "since": rfc3339(report.period.since),
            "until": rfc3339(report.period.until),
            "ended": report.ended,
        },
        "made_at": rfc3339_exact(report.made_at),
        "head": head_object(report.head) | {"root_hash": None if root is None else root.hex()},
        "keys": dict(report.keys),
        "actions": dict(activity.actions),
        "successors": activity.successors,
        "ages": activity.ages._asdict(),
        "revocations": _listed(activity.revocations),
        "exceptions": _listed(activity.exceptions),
        "refused_uses": [use._asdict() | {"last_at": _time(use.last_at)} for use in activity.refused_uses],
        "breaches": [breach._asdict() | {"named": _plain(breach.named)} for breach in report.breaches],
        "actors": _plain(activity.actors),
        "actors_total": activity.actors_total,
    }


def entry_texts(entries: Iterable[Entry]) -> Iterator[str]:
    """Each entry as JSON text, streamed."""
    return (json.dumps(_entry(entry)) for entry in entries)


def entry_rows(entries: Iterable[Entry]) -> Iterator[str]:
    """Entries as CSV (RFC 4180) with a header line, streamed. Breaches stand one behind the other."""
    rows = map(_entry, entries)
    return csv_rows(Entry._fields, ((row | {"breaches": " ".join(row["breaches"])}).values() for row in rows))


def _listed(listed: Listed) -> dict[str, Any]:
    return {"total": listed.total, "entries": list(map(_entry, listed.entries))}


def _entry(entry: Entry) -> dict[str, Any]:
    at = None if entry.at == UNREADABLE else rfc3339_exact(entry.at)
    return entry._asdict() | {"at": at, "breaches": list(entry.breaches), "hash": entry.hash.hex()}


def _plain(values: Iterable[Any]) -> list[Mapping[str, Any]]:
    return [value._asdict() for value in values]


def _time(at: datetime) -> str | None:
    return None if at == UNREADABLE else rfc3339(at)
