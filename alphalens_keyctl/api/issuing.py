"""Issuing over HTTP in two steps: a key is begun and its raw key answered, pending; it opens once it is activated, and
is nobody's when its lease ends before (promises 2, 3 and 4)."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import APIRouter, Depends, Response

from alphalens_keyctl import text
from alphalens_keyctl.api import call
from alphalens_keyctl.api.bodies import (
    ActivateBody,
    CreateBody,
    DeliverBody,
    DiscardBody,
    DraftBody,
    RotateBody,
    TakeBackBody,
    ToRotateBody,
)
from alphalens_keyctl.api.call import Call, Caller, KeyInPath
from alphalens_keyctl.api.described import CREATED, KEY, ROTATED
from alphalens_keyctl.api.replays import Answer
from alphalens_keyctl.database import Attempt
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys.issuance import GRACE, Begun, RotationPlan
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.manager import values
from alphalens_keyctl.manager.issuing import DatabaseSteps
from alphalens_keyctl.models import Key
from alphalens_keyctl.moments import LONGEST_SPAN, utc_now
from alphalens_keyctl.output import documents

router = APIRouter(prefix="/v1", tags=["issuing"], dependencies=[Depends(call.no_query)])
# Where a key was delivered to whose caller took the risk of losing the answer.
_HERE: Final = ["api"]


@router.post("/keys", responses=CREATED, status_code=201)
def create_key(caller: Caller, body: CreateBody) -> Response:
    """Create a key. It is pending: deliver its raw key, then activate it within the lease.

    With `activate` it opens at once; where the answer is lost, a key opens that nobody holds.
    """
    draft = drafted(body)

    def work() -> Answer:
        steps = caller.manager(lease=body.lease).steps
        with steps.begin_create(draft, if_missing=body.if_missing) as begun:
            if begun.raw is None:
                document: dict[str, Any] = {"key": documents.key_object(begun.key), "raw_key": None, "delivered_to": []}
                return call.document(document)
            return _begun(caller, steps, begun, body.lease, Retirement(GRACE) if body.activate else None)

    return caller.once(work)


@router.post("/keys/{key}/rotate", responses=ROTATED, status_code=201)
def rotate_key(caller: Caller, key: KeyInPath, body: RotateBody) -> Response:
    """Give a key a successor, which is pending; else as with a new key."""
    return caller.once(lambda: rotated(caller, key, body))


@router.post("/self/rotate", responses=ROTATED, status_code=201, tags=["self"])
def rotate_self(caller: Caller, body: RotateBody) -> Response:
    """Give the caller's own key a successor."""
    return caller.once(lambda: rotated(caller, caller.key.id, body))


def rotated(caller: Call, key: str, body: RotateBody) -> Answer:
    """Begin a rotation, and finish it where the body says so."""
    how = _plan(body)
    manager = caller.manager(lease=body.lease)
    with manager.steps.begin_rotation(manager.find(key).id, how) as begun:
        if begun.raw is None:
            nothing: dict[str, Any] = {"raw_key": None, "previous": None, "rotated": False, "delivered_to": []}
            return call.document({"key": documents.key_object(begun.key), **nothing})
        retirement = how.retirement if body.activate else None
        said = {
            "previous": None if begun.previous is None else documents.key_object(begun.previous),
            "rotated": True,
        }
        return _begun(caller, manager.steps, begun, body.lease, retirement, said)


@router.post("/keys/{key}/deliver", responses=KEY)
def deliver_key(caller: Caller, key: KeyInPath, body: DeliverBody) -> Response:
    """Let a pending key open, since destinations are about to hold it; its lease grows by `limit`. A conflict where one
    of them holds another live key (`held`), of which that may be the only copy."""
    destinations = [destination(each) for each in body.to]
    held = [(destination(each.destination), call.digested(each)) for each in body.held]

    def work() -> Answer:
        manager = caller.manager(lease=0.0)
        begun = Begun(manager.find(key), None, attempt=Attempt(lease=0.0))
        manager.steps.begin_delivering(begun, destinations, limit=max(body.limit, 1.0), held=held)
        return call.document(documents.key_object(manager.left(begun.key.id)))

    return caller.once(work)


@router.post("/keys/{key}/activate", responses=KEY)
def activate_key(caller: Caller, key: KeyInPath, body: ActivateBody) -> Response:
    """Make a key current; its predecessor retires. To repeat it is fine."""
    destinations = [destination(each) for each in body.delivered_to]
    retirement = Retirement(GRACE if body.grace is None else _span(body.grace, "grace"), _deadline(body))
    at = activation(body.at)

    def work() -> Answer:
        manager = caller.manager()
        found = manager.find(key)
        if not _is_done(found):
            begun = Begun(found, None)
            manager.steps.hand_over_name(begun, at=at, retirement=retirement, delivered_to=destinations)
        return call.document({"key": documents.key_object(manager.left(found.id))})

    return caller.once(work)


@router.post("/keys/{key}/discard")
def discard_key(caller: Caller, key: KeyInPath, body: DiscardBody) -> Response:
    """Give a key up that never became current. To repeat it is fine."""

    def work() -> Answer:
        manager = caller.manager()
        return call.document({"discarded": manager.steps.discard(manager.find(key).id, reason=body.reason)})

    return caller.once(work)


