"""A batch of uses → the database: the rows of the usage log, and of each key when and how often it was used.

Recording writes rows of `usage_event` and the columns `last_used_at`, `use_count` and `first_used_at` of `api_key`,
which it never moves backwards, and nothing else: no use can undo a revocation (promise 5).
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

from sqlalchemy import TextClause, text

from alphalens_keyctl.database import Recording
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import REFUSED_ONCE, REFUSED_SQL, Reason
from alphalens_keyctl.text import tame

# Characters that the log keeps of a value that a client sent.
LONGEST_PATH: Final = 512
LONGEST_AGENT: Final = 256
LONGEST_OTHER: Final = 64
# Rows that one statement inserts. SQLite's statements come in these lengths alone, so that each is prepared once; rows
# that do not fill the longest are inserted by shorter ones.
_LENGTHS: Final = (500, 100, 20, 4, 1)
_AT_ONCE: Final = _LENGTHS[0]

_Row = tuple[str | None, ...]


# The client's address, the request's method and path, and the user agent, as the client sent them; None: not known.
Request = tuple[str | None, str | None, str | None, str | None]


class Accepted(NamedTuple):
    """A use of a key. `at` is in seconds since the epoch."""

    at: float
    key_id: str
    request: Request


class Kind(NamedTuple):
    """What refused attempts in one row have in common. `minute` is in minutes since the epoch, `client_ip` tamed."""

    minute: int
    reason: Reason
    key_id: str | None
    client_ip: str | None


class Refusals(NamedTuple):
    """The number of attempts of one kind, and what the first of them asked for."""

    count: int  # type: ignore[assignment]  # the column's word
    method: str | None
    path: str | None
    user_agent: str | None


def write(tx: Recording, accepted: Sequence[Accepted], refused: Mapping[Kind, Refusals]) -> list[Accepted]:
    """Write a batch inside the caller's transaction.

    Returns the uses that must wait because another transaction holds their keys: to wait for it inside this one could
    stop both. Raises `KeyctlError` when the database does not keep what is written.
    """
    waiting: list[Accepted] = []
    if accepted:
        if tx.dialect.name == "postgresql":
            busy = _busy(tx, {use.key_id for use in accepted})
            waiting = [use for use in accepted if use.key_id in busy]
            accepted = [use for use in accepted if use.key_id not in busy]
        _write_accepted(tx, accepted)
    if refused:
        _write_refused(tx, refused)
    return waiting


def make_partitions(tx: Recording) -> None:
    """Make the partitions of `usage_event` for this month and the next, where they are missing (PostgreSQL)."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT alphalens_keyctl_make_partitions()"))


def transaction_number(tx: Recording) -> int | None:
    """The number by which PostgreSQL can tell later whether this transaction was committed. None on SQLite, where the
    outcome of a commit is always known."""
    return tx.scalar(text("SELECT txid_current()")) if tx.dialect.name == "postgresql" else None


def was_committed(tx: Recording, number: int, accepted: Sequence[Accepted]) -> bool:
    """Whether the transaction of that number, which wrote these uses, was committed. Raises `KeyctlError`
    (database_busy) while the transaction runs."""
    # A server that crashes forgets the numbers that it had not yet written to disk, and gives them out again.
    if tx.scalar(text("SELECT txid_current()")) <= number:
        return False
    fate = tx.scalar(text("SELECT txid_status(CAST(:number AS bigint))"), {"number": number})
    if fate == "in progress":
        raise KeyctlError(Code.DATABASE_BUSY, "an earlier batch of uses is still being committed")
    if not accepted:
        return bool(fate == "committed")
    # By now the number may be another transaction's; the rows can be of this batch alone.
    said = sorted({(_stored(use.at), use.key_id) for use in accepted})
    return bool(tx.scalar(text(_ALL_THERE), {"rows": json.dumps(said)}))


def _busy(tx: Recording, key_ids: set[str]) -> set[str]:
    """Lock the keys that no other transaction holds, in the order of their ids. Returns the ids that are held."""
    free = set(tx.scalars(text(_LOCK_FREE), {"ids": sorted(key_ids)}))
    rest = key_ids - free
    return set(tx.scalars(text("SELECT id FROM api_key WHERE id = ANY(:ids)"), {"ids": sorted(rest)})) if rest else rest


