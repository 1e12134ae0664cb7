"""The uses that are not yet in the database, and the thread that writes them."""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Final, NamedTuple

from alphalens_keyctl.database import Database
from alphalens_keyctl.database.postgresql import ReadOnlyError
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.verification import process, real_threads, usage_log
from alphalens_keyctl.verification.real_threads import Lock, SimpleQueue
from alphalens_keyctl.verification.recording_policy import RecordingPolicy
from alphalens_keyctl.verification.refused_attempts import Refusal, RefusedAttempts
from alphalens_keyctl.verification.usage_log import Accepted, Kind, Refusals, Transaction
from alphalens_keyctl.vocabulary import Reason

# Seconds and uses after which a batch is written: the README promises at most a second or a thousand uses behind, and
# writing takes the rest of the second.
_INTERVAL: Final = 0.5
_HURRY: Final = 1000
_MOST_AT_ONCE: Final = 5000
_FLUSH_LIMIT: Final = 10.0
_DAY: Final = 86400.0
# Steps of niceness: by the kernel's weights (sched(7)) five of them are a third of the processor.
_NICE: Final = 5

_log = logging.getLogger("alphalens_keyctl")


class _Asked(NamedTuple):
    """A thread that waits until everything is written; for a `proof`, until it is known that anything can be. `answer`
    gets the error, or None; `last` ends the recorder."""

    answer: "SimpleQueue[KeyctlError | None]"
    proof: bool = False
    last: bool = False


class _Doubtful(NamedTuple):
    """A batch whose commit the database did not answer, and the number of its transaction."""

    transaction: Transaction
    accepted: list[Accepted]
    refused: dict[Kind, Refusals]


