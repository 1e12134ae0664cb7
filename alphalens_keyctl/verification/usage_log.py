"""A batch of uses → the database: the rows of the log, and for each key when and how often it was used.

The only two things that recording can write are rows of `usage_event` and, forward, the columns `last_used_at`,
`use_count` and `first_used_at`; nothing here can undo a revocation (promise 5).
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple

from sqlalchemy import text

from alphalens_keyctl.database import Recording
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.text import tame
from alphalens_keyctl.vocabulary import REFUSED_ONCE, REFUSED_SQL, Reason

# Characters kept of what a client sent.
LONGEST_PATH: Final = 512
LONGEST_AGENT: Final = 256
LONGEST_OTHER: Final = 64
# Rows that one statement writes. SQLite's have a fixed number of them, so that each is prepared once: what is
# left of the longest is written by shorter ones.
_LENGTHS: Final = (500, 100, 20, 4, 1)
_AT_ONCE: Final = _LENGTHS[0]

_Row = tuple[str | None, ...]


# Client's address, method, path and user agent, as the client sent them, or None.
Request = tuple[str | None, str | None, str | None, str | None]


class Accepted(NamedTuple):
    """A use. `at` is in seconds since the epoch."""

    at: float
    key_id: str
    request: Request


class Transaction(NamedTuple):
    """A transaction of PostgreSQL: its number, and when it began by the server's clock."""

    number: int
    began: datetime


class Kind(NamedTuple):
    """What refused attempts are coalesced by. `minute` is in minutes since the epoch, `client_ip` tamed."""

    minute: int
    reason: Reason
    key_id: str | None
    client_ip: str | None


class Refusals(NamedTuple):
    """How many attempts of a kind, and what the first of them asked for."""

    count: int  # type: ignore[assignment]  # the column's word
    method: str | None
    path: str | None
    user_agent: str | None


def write(tx: Recording, accepted: Sequence[Accepted], refused: Mapping[Kind, Refusals]) -> list[Accepted]:
    """Write a batch inside the caller's transaction.

    Returns the uses that have to wait: another transaction holds their keys, and waiting here could stop
    both. Raises `KeyctlError` when the database does not take what is written.
    """
    # Nearly in order as it is; threads take each other over.
    accepted = sorted(accepted, key=itemgetter(0))
    if tx.dialect.name == "postgresql":
        return _record_uses(tx, accepted, refused)
    if accepted:
        _write_accepted(tx, accepted)
    if refused:
        tx.execute(_REFUSED, {"rows": json.dumps(_refused_rows(refused))})
    return []


def make_partitions(tx: Recording) -> None:
    """Have this month's and the next one's partition made where the table has partitions and they are missing."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT alphalens_keyctl_make_partitions()"))


def transaction(tx: Recording) -> Transaction | None:
    """By what PostgreSQL can say later whether this transaction was committed. None on SQLite, where a commit
    whose outcome is unknown does not happen."""
    if tx.dialect.name != "postgresql":
        return None
    return Transaction._make(tx.execute(text("SELECT txid_current(), now()")).one())


def was_committed(tx: Recording, doubtful: Transaction, accepted: Sequence[Accepted]) -> bool:
    """Whether that transaction, which wrote these uses, was committed. Raises `KeyctlError` (database_busy) while
    it still runs."""
    # A server that crashes forgets the numbers it had not yet written to disk, and gives them out again.
    if tx.scalar(text("SELECT txid_current()")) <= doubtful.number:
        return False
    fate = tx.scalar(text("SELECT txid_status(CAST(:number AS bigint))"), {"number": doubtful.number})
    if fate == "in progress":
        raise KeyctlError(Code.DATABASE_BUSY, "an earlier batch of uses is still being committed")
    if not accepted:
        return bool(fate == "committed")
    # The number may be another transaction's by now; the rows are nobody else's.
    said = sorted({(_stored(use.at), use.key_id) for use in accepted})
    return bool(tx.scalar(text(_ALL_THERE), {"rows": json.dumps(said), "began": doubtful.began}))


def _record_uses(tx: Recording, accepted: Sequence[Accepted], refused: Mapping[Kind, Refusals]) -> list[Accepted]:
    """One statement: the function that is all a service's role may write by."""
    times = _stored_in_turn([use.at for use in accepted])
    # Made a few hundred at a time, because no other thread runs while one piece is made.
    pieces = [
        json.dumps(_rows(times[begin : begin + _AT_ONCE], accepted[begin : begin + _AT_ONCE]))[1:-1]
        for begin in range(0, len(accepted), _AT_ONCE)
    ]
    said = {"accepted": f"[{','.join(pieces)}]", "refused": json.dumps(_refused_rows(refused))}
    busy = set(tx.scalar(_RECORD_USES, said) or ())
    return [use for use in accepted if use.key_id in busy] if busy else []