def _write_accepted(tx: Recording, accepted: Sequence[Accepted]) -> None:
    # Nearly in order already; threads overtake each other.
    accepted = sorted(accepted, key=itemgetter(0))
    times, key_ids = _stored_in_turn([use.at for use in accepted]), [use.key_id for use in accepted]
    insert = _insert_document if tx.dialect.name == "postgresql" else _insert_values
    # Many rows a statement: while the database works through them, other threads verify. Not all rows in one, because
    # no other thread runs while a statement is put together.
    for begin in range(0, len(accepted), _AT_ONCE):
        portion = slice(begin, begin + _AT_ONCE)
        insert(tx, _rows(times[portion], accepted[portion]))
    statements = _ON[tx.dialect.name]
    # In the order of time, so of each key the last entry is the latest use.
    counts, last = Counter(key_ids), dict(zip(key_ids, times, strict=True))
    first = dict(zip(reversed(key_ids), reversed(times), strict=True))
    tally = json.dumps([(key_id, count, last[key_id], first[key_id]) for key_id, count in counts.items()])
    if tx.scalar(statements.unused, {"rows": tally}):
        # Of successors alone, whose first use may set the end of another key. In a statement of its own, because it
        # is announced to every verifier, which then reads its keys anew.
        tx.execute(statements.first, {"rows": tally})
    done = tx.execute(statements.tally, {"rows": tally}).rowcount
    if done != len(counts) and done != tx.scalar(statements.known, {"rows": tally}):
        # Row security or a trigger can make an update change nothing, without an error.
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            "the database did not take when keys were used",
            "Check the database for row security and for triggers that are not ours.",
        )


def _rows(times: Sequence[str], accepted: Sequence[Accepted]) -> list[_Row]:
    return [(at, key_id, *_inert(request)) for at, (_, key_id, request) in zip(times, accepted, strict=True)]


def _insert_document(tx: Recording, rows: Sequence[_Row]) -> None:
    tx.execute(text(_INSERT_DOCUMENT), {"rows": json.dumps(rows)})


def _insert_values(tx: Recording, rows: Sequence[_Row]) -> None:
    begin = 0
    for length in _LENGTHS:
        while begin + length <= len(rows):
            tx.exec_driver_sql(_INSERT_VALUES[length], tuple(chain.from_iterable(rows[begin : begin + length])))
            begin += length


