"""What the description of the API (OpenAPI 3.1) says of the answers, with examples."""

from typing import Any, Final

from alphalens_keyctl.api.problems import MEDIA_TYPE

K_EXAMPLE: Final[dict[str, Any]] = {
    "id": "7Hq2mZt0Rk4x", "name": "billing", "status": "active", "owner": "team-billing", "purpose": None,
    "labels": {"team": "billing"}, "created_at": "2026-11-26T09:00:00Z", "created_by": "key:1aB2cD3eF4gH admin",
    "activated_at": "2026-11-26T09:00:01Z", "expires_at": "2027-02-24T09:00:00Z", "retires_at": None,
    "suspended_at": None, "last_used_at": None, "use_count": 0, "revoked_at": None, "revoked_by": None,
    "revoke_reason": None, "replaces": None, "replaced_by": None, "delivering_to": None, "scopes": ["prices:read"],
    "allow_from": None,
}  # fmt: skip
PENDING_EXAMPLE: Final = K_EXAMPLE | {"status": "pending", "activated_at": None}
_PROBLEM_EXAMPLE: Final = {
    "type": "about:blank", "title": "Not Found", "status": 404, "detail": "no key is called 'biling'",
    "code": "key_not_found", "hint": "'alphalens-keyctl list --all' shows every key.", "request_id": "f3b0",
}  # fmt: skip
_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {name: {"type": "integer" if name == "status" else "string"} for name in _PROBLEM_EXAMPLE},
}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": description, "content": {MEDIA_TYPE: {"schema": _PROBLEM, "example": example}}}
    for status, description, example in (
        (400, "The body is no JSON, or the request cannot be read.", _PROBLEM_EXAMPLE | {"status": 400}),
        (401, "The key in the header API-Key is missing or opens nothing.", _PROBLEM_EXAMPLE | {"status": 401}),
        (403, "Not within the rights of the caller's key.", _PROBLEM_EXAMPLE | {"status": 403, "code": "forbidden"}),
        (404, "There is no such key, or no such resource.", _PROBLEM_EXAMPLE),
        (405, "The resource does not know this method.", _PROBLEM_EXAMPLE | {"status": 405}),
        (408, "The body did not come in time.", _PROBLEM_EXAMPLE | {"status": 408}),
        (409, "The state of the keys stands against it.", _PROBLEM_EXAMPLE | {"status": 409, "code": "name_taken"}),
        (413, "The body is too large.", _PROBLEM_EXAMPLE | {"status": 413}),
        (422, "The request is put wrongly.", _PROBLEM_EXAMPLE | {"status": 422, "code": "usage"}),
        (429, "Too many requests are under way.", _PROBLEM_EXAMPLE | {"status": 429}),
        (503, "The database does not answer.", _PROBLEM_EXAMPLE | {"status": 503}),
    )
}


def answers(description: str, example: Any, *, schema: str = "object", status: int = 200) -> dict[int | str, Any]:
    """What a route answers when all goes well."""
    return {status: {"description": description, "content": {"application/json": {
        "schema": {"type": schema}, "example": example,
    }}}}  # fmt: skip


KEY: Final = answers("The key.", K_EXAMPLE)
KEYS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The keys; `Link` names the next page.",
        "headers": {"Link": {"schema": {"type": "string"}}},
        "content": {
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}, "example": [K_EXAMPLE]},
            "application/jsonl": {"schema": {"type": "string"}},
        },
    }
}
SHOWN: Final = answers("The key, its lineage and its use.", K_EXAMPLE | {"lineage": [K_EXAMPLE], "rotation": None})
_RAW: Final = "alk_…"
CREATED: Final = answers(
    "The new key, pending: its raw key, here and never again, opens after `activate`.",
    {"key": PENDING_EXAMPLE, "raw_key": _RAW, "delivered_to": [], "lease": 60, "replaced": []},
    status=201,
)
ROTATED: Final = answers(
    "The successor, pending: its raw key, here and never again, opens after `activate`.",
    {
        "key": PENDING_EXAMPLE, "raw_key": _RAW, "delivered_to": [], "previous": K_EXAMPLE, "rotated": True,
        "lease": 60, "replaced": [],
    },
    status=201,
)  # fmt: skip
CREATED_MANY: Final = answers(
    "The new keys: their raw keys, here and never again, open after `activate`.",
    {"created": [{"key": PENDING_EXAMPLE, "raw_key": _RAW, "delivered_to": []}], "lease": 60},
    status=201,
)
SETTLED: Final = answers("What became of the keys.", {"outcome": "discarded"})
VERIFIED: Final = answers("Whether the raw key opens.", {"allowed": True, "reason": "ok", "key": K_EXAMPLE})
_HASH: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_HEAD: Final = {"seq": 4021, "hash": _HASH, "at": "2026-11-26T09:00:01.250000Z"}
VERDICT: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "What was found.",
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {"sound": True, "events": 4021, "head": _HEAD, "break": None},
            },
            "application/jsonl": {"schema": {"type": "string"}},
        },
    }
}
TREE: Final = answers("The tree.", {"tree_size": 4021, "root_hash": _HASH, "first_hash": _HASH})
PROOF: Final = answers(
    "The proof, as `audit prove --check` takes it.",
    {"event": {"seq": 17}, "previous_hash": _HASH, "tree_size": 4021, "path": [_HASH]},
)
PRUNED: Final = answers(
    "How many rows were removed, or would be.", {"pruned": 512, "before": "2026-08-28T09:00:00Z", "dry_run": False}
)
CHANGED: Final = answers(
    "What was changed.", {"changed": [K_EXAMPLE], "unchanged": [], "still_open": [], "dry_run": False}
)
