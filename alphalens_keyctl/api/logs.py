"""The audit log, the usage log, the check of the policy, and the stored policy."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Response

from alphalens_keyctl import text
from alphalens_keyctl.api import call, pages, problems, streams
from alphalens_keyctl.api.bodies import (
    DEFAULT_PAGE,
    LARGEST_PAGE,
    CheckQuery,
    EventsQuery,
    LogQuery,
    NewEventsQuery,
    PolicyBody,
    PruneBody,
    ReportQuery,
    SummaryQuery,
    UsageQuery,
    UsesQuery,
)
from alphalens_keyctl.api.call import Caller
from alphalens_keyctl.api.described import PRUNED
from alphalens_keyctl.api.issuing import parsed_reason
from alphalens_keyctl.api.replays import Answer
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import policy
from alphalens_keyctl.keys.policy import Finding
from alphalens_keyctl.keys.stored_policy import REQUIRABLE
from alphalens_keyctl.logs import usage
from alphalens_keyctl.logs.audit import Head, LogFilter
from alphalens_keyctl.logs.usage import Summary
from alphalens_keyctl.logs.usage_rows import UsageFilter
from alphalens_keyctl.manager import values
from alphalens_keyctl.manager.over_database import OverDatabase
from alphalens_keyctl.models import Action, Event, Reason
from alphalens_keyctl.moments import parse_period, parse_since, parse_span, rfc3339, rfc3339_exact, utc_now
from alphalens_keyctl.output import documents, evidence
from alphalens_keyctl.vocabulary import LARGEST_NUMBER

router = APIRouter(prefix="/v1", tags=["logs"])
_PLAIN = [Depends(call.no_query)]
# Days that a summary goes back, and keys in it, where the query does not say.
_DAYS: Final = 7
_KEYS_SHOWN: Final = 20
_MOST_SUMMED: Final = 1000


@router.get("/events")
def list_events(caller: Caller, query: Annotated[EventsQuery, Query()]) -> Response:
    """The events that fit, oldest first: the latest page, or all as JSON Lines. `Link` names the page before."""
    manager = caller.manager()
    wanted = _log_filter(manager, query)
    if caller.wants_lines():
        rows = manager.events(wanted, limit=query.limit, reverse=query.reverse)
        return streams.lines(rows, documents.event_texts)
    limit = _page_size(query.limit)
    asked = query.model_dump_json(exclude={"page", "limit"})
    if query.page is not None:
        if query.after is not None:
            raise problems.usage("page and after exclude each other", "The header Link of such a page names the next.")
        seq = pages.place("events" + asked, query.page)[0]
        wanted = wanted._replace(before_seq=seq if isinstance(seq, int) else 0)
    with manager.events(wanted, limit=limit + 1, reverse=query.reverse) as events:
        found = list(events)
    headers = {}
    if len(found) > limit:
        # Read on: behind an event from the oldest to the newest, else from the newest back.
        found.remove((max if query.after is not None else min)(found, key=_seq))
        if query.after is not None:
            headers = pages.link(caller.same_place(after=str(max(map(_seq, found)))))
        else:
            token = pages.token("events" + asked, (min(map(_seq, found)), None))
            headers = pages.link(caller.same_place(page=token))
    return call.response(Answer("".join(documents.json_array(documents.event_texts(found)))), headers)


@router.get("/events:count")
def count_events(caller: Caller, query: Annotated[LogQuery, Query()]) -> Response:
    """How many events fit."""
    manager = caller.manager()
    return call.response(call.document({"count": manager.count_events(_log_filter(manager, query))}))


@router.get("/events/head", dependencies=_PLAIN)
def head_of_log(caller: Caller) -> Response:
    """The head of the audit log, to be kept elsewhere."""
    return call.response(call.document(documents.head_object(caller.manager().head())))


@router.get("/events/last", dependencies=_PLAIN)
def last_event(caller: Caller) -> Response:
    """The last event that the caller may see, as its number, hash and instant: new events come behind it."""
    return call.response(call.document(documents.head_object(caller.manager().last_event())))


@router.get("/events/new")
def list_new_events(caller: Caller, query: Annotated[NewEventsQuery, Query()]) -> Response:
    """The next events behind a place that fit, oldest first, and the place up to which the log was read.

    409 with the code `log_replaced` where the event at the place is gone or is another.
    """
    manager = caller.manager()
    wanted = _log_filter(manager, query)
    place = Head(query.place, bytes.fromhex(query.hash), None)
    found, place = manager.new_events(place, wanted)
    said = {"events": [documents.event_object(event) for event in found], "place": documents.head_object(place)}
    return call.response(call.document(said))


@router.get("/events/{seq}", dependencies=_PLAIN)
def show_event(caller: Caller, seq: Annotated[int, Path(ge=0, le=LARGEST_NUMBER)]) -> Response:
    """One event whole: E with its link of the chain, and what of its origin is fact and what is claim."""
    return call.response(call.document(evidence.recorded_object(caller.manager().event(seq))))


@router.get("/usage")
def list_uses(caller: Caller, query: Annotated[UsesQuery, Query()]) -> Response:
    """The rows of the usage log that fit, oldest first: the latest `limit`, or all as JSON Lines. Behind `after`, by
    their ids, the next; `Link` names the page behind them."""
    manager = caller.manager()
    wanted = _usage_filter(manager, query)._replace(after_id=query.after)
    if caller.wants_lines():
        return streams.lines(manager.uses(wanted, limit=query.limit), documents.use_texts)
    limit = _page_size(query.limit)
    goes_on = query.after is not None
    with manager.uses(wanted, limit=limit + goes_on) as uses:
        found = list(uses)
    headers = {}
    if len(found) > limit:
        del found[limit:]
        headers = pages.link(caller.same_place(after=str(found[-1].id)))
    return call.response(Answer("".join(documents.json_array(documents.use_texts(found)))), headers)


@router.get("/usage/summary")
def sum_up_uses(caller: Caller, query: Annotated[SummaryQuery, Query()]) -> Response:
    """The usage log over a span, summed up."""
    manager = caller.manager()
    wanted = _usage_filter(manager, query)
    end = wanted.until or utc_now()
    buckets = usage.divide(wanted.since or end - timedelta(days=_DAYS), end)
    most = min(query.limit or _KEYS_SHOWN, _MOST_SUMMED)
    return call.response(call.document(_summary(manager.usage_summary(wanted, buckets, most_keys=most))))


@router.post("/usage:prune", responses=PRUNED, dependencies=_PLAIN)
def prune_usage(caller: Caller, body: PruneBody) -> Response:
    """Remove the rows of the usage log before an instant for good, or count them."""
    now = utc_now()
    before = parse_since(body.before, what="before", now=now)
    if before > now:
        raise KeyctlError(Code.INVALID_INPUT, "before lies ahead", "Rows of today are not old.")

    def work() -> Answer:
        pruned = caller.manager().prune_usage(before, dry_run=body.dry_run)
        return call.document({"pruned": pruned, "before": rfc3339(before), "dry_run": body.dry_run})

    return caller.once(work)


@router.get("/check")
def check_policy(caller: Caller, query: Annotated[CheckQuery, Query()]) -> Response:
    """The keys that break the rules, of all or of those that each KEY means, by the thresholds of the server's
    settings. As JSON Lines, a finding in numbers: instants, and seconds."""
    from alphalens_keyctl.output import findings

    limits = caller.settings.check
    rules = policy.chosen(query.rule, ignored=limits.ignore)
    references = [call.reference(key) for key in query.key]
    if caller.wants_lines():
        return streams.lines(caller.manager().findings(rules, limits, references), _finding_texts)
    with caller.manager().findings(rules, limits, references) as broken:
        return call.response(Answer("".join(findings.as_json(broken, limits))))


@router.get("/report")
def report_on_period(caller: Caller, query: Annotated[ReportQuery, Query()]) -> Response:
    """What the logs say of a period, and what the keys are now. As JSON Lines, every event of the period, with the age
    of a key that was rotated."""
    from alphalens_keyctl.output import report_documents

    period = parse_period(query.period, now=utc_now())
    if caller.wants_lines():
        return streams.lines(caller.manager().report_entries(period), report_documents.entry_texts)
    limits = caller.settings.check
    made = caller.manager().report(period, policy.chosen(query.rule, ignored=limits.ignore), limits)
    return call.response(call.document(report_documents.report_object(made)))


@router.get("/policy", dependencies=_PLAIN)
def show_policy(caller: Caller) -> Response:
    """The stored policy."""
    return call.response(call.document(documents.policy_object(caller.manager().policy())))


@router.get("/policy/outside", dependencies=_PLAIN)
def count_outside_policy(caller: Caller) -> Response:
    """How many keys stand outside the stored policy."""
    return call.response(call.document({"count": caller.manager().outside_policy()}))


@router.put("/policy", dependencies=_PLAIN)
def set_policy(caller: Caller, body: PolicyBody) -> Response:
    """Set fields of the stored policy."""
    stated = body.model_fields_set - {"reason"}
    if not stated:
        raise KeyctlError(Code.USAGE, "the policy needs to know what to set", "For example max_lifetime.")
    changes: dict[str, Any] = {}
    if "max_lifetime" in stated:
        given = body.max_lifetime
        changes["max_lifetime"] = None if given is None else parse_span(given, what="max lifetime")
    if "name_pattern" in stated:
        pattern = body.name_pattern
        changes["name_pattern"] = (
            None if pattern is None else text.parse_line(pattern, what="name pattern", longest=text.LONGEST_NAME)
        )
    if "require" in stated:
        words = body.require or []
        for word in words:
            if word not in REQUIRABLE:
                raise KeyctlError(
                    Code.USAGE, f"there is no {text.quoted(word)} to require", f"There are: {', '.join(REQUIRABLE)}."
                )
        changes["require"] = tuple(word for word in REQUIRABLE if word in words)
    stored = caller.manager().set_policy(changes, reason=parsed_reason(body.reason))
    return call.response(call.document(documents.policy_object(stored)))


def _log_filter(manager: OverDatabase, query: LogQuery) -> LogFilter:
    now = utc_now()
    return LogFilter(
        key_ids=None if query.key is None else manager.key_ids(call.reference(query.key)),
        actor=None if query.actor is None else text.parse_line(query.actor, what="actor", longest=text.LONGEST_ACTOR),
        action=None if query.action is None else text.one_of(Action, query.action, "action"),
        since=values.since(query.since, "since", now=now),
        until=values.since(query.until, "until", now=now),
        after_seq=query.after,
        before_seq=query.before,
    )


def _usage_filter(manager: OverDatabase, query: UsageQuery) -> UsageFilter:
    now = utc_now()
    return UsageFilter(
        key_ids=None if query.key is None else manager.key_ids(call.reference(query.key)),
        outcome=None if query.outcome is None else text.one_of(Reason, query.outcome, "outcome"),
        since=values.since(query.since, "since", now=now),
        until=values.since(query.until, "until", now=now),
    )


def _seq(event: Event) -> int:
    return event.seq


def _page_size(limit: int | None) -> int:
    if limit is not None and limit > LARGEST_PAGE:
        raise KeyctlError(Code.USAGE, f"an answer has {LARGEST_PAGE:,} rows at most", "Ask for JSON Lines.")
    return limit or DEFAULT_PAGE


def _finding_texts(found: Iterable[Finding]) -> Iterator[str]:
    for each in found:
        document = _plain(each) | {"rule": each.rule.id}
        spans = {name: None if value is None else value.total_seconds() for name, value in _spans(each).items()}
        yield json.dumps(document | spans)


def _spans(found: Finding) -> dict[str, timedelta | None]:
    return {"value": found.value, "limit": found.limit, "lifetime": found.lifetime}


def _summary(found: Summary) -> dict[str, Any]:
    document: dict[str, Any] = _plain(found)
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339_exact(value)
    if isinstance(value, timedelta):
        return round(value.total_seconds())
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
