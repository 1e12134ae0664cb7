"""Errors as problem documents (RFC 9457), with the word and the hint of the command line's errors beside them."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError

MEDIA_TYPE: Final = "application/problem+json"
# Seconds after which a caller who was refused for the server's load tries again.
RETRY_AFTER: Final = 1

_BY_EXIT_STATUS: Final = {
    ExitStatus.FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
    ExitStatus.USAGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    ExitStatus.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ExitStatus.FOUND: HTTPStatus.CONFLICT,
    ExitStatus.CONFLICT: HTTPStatus.CONFLICT,
    ExitStatus.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ExitStatus.SURROUNDINGS: HTTPStatus.SERVICE_UNAVAILABLE,
}


class RefusedError(Exception):
    """A request that HTTP itself forbids: the status says why, beside the error."""

    def __init__(self, status: HTTPStatus, error: KeyctlError, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = dict(headers or {})


def status_of(error: KeyctlError) -> HTTPStatus:
    """The status of an answer that is this error."""
    return _BY_EXIT_STATUS.get(error.code.exit_status, HTTPStatus.INTERNAL_SERVER_ERROR)


def headers_of(error: KeyctlError) -> dict[str, str]:
    """The headers of an answer that is this error."""
    return {"Retry-After": str(RETRY_AFTER)} if error.code is Code.DATABASE_BUSY else {}


def document(error: KeyctlError, status: int, request_id: str) -> dict[str, Any]:
    """The problem document of an error."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": error.message,
        "code": error.code.value,
        "hint": error.hint,
        "request_id": request_id,
    }


def body(error: KeyctlError, status: int, request_id: str) -> bytes:
    """The problem document as it goes out: ASCII JSON."""
    return json.dumps(document(error, status, request_id)).encode("ascii")


def usage(problem: str, hint: str = "") -> KeyctlError:
    """The error for a request that is put wrongly."""
    return KeyctlError(Code.USAGE, problem, hint)
