"""`KeyVerifier`: what a service asks on each request."""

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from types import TracebackType
from typing import Final, Self

from alphalens_keyctl import settings
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.database.address import Address, SQLiteAddress
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import LONGEST, MalformedKeyError, parse, same_digest
from alphalens_keyctl.models import Reason
from alphalens_keyctl.verification import process
from alphalens_keyctl.verification.judgement import Record, Verification, judge, unavailable
from alphalens_keyctl.verification.recorder import Recorder, Usage
from alphalens_keyctl.verification.source import Source
from alphalens_keyctl.verification.usage_log import LONGEST_AGENT, LONGEST_OTHER, LONGEST_PATH, Accepted, Request

# After the database could not be reached nobody waits for it again for so many seconds.
_REST: Final = 0.25
_MALFORMED: Final = Verification(False, Reason.MALFORMED, None)
_UNKNOWN: Final = Verification(False, Reason.UNKNOWN, None)
_UNREACHABLE: Final = frozenset({Code.DATABASE_UNREACHABLE, Code.DATABASE_BUSY, Code.DATABASE_MISSING})


class _Entry:
    """A key that was seen before: its record, and the answer for now."""

    __slots__ = ("answer", "digest", "generation", "read_at", "record", "until")

    def __init__(self, digest: bytes, record: Record, generation: int, read_at: float, at: float) -> None:
        self.digest = digest
        self.record = record
        self.generation = generation
        self.read_at = read_at
        self.answer, self.until = judge(record, at)


