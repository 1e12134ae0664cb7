"""The application: FastAPI with the routes, and every error as a problem document."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
from fastapi import FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException

from alphalens_keyctl import __version__, text
from alphalens_keyctl.api import bulk, changes, evidence, issuing, keys, logs, problems
from alphalens_keyctl.api.described import PROBLEMS
from alphalens_keyctl.api.doorway import MOST_READERS, MOST_WRITERS, OPEN
from alphalens_keyctl.api.problems import RefusedError
from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import redact
from alphalens_keyctl.models import Reason
from alphalens_keyctl.settings import Settings

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier

_LONGEST_FIELD: Final = 100


def application(database: Database, verifier: "KeyVerifier", settings: Settings) -> FastAPI:
    """The application over an open database. `Doorway` stands in front of it and says who calls."""
    app = FastAPI(
        title="alphalens-keyctl",
        version=__version__,
        summary="Administer API keys, within the rights of your own key.",
        openapi_url="/openapi.json",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        responses=PROBLEMS,
        dependencies=[Security(APIKeyHeader(name="API-Key", auto_error=False))],
    )
    app.state.database = database
    app.state.verifier = verifier
    app.state.settings = settings
    # Those that are asked for most come first. No path fits two of them.
    for router in (
        keys.looks, keys.router, changes.router, bulk.router, issuing.router, evidence.router, logs.router,
    ):  # fmt: skip
        app.include_router(router)
    app.add_api_route("/healthz", _healthy, include_in_schema=False)
    app.add_exception_handler(KeyctlError, _of_domain)
    app.add_exception_handler(RefusedError, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(Exception, _of_a_fault)
    return app


def routes(app: FastAPI) -> dict[str, list[str]]:
    """Every route of the application: the methods of each path, whose parameters stand in braces."""
    described: Mapping[str, Mapping[str, Any]] = app.openapi()["paths"]
    return {path: ["GET"] for path in sorted(OPEN)} | {
        path: [method.upper() for method in methods] for path, methods in described.items()
    }


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    # A thread for every request that the doorway lets in, so that none waits for one: FastAPI's, and those of `Look`.
    most = MOST_READERS + MOST_WRITERS
    anyio.to_thread.current_default_thread_limiter().total_tokens = most
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(most, thread_name_prefix="alphalens-keyctl-api"))
    yield


async def _healthy() -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _of_domain(request: Request, error: Exception) -> Response:
    assert isinstance(error, KeyctlError)  # noqa: S101  # registered for that class
    if error.code is Code.FORBIDDEN:
        request.app.state.verifier.count_refusal(
            request.state.api_key.id,
            Reason.FORBIDDEN,
            **{name: value for name, value in request.state.about.items() if name != "address"},
        )
    return _problem(request, problems.status_of(error), error, problems.headers_of(error))


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101  # as above
    return _problem(request, error.status, error.error, error.headers)


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as above
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _problem(request, HTTPStatus.BAD_REQUEST, problems.usage("the body is no JSON"))
    # What was sent is not repeated: it may be a raw key in the wrong field.
    place = ".".join(text.tame(str(each), longest=_LONGEST_FIELD) for each in first["loc"])
    said = "there is no such field" if first["type"] == "extra_forbidden" else str(first["msg"]).lower()
    wrong = problems.usage(redact(f"{place}: {said}"), "GET /openapi.json says what there is.")
    return _problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, wrong)


async def _of_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # as above
    status = HTTPStatus(error.status_code)
    code = Code.KEY_NOT_FOUND if status is HTTPStatus.NOT_FOUND else Code.USAGE
    if status is HTTPStatus.NOT_FOUND:
        wrong = KeyctlError(code, "there is no such resource", "GET /openapi.json says what there is.")
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        wrong = problems.usage(f"the resource does not know the method {request.method}")
    else:
        wrong = problems.usage("the request cannot be read")
    return _problem(request, status, wrong, error.headers)


async def _of_a_fault(request: Request, _error: Exception) -> Response:
    wrong = KeyctlError(Code.INTERNAL, "the server failed", "Its log says why, under the request's id.")
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, wrong)


def _problem(
    request: Request, status: HTTPStatus, error: KeyctlError, headers: Mapping[str, str] | None = None
) -> Response:
    request_id: Any = request.state.request_id
    body = problems.body(error, status, request_id)
    return Response(body, int(status), dict(headers or {}), media_type=problems.MEDIA_TYPE)
