"""Where the program is put: without a home, on what is mounted read-only, as the first process of a container, as root
beside a file's owner. It works, or says what one thing is missing. Promises 9 to 11."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.commands import ForkServer, Keyctl
from tests.support.disks import small_disk
from tests.support.faults import become, fault
from tests.support.tools import lack, require_tool
from tests.support.waiting import wait_for

# No passwd has this one.
STRANGER: Final = 54321


@pytest.fixture
def root() -> None:
    if os.getuid() != 0:
        lack("needs root")


@pytest.fixture
def open_folder(root: None) -> Iterator[Path]:
    """A folder of the stranger's; pytest's own are closed to other users."""
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, STRANGER, STRANGER)
        yield Path(folder)


def made_by_stranger(fork_server: ForkServer, folder: Path) -> Keyctl:
    """The program as root, on a database of the stranger's with one key. (The stranger cannot load what makes one.)"""
    keyctl = Keyctl(fork_server, folder, str(folder / "keys.db"))
    keyctl.ok("create", "ci")
    for file in folder.iterdir():
        os.chown(file, STRANGER, STRANGER)
    return keyctl


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_a_database_that_is_named_is_all_that_is_needed(
    fork_server: ForkServer, open_folder: Path, home: str | None
) -> None:
    keyctl = Keyctl(fork_server, open_folder, None)
    del keyctl.environment["HOME"]
    if home is not None:
        keyctl.environment["HOME"] = home
    stranger = fault(become, STRANGER)
    for command in (("list", "--json"), ("create", "ci", "--json")):
        refused = keyctl(*command, before=stranger)
        assert refused.status == 7, refused
        assert refused.error["code"] == "configuration_invalid"
        assert "HOME" in refused.error["message"]
        assert "--database" in refused.error["hint"]
    assert list(open_folder.iterdir()) == []
    made_by_stranger(fork_server, open_folder)
    named = ("--database", str(open_folder / "keys.db"))
    keyctl.ok(*named, "rotate", "ci", before=stranger)
    assert keyctl.ok(*named, "audit", "--json", before=stranger).json[-1]["actor"] == str(STRANGER)
    config = open_folder / "config.toml"
    config.write_text(f'database_url = "{open_folder}/keys.db"\n')
    assert len(keyctl.ok("--config", str(config), "list", "--json", before=stranger).json) == 2


def test_what_root_locked_first_the_owner_can_lock_after(fork_server: ForkServer, open_folder: Path) -> None:
    keyctl, owner = made_by_stranger(fork_server, open_folder), fault(become, STRANGER)
    keyctl.ok("rotate", "ci", before=owner)
    lock = open_folder / "keys.db-lock"
    lock.unlink()
    keyctl.ok("rotate", "ci")
    for file in open_folder.iterdir():
        assert (file.stat().st_uid, file.stat().st_gid) == (STRANGER, STRANGER), file
    keyctl.ok("rotate", "ci", before=owner)
    # As an earlier version left it.
    os.chown(lock, 0, 0)
    refused = keyctl("rotate", "ci", "--json", before=owner)
    assert (refused.status, refused.error["code"]) == (7, "database_unusable")
    assert f"chown --reference='{open_folder}/keys.db' '{lock}'" in refused.error["hint"]
    keyctl.ok("rotate", "ci")
    keyctl.ok("rotate", "ci", before=owner)


def test_root_gives_no_other_file_away_under_the_name_of_the_lock(fork_server: ForkServer, open_folder: Path) -> None:
    """Promise 13: the owner of the folder chooses what lies there."""
    keyctl = made_by_stranger(fork_server, open_folder)
    lock = open_folder / "keys.db-lock"
    secret = open_folder / "of-root"
    secret.touch(0o600)
    lock.unlink()
    os.link(secret, lock)
    keyctl.ok("rotate", "ci")
    assert secret.stat().st_uid == 0


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """While the block lasts, what is mounted at `folder` is read-only."""
    for mode in ("ro", "rw"):
        subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)
        if mode == "ro":
            yield


@pytest.mark.usefixtures("root")
def test_what_is_mounted_read_only_is_said(fork_server: ForkServer, tmp_path: Path) -> None:
    """SQLite says that it cannot open a file, and not which and why."""
    with small_disk(tmp_path / "disk", 8192) as disk:
        keyctl = Keyctl(fork_server, tmp_path, str(disk / "keys.db"))
        raw, _ = keyctl.create("ci")
        with read_only(disk):
            for command in (("list",), ("create", "other"), ("rotate", "ci"), ("audit", "verify")):
                refused = keyctl(*command, "--json")
                assert (refused.status, refused.error["code"]) == (7, "database_unusable"), command
                assert f"{disk} is mounted read-only" in refused.error["hint"], command
                assert "keys.db-shm" in refused.error["hint"]
            verified = keyctl("verify", "--json", stdin=raw.encode())
            assert (verified.status, verified.json["reason"]) == (4, "unavailable")
            new = keyctl("create", "x", "--json", environment={"ALPHALENS_KEYCTL_DATABASE_URL": str(disk / "new.db")})
            assert (new.status, new.error["code"]) == (7, "database_unusable")
            assert "Read-only file system" in new.error["message"]
        assert keyctl.opens(raw)


def as_first_process(keyctl: Keyctl, *arguments: str) -> "subprocess.Popen[bytes]":
    """The program as the first process of a namespace of its own; what is returned is its parent."""
    return subprocess.Popen(
        [require_tool("unshare", "util-linux"), "--pid", "--fork", "--kill-child",
         sys.executable, "-m", "alphalens_keyctl", *arguments],
        env=keyctl.environment, cwd=keyctl.home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def child_of(process: int) -> int:
    (child,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(child)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_first_process_of_a_container_ends_by_a_signal_as_any_other(
    fresh_keyctl: Keyctl, tmp_path: Path, number: signal.Signals
) -> None:
    """Promise 11: the kernel drops a signal to such a process that has no handler for it."""
    started = tmp_path / "started"
    slow = f"sh -c 'cat > /dev/null; touch {started}; sleep 300'"
    with as_first_process(
        fresh_keyctl, "create", "ci", "--no-print", "--pipe-to", slow, "--pipe-timeout", "300"
    ) as ours:
        try:
            wait_for(started.exists, "the command does not start")
            os.kill(child_of(ours.pid), number)
            assert ours.wait(30) == 128 + number
        finally:
            ours.kill()
    # As after any kill: the next run finishes the job.
    assert len(fresh_keyctl.ok("list", "--json").json) == 1
    fresh_keyctl.ok("create", "ci", "--no-print", "--key-file", str(tmp_path / "key"))