class KeyVerifier:
    """Checks raw keys and records their use. One for a process; every method may be called from any thread.

    Connects at the first use, also in each forked child. What it remembers of a key holds until the database
    says otherwise: SQLite is asked on every call (and once a second whether its path still leads to the same
    file), PostgreSQL tells of changes within 100 ms, and while it
    cannot (no listening connection, a pooler in transaction mode) what was read holds for `max_staleness`.
    """

    def __init__(
        self,
        database_url: str | None = None,
        *,
        usage: str = Usage.REQUIRED,
        max_staleness: float = 1.0,
        timeout: float = 2.0,
        cache_size: int = 100_000,
        max_pending: int = 100_000,
    ) -> None:
        """Times are in seconds.

        `database_url` None: by the same settings as the command. `usage`: "required" refuses rather than lose
        a use once `max_pending` wait to be written; "best-effort" drops and counts them; "off" records
        nothing. `timeout` bounds each wait for the database. Raises `KeyctlError` for a bad configuration;
        whether the database is there is only found out by asking it. ValueError for a size or a word that is none.
        """
        if cache_size < 1 or max_pending < 1:
            raise ValueError("cache_size and max_pending are at least 1")
        chosen = settings.of_this_process(settings.Given(database_url=database_url))
        self._address = parse_address(chosen.database_url)
        self._source = _source(self._address, chosen.connect_timeout, timeout, max_staleness)
        self._cache: dict[bytes, _Entry] = {}
        self._cache_size = cache_size
        self._remembering = threading.Lock()
        self._locks: object = threading.Lock
        self._resting_until = 0.0
        self._closed = False
        self._trouble: KeyctlError | None = None
        policy = Usage(usage)
        limits = Limits(chosen.connect_timeout, timeout, max(timeout, 5.0))
        self._recorder = (
            None if policy is Usage.OFF else Recorder(_opener(self._address, limits), policy, most=max_pending)
        )
        process.guard(self)

    def verify(
        self,
        raw_key: object,
        *,
        client_ip: str | None = None,
        method: str | None = None,
        path: str | None = None,
        user_agent: str | None = None,
    ) -> Verification:
        """Whether `raw_key`, a header's value as it came (str or bytes; anything else is malformed), opens now.

        Counts as a use. May wait for the database: `timeout` for a connection to be free, as long for an answer,
        and to connect anew at least 2 s (libpq's shortest). Never raises on what it is given; where no answer
        can be had, the key is refused as `unavailable`.
        """
        answer = self._remembered(raw_key)
        key_id = None
        if answer is None:
            answer, key_id = self._looked_up(raw_key)
        return self._recorded(answer, key_id, client_ip, method, path, user_agent)

    def verify_cached(
        self,
        raw_key: object,
        *,
        client_ip: str | None = None,
        method: str | None = None,
        path: str | None = None,
        user_agent: str | None = None,
        refreshed: bool = False,
    ) -> Verification | None:
        """The same, but None where the database would have to be waited for: then call `verify` elsewhere than
        on an event loop. With `refreshed` the database is not asked again: whoever calls has done so since the
        request came, with `refresh`."""
        answer = self._remembered(raw_key, refreshed=refreshed)
        if answer is None:
            if not _is_malformed(raw_key):
                return None
            answer = _MALFORMED
        return self._recorded(answer, None, client_ip, method, path, user_agent)

    def refresh(self) -> bool:
        """Learn of every change up to now, without waiting. False where that cannot be done."""
        return self._source.refresh()

    def ready(self) -> bool:
        """Whether the database answers now. Waits for it."""
        try:
            self._source.fetch("")
        except KeyctlError as error:
            self._trouble = error
            return False
        return True

    @property
    def trouble(self) -> KeyctlError | None:
        """Why the database could last not be asked."""
        return self._trouble

    @property
    def dropped(self) -> int:
        """How many uses and refused attempts were not recorded, because too many waited."""
        return 0 if self._recorder is None else self._recorder.dropped

    def flush(self) -> None:
        """Have every use so far written. Raises `KeyctlError` when that cannot be done within 10 s."""
        if self._recorder is not None:
            self._recorder.flush()

    def close(self) -> None:
        """Write the last uses and let go of the database; every key is refused from now on. Raises as `flush`."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._recorder is not None:
                self._recorder.flush(last=True)
        finally:
            self._cache = {}
            self._source.close()
            process.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def before_fork(self) -> None:
        """Called before the process forks."""
        self._source.before_fork()
        if self._recorder is not None:
            self._recorder.before_fork()

    def after_fork(self, *, child: bool) -> None:
        """Called after that, in both processes."""
        if child:
            self._cache, self._remembering = {}, threading.Lock()
        if self._recorder is not None:
            self._recorder.after_fork(child=child)
        self._source.after_fork(child=child)

    def _remembered(self, raw_key: object, *, refreshed: bool = False) -> Verification | None:
        """The answer, if it can be given without waiting."""
        digest = _digest_of(raw_key)
        if digest is None:
            return _MALFORMED
        entry = self._cache.get(digest)
        if entry is None:
            return None
        source = self._source
        if not same_digest(entry.digest, digest) or not (refreshed or source.refresh()):
            return None
        if not source.vouches(entry.generation, entry.read_at):
            return None
        if time.time() >= entry.until:
            return None  # decided at the call: nobody tells when a key expires
        return entry.answer

    def _looked_up(self, raw_key: object) -> tuple[Verification, str | None]:
        """The database's answer, and the id to log it under where the answer names no key."""
        try:
            raw = parse(raw_key)  # type: ignore[arg-type]  # what is neither str nor bytes was refused before
        except MalformedKeyError:
            return _MALFORMED, None
        if self._closed or time.monotonic() < self._resting_until:
            return unavailable(), None
        if self._locks is not threading.Lock:
            # gevent patched the process since, as a worker of gunicorn that was forked from a loaded application
            # does. A lock from before the patch, held while another greenlet runs, would never be let go.
            self._locks = threading.Lock
            self._source.after_fork(child=True)
        try:
            record, generation, read_at = self._source.fetch(raw.id)
        except KeyctlError as error:
            self._trouble = error
            if error.code in _UNREACHABLE:
                self._resting_until = time.monotonic() + _REST
            return unavailable(), None
        if record is None:
            return _UNKNOWN, None
        digest = raw.digest()
        if not same_digest(record.digest, digest):
            # A real id with a wrong secret is as unknown as a made-up one: the answer must not tell which ids
            # exist. The log may.
            return _UNKNOWN, raw.id
        entry = _Entry(digest, record, generation, read_at, time.time())
        if entry.answer.allowed:
            self._remember(digest, entry)
        else:
            # A key that does not open is looked up each time, as one that never was: an answer from memory would
            # tell the two apart.
            self._forget(digest)
        return entry.answer, None

    def _remember(self, digest: bytes, entry: _Entry) -> None:
        # Only a key that opens gets here, so made-up ones can neither push it out nor fill the memory.
        with self._remembering:
            if len(self._cache) >= self._cache_size and digest not in self._cache:
                del self._cache[next(iter(self._cache))]
            self._cache[digest] = entry

    def _forget(self, digest: bytes) -> None:
        with self._remembering:
            self._cache.pop(digest, None)

    def _recorded(
        self,
        answer: Verification,
        key_id: str | None,
        client_ip: str | None,
        method: str | None,
        path: str | None,
        user_agent: str | None,
    ) -> Verification:
        recorder = self._recorder
        if recorder is None:
            return answer
        key = answer.key
        request = _shortened(client_ip, method, path, user_agent)
        if answer.allowed and key is not None:
            # What `Accepted(...)` comes to, without another call on each request.
            if recorder.accept(tuple.__new__(Accepted, (time.time(), key.id, request))):
                return answer
            answer = unavailable()  # promise 8: a use that cannot be accounted for is not allowed
        logged = key.id if key is not None else key_id
        recorder.refuse((time.time(), answer.reason, logged, *request))
        return answer


