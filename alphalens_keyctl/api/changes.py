"""Changes of keys: revoke, suspend, resume and update, one key or many."""

from datetime import timedelta
from typing import Any, Final, cast

from fastapi import APIRouter, Depends, Response

from alphalens_keyctl.api import call, issuing
from alphalens_keyctl.api.bodies import (
    ManyBody,
    ManyUpdateBody,
    NewValues,
    PatchBody,
    ReasonBody,
    ToRotateBody,
)
from alphalens_keyctl.api.call import Call, Caller, KeyInPath
from alphalens_keyctl.api.described import CHANGED, KEYS
from alphalens_keyctl.api.keys import selected
from alphalens_keyctl.api.replays import Answer
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import changes
from alphalens_keyctl.keys.changes import Change, RevocationChange, Targets, UpdateChange
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.keys.update import Update
from alphalens_keyctl.manager import values
from alphalens_keyctl.manager.backend import Outcome
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.output import documents

router = APIRouter(prefix="/v1", tags=["changes"], dependencies=[Depends(call.no_query)])
# The question before a change says how much each of the first keys was used in this time.
_LATELY: Final = timedelta(days=7)
_MOST_ASKED: Final = 10


@router.post("/keys/{key}/revoke", responses=CHANGED)
def revoke_key(caller: Caller, key: KeyInPath, body: ReasonBody) -> Response:
    """End a key for good; a name means every key of that name."""
    return _revoked(caller, key, Revocation.REVOKE, body)


@router.post("/keys/{key}/suspend", responses=CHANGED)
def suspend_key(caller: Caller, key: KeyInPath, body: ReasonBody) -> Response:
    """Stop a key until it is resumed."""
    return _revoked(caller, key, Revocation.SUSPEND, body)


@router.post("/keys/{key}/resume", responses=CHANGED)
def resume_key(caller: Caller, key: KeyInPath, body: ReasonBody) -> Response:
    """Let a suspended key open again."""
    return _revoked(caller, key, Revocation.RESUME, body)


@router.post("/self/revoke", responses=CHANGED, tags=["self"])
def revoke_self(caller: Caller, body: ReasonBody) -> Response:
    """End the caller's own key for good."""
    return _revoked(caller, caller.key.id, Revocation.REVOKE, body)


@router.patch("/keys/{key}", responses=CHANGED)
def update_key(caller: Caller, key: KeyInPath, body: PatchBody) -> Response:
    """Give a key new values."""
    new = _update(body, override=body.override)
    change = UpdateChange(new, issuing.parsed_reason(body.reason))
    return call.response(_done(caller.manager().change(change, Targets((key,)))))


@router.post("/keys:revoke", responses=CHANGED)
def revoke_keys(caller: Caller, body: ManyBody) -> Response:
    """End keys for good."""
    return _many(caller, _revocation(Revocation.REVOKE, body), body)


@router.post("/keys:suspend", responses=CHANGED)
def suspend_keys(caller: Caller, body: ManyBody) -> Response:
    """Stop keys until they are resumed."""
    return _many(caller, _revocation(Revocation.SUSPEND, body), body)


@router.post("/keys:resume", responses=CHANGED)
def resume_keys(caller: Caller, body: ManyBody) -> Response:
    """Let suspended keys open again."""
    return _many(caller, _revocation(Revocation.RESUME, body), body)


@router.post("/keys:update", responses=CHANGED)
def update_keys(caller: Caller, body: ManyUpdateBody) -> Response:
    """Give keys new values."""
    change = UpdateChange(_update(body.set, override=body.override), issuing.parsed_reason(body.reason))
    if body.set.name is not None and len(body.keys) != 1:
        raise KeyctlError(Code.USAGE, "a new name takes one KEY", "Two keys cannot have one name.")
    return _many(caller, change, body)


