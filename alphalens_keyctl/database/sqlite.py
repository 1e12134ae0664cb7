"""What SQLite needs: a file that is whole, one writer at a time, and locks that die with a process."""

import fcntl
import hashlib
import os
import sqlite3
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from alphalens_keyctl.database.attempt import Attempt
from alphalens_keyctl.errors import Code, KeyctlError

WRITES: Final = "alphalens_keyctl_writes"
_BIRTH_LOCK: Final = 0
_SET_LOCK: Final = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)
_CACHE_KIB: Final = 32 * 1024


def connect(path: Path, *, lock_timeout: float) -> sqlite3.Connection:
    """A connection of the driver to an existing file, for one thread at a time, whichever. `lock_timeout` is in
    seconds."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=lock_timeout,
        # The transactions of the driver leave SELECT outside; `make_engine` begins them itself.
        isolation_level=None,
        check_same_thread=False,
    )


def make_engine(path: Path, *, lock_timeout: float, sessions: int = 1) -> Engine:
    """An engine on an existing file, which is never created here, and which keeps so many `sessions`. `lock_timeout` is
    in seconds."""
    engine = create_engine(
        "sqlite://",
        creator=partial(connect, path, lock_timeout=lock_timeout),
        hide_parameters=True,
        # To the URL of a file in memory belongs a pool that closes connections which other threads are using.
        poolclass=QueuePool,
        pool_timeout=lock_timeout,
        pool_size=sessions,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # FULL: a key that was shown must survive a power cut (in WAL mode NORMAL may lose the last commits).
        connection.text_factory = _any_text
        for pragma in ("foreign_keys = ON", "synchronous = FULL", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # Deferred transactions would let two rotations read the same state and then both write.
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def make_room(connection: Connection) -> None:
    """Let a transaction keep 32 MB of what it changes in memory until it ends; a small change takes less.

    A change of a million keys writes the indexes of the audit log at random. In the 2 MB that SQLite keeps by default
    each page of the indexes would leave memory and come back many times.
    """
    connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")


def _any_text(stored: bytes) -> str:
    """Text that is not UTF-8 as surrogates (PEP 383): the driver would stop at it, with every row behind it."""
    return stored.decode("utf-8", "surrogateescape")


def text_or_bytes(stored: bytes) -> str | bytes:
    """Text, or the bytes themselves where they are not UTF-8."""
    try:
        return stored.decode("utf-8")
    except UnicodeDecodeError:
        return stored


@contextmanager
def text_read_by(connection: Connection, read: Callable[[bytes], str | bytes]) -> Iterator[None]:
    """Inside the block, `read` makes a value of stored text. With `str` text that is not UTF-8 is an error, and all
    other is read in half the time."""
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]  # our own
    driver.text_factory = read
    try:
        yield
    finally:
        driver.text_factory = _any_text


def exists(path: Path) -> bool:
    """Whether a database file is there. The path is not opened: a FIFO would block, a device would act.

    Raises `KeyctlError` for anything else at the path, which is left alone.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable(path, f"cannot be looked at ({error.strerror})") from error
    if stat.S_ISDIR(found.st_mode):
        raise _unusable(path, "is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise _unusable(path, "is not a regular file")
    if found.st_size == 0:
        # `bring_to_life` moves a complete file here, so an empty file lost its contents. To SQLite the file would be a
        # fresh database: every key unknown, and nobody told.
        raise _unusable(
            path,
            "is empty: it was cut off",
            "Restore it from a backup, or remove it and its -wal and -shm to start anew.",
        )
    # Not opened even for its first bytes: closing the file again would drop every lock that SQLite holds on it in this
    # process. SQLite itself tells that a file is no database, and leaves it alone.
    return True


def bring_to_life(path: Path, fill: Callable[[Path], None], *, lock_timeout: float) -> None:
    """Create the database file, complete or not at all. Of two processes one makes the file and the other finds it.

    A draft is made beside `path`, of mode 0600 before SQLite first opens it (`-wal` and `-shm` take its mode), filled
    by `fill`, synced and renamed. Missing folders are made with mode 0700. `lock_timeout` is in seconds. Raises
    `KeyctlError`.
    """
    try:
        _make_folder(path.parent)
        with FileLocks(path).held(_BIRTH_LOCK, timeout=lock_timeout):
            if exists(path):
                return
            draft = path.with_name(path.name + "-new")
            for leftover in (draft, *_companions(draft)):
                leftover.unlink(missing_ok=True)
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))
            fill(draft)
            with sqlite3.connect(draft, isolation_level=None) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            _sync(draft)
            # A removed database may have left these: SQLite would play the old log into the new file, and keys long
            # gone would open again.
            for leftover in _companions(path):
                leftover.unlink(missing_ok=True)
            draft.rename(path)
            _sync(path.parent)
    except OSError as error:
        raise _unusable(path, f"cannot be created ({error.strerror})", "Check the folder and its owner.") from error


