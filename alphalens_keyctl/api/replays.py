"""A request that is sent again with its `Idempotency-Key` gets the first answer, without the raw key (promise 1)."""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, insert, select, update

from alphalens_keyctl.api import problems
from alphalens_keyctl.api.problems import RefusedError
from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import resembles_raw_key
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.replies import reply_table

LONGEST_KEY: Final = 64
KEPT: Final = timedelta(hours=24)
# After so long a request without an answer was cut off with its server.
_GIVEN_UP: Final = timedelta(minutes=2)
_PRINTABLE: Final = re.compile(rf"[!-~]{{1,{LONGEST_KEY}}}")


class Answer(NamedTuple):
    """What a request is answered: a JSON text and its status."""

    text: str
    status: int = HTTPStatus.OK
    replayed: bool = False


class Asked(NamedTuple):
    """A request that is answered once: who asks, by which `Idempotency-Key`, and the digest of all that was asked."""

    caller: str
    key: str
    request: bytes


def asked(caller: str, key: str, method: str, path: str, body_digest: bytes) -> Asked:
    """Raises `KeyctlError` (usage, raw_key_in_argument) for a key that is none."""
    if resembles_raw_key(key):
        raise KeyctlError(Code.RAW_KEY_IN_ARGUMENT, "the Idempotency-Key holds a raw key", "Take a random one.")
    if _PRINTABLE.fullmatch(key) is None:
        raise problems.usage(
            "the Idempotency-Key is malformed",
            f"It takes 1 to {LONGEST_KEY} printable ASCII characters, without space.",
        )
    digest = hashlib.sha256(b"\0".join((method.encode(), path.encode(), body_digest))).digest()
    return Asked(caller, key, digest)


def once(database: Database, wanted: Asked, work: Callable[[], Answer]) -> Answer:
    """Do the work and keep its answer, or return the answer of the first time.

    An answer that is an error is not kept: sent again, the request is carried out again. Raises
    `RefusedError` while the first is under way, `KeyctlError` for a key that another request had, and what work raises.
    """
    if (first := _begun(database, wanted)) is not None:
        return first
    try:
        answer = work()
    except BaseException:
        with database.writing() as tx:
            tx.execute(delete(reply_table).where(_this(wanted)))
        raise
    with database.writing() as tx:
        kept = {"status": int(answer.status), "answer": _without_raw_key(answer.text)}
        tx.execute(update(reply_table).where(_this(wanted)).values(**kept))
    return answer


def _begun(database: Database, wanted: Asked) -> Answer | None:
    """The answer of the first time; None where this is the first time, which is on record then."""
    c = reply_table.c
    with database.writing() as tx:
        now = utc_now()
        tx.execute(delete(reply_table).where(c.at < now - KEPT))
        row = tx.execute(select(c.request, c.status, c.answer, c.at).where(_this(wanted))).first()
        if row is not None and bytes(row.request) != wanted.request:
            raise problems.usage(
                "another request had this Idempotency-Key", "Take a new one for each request, and the same to retry it."
            )
        if row is not None and row.status is not None:
            return Answer(row.answer, row.status, replayed=True)
        if row is not None and not _is_given_up(row.at, now):
            raise RefusedError(
                HTTPStatus.CONFLICT,
                KeyctlError(Code.CONFLICT, "the first request with this Idempotency-Key is under way", "Try again."),
                {"Retry-After": str(problems.RETRY_AFTER)},
            )
        tx.execute(delete(reply_table).where(_this(wanted)))
        first = {"caller": wanted.caller, "idempotency_key": wanted.key, "at": now, "request": wanted.request}
        tx.execute(insert(reply_table).values(**first))
    return None


def _is_given_up(at: datetime, now: datetime) -> bool:
    return at < now - _GIVEN_UP


def _this(wanted: Asked) -> ColumnElement[bool]:
    return and_(reply_table.c.caller == wanted.caller, reply_table.c.idempotency_key == wanted.key)


def _without_raw_key(text: str) -> str:
    document: Any = json.loads(text)
    if not isinstance(document, dict):
        return text
    holding = [each for each in (document, *document.get("created", ())) if each.get("raw_key") is not None]
    for each in holding:
        each["raw_key"] = None
    return json.dumps(document) + "\n" if holding else text