@router.post("/keys:to-rotate", responses=KEYS)
def keys_to_rotate(caller: Caller, body: ToRotateBody) -> Response:
    """The keys that a rotation of several is for: `due`, and the `rest`."""
    plan = issuing.plan(body)
    references = [call.reference(each) for each in body.keys]
    wanted = None if body.filters is None else selected(body.filters)

    def work() -> Answer:
        found = caller.manager().to_rotate(references, wanted, plan)
        return call.document(
            {
                "keys": [documents.key_object(key) for key in found.keys],
                "due": [key.id for key in found.due],
                "stopped_by": _problem(found.stopped_by),
            }
        )

    return caller.once(work)


def _revoked(caller: Call, key: str, revocation: Revocation, body: ReasonBody) -> Response:
    change = RevocationChange(revocation, issuing.parsed_reason(body.reason))
    return caller.once(lambda: _done(caller.manager().change(change, Targets((key,)))))


def _revocation(revocation: Revocation, body: ManyBody) -> Change:
    return RevocationChange(revocation, issuing.parsed_reason(body.reason))


def _many(caller: Call, change: Change, body: ManyBody) -> Response:
    if not body.keys and body.filters is None:
        raise changes.which_keys(change.verb)
    if body.filters is None and (body.max is not None or body.in_use):
        raise KeyctlError(Code.USAGE, "max and in_use are for filters", "Keys that are named need neither.")
    wanted = None if body.filters is None else changes.selecting(change, selected(body.filters))
    targets = Targets([call.reference(each) for each in body.keys], wanted, body.max, body.in_use)
    if body.dry_run:
        return caller.once(lambda: _previewed(caller, change, targets))
    only = None if body.only is None else frozenset(body.only)
    return caller.once(lambda: _done(caller.manager().change(change, targets, only=only)))


def _previewed(caller: Call, change: Change, targets: Targets) -> Answer:
    manager = caller.manager()
    outcome = manager.preview(change, targets)
    # A key whose selection stopped the change is told of, by the caller's rights, like any other.
    lately = manager.used_since(outcome.changed[:_MOST_ASKED], utc_now() - _LATELY)
    more = {
        "stopped_by": _problem(outcome.stopped_by),
        "changing": len(outcome.changed),
        "lately": {key_id: list(numbers) for key_id, numbers in lately.items()},
    }
    if isinstance(change, UpdateChange):
        more["narrowed"] = dict(outcome.narrowed)
    answer = _done(outcome, dry_run=True)
    return answer._replace(text=f"{answer.text.rstrip()[:-1]}, {documents.json_document(more)[1:]}")


def _done(outcome: Outcome, *, dry_run: bool = False) -> Answer:
    changed, unchanged = outcome.documents(outcome.changed), outcome.documents(outcome.unchanged)
    return Answer("".join(documents.changed_texts(changed, unchanged, outcome.still_open(), dry_run=dry_run)))


def _problem(error: KeyctlError | None) -> dict[str, Any] | None:
    return None if error is None else {"code": error.code.value, "detail": error.message, "hint": error.hint}


def _update(given: NewValues, *, override: str | None) -> Update:
    stated = given.model_fields_set - {"override", "reason"}
    if not stated:
        raise KeyctlError(Code.USAGE, "update needs to know what to set", "For example owner, or expires.")
    if "name" in stated and given.name is None:
        raise KeyctlError(Code.USAGE, "a name cannot be taken away", "Give the key another name.")
    if {"expires", "expires_at"} <= stated:
        raise KeyctlError(Code.USAGE, "expires and expires_at contradict each other", "Leave one of them out.")
    new: dict[str, Any] = {name: getattr(given, name) for name in ("name", "owner", "purpose") if name in stated}
    new |= {"labels": given.labels, "override": override}
    if stated & {"expires", "expires_at"}:
        new["expires"] = given.expires if "expires" in stated else given.expires_at
    lists = {"scopes": given.scopes, "allow_from": given.allow_from}
    for name, change in lists.items():
        if change is not None:
            new |= {f"add_{name}": change.add, f"remove_{name}": change.remove}
    found = values.update(cast("values.Updated", new), now=utc_now())
    lifted = {name: None for name, change in lists.items() if name in stated and change is None}
    return found._replace(fields={**found.fields, **lifted})
