"""Changes of keys: revoke, suspend, resume and update, one key or many."""

from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Depends, Response

from alphalens_keyctl import networks, scopes, text
from alphalens_keyctl.api import call, issuing
from alphalens_keyctl.api.bodies import (
    ListChange,
    ManyBody,
    ManyUpdateBody,
    NewValues,
    PatchBody,
    ReasonBody,
    ToRotateBody,
)
from alphalens_keyctl.api.call import Answer, Call, Caller, KeyInPath
from alphalens_keyctl.api.described import CHANGED, KEYS
from alphalens_keyctl.api.keys import selected
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import changes
from alphalens_keyctl.keys.changes import Change, RevocationChange, Targets, UpdateChange
from alphalens_keyctl.keys.issuance import GRACE, RotationPlan
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.keys.update import Update
from alphalens_keyctl.manager.backend import Outcome
from alphalens_keyctl.moments import parse_expiry, utc_now
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
    now = utc_now()
    expires_at, same_lifetime = issuing.expiry_of(body, now)
    override = issuing.parsed_reason(body.override)
    plan = RotationPlan(now, Retirement(GRACE), expires_at, same_lifetime, issuing.due_of(body), override)
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
        more["first_restricted"] = dict(manager.first_restricted(change, outcome.changed))
    answer = _done(outcome, dry_run=True)
    return answer._replace(text=f"{answer.text.rstrip()[:-1]}, {documents.json_document(more)[1:]}")


def _done(outcome: Outcome, *, dry_run: bool = False) -> Answer:
    changed, unchanged = outcome.documents(outcome.changed), outcome.documents(outcome.unchanged)
    return Answer("".join(documents.changed_texts(changed, unchanged, outcome.still_open(), dry_run=dry_run)))


def _problem(error: KeyctlError | None) -> dict[str, Any] | None:
    return None if error is None else {"code": error.code.value, "detail": error.message, "hint": error.hint}


def _update(given: NewValues, *, override: str | None) -> Update:
    now = utc_now()
    stated = given.model_fields_set - {"override", "reason"}
    if not stated:
        raise KeyctlError(Code.USAGE, "update needs to know what to set", "For example owner, or expires.")
    if "name" in stated and given.name is None:
        raise KeyctlError(Code.USAGE, "a name cannot be taken away", "Give the key another name.")
    if {"expires", "expires_at"} <= stated:
        raise KeyctlError(Code.USAGE, "expires and expires_at contradict each other", "Leave one of them out.")
    fields: dict[str, str | datetime | None] = {}
    for name, longest in (("owner", text.LONGEST_OWNER), ("purpose", text.LONGEST_PURPOSE)):
        if name in stated:
            value = getattr(given, name)
            fields[name] = None if value is None else text.parse_line(value, what=name, longest=longest)
    if stated & {"expires", "expires_at"}:
        expiry = given.expires if "expires" in stated else given.expires_at
        fields["expires_at"] = None if expiry is None else parse_expiry(expiry, now=now)
    lists = {"scopes": given.scopes, "allow_from": given.allow_from}
    fields |= {name: None for name, value in lists.items() if name in stated and value is None}
    set_labels = text.parse_labels(f"{name}={value}" for name, value in given.labels.items() if value is not None)
    return Update(
        None if given.name is None else text.parse_name(given.name),
        fields,
        set_labels,
        frozenset(text.parse_label_name(name) for name, value in given.labels.items() if value is None),
        override=issuing.parsed_reason(override),
        added=_listed(lists, "add"),
        removed=_listed(lists, "remove"),
    )


def _listed(lists: dict[str, ListChange | None], which: str) -> dict[str, tuple[str, ...]]:
    parse = {"scopes": scopes.parse_all, "allow_from": networks.parse_all}
    found = {name: parse[name](getattr(value, which)) for name, value in lists.items() if value is not None}
    return {name: texts for name, texts in found.items() if texts}