@router.post("/keys/{key}/take-back", responses=KEY)
def take_back_key(caller: Caller, key: KeyInPath, body: TakeBackBody) -> Response:
    """Undo the handover of the name to a key: its predecessor is the current key again."""
    held = None if body.destinations is None else destination(body.destinations)

    def work() -> Answer:
        manager = caller.manager()
        taken = manager.steps.take_back(manager.find(key).id, destinations=held, reason=body.reason)
        return call.document({"key": documents.key_object(taken)})

    return caller.once(work)


@router.get("/keys/{key}/standing")
def standing_of_key(caller: Caller, key: KeyInPath) -> Response:
    """How a key that was begun stands."""
    found, overtaken = None, False
    with suppress(_NoSuchKeyError):
        found, overtaken = caller.manager().steps.standing(_found_id(caller, key))
    document = {"key": None if found is None else documents.key_object(found), "overtaken": overtaken}
    return call.response(call.document(document))


@router.post("/keys/{key}/abort")
def abort_rotation(caller: Caller, key: KeyInPath) -> Response:
    """Take a rotation back whose new key nobody has used."""

    def work() -> Answer:
        done, delivered_to = caller.manager().abort(key)
        return call.document(documents.aborted_object(done) | {"delivered_to": delivered_to})

    return caller.once(work)


class _NoSuchKeyError(Exception):
    """There is no such key."""


def _found_id(caller: Call, key: str) -> str:
    try:
        return caller.manager().find(key).id
    except KeyctlError as error:
        if error.code is Code.KEY_NOT_FOUND:
            raise _NoSuchKeyError from None
        raise


def _begun(
    caller: Call,
    steps: DatabaseSteps,
    begun: Begun,
    lease: float,
    retirement: Retirement | None,
    said: Mapping[str, Any] | None = None,
) -> Answer:
    """The answer that holds the raw key. With `retirement` the key is current before the answer goes out."""
    if begun.raw is None:
        raise TypeError("nothing was begun")
    delivered_to = [] if retirement is None else _HERE
    key = begun.key
    if retirement is not None:
        steps.hand_over_name(begun, at=utc_now(), retirement=retirement, delivered_to=delivered_to)
        key = caller.manager().left(begun.key.id)
    document = {
        "key": documents.key_object(key), "raw_key": begun.raw.reveal(), "delivered_to": delivered_to, **(said or {}),
        "lease": lease, "replaced": sorted(begun.replaced),
    }  # fmt: skip
    return call.document(document, HTTPStatus.CREATED)


def _is_done(key: Key) -> bool:
    return key.is_current and key.activated_at is not None


def drafted(body: DraftBody) -> Draft:
    """What a new key is to be. Raises `KeyctlError`."""
    given = body.model_dump(include={"owner", "purpose", "labels", "scopes", "allow_from", "override"})
    return values.draft(body.name, cast("values.NewValues", {**given, "expires": _expiry(body)}), now=utc_now())


def _expiry(body: DraftBody) -> str | None:
    if body.expires is not None and body.expires_at is not None:
        raise KeyctlError(Code.USAGE, "expires and expires_at contradict each other", "Leave one of them out.")
    return body.expires if body.expires is not None else body.expires_at


def plan(body: RotateBody | ToRotateBody, *, asked_ago: float = 0.0, **retirement: str | None) -> RotationPlan:
    """How a body says that keys are rotated. Raises `KeyctlError`."""
    if body.expires is not None and body.same_lifetime:
        raise KeyctlError(Code.USAGE, "expires and same_lifetime contradict each other", "Leave one of them out.")
    given: dict[str, Any] = body.model_dump(include={"older_than", "expiring_within", "override"})
    given |= {name: value for name, value in retirement.items() if value is not None}
    if body.expires is not None or body.same_lifetime is False:
        given["expires"] = body.expires
    now = utc_now()
    found = values.rotation_plan(cast("values.Rotation", given), now=now)
    return found._replace(asked_at=now - timedelta(seconds=asked_ago))


def _plan(body: RotateBody) -> RotationPlan:
    if not body.activate and (body.grace is not None or body.until_used is not None):
        raise KeyctlError(Code.USAGE, "grace and until_used are for activate", "Name them when you activate the key.")
    return plan(body, asked_ago=body.asked_ago, grace=body.grace, deadline=body.until_used)


def _deadline(body: ActivateBody) -> timedelta | None:
    return None if body.deadline is None else _span(body.deadline, "deadline")


def _span(given: str | float, what: str) -> timedelta:
    seconds = given if isinstance(given, str) else timedelta(seconds=min(given, 2 * LONGEST_SPAN.total_seconds()))
    span = values.span(seconds, what, zero=True)
    assert span is not None  # noqa: S101  # something was given
    return span


def activation(given: str | None) -> datetime:
    """The instant that was promised when the raw key was shown, which lies just behind."""
    now = utc_now()
    if given is None:
        return now
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise KeyctlError(Code.INVALID_INPUT, "at is no instant", "Write it as 2027-01-31T09:00:00Z.")
    # The clock of a client is its own affair: an activation to come, or long past, would falsify the lifetime.
    return at if now - timedelta(hours=1) <= at <= now else now


def destination(given: str) -> str:
    """The name of a destination. Raises `KeyctlError` (invalid_input)."""
    return text.parse_line(given, what="destination", longest=text.LONGEST_REASON)


def parsed_reason(given: str | None) -> str | None:
    """A reason for the audit log, or None. Raises `KeyctlError` (invalid_input)."""
    return values.line(given, "reason", text.LONGEST_REASON)