def _source(address: Address, connect_timeout: float, timeout: float, max_staleness: float) -> Source:
    if isinstance(address, SQLiteAddress):
        from alphalens_keyctl.verification.sqlite_source import SQLiteSource

        return SQLiteSource(address, timeout=timeout)
    from alphalens_keyctl.verification.postgresql_source import PostgreSQLSource

    return PostgreSQLSource(
        address, connect_timeout=min(connect_timeout, timeout), timeout=timeout, max_staleness=max_staleness
    )


def _opener(address: Address, limits: Limits) -> Callable[[], Database]:
    def open_database() -> Database:
        return Database.open(address, limits, create=False)

    return open_database


def _digest_of(raw_key: object) -> bytes | None:
    """The digest of what was presented; None for what cannot be a raw key, at no cost that its size decides."""
    if isinstance(raw_key, str):
        if len(raw_key) > LONGEST or not raw_key.isascii():
            return None
        return sha256(raw_key.encode("ascii")).digest()
    if isinstance(raw_key, bytes) and len(raw_key) <= LONGEST:
        return sha256(raw_key).digest()
    return None


def _is_malformed(raw_key: object) -> bool:
    try:
        parse(raw_key)  # type: ignore[arg-type]  # what is neither str nor bytes was refused before
    except MalformedKeyError:
        return True
    return False


def _shortened(client_ip: str | None, method: str | None, path: str | None, user_agent: str | None) -> Request:
    """Cut here rather than when it is written: what waits to be written must not fill the memory."""
    # Written out: on each request, four calls would cost more than what they do.
    if client_ip is not None and (type(client_ip) is not str or len(client_ip) > LONGEST_OTHER):
        client_ip = str(client_ip)[:LONGEST_OTHER]
    if method is not None and (type(method) is not str or len(method) > LONGEST_OTHER):
        method = str(method)[:LONGEST_OTHER]
    if path is not None and (type(path) is not str or len(path) > LONGEST_PATH):
        path = str(path)[:LONGEST_PATH]
    if user_agent is not None and (type(user_agent) is not str or len(user_agent) > LONGEST_AGENT):
        user_agent = str(user_agent)[:LONGEST_AGENT]
    return client_ip, method, path, user_agent