class Recorder:
    """Takes uses from any thread, without a lock; a thread of the recorder writes them, in batches.

    The recorder's thread calls `open_database`. `most` is the number of uses that may wait, and of refused attempts;
    `policy` says what happens to a use beyond it. `prepare` is called before each batch, outside every lock of the
    recorder, and may have the recorder close its connection.
    """

    def __init__(
        self,
        open_database: Callable[[], Database],
        policy: RecordingPolicy,
        *,
        most: int,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_database = open_database
        self._prepare = prepare
        self._policy = policy
        self._most = most
        self.takes_uses = policy is not RecordingPolicy.REQUIRED
        """Whether the database has shown that it takes uses, and is no standby since."""
        self._begin()

    def _begin(self) -> None:
        self._accepted: deque[Accepted] = deque()
        self._refused = RefusedAttempts()
        self._in_flight = 0
        self._room = self._most if self.takes_uses else 0
        self._doubtful: _Doubtful | None = None
        # A SimpleQueue's put may be called by a signal handler that interrupts a put.
        self._requests: SimpleQueue[_Asked | None] = SimpleQueue()
        self._awake = self._hurried = self._closing = False
        self._thread: object | None = None
        self._starting = Lock()
        self._writing = Lock()  # held during a transaction, so that a fork can wait for its end
        self._counting = Lock()
        self._database: Database | None = None
        self._partitions_until = 0.0
        self.dropped = 0

    def accept(self, use: Accepted) -> bool:
        """Take a use. Returns False when the recorder cannot keep the use: the request must then be refused."""
        waiting = len(self._accepted)
        if waiting + self._in_flight >= self._room:
            return self._overflow()
        self._accepted.append(use)
        if not self._awake:
            self._wake()
        elif waiting >= _HURRY and not self._hurried:
            self._hurried = True
            self._requests.put(None)
        # Asked after the use was taken: the last flush then writes every use that was allowed.
        return not self._closing

    def refuse(self, refusal: tuple[float, Reason, str | None, str | None, str | None, str | None, str | None]) -> None:
        """Take a refused attempt: the fields of a `Refusal`, in its order. After the last flush it is dropped: the
        thread that wrote it would outlive whoever closed the verifier."""
        if self._closing or self._refused.waiting >= self._most:
            self._drop()
            return
        self._refused.take(Refusal._make(refusal))
        if not self._awake:
            self._wake()
        elif self._refused.waiting >= _HURRY and not self._hurried:
            self._hurried = True
            self._requests.put(None)

    def flush(self, *, last: bool = False) -> None:
        """Write everything that was taken, within 10 s; with `last`, take nothing from now on. Raises `KeyctlError`."""
        self._closing = self._closing or last
        if not self._start():
            return
        answer: SimpleQueue[KeyctlError | None] = SimpleQueue()
        self._requests.put(_Asked(answer, last=last))
        try:
            trouble = answer.get(timeout=_FLUSH_LIMIT)
        except Empty:
            trouble = KeyctlError(Code.DATABASE_BUSY, "the uses could not be written in time")
        if trouble is not None:
            if last:
                kinds = self._refused.kinds + (len(self._doubtful.refused) if self._doubtful else 0)
                _log.error(
                    "%d uses and %d kinds of attempts are lost with this process: %s",
                    self._held,
                    kinds,
                    trouble.message,
                )
            raise trouble

    def prove(self) -> None:
        """Find out, where no use may be lost, whether the database takes uses now. Waits for the answer, within 10 s.
        Raises `KeyctlError` where it does not."""
        if self._policy is not RecordingPolicy.REQUIRED or self._closing:
            return
        self._awake = True
        self._start()
        answer: SimpleQueue[KeyctlError | None] = SimpleQueue()
        self._requests.put(_Asked(answer, proof=True))
        try:
            trouble = answer.get(timeout=_FLUSH_LIMIT)
        except Empty:
            trouble = KeyctlError(Code.DATABASE_BUSY, "the usage log could not be asked in time")
        if trouble is not None and not self.takes_uses:
            raise trouble

    def before_fork(self) -> None:
        # No child may inherit a connection to a SQLite file, nor one in the middle of a transaction.
        self._writing.acquire()
        if self._database is not None and self._database.one_writer:
            self._close_database()

    def after_fork(self, *, child: bool) -> None:
        if child:
            _inherited.append(self._database)
            self._begin()  # the parent writes the uses that wait
        else:
            self._writing.release()

    def _overflow(self) -> bool:
        if self._policy is RecordingPolicy.BEST_EFFORT:
            self._drop()
            return True
        return False  # and recorded as a refused attempt: with the first that is written, uses are taken again

    @property
    def waiting(self) -> int:
        """The number of uses and refused attempts that are not known to be in the database; attempts that were
        coalesced count as one."""
        return self._held + self._refused.waiting + self._refused.kinds

    @property
    def _held(self) -> int:
        """The number of uses that are not known to be in the database."""
        return len(self._accepted) + self._in_flight

    def _drop(self) -> None:
        with self._counting:
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # at the first, and each time the number has doubled
                _log.error("the usage log cannot be written: %d uses or attempts dropped so far", self.dropped)

    def _wake(self) -> None:
        self._awake = True
        self._start()
        self._requests.put(None)

    def _start(self) -> bool:
        """Start the thread unless it runs. Returns False, without a thread, when no use was ever taken."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    if not self._awake:
                        return False
                    process.close_at_end_of_child()
                    self._thread = real_threads.start(self._run, name="alphalens-keyctl usage")
        return True

    def _run(self) -> None:
        _let_requests_go_first()
        while True:
            asked = [self._requests.get()]
            if asked[0] is None:
                asked += self._gather()
            # Before uses are taken off the queue: a use that comes from here on wakes the thread once more.
            self._awake = self._hurried = False
            waits = [request for request in asked if request is not None]
            trouble = self._write_all(
                prove=any(request.proof for request in waits), patient=not all(request.proof for request in waits)
            )
            if (self._accepted or self._refused or self._doubtful) and not self._awake:
                self._awake = True
                self._requests.put(None)
            last = any(request.last for request in waits)
            if last:
                with self._writing:
                    self._close_database()
                self._thread = None
            for request in waits:
                request.answer.put(trouble)
            if last:
                return

    def _judge(self, trouble: KeyctlError | None) -> None:
        """Decide by what became of a batch whether uses may be taken. A database that is away will take them later."""
        if self._policy is not RecordingPolicy.REQUIRED:
            return
        if trouble is None or trouble.code is Code.DATABASE_BUSY:
            self.takes_uses = True
        elif isinstance(trouble, ReadOnlyError):
            self.takes_uses = False
        self._room = self._most if self.takes_uses else 0

    def _gather(self) -> list[_Asked | None]:
        """Wait while uses come together, for the interval or until there are many."""
        with suppress(Empty):
            return [self._requests.get(timeout=_INTERVAL)]
        return []

    def _write_all(self, *, prove: bool, patient: bool) -> KeyctlError | None:
        """Write the uses that wait now, not those that come meanwhile: under load there would be no end, and a commit
        for every few uses; on SQLite each commit has every key read anew. Returns the error, if any.

        `patient`: a thread waits for the end, so keys that another transaction holds are waited for. `prove`: write a
        batch even if nothing waits, which shows whether the database takes any.
        """
        deadline = time.monotonic() + _FLUSH_LIMIT / 2
        left = len(self._accepted) + self._in_flight
        while prove or self._accepted or self._refused or self._doubtful:
            prove = False
            began = time.monotonic()
            try:
                self._prepare()
                with self._writing:
                    written, waiting = self._write_batch()
                    alone = self._database is not None and self._database.one_writer
                self._judge(None)
            except KeyctlError as error:
                self._judge(error)
                _log.warning("uses are held, %d so far: %s", self._held, error.message)
                return error
            except Exception as error:  # noqa: BLE001  # a thread that dies would take every use with it
                _log.exception("uses are held, %d so far", self._held)
                return KeyctlError(Code.INTERNAL, f"uses cannot be written: {type(error).__name__}")
            left -= written
            if waiting:
                if not patient or time.monotonic() > deadline:
                    return KeyctlError(Code.DATABASE_BUSY, "another transaction holds a key that was used")
                time.sleep(0.02)
                continue
            if alone and self._accepted and not patient:
                # SQLite lets waiting writers in by chance alone: without a gap as long as the transaction was, an
                # administrator could not revoke a key that is used a lot. A flush has a time limit and leaves no gap.
                time.sleep(time.monotonic() - began)
            if left <= 0:
                break
        return None

    def _write_batch(self) -> tuple[int, int]:
        """Write one batch, and put back the uses that were not written. Returns how many uses were written, and how
        many must wait because another transaction holds their keys."""
        database = self._open()
        self._settle(database)
        accepted = self._taken()
        refused: dict[Kind, Refusals] = {}
        waiting: list[Accepted] = []
        transaction: Transaction | None = None
        try:
            refused = self._refused.coalesced()
            with database.recording() as tx:
                waiting = usage_log.write(tx, accepted, refused)
                transaction = usage_log.transaction(tx)
        except BaseException:
            if transaction is None:
                self._put_back(accepted, refused)
            else:
                held = {use.key_id for use in waiting}
                written = [use for use in accepted if use.key_id not in held]
                self._doubtful = _Doubtful(transaction, written, refused)
                self._put_back(waiting, {})
                self._in_flight = len(written)
            self._close_database()
            raise
        self._put_back(waiting, {})
        return len(accepted) - len(waiting), len(waiting)

    def _settle(self, database: Database) -> None:
        """Find out whether a batch whose commit was not answered was committed, so that it is neither lost nor counted
        twice."""
        if self._doubtful is None:
            return
        with database.recording() as tx:
            committed = usage_log.was_committed(tx, self._doubtful.transaction, self._doubtful.accepted)
        doubtful, self._doubtful = self._doubtful, None
        if committed:
            self._in_flight = 0
        else:
            self._put_back(doubtful.accepted, doubtful.refused)

    def _taken(self) -> list[Accepted]:
        taken: list[Accepted] = []
        while self._accepted and len(taken) < _MOST_AT_ONCE:
            self._in_flight += 1  # before the use leaves the queue: the bound counts both
            taken.append(self._accepted.popleft())
        return taken

    def _put_back(self, accepted: list[Accepted], refused: dict[Kind, Refusals]) -> None:
        self._accepted.extendleft(reversed(accepted))
        self._in_flight = 0
        self._refused.put_back(refused)

    def _open(self) -> Database:
        if self._database is None:
            self._database = self._open_database()
        if time.monotonic() >= self._partitions_until:
            self._partitions_until = time.monotonic() + _DAY
            # Without partitions, for want of rights say, uses go to the default partition.
            with suppress(KeyctlError), self._database.recording() as tx:
                usage_log.make_partitions(tx)
        return self._database

    def _close_database(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _let_requests_go_first() -> None:
    """Lower the priority of the calling thread, on Linux, where each thread has its own (nice(2), NOTES), unless
    requests are answered in the same real thread.

    Writing the uses of a thread that verifies takes a fifth of that thread's processor time. A thread of this
    priority gets a third, so it keeps up on the busiest machine.
    """
    if sys.platform == "linux" and real_threads.are_real():
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(_NICE)


# What a forked child inherits. A child that closed a connection would end the parent's session, so the child keeps it.
_inherited: Final[list[object]] = []
