"""The keys: list, count, look at."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Response

from alphalens_keyctl import networks, scopes, text
from alphalens_keyctl.api import call, pages, streams
from alphalens_keyctl.api.bodies import (
    DEFAULT_PAGE,
    LARGEST_PAGE,
    CountQuery,
    Filters,
    FindBody,
    ListQuery,
    OwnersQuery,
    VerifyBody,
)
from alphalens_keyctl.api.call import Caller, KeyInPath
from alphalens_keyctl.api.described import KEY, KEYS, SHOWN, VERIFIED
from alphalens_keyctl.api.look import Look
from alphalens_keyctl.api.replays import Answer
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import selection
from alphalens_keyctl.keys.lookup import Reference
from alphalens_keyctl.keys.selection import Place, Selection
from alphalens_keyctl.manager import values
from alphalens_keyctl.output import documents

router = APIRouter(prefix="/v1", tags=["keys"])
looks = APIRouter(prefix="/v1", tags=["keys"], route_class=Look)
_PLAIN = [Depends(call.no_query)]


def selected(filters: Filters) -> Selection:
    """What filters in a query or a body select. Raises `KeyctlError`."""
    given = {name: getattr(filters, name) for name in Filters.model_fields if name not in ("text", "all")}
    stated = {name: value for name, value in given.items() if value is not None}
    return values.selection(cast("values.Filters", {**stated, "final": filters.all, "containing": filters.text}))


@router.get("/keys", responses=KEYS)
def list_keys(caller: Caller, query: Annotated[ListQuery, Query()]) -> Response:
    """List the keys that fit the filters: a page of them, or all as JSON Lines where `Accept` asks for that."""
    wanted, manager = selected(query), caller.manager()
    if caller.wants_lines():
        if query.page is not None:
            raise KeyctlError(Code.USAGE, "JSON Lines have no pages", "Leave page out.")
        return streams.lines(manager.documents(wanted, sort=query.sort, limit=query.limit), documents.key_texts)
    if query.limit is not None and query.limit > LARGEST_PAGE:
        raise KeyctlError(
            Code.USAGE, f"a page has {LARGEST_PAGE:,} keys at most", "Follow the header Link, or ask for JSON Lines."
        )
    limit = query.limit or DEFAULT_PAGE
    asked = query.model_dump_json(exclude={"page", "limit"})
    after = None if query.page is None else Place(*pages.place(asked, query.page))
    found = manager.page(wanted, sort=query.sort, after=after, limit=limit + 1)
    headers = {}
    if len(found) > limit:
        found = found[:limit]
        token = pages.token(asked, selection.place(found[-1], query.sort))
        headers = pages.link(caller.same_place(page=token))
    return call.response(Answer("".join(documents.json_array(documents.key_texts(found)))), headers)


@router.get("/keys:count")
def count_keys(caller: Caller, query: Annotated[CountQuery, Query()]) -> Response:
    """Count the keys that fit the filters."""
    return call.response(call.document({"count": caller.manager().count(selected(query))}))


@router.get("/owners")
def list_owners(caller: Caller, query: Annotated[OwnersQuery, Query()]) -> Response:
    """The owners of keys that are spelled almost like this one; none where a key has this owner."""
    wanted = text.parse_line(query.like, what="owner", longest=text.LONGEST_OWNER)
    return call.response(call.document({"owners": caller.manager().owners_like(wanted)}))


@router.post("/keys:find", responses=KEY, dependencies=_PLAIN)
def find_key(caller: Caller, body: FindBody) -> Response:
    """Find the key that KEY means; a raw key is asked for by its digest."""
    wanted = call.reference(body.key)
    return caller.once(lambda: call.document(documents.key_object(caller.manager().find(wanted))))


@router.post("/verify", responses=VERIFIED, dependencies=_PLAIN)
def verify_raw_key(caller: Caller, body: VerifyBody) -> Response:
    """Say whether a raw key opens, as a service would hear. It does not count as a use, unless `record` says so.

    Of a key that the caller may not see it is forbidden.
    """
    needed = tuple(map(scopes.parse, body.scope)) or None
    address = None if body.address is None else networks.parse_address(body.address)

    def work() -> Answer:
        found = caller.verifier.look(body.raw_key, scope=needed, address=address)
        caller.manager().require_verifying(found.key, recorded=body.record)
        if body.record:
            found = caller.verifier.verify(body.raw_key, scope=needed, address=address)
        return call.document(documents.verification_object(found))

    return caller.once(work)


@looks.get("/keys/{key}", responses=SHOWN)
def show_key(caller: Caller, key: KeyInPath) -> Response:
    """Everything about one key: its lineage, its use, its rotation."""
    return call.response(shown(caller, key))


@looks.get("/key-ids/{key}")
def ids_of_key(caller: Caller, key: KeyInPath) -> Response:
    """The ids that KEY stands for in a log."""
    return call.response(call.document({"ids": list(caller.manager().key_ids(key))}))


@looks.get("/self", responses=KEY, tags=["self"])
def show_self(caller: Caller) -> Response:
    """The caller's own key."""
    return call.response(call.document(documents.key_object(caller.manager().find(caller.key.id))))


def shown(caller: call.Call, wanted: Reference) -> Answer:
    """The document of `show --json`."""
    key, lineage, used, old_use = caller.manager().details(wanted)
    own = documents.key_object(key)
    return call.document(
        own
        | {
            "lineage": [own if member is key else documents.key_object(member) for member in lineage],
            "usage": documents.usage_object(used),
            "rotation": documents.rotation_object(old_use),
        }
    )