def _write_accepted(tx: Recording, accepted: Sequence[Accepted]) -> None:
    times, key_ids = _stored_in_turn([use.at for use in accepted]), [use.key_id for use in accepted]
    # Many rows a statement: the database works through them while other threads verify. Not all of them,
    # because nobody else runs while one is made.
    for begin in range(0, len(accepted), _AT_ONCE):
        portion = slice(begin, begin + _AT_ONCE)
        _insert_values(tx, _rows(times[portion], accepted[portion]))
    # In the order of time: of a key, what is said last is the latest.
    counts, last = Counter(key_ids), dict(zip(key_ids, times, strict=True))
    first = dict(zip(reversed(key_ids), reversed(times), strict=True))
    tally = json.dumps([(key_id, count, last[key_id], first[key_id]) for key_id, count in counts.items()])
    if tx.scalar(_UNUSED, {"rows": tally}):
        # Of a successor alone: it may set the end of another key.
        tx.execute(_FIRST, {"rows": tally})
    done = tx.execute(_TALLY, {"rows": tally}).rowcount
    if done != len(counts) and done != tx.scalar(_KNOWN, {"rows": tally}):
        # A trigger can turn an update into nothing without an error.
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            "the database did not take when keys were used",
            "Check the database for triggers that are not ours.",
        )


def _rows(times: Sequence[str], accepted: Sequence[Accepted]) -> list[_Row]:
    return [(at, key_id, *_inert(request)) for at, (_, key_id, request) in zip(times, accepted, strict=True)]


def _insert_values(tx: Recording, rows: Sequence[_Row]) -> None:
    begin = 0
    for length in _LENGTHS:
        while begin + length <= len(rows):
            tx.exec_driver_sql(_INSERT_VALUES[length], tuple(chain.from_iterable(rows[begin : begin + length])))
            begin += length


def _refused_rows(refused: Mapping[Kind, Refusals]) -> list[tuple[str | int | None, ...]]:
    return [
        (
            _stored(kind.minute * 60.0),
            kind.key_id,
            kind.reason.value,
            kind.client_ip,
            tamed(attempts.method, LONGEST_OTHER),
            tamed(attempts.path, LONGEST_PATH),
            tamed(attempts.user_agent, LONGEST_AGENT),
            attempts.count,
        )
        for kind, attempts in refused.items()
    ]


@lru_cache(maxsize=4096)
def _inert(request: Request) -> Request:
    client_ip, method, path, user_agent = request
    return (
        tamed(client_ip, LONGEST_OTHER),
        tamed(method, LONGEST_OTHER),
        tamed(path, LONGEST_PATH),
        tamed(user_agent, LONGEST_AGENT),
    )


def shortened(client_ip: str | None, method: str | None, path: str | None, user_agent: str | None) -> Request:
    """Cut each value to the length that the log keeps: values that wait to be written must not fill the memory."""
    # Written out: four calls on each request would cost more than the work in them.
    if client_ip is not None and (type(client_ip) is not str or len(client_ip) > LONGEST_OTHER):
        client_ip = str(client_ip)[:LONGEST_OTHER]
    if method is not None and (type(method) is not str or len(method) > LONGEST_OTHER):
        method = str(method)[:LONGEST_OTHER]
    if path is not None and (type(path) is not str or len(path) > LONGEST_PATH):
        path = str(path)[:LONGEST_PATH]
    if user_agent is not None and (type(user_agent) is not str or len(user_agent) > LONGEST_AGENT):
        user_agent = str(user_agent)[:LONGEST_AGENT]
    return client_ip, method, path, user_agent


def tamed(text_: object, longest: int) -> str | None:
    """What a client sent as the log keeps it: inert, on one line, without raw keys (promises 1 and 12)."""
    if text_ is None:
        return None
    given = text_ if isinstance(text_, str) else str(text_)
    if len(given) <= longest and _INERT.fullmatch(given):
        return given
    return _tame(given, longest)


