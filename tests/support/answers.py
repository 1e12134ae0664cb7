"""What the program answers: the documents that it prints, and short questions to it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tests.support.commands import Keyctl, Result

# These names and their order are a contract: a field is added, never renamed.
K: Final = [
    "id", "name", "status", "owner", "purpose", "labels", "created_at", "created_by", "activated_at", "expires_at",
    "retires_at", "suspended_at", "last_used_at", "use_count", "revoked_at", "revoked_by", "revoke_reason", "replaces",
    "replaced_by", "delivering_to", "scopes", "allow_from",
]  # fmt: skip


def assert_failed(result: Result, status: int, code: str) -> dict[str, str]:
    """Promise 10: stderr holds the error document and nothing else, stdout nothing. Returns the error."""
    assert (result.status, result.stdout) == (status, ""), result
    assert result.error["code"] == code
    return result.error


def reason(keyctl: Keyctl, raw: str) -> str:
    """Why a raw key opens or does not, as `verify` tells."""
    answer: str = keyctl("verify", "--json", stdin=raw.encode()).json["reason"]
    return answer


def refused(keyctl: Keyctl, code: str, *arguments: str) -> dict[str, str]:
    """Run a command that has to refuse what it was asked for. Returns the error."""
    status = 2 if code in ("usage", "invalid_input") else 6
    machine = () if "--jsonl" in arguments else ("--json",)
    return assert_failed(keyctl(*arguments, *machine), status, code)


def ids(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of keys, in their order."""
    return [key["id"] for key in documents]


def statuses(keyctl: Keyctl) -> dict[str, str]:
    """The status of every key, by id."""
    return {key["id"]: key["status"] for key in keyctl.keys()}


def events(keyctl: Keyctl, key_id: str) -> list[str]:
    """What was done to a key, without the word before the dot."""
    return [event["action"].removeprefix("key.") for event in keyctl.ok("audit", "--key", key_id, "--json").json]
