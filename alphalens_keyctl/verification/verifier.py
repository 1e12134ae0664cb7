"""`KeyVerifier`, which a service asks on each request."""

import threading
import time
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from hashlib import sha256
from types import TracebackType
from typing import Final, Self

from alphalens_keyctl import networks
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.database.postgresql import ReadOnlyError
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import LONGEST, MalformedKeyError, parse, same_digest
from alphalens_keyctl.settings import Given, Settings, of_this_process
from alphalens_keyctl.values import Key
from alphalens_keyctl.verification import process, pulse
from alphalens_keyctl.verification import source as sources
from alphalens_keyctl.verification.judgement import Record, Verification, for_scope, from_address, judge, unavailable
from alphalens_keyctl.verification.pulse import Pulse
from alphalens_keyctl.verification.recorder import Recorder
from alphalens_keyctl.verification.recording_policy import RecordingPolicy
from alphalens_keyctl.verification.usage_log import Accepted, shortened
from alphalens_keyctl.vocabulary import Reason, Status

# The `usage` that records nothing: for a look that is not a use.
_OFF: Final = "off"
# Seconds after a failure to reach the database in which keys are refused without trying again.
_REST: Final = 0.25
_MALFORMED: Final = Verification(False, Reason.MALFORMED, None)
_UNKNOWN: Final = Verification(False, Reason.UNKNOWN, None)
_UNREACHABLE: Final = frozenset({Code.DATABASE_UNREACHABLE, Code.DATABASE_BUSY, Code.DATABASE_MISSING})


class _Entry:
    """A key that was verified before: its record, and the answer up to `until` (seconds since the epoch)."""

    __slots__ = ("allow_from", "answer", "digest", "generation", "read_at", "record", "until")

    def __init__(self, digest: bytes, record: Record, generation: int, read_at: float, at: float) -> None:
        self.digest = digest
        self.record = record
        self.generation = generation
        self.read_at = read_at
        self.allow_from = record.key.allow_from
        self.answer, self.until = judge(record, at)