_tame: Final = lru_cache(maxsize=4096)(lambda given, longest: tame(given, longest=longest))
# What `tame` leaves as it is, and nearly all that clients send: letters, digits and the signs that nothing acts on,
# spaces between them. No underscore, also encoded: without one there is no raw key.
_INERT: Final = re.compile(r"""(?! )[A-Za-z0-9 !"#$&'()*+,./:;<=>?@\[\]^{|}~-]*(?<! )""")


def _stored(at: float) -> str:
    """A time as SQLite keeps it; PostgreSQL is told that it is UTC."""
    second = int(at // 1)
    return _second(second) % ((at - second) * 1_000_000)


def _stored_in_turn(moments: Iterable[float]) -> list[str]:
    """The same of many that are in order, which a second's worth of them shares all but the microseconds."""
    stored: list[str] = []
    second, within = float("-inf"), ""
    for at in moments:
        if at - second >= 1:
            second = at // 1
            within = _second(int(second))
        stored.append(within % ((at - second) * 1_000_000))
    return stored


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    """The times within a second, but for their microseconds."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S.%%06d")


_COLUMNS: Final = "at, key_id, outcome, client_ip, method, path, user_agent"
_RECORD_USES: Final = text("SELECT alphalens_keyctl_record_uses(CAST(:accepted AS jsonb), CAST(:refused AS jsonb))")
# As the function writes times: not in the future, and not more than a month ago.
_ALL_THERE: Final = """SELECT bool_and(EXISTS (SELECT 1 FROM usage_event WHERE outcome = 'ok' AND key_id = entry ->> 1
    AND at = greatest(CAST(:began AS timestamptz) - interval '31 days',
        least(CAST(:began AS timestamptz), CAST((entry ->> 0) || '+00' AS timestamptz)))))
    FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS entry"""
# The rest is SQLite's. A sum that overflows is a real there, which is more than the most that a column holds.
_MOST_COUNTED: Final = 2**63 - 1
_MEMBER: Final = "json_extract(entry.value, '$[{}]')"
_SAID: Final = (
    "(SELECT json_extract(entry.value, '$[0]') AS id, json_extract(entry.value, '$[1]') AS times,"
    " json_extract(entry.value, '$[2]') AS last, json_extract(entry.value, '$[3]') AS first"
    " FROM json_each(:rows) AS entry)"
)
_TALLY: Final = text(
    f"UPDATE api_key SET use_count = min(use_count + said.times, {_MOST_COUNTED}),"  # noqa: S608  # our own constants
    f" last_used_at = max(coalesce(last_used_at, said.last), said.last) FROM {_SAID} AS said WHERE api_key.id = said.id"
)
_UNUSED: Final = text(
    "SELECT 1 FROM api_key WHERE first_used_at IS NULL AND replaces IS NOT NULL"  # noqa: S608  # our own constants
    f" AND id IN (SELECT id FROM {_SAID}) LIMIT 1"
)
_FIRST: Final = text(
    f"UPDATE api_key SET first_used_at = said.first FROM {_SAID} AS said"  # noqa: S608  # our own constants
    " WHERE api_key.id = said.id AND first_used_at IS NULL AND replaces IS NOT NULL"
)
_KNOWN: Final = text(f"SELECT count(*) FROM api_key WHERE id IN (SELECT id FROM {_SAID})")  # noqa: S608  # our own
_REFUSED: Final = text(
    f"INSERT INTO usage_event ({_COLUMNS}, count)"  # noqa: S608  # our own constants
    f" SELECT {', '.join(map(_MEMBER.format, range(8)))}"
    f" FROM json_each(:rows) AS entry WHERE true ON CONFLICT ({', '.join(REFUSED_ONCE)}) WHERE {REFUSED_SQL}"
    f" DO UPDATE SET count = min(usage_event.count + excluded.count, {_MOST_COUNTED})"
)
# SQLite takes a value of its own, bound, faster than one out of a document.
_VALUES: Final = "(?, ?, 'ok', ?, ?, ?, ?)"
_INSERT_VALUES: Final = {
    length: f"INSERT INTO usage_event ({_COLUMNS}) VALUES {', '.join([_VALUES] * length)}"  # noqa: S608  # above
    for length in _LENGTHS
}