def _write_refused(tx: Recording, refused: Mapping[Kind, Refusals]) -> None:
    rows = [
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
    # In the same order in every process: two that count the same kinds would stop each other otherwise.
    rows.sort(key=lambda row: tuple(map(str, row[:4])))
    tx.execute(_ON[tx.dialect.name].refused, {"rows": json.dumps(rows)})


@lru_cache(maxsize=4096)
def _inert(request: Request) -> Request:
    client_ip, method, path, user_agent = request
    return (
        tamed(client_ip, LONGEST_OTHER),
        tamed(method, LONGEST_OTHER),
        tamed(path, LONGEST_PATH),
        tamed(user_agent, LONGEST_AGENT),
    )


def tamed(text_: object, longest: int) -> str | None:
    """A value that a client sent, as the log keeps it: inert, on one line, without raw keys (promises 1 and 12)."""
    if text_ is None:
        return None
    given = text_ if isinstance(text_, str) else str(text_)
    if len(given) <= longest and _INERT.fullmatch(given):
        return given
    return _tame(given, longest)


_tame: Final = lru_cache(maxsize=4096)(lambda given, longest: tame(given, longest=longest))
# Text that `tame` leaves as it is, which nearly all clients send: letters, digits, the signs that nothing acts on, and
# spaces between them. No underscore: every raw key holds one.
_INERT: Final = re.compile(r"""(?! )[A-Za-z0-9 !"#$%&'()*+,./:;<=>?@\[\]^{|}~-]*(?<! )""")


def _stored(at: float) -> str:
    """A time, in seconds since the epoch, as SQLite keeps it: text in UTC. PostgreSQL is told the zone."""
    second = int(at // 1)
    return _second(second) % ((at - second) * 1_000_000)


def _stored_in_turn(moments: Iterable[float]) -> list[str]:
    """Times in ascending order, each as `_stored` has it. Those within one second share the work on all but their
    microseconds."""
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
    """A format that turns microseconds into a time within that second."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S.%%06d")


_MOST_COUNTED: Final = 2**63 - 1
_COLUMNS: Final = "at, key_id, outcome, client_ip, method, path, user_agent"


class _Statements(NamedTuple):
    tally: TextClause
    unused: TextClause
    first: TextClause
    known: TextClause
    refused: TextClause


def _added(dialect: str, column: str, more: str) -> str:
    """SQL for a count plus what is added to it, at most what a column holds: a count that overflowed would stop its
    batch, and with it the recording of other keys."""
    if dialect == "sqlite":  # where a sum that overflows becomes a real, which is greater
        return f"min({column} + {more}, {_MOST_COUNTED})"
    return f"CASE WHEN {column} > {_MOST_COUNTED} - {more} THEN {_MOST_COUNTED} ELSE {column} + {more} END"


def _statements(dialect: str, each: str, column: str, at: str, latest: str) -> _Statements:
    """The statements of one dialect: `each` unfolds a JSON array of arrays, `column` takes a value out of one of
    these, `at` makes a value a time, `latest` is the later of the key's last use and the batch's.

    The SQL is put together from these constants alone; every value that is written is a parameter.
    """
    taken = [column.format(place) for place in range(8)]
    time, times = at.format(taken[0]), f"CAST({taken[1]} AS bigint)"
    tallies = (
        f"SELECT {taken[0]} AS id, {times} AS times, {at.format(taken[2])} AS last,"  # noqa: S608  # above
        f" {at.format(taken[3])} AS first FROM {each}"
    )
    refused = f"{time}, {', '.join(taken[1:7])}, CAST({taken[7]} AS bigint)"
    return _Statements(
        tally=text(
            f"UPDATE api_key SET use_count = {_added(dialect, 'use_count', 'said.times')}, last_used_at = {latest}"  # noqa: S608  # above
            f" FROM ({tallies}) AS said WHERE api_key.id = said.id"
        ),
        unused=text(
            "SELECT 1 FROM api_key WHERE first_used_at IS NULL AND replaces IS NOT NULL"  # noqa: S608  # above
            f" AND id IN (SELECT {taken[0]} FROM {each}) LIMIT 1"
        ),
        first=text(
            f"UPDATE api_key SET first_used_at = said.first FROM ({tallies}) AS said"  # noqa: S608  # above
            " WHERE api_key.id = said.id AND first_used_at IS NULL AND replaces IS NOT NULL"
        ),
        known=text(f"SELECT count(*) FROM api_key WHERE id IN (SELECT {taken[0]} FROM {each})"),  # noqa: S608  # above
        refused=text(
            f"INSERT INTO usage_event ({_COLUMNS}, count) SELECT {refused} FROM {each} WHERE true"  # noqa: S608  # above
            f" ON CONFLICT ({', '.join(REFUSED_ONCE)}) WHERE {REFUSED_SQL}"
            f" DO UPDATE SET count = {_added(dialect, 'usage_event.count', 'excluded.count')}"
        ),
    )


_ON: Final = {
    "sqlite": _statements(
        "sqlite",
        each="json_each(:rows) AS entry",
        column="json_extract(entry.value, '$[{}]')",
        at="{}",
        latest="max(coalesce(last_used_at, said.last), said.last)",
    ),
    "postgresql": _statements(
        "postgresql",
        each="jsonb_array_elements(CAST(:rows AS jsonb)) AS entry",
        column="(entry ->> {})",
        at="CAST({} || '+00' AS timestamptz)",
        latest="greatest(last_used_at, said.last)",
    ),
}
_INSERT_DOCUMENT: Final = f"""INSERT INTO usage_event ({_COLUMNS})
    SELECT CAST((entry ->> 0) || '+00' AS timestamptz), entry ->> 1, 'ok',
        entry ->> 2, entry ->> 3, entry ->> 4, entry ->> 5
    FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS entry"""  # noqa: S608  # our own constant
# SQLite is faster with one parameter for each value than with a JSON document.
_VALUES: Final = "(?, ?, 'ok', ?, ?, ?, ?)"
_INSERT_VALUES: Final = {
    length: f"INSERT INTO usage_event ({_COLUMNS}) VALUES {', '.join([_VALUES] * length)}"  # noqa: S608  # above
    for length in _LENGTHS
}
_LOCK_FREE: Final = "SELECT id FROM api_key WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
_ALL_THERE: Final = """SELECT bool_and(EXISTS (SELECT 1 FROM usage_event WHERE outcome = 'ok'
    AND key_id = entry ->> 1 AND at = CAST((entry ->> 0) || '+00' AS timestamptz)))
    FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS entry"""
