"""Taking a fleet in over HTTP, in the two steps of one key: the keys are begun, and their raw keys answered; they are
current once all of them are activated, or nobody's when their lease ends before."""

from http import HTTPStatus

from fastapi import APIRouter, Depends, Response

from alphalens_keyctl.api import call, issuing
from alphalens_keyctl.api.bodies import ActivateManyBody, CreateManyBody, LineBody, RenewBody, TheseBody
from alphalens_keyctl.api.call import Caller
from alphalens_keyctl.api.described import CREATED_MANY, SETTLED
from alphalens_keyctl.api.replays import Answer
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keys import bulk_issuance
from alphalens_keyctl.keys.bulk_file import Line
from alphalens_keyctl.output import documents

router = APIRouter(prefix="/v1", tags=["issuing"], dependencies=[Depends(call.no_query)])


@router.post("/keys:create", responses=CREATED_MANY, status_code=201)
def create_keys(caller: Caller, body: CreateManyBody) -> Response:
    """Create keys, all or none. They are pending, or with `to`, which names who is about to hold them, delivering.
    Activate them within the lease, all of them by one request."""
    lines = [_line(each) for each in body.keys]
    destinations = [issuing.destination(each) for each in body.to]

    def work() -> Answer:
        steps = caller.manager().bulk_steps
        if body.dry_run:
            steps.try_begin(lines)
            return call.document({"created": [], "lease": body.lease})
        begun = [each for some in steps.begin(lines, destinations, lease=body.lease) for each in some]
        created = [
            {"key": documents.key_object(key), "raw_key": raw.reveal(), "delivered_to": destinations}
            for key, raw in begun
        ]
        return call.document({"created": created, "lease": body.lease}, HTTPStatus.CREATED)

    return caller.once(work)


@router.post("/keys:renew")
def renew_lease(caller: Caller, body: RenewBody) -> Response:
    """Let the lease of keys that were begun end in `lease` seconds."""

    def work() -> Answer:
        caller.manager().bulk_steps.renew(body.keys, lease=body.lease)
        return call.document({"renewed": len(body.keys)})

    return caller.once(work)


@router.post("/keys:activate")
def activate_keys(caller: Caller, body: ActivateManyBody) -> Response:
    """Make keys that were begun current, all or none."""
    delivered_to, at = [issuing.destination(each) for each in body.delivered_to], issuing.activation(body.at)

    def work() -> Answer:
        caller.manager().bulk_steps.activate(body.keys, at=at, delivered_to=delivered_to)
        return call.document({"activated": len(body.keys)})

    return caller.once(work)


@router.post("/keys:discard", responses=SETTLED)
def discard_keys(caller: Caller, body: TheseBody) -> Response:
    """Give keys up that were begun, unless all of them are current; say which (`discarded`, `current`, `nothing`)."""
    return caller.once(lambda: call.document({"outcome": caller.manager().bulk_steps.settle(body.keys).value}))


def _line(body: LineBody) -> Line:
    try:
        return Line(body.line, issuing.drafted(body))
    except KeyctlError as error:
        raise bulk_issuance.in_line(body.line, error) from None