class FileLocks:
    """Locks on `<database>-lock`, where each byte is a lock.

    The kernel drops the locks of a process when the process ends, however it ends, with every process that inherited
    `descriptor`: that tells an attempt that still runs from one that died. Where the system has no locks of an open
    file, a record lock of POSIX stands in, which nobody inherits. The file is never removed, since two processes can
    hold the same byte of a removed file and of its replacement at once.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.with_name(database.name + "-lock")
        self._descriptor: int | None = None
        self._mine: set[int] = set()

    @contextmanager
    def held(self, offset: int, *, timeout: float) -> Iterator[None]:
        """Hold one lock while the block lasts, after waiting `timeout` seconds at most. Raises `KeyctlError`
        (database_busy)."""
        deadline = time.monotonic() + timeout
        while not self._acquire(offset):
            if time.monotonic() >= deadline:
                raise KeyctlError(
                    Code.DATABASE_BUSY,
                    "another process is preparing the database",
                    "Run the command again.",
                )
            time.sleep(0.02)
        self._mine.add(offset)
        try:
            yield
        finally:
            self._mine.discard(offset)
            self._lock(offset, fcntl.F_UNLCK)

    @property
    def descriptor(self) -> int:
        """What holds the locks. Raises `KeyctlError`."""
        return self._open()

    def is_held(self, offset: int) -> bool:
        """Whether any process, this one included, holds the lock."""
        if offset in self._mine:
            return True
        # A shared lock, so that two that look at once do not take each other for the holder.
        if not self._acquire(offset, fcntl.F_RDLCK):
            return True
        self._lock(offset, fcntl.F_UNLCK)
        return False

    def _acquire(self, offset: int, kind: int = fcntl.F_WRLCK) -> bool:
        try:
            self._lock(offset, kind)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: POSIX allows both
            return False
        except OSError as error:
            raise _unusable(self._path, f"cannot be locked ({error.strerror})") from error
        return True

    def _lock(self, offset: int, kind: int) -> None:
        # The fields of struct flock: type, whence, start, length, process. Of the process the call wants 0.
        fcntl.fcntl(self._open(), _SET_LOCK, struct.pack("hhqqi", kind, os.SEEK_SET, offset, 1, 0))

    def _open(self) -> int:
        # Opened once and kept: closing any descriptor of a file drops all locks of the process on the file.
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                self._descriptor = os.open(self._path, flags, 0o600)
                self._give_to_owner(self._descriptor)
            except OSError as error:
                problem = f"cannot be opened ({error.strerror})"
                if not isinstance(error, PermissionError):
                    raise _unusable(self._path, problem) from error
                hint = f"Give it the owner of the database: chown --reference='{self._database}' '{self._path}'."
                raise _unusable(self._path, problem, hint) from error
        return self._descriptor

    def _give_to_owner(self, descriptor: int) -> None:
        """What root made belongs to the database's owner, who could not lock anything otherwise."""
        made = os.fstat(descriptor)
        if os.geteuid() != 0 or not stat.S_ISREG(made.st_mode) or made.st_nlink != 1:
            return  # a second name would give another file away
        with suppress(FileNotFoundError):  # which is just being made
            owner = self._database.stat()
            if (made.st_uid, made.st_gid) != (owner.st_uid, owner.st_gid):
                os.fchown(descriptor, owner.st_uid, owner.st_gid)


class FileAttempts:
    """Which deliveries are still running: a file lock tells."""

    def __init__(self, path: Path, *, lock_timeout: float) -> None:
        self._locks = FileLocks(path)
        self._lock_timeout = lock_timeout

    @contextmanager
    def hold(self, key_id: str) -> Iterator[Attempt]:
        """Mark the delivery of a key as running while the block, and the process, lasts. No lease is needed, and the
        lock cannot be lost."""
        with self._locks.held(_offset_of(key_id), timeout=self._lock_timeout):
            yield Attempt(descriptors=(self._locks.descriptor,))

    def runs(self, _connection: Connection, key_id: str) -> bool:
        """Whether a process is still delivering the key."""
        return self._locks.is_held(_offset_of(key_id))


def _offset_of(key_id: str) -> int:
    """The byte of the lock file that stands for a key. Two keys on one byte would only make a dead attempt look
    alive."""
    return 1 + int.from_bytes(hashlib.sha256(key_id.encode()).digest()[:8]) % (2**62)


def _companions(path: Path) -> list[Path]:
    """The files that SQLite may keep beside a database."""
    return [Path(f"{path}{ending}") for ending in ("-wal", "-shm", "-journal")]


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, problem: str, hint: str = "Name another file; this one is left as it is.") -> KeyctlError:
    return KeyctlError(Code.DATABASE_UNUSABLE, f"{path} {problem}", hint)
