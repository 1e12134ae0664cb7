"""Promises 5, 8 and 9: a SQLite file that is put back under running verifiers is the file that counts.

An administrator's `cp` and `rm`, without stopping the services first.
"""

import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.models import Reason
from tests.support.commands import Keyctl
from tests.support.databases import on_sqlite, path_of
from tests.support.freshness import SLACK, until
from tests.support.waiting import wait_for

pytestmark = on_sqlite


def backed_up(path: Path) -> Path:
    """A backup, as `sqlite3 keys.db ".backup …"` makes one."""
    backup = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    return backup


def companions(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm")]


def copied(source: Path, target: Path) -> None:
    """In a process of its own: to close a file here would drop the locks that verifiers hold on it."""
    subprocess.run(["cp", str(source), str(target)], check=True)


def in_place(path: Path, backup: Path) -> None:
    """`rm keys.db-wal keys.db-shm; cp backup.db keys.db`: the same inode."""
    for each in companions(path):
        each.unlink()
    copied(backup, path)


def written_over(path: Path, backup: Path) -> None:
    """`cp backup.db keys.db`, the write-ahead log having been written into the file before."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    copied(backup, path)


def moved(path: Path, backup: Path) -> None:
    """`rm keys.db-wal keys.db-shm; mv backup.db keys.db`: another inode."""
    for each in companions(path):
        each.unlink()
    copied(backup, path.with_name("copy.db"))
    path.with_name("copy.db").replace(path)


WAYS: Final = pytest.mark.parametrize("put_back", [in_place, written_over, moved], ids=lambda way: str(way.__name__))
PutBack = Callable[[Path, Path], None]


@WAYS
def test_a_key_revoked_after_the_file_was_put_back_is_refused_and_stays_so_when_the_verifiers_end(
    keyctl: Keyctl, database_url: str, put_back: PutBack
) -> None:
    """Promise 5. The last connection to end would write its old log into the file, and remove the new one, with the
    revocation in it."""
    path = path_of(database_url)
    raw, ident = keyctl.create("ci")
    with KeyVerifier(database_url) as verifier, KeyVerifier(database_url) as other:
        assert verifier.verify(raw)
        assert other.verify(raw)
        verifier.flush()
        backup = backed_up(path)
        keyctl.ok("create", "later")
        put_back(path, backup)
        keyctl.ok("revoke", ident, "--yes")
        assert verifier.verify(raw).reason is Reason.REVOKED
        assert other.verify(raw).reason is Reason.REVOKED
    assert not keyctl.opens(raw)
    assert keyctl("audit", "verify").status == 0


@WAYS
def test_a_key_that_the_file_put_back_does_not_have_is_unknown(
    keyctl: Keyctl, database_url: str, put_back: PutBack
) -> None:
    """Promise 5."""
    path = path_of(database_url)
    old, _ = keyctl.create("old")
    backup = backed_up(path)
    new, _ = keyctl.create("new")
    with KeyVerifier(database_url, usage="off") as verifier:
        assert verifier.verify(new)
        put_back(path, backup)
        until(verifier, new, Reason.UNKNOWN, within=SLACK)
        assert verifier.verify(old)


@WAYS
def test_uses_after_the_file_was_put_back_are_written_into_it(
    keyctl: Keyctl, database_url: str, put_back: PutBack
) -> None:
    """Promise 8: into the removed files they would be written for nobody."""
    path = path_of(database_url)
    raw, ident = keyctl.create("ci")
    backup = backed_up(path)
    with KeyVerifier(database_url) as verifier:
        assert verifier.verify(raw)
        verifier.flush()
        put_back(path, backup)
        for _ in range(3):
            assert verifier.verify(raw)
        verifier.flush()
        assert keyctl.ok("show", ident, "--json").json["use_count"] == 3
    assert keyctl("audit", "verify").status == 0


def test_a_file_put_back_while_nobody_asks_gets_the_uses_that_wait(keyctl: Keyctl, database_url: str) -> None:
    """Promise 8: the recorder comes by before anybody else."""
    path = path_of(database_url)
    raw, ident = keyctl.create("ci")
    with KeyVerifier(database_url) as verifier:
        assert verifier.verify(raw)
        verifier.flush()
        backup = backed_up(path)
        assert verifier.verify(raw)
        in_place(path, backup)
        wait_for(lambda: keyctl.ok("show", ident, "--json").json["use_count"] == 2, "they are written for nobody")


def test_a_verifier_that_ends_alone_leaves_no_log_beside_the_file(keyctl: Keyctl, database_url: str) -> None:
    """A log left behind would be played into a backup that is put in the file's place."""
    path = path_of(database_url)
    raw, _ = keyctl.create("ci")
    with KeyVerifier(database_url) as verifier:
        assert verifier.verify(raw)
        verifier.flush()
        assert all(each.exists() for each in companions(path))
    assert not any(each.exists() for each in companions(path))
    assert sorted(os.listdir(path.parent)) == sorted([path.name, f"{path.name}-lock", "home"])
