"""Promises 2, 3, 6 and 9 when the SQLite file or the disk under it fails, on real processes."""

import os
import shutil
import signal
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.commands import Keyctl, Result
from tests.support.disks import small_disk
from tests.support.faults import at, become, fault, kill_at_line, limit_file_size
from tests.support.judge import judge
from tests.support.raw_keys import raw_key_in

NOBODY = 65534
MAGIC = b"SQLite format 3\0"


@pytest.fixture
def database_url(tmp_path: Path, sqlite_template: Path) -> str:
    """SQLite alone: these faults are those of a file."""
    path = tmp_path / "data" / "keys.db"
    path.parent.mkdir(mode=0o700)
    shutil.copy2(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys.db"


def assert_refused(result: Result, code: str, *words: str) -> None:
    assert (result.status, result.stdout) == (7, ""), result
    assert result.error["code"] == code
    assert all(word in result.error["message"] for word in words), result.error
    assert "Traceback" not in result.stderr


# --- files that are not a sound database ---------------------------------------------------------------------------


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alphalens_keyctl_version SET version_num = '9999'")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _corrupt(path: Path) -> None:
    with path.open("r+b") as file:
        # The first page stays: SQLite sees a database and meets the damage when it reads on.
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


SPOILED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated to nothing": (lambda path: os.truncate(path, 0), "database_unusable", "is empty"),
    "truncated to half": (
        lambda path: os.truncate(path, path.stat().st_size // 8192 * 4096), "database_unusable", "damaged",
    ),
    "truncated inside a page": (lambda path: os.truncate(path, 5000), "database_unusable", ""),
    "truncated inside its header": (lambda path: os.truncate(path, 50), "database_unusable", ""),
    "corrupt pages": (_corrupt, "database_unusable", "damaged"),
    "not a database": (lambda path: path.write_text("keys = none\n" * 500), "database_unusable", "not a SQLite"),
    "a magic and rubbish": (lambda path: path.write_bytes(MAGIC + os.urandom(9000)), "database_unusable", ""),
    "another program's": (_foreign, "database_unusable", "another program"),
    "a newer version's": (_newer, "schema_newer", "newer version"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILED)
def test_a_file_that_is_no_sound_database_is_refused_and_left_alone(keyctl: Keyctl, path: Path, how: str) -> None:
    keyctl.create("ci")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil, code, word = SPOILED[how]
    spoil(path)
    before = path.read_bytes()
    for command in (("create", "other"), ("rotate", "ci"), ("list",), ("audit", "verify"), ("db", "upgrade")):
        assert_refused(keyctl(*command, "--json"), code, word)
        assert path.read_bytes() == before, (how, command)


@pytest.mark.parametrize("kind", ["folder", "fifo", "link to a folder", "device"])
def test_what_is_no_file_is_refused_and_left_alone(keyctl: Keyctl, path: Path, kind: str) -> None:
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/" if kind != "device" else "/dev/zero")
    before = path.lstat()
    for command in (("create", "other"), ("list",), ("db", "status")):
        assert_refused(keyctl(*command, "--json"), "database_unusable", "folder" if "folder" in kind else "regular")
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert [file.name for file in path.parent.iterdir()] == ["keys.db"]


# --- the disk -------------------------------------------------------------------------------------------------------


def survive(
    keyctl: Keyctl, url: str, held: str, command: str, number: int, fault: Callable[[], Result]
) -> tuple[int, str]:
    """A command whose writes fail somewhere; returns its status and the raw key that is current then."""
    result = fault()
    raw = str(result.json["raw_key"]) if result.stdout.endswith("}\n") else None
    with judge(url) as judging:
        assert judging.opens(held)
        if result.status == 0:
            assert raw is not None
            assert judging.opens(raw)
            return 0, raw if command == "rotate" else held
        assert result.status == 7, result
        assert raw is None or not judging.opens(raw)
    assert keyctl("list").status == 0
    with judge(url) as judging:
        assert not [key for key in judging.every_key() if key.status == "pending"]
        again = keyctl(command, f"k-{number}" if command == "create" else "ci")
        assert again.status == 0, again
        assert judging.opens(held)
        return 7, again.stdout.strip() if command == "rotate" else held


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_a_disk_that_fills_up_at_any_place_breaks_nothing(
    keyctl: Keyctl, tmp_path: Path, path: Path, command: str
) -> None:
    with small_disk(tmp_path / "disk", 4096) as disk:
        url = f"sqlite:///{disk / 'keys.db'}"
        keyctl.environment["ALPHALENS_KEYCTL_DATABASE_URL"] = url
        shutil.copy2(path, disk / "keys.db")
        ended = set()
        held = keyctl("create", "ci").stdout.strip()
        for room in range(0, 320, 24):

            def filled(room: int = room) -> Result:
                free = os.statvfs(disk)
                (disk / "ballast").write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - room * 1024)))
                result = keyctl(command, f"k-{room}" if command == "create" else "ci", "--json")
                (disk / "ballast").unlink()
                assert result.status == 0 or result.error["code"] in ("database_unusable", "delivery_failed")
                return result

            status, held = survive(keyctl, url, held, command, room, filled)
            ended.add(status)
        assert ended == {0, 7}


