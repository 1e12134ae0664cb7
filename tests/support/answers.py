"""What the program answers: the documents that it prints, and short questions to it."""

from typing import Final

from tests.support.commands import Keyctl, Result

# These names and their order are a contract: a field is added, never renamed.
K: Final = [
    "id", "name", "status", "owner", "purpose", "labels", "created_at", "created_by", "activated_at", "expires_at",
    "retires_at", "suspended_at", "last_used_at", "use_count", "revoked_at", "revoked_by", "revoke_reason", "replaces",
    "replaced_by", "delivering_to",
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


def statuses(keyctl: Keyctl) -> dict[str, str]:
    """The status of every key, by id."""
    return {key["id"]: key["status"] for key in keyctl.keys()}


def events(keyctl: Keyctl, key_id: str) -> list[str]:
    """What was done to a key, without the word before the dot."""
    return [event["action"].removeprefix("key.") for event in keyctl.ok("audit", "--key", key_id, "--json").json]
