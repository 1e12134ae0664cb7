"""The files of a SQLite database: whether those at the path are still those that a connection has open.

SQLite does not look again. A connection whose `-wal` or `-shm` was removed reads and writes the removed file for ever,
and a file that was overwritten in place looks to the connection as before.
"""

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

_Inode = tuple[int, int]


class Files(NamedTuple):
    """Which files stand at the path, each by its device and inode, and when the main file last changed
    (nanoseconds). A checkpoint changes the main file too."""

    main: _Inode
    wal: _Inode | None
    shm: _Inode | None
    changed_at: int

    def are_those_of(self, other: "Files | None") -> bool:
        """Whether both are the same files, whatever stands in them."""
        return other is not None and self[:3] == other[:3]

    def may_have_become(self, other: "Files | None") -> bool:
        """Whether `other` are the same files, `-wal` and `-shm` made meanwhile where there were none."""
        return (
            other is not None
            and self.main == other.main
            and self.wal in (None, other.wal)
            and self.shm in (None, other.shm)
        )


def found(path: Path) -> Files | None:
    """The files at `path`, an address's, without symbolic links; None where there is no main file.

    Nothing is opened: to close a file again drops the locks of the process on it.
    """
    try:
        main = os.stat(path)
    except OSError:
        return None
    return Files((main.st_dev, main.st_ino), _inode(f"{path}-wal"), _inode(f"{path}-shm"), main.st_ctime_ns)


def keep(path: Path, *, lock_timeout: float) -> sqlite3.Connection:
    """A connection that keeps other connections of this process from being the last one on the file, and never tidies
    up itself, because it cannot write.

    The last connection writes its `-wal` into the main file and removes the file at the path of `-wal`. Once other
    files were put there, that would damage the one and lose the other. `lock_timeout` is in seconds. Raises
    `sqlite3.Error`.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro",
        uri=True,
        timeout=lock_timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA schema_version").fetchall()  # takes the lock that is held until the end
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _inode(path: str) -> _Inode | None:
    try:
        there = os.stat(path)
    except OSError:
        return None
    return there.st_dev, there.st_ino