class KeyVerifier:
    """Checks raw keys and records their use. A process needs one; every method may be called from any thread.

    The verifier connects at the first use, and anew in a forked child. A record that was read holds until the database
    says otherwise: each call asks a SQLite file (and every 10 ms whether the file was overwritten or replaced);
    PostgreSQL announces a change within 100 ms, and while it cannot (no listening connection, a pooler in transaction
    mode), or where a standby was read, a record holds for `max_staleness`.

    Uses that wait are written at `close`, at the normal end of the interpreter, and at the end of a child of
    multiprocessing; at SIGTERM only where `flush_on_sigterm` asks for it.
    """

    def __init__(
        self,
        database_url: str | None = None,
        *,
        usage_database_url: str | None = None,
        usage: str = RecordingPolicy.REQUIRED,
        max_staleness: float = 1.0,
        timeout: float = 2.0,
        cache_size: int = 100_000,
        max_pending: int = 100_000,
        flush_on_sigterm: bool = False,
        settings: Settings | None = None,
    ) -> None:
        """Make a verifier; nothing connects yet. Times are in seconds.

        `database_url`: None takes the URL from the settings that the command has. `usage_database_url`: where uses are
        written, and where changes are announced if `database_url` leads to standbys alone; None writes to the database
        that is read, or takes the URL from the settings together with `database_url`. `max_staleness`: the age up to
        which a record counts while PostgreSQL cannot announce changes. `timeout` bounds each wait for the database.
        `cache_size`: the number of keys that are remembered. `usage`, once `max_pending` uses wait to be written:
        "required" refuses keys rather than lose a use, and does so from the start until the database has shown that it
        takes uses, and while it is a standby; "best-effort" drops uses and counts them in `dropped`.
        "off" records nothing. `flush_on_sigterm`: install a handler of SIGTERM that writes the uses that wait, within
        12 s, before the process ends by the signal; a handler that the program has installed stays instead, and the
        program calls `close`. `settings`: what a program that has read the settings found, in place of both URLs.

        Raises `KeyctlError` for a bad configuration, but not for a database that is away: the first call finds that
        out. Raises ValueError for a size below 1, an unknown `usage`, and `flush_on_sigterm` outside the main thread.
        """
        if cache_size < 1 or max_pending < 1:
            raise ValueError("cache_size and max_pending are at least 1")
        chosen = settings or of_this_process(Given(database_url=database_url, usage_database_url=usage_database_url))
        written = chosen.usage_database_url
        self.address = parse_address(chosen.database_url)
        self.warn_within = chosen.warn_within
        """The setting: how long before a key expires the middleware tells its holder, by `Sunset`."""
        usage_address = self.address if written is None else parse_address(written)
        self._source = sources.of(self.address, usage_address, chosen.connect_timeout, timeout, max_staleness)
        self._cache: dict[bytes, _Entry] = {}
        self._cache_size = cache_size
        self._remembering = threading.Lock()
        self._locks: object = threading.Lock
        self._resting_until = 0.0
        self._closed = False
        self._trouble: KeyctlError | None = None
        self._recorder: Recorder | None = None
        if usage != _OFF:
            limits = Limits(chosen.connect_timeout, timeout, max(timeout, 5.0))
            opener = partial(Database.open, usage_address, limits, create=False)
            self._recorder = Recorder(opener, RecordingPolicy(usage), most=max_pending, prepare=self._source.prepare)
        if flush_on_sigterm:
            process.close_on_sigterm()
        process.guard(self)

    def verify(
        self,
        raw_key: object,
        *,
        scope: str | Iterable[str] | None = None,
        address: str | None = None,
        client_ip: str | None = None,
        method: str | None = None,
        path: str | None = None,
        user_agent: str | None = None,
    ) -> Verification:
        """Say whether a raw key opens now, and record the use or the refusal.

        `raw_key` is the header's value as it came: str or bytes; anything else is malformed. `scope`: what the request
        needs, one scope or several, all of which the key must cover. `address`: the client's address where the caller
        knows it for certain; a key that is limited to networks opens from such an address alone. The other arguments go
        into the usage log, `address` too where there is no `client_ip`. May wait for the database: `timeout` for a free
        connection, as long for an answer, and at least 2 s to connect anew (libpq's shortest). No argument makes it
        raise; where the database cannot tell, the key is refused as `unavailable`.
        """
        answer = self._remembered(raw_key, address)
        key_id = None
        if answer is None:
            answer, key_id = self._looked_up(raw_key, address)
        if scope is not None:
            answer = for_scope(answer, scope)
        return self._recorded(answer, key_id, client_ip or address, method, path, user_agent)

    def look(
        self, raw_key: object, *, scope: str | Iterable[str] | None = None, address: str | None = None
    ) -> Verification:
        """As `verify`, of the key as the database has it now; nothing is recorded."""
        answer, _key_id = self._looked_up(raw_key, address)
        return answer if scope is None else for_scope(answer, scope)

    def verify_cached(
        self,
        raw_key: object,
        *,
        scope: str | Iterable[str] | None = None,
        address: str | None = None,
        client_ip: str | None = None,
        method: str | None = None,
        path: str | None = None,
        user_agent: str | None = None,
        refreshed: bool = False,
    ) -> Verification | None:
        """As `verify`, without waiting: None where the answer must wait for the database. Then call `verify` in a
        thread other than the event loop's.

        `refreshed`: the caller has called `refresh`, with success, since the request came, so the database is not
        asked once more.
        """
        answer = self._remembered(raw_key, address, refreshed=refreshed)
        if answer is None:
            if not _is_malformed(raw_key):
                return None
            answer = _MALFORMED
        if scope is not None:
            answer = for_scope(answer, scope)
        return self._recorded(answer, None, client_ip or address, method, path, user_agent)

    def count_refusal(
        self,
        key_id: str | None,
        reason: Reason,
        *,
        client_ip: str | None = None,
        method: str | None = None,
        path: str | None = None,
        user_agent: str | None = None,
    ) -> None:
        """Record that what a key which opened was used for was refused, with its reason. The other arguments are as in
        `verify`."""
        if self._recorder is not None:
            request = shortened(client_ip, method, path, user_agent)
            self._recorder.refuse((time.time(), reason, key_id, *request))

    def refresh(self) -> bool:
        """Learn, without waiting, of every change up to now. Returns False where the database must be waited for."""
        return self._source.refresh()

    def ready(self) -> bool:
        """Whether the database answers, and under "required" takes uses. Waits for the answers, `timeout` for each."""
        try:
            self._source.fetch("")
            if self._recorder is not None:
                self._recorder.prove()
        except KeyctlError as error:
            self._trouble = error
            return False
        return True

    @property
    def trouble(self) -> KeyctlError | None:
        """The last error with which the database could not be asked; None if there was none."""
        return self._trouble

    @property
    def dropped(self) -> int:
        """The number of uses and refused attempts that were not recorded because too many waited."""
        return 0 if self._recorder is None else self._recorder.dropped

    def pulse(self) -> Pulse:
        """What a monitor wants to know. Asks a database that was silent for a second, and waits `timeout` at most."""
        return pulse.take(self._source, self._recorder)

    def flush(self) -> None:
        """Write every use so far. Raises `KeyctlError` when they cannot be written within 10 s."""
        if self._recorder is not None:
            self._recorder.flush()

    def close(self) -> None:
        """Write the last uses and close every connection; from now on every key is refused. Raises as `flush`."""
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

    def replaced(self) -> bool:
        """Whether other files than those that are open lie at the path. `process` calls this."""
        return self._source.replaced()

    def before_fork(self) -> None:
        """Prepare for a fork of the process. `process` calls this."""
        # In this order: the recorder's connection must not be the last one on files that were replaced.
        if self._recorder is not None:
            self._recorder.before_fork()
        self._source.before_fork()

    def after_fork(self, *, child: bool) -> None:
        """Go on after a fork, in the parent and in the child. `process` calls this."""
        if child:
            self._cache, self._remembering = {}, threading.Lock()
        self._source.after_fork(child=child)
        if self._recorder is not None:
            self._recorder.after_fork(child=child)

    def _remembered(self, raw_key: object, address: str | None, *, refreshed: bool = False) -> Verification | None:
        """The answer; None where the database must be waited for."""
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
            return None  # decided here, at the call: no change is announced when a key expires
        if entry.allow_from is not None and not networks.allows(entry.allow_from, address):
            return None  # looked up, as any key that does not open is: whoever stole it must not learn that it would
        return entry.answer

    def _looked_up(self, raw_key: object, address: str | None) -> tuple[Verification, str | None]:
        """The database's answer, and the key's id for the log where the answer holds no key."""
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
            if self._recorder is not None and not self._recorder.takes_uses:
                self._recorder.prove()
            record, generation, read_at = self._source.fetch(raw.id)
        except KeyctlError as error:
            self._trouble = error
            if error.code in _UNREACHABLE or isinstance(error, ReadOnlyError):
                self._resting_until = time.monotonic() + _REST
            return unavailable(), None
        if record is None:
            return _UNKNOWN, None
        digest = raw.digest()
        if not same_digest(record.digest, digest):
            # A real id with a wrong secret is as unknown as a made-up id: the answer must not tell which ids exist.
            # The log may.
            return _UNKNOWN, raw.id
        entry = _Entry(digest, record, generation, read_at, time.time())
        if entry.answer.allowed:
            entry.answer.retiring_since = self._retiring_since(record.key)
            self._remember(digest, entry)
        else:
            # A key that does not open is looked up each time, as one that never was: an answer from memory would
            # tell the two apart.
            self._forget(digest)
        return from_address(entry.answer, address), None

    def _retiring_since(self, key: Key) -> datetime | None:
        """When the successor of a retiring key took over; None where nobody can tell, which stops no key from
        opening."""
        if key.status != Status.RETIRING or key.replaced_by is None:
            return None
        try:
            successor = self._source.fetch(key.replaced_by).record
        except KeyctlError:
            return None
        return None if successor is None else successor.key.activated_at

    def _remember(self, digest: bytes, entry: _Entry) -> None:
        # Only keys that open get here, so made-up ones can neither push them out nor fill the memory.
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
        request = shortened(client_ip, method, path, user_agent)
        if answer.allowed and key is not None:
            # The same as `Accepted(...)`, without its Python call on each request.
            if recorder.accept(tuple.__new__(Accepted, (time.time(), key.id, request))):
                return answer
            answer = unavailable()  # promise 8: a use that cannot be accounted for is not allowed
        logged = key.id if key is not None else key_id
        recorder.refuse((time.time(), answer.reason, logged, *request))
        return answer


def _digest_of(raw_key: object) -> bytes | None:
    """The digest of a value; None for one that cannot be a raw key. A larger value costs no more."""
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