def test_a_disk_too_small_for_the_first_database_leaves_no_half_of_one(keyctl: Keyctl, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1024) as disk:
        (disk / "ballast").write_bytes(bytes(1000 * 1024))
        keyctl.environment["ALPHALENS_KEYCTL_DATABASE_URL"] = f"sqlite:///{disk / 'keys.db'}"
        assert_refused(keyctl("create", "ci", "--json"), "database_unusable")
        assert not (disk / "keys.db").exists()
        (disk / "ballast").unlink()
        assert keyctl.ok("create", "ci").stdout.startswith("alk_")


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_a_limit_on_the_size_of_files_breaks_nothing(keyctl: Keyctl, database_url: str, command: str) -> None:
    ended = set()
    held = keyctl("create", "ci").stdout.strip()
    for size in range(0, 400_000, 30_000):

        def limited(size: int = size) -> Result:
            name = f"k-{size}" if command == "create" else "ci"
            return keyctl(command, name, "--json", before=fault(limit_file_size, size))

        status, held = survive(keyctl, database_url, held, command, size, limited)
        ended.add(status)
    assert ended == {0, 7}


# --- rights, and other processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "folder", "nothing readable"])
def test_what_may_not_be_written_is_refused_and_left_as_it_is(keyctl: Keyctl, path: Path, what: str) -> None:
    raw, _ = keyctl.create("ci")
    with tempfile.TemporaryDirectory() as outside:  # pytest's own folders are closed to other users
        os.chmod(outside, 0o755)
        keyctl.environment["HOME"] = outside
        folder = Path(outside, "data")
        shutil.copytree(path.parent, folder)
        folder_mode, file_mode = {"file": (0o777, 0o444), "folder": (0o555, 0o666), "nothing readable": (0o777, 0)}[
            what
        ]
        for file in folder.iterdir():
            file.chmod(file_mode)
        folder.chmod(folder_mode)
        copy = folder / "keys.db"
        # Root may write everything; the program is loaded before it becomes somebody else.
        before = fault(become, NOBODY) if os.getuid() == 0 else []
        for command in (("create", "other"), ("rotate", "ci")):
            result = keyctl("--database", str(copy), *command, "--json", before=before)
            assert_refused(result, "database_unusable", str(folder))
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o644)
        assert copy.read_bytes() == path.read_bytes()
        with judge(str(copy)) as judging:
            assert judging.opens(raw)
            assert len(judging.every_key()) == 1


def test_a_database_locked_by_another_process_is_busy_within_the_limit(
    keyctl: Keyctl, tmp_path: Path, path: Path
) -> None:
    raw, _ = keyctl.create("ci")
    config = tmp_path / "config.toml"
    config.write_text("lock_timeout = 0.3\n")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for command in (("create", "other"), ("rotate", "ci"), ("revoke", "ci", "--yes")):
            assert_refused(keyctl("--config", str(config), *command, "--json"), "database_busy")
        # Who only reads does not wait.
        assert keyctl.opens(raw)
        assert [key["name"] for key in keyctl.ok("list", "--json").json] == ["ci"]
        connection.execute("ROLLBACK")
    assert keyctl.ok("create", "other").status == 0


def test_a_lock_that_is_let_go_in_time_is_waited_for(keyctl: Keyctl, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        process = keyctl.start("create", "ci")
        time.sleep(0.5)
        connection.execute("COMMIT")
    assert process.wait().status == 0


# --- first use --------------------------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, str]:
    return {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in (folder, *folder.iterdir())}


def test_eight_first_uses_at_once_make_one_private_database(fresh_keyctl: Keyctl) -> None:
    processes = [fresh_keyctl.start("create", f"ci-{number}") for number in range(8)]
    results = [process.wait() for process in processes]
    assert [result.status for result in results] == [0] * 8, results
    folder = fresh_keyctl.home / ".local" / "share" / "alphalens-keyctl"
    assert all(mode == ("0o700" if name == folder.name else "0o600") for name, mode in modes(folder).items())
    assert not list(folder.glob("*-new*"))
    with judge(str(folder / "keys.db")) as judging:
        assert all(judging.opens(result.stdout.strip()) for result in results)
        assert len(judging.every_key()) == 8


def test_the_files_beside_an_open_database_are_private(fresh_keyctl: Keyctl, tmp_path: Path) -> None:
    fresh_keyctl.create("ci")
    folder = fresh_keyctl.home / ".local" / "share" / "alphalens-keyctl"
    with closing(sqlite3.connect(folder / "keys.db")) as connection:
        connection.execute("SELECT count(*) FROM api_key").fetchone()
        found = modes(folder)
    assert {"keys.db", "keys.db-wal", "keys.db-shm", "keys.db-lock"} <= set(found)
    assert {mode for name, mode in found.items() if name != folder.name} == {"0o600"}


@pytest.mark.parametrize("shard", range(2))
def test_a_first_use_killed_anywhere_hinders_no_second(keyctl: Keyctl, tmp_path: Path, shard: int) -> None:
    died = 0
    for number in (*range(100 + 31 * shard, 700, 62), *(range(3) if shard == 0 else ())):
        folder = tmp_path / f"first-{number}"
        database = str(folder / "keys.db")
        points = [("before_commit", 1), ("after_commit", 1), ("before_begin", 2)]
        before = fault(at, *points[number], "kill") if number < 3 else fault(kill_at_line, number, "")
        killed = keyctl("--database", database, "db", "upgrade", before=before)
        assert killed.status in (0, -signal.SIGKILL), killed
        died += killed.status != 0
        again = keyctl("--database", database, "create", "ci")
        assert again.status == 0, (number, again)
        raw = raw_key_in(again)
        assert raw is not None
        assert modes(folder)["keys.db"] == "0o600"
        assert not list(folder.glob("*-new*"))
        with judge(database) as judging:
            assert judging.opens(raw)
    assert died > 5
