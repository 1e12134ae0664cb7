"""`--key-file`: whole or not at all, and where nobody else can reach it."""

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alphalens_keyctl import keyformat
from alphalens_keyctl.database import Attempt
from alphalens_keyctl.delivery.files import Alone, KeyFile
from alphalens_keyctl.delivery.handover import Handover
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import Key, Status
from tests.support.commands import Keyctl
from tests.support.disks import small_disk

NOBODY = 65534


def key_of(raw: keyformat.RawKey) -> Key:
    values: dict[str, Any] = dict.fromkeys(Key._fields)
    made = {"id": raw.id, "name": "ci", "status": Status.PENDING, "labels": {}, "created_at": datetime.now(UTC)}
    return Key(**(values | made | {"created_by": "test", "use_count": 0}))


def deliver(path: Path) -> str:
    """Hand a new raw key to a file, as `create` does; put all back and raise when that fails."""
    raw = keyformat.generate()
    destinations = Handover([KeyFile(path, Alone(), option="key-file")])
    try:
        destinations.stage(key_of(raw), raw, frozenset(), Attempt())
        destinations.hand_over()
    except KeyctlError:
        assert destinations.put_back()
        raise
    return raw.reveal()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def listing(folder: Path) -> list[tuple[Any, ...]]:
    """All that is in a folder and what it is; a file that was written anew has another number."""
    found = []
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        found.append((str(path), about.st_ino, about.st_mode, about.st_uid, about.st_nlink, content))
    return found


def need_root() -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to be somebody else")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights for the length of a block."""
    need_root()
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A folder that anybody may enter, where pytest's own is its owner's alone."""
    folder = tmp_path / "public"
    folder.mkdir()
    for above in (folder, *folder.parents):
        if above.owner() == folder.owner() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o711)
    return folder


def watch(log: str) -> None:
    """Runs inside the command: note what it asks of the kernel about files, in order, and the modes of new ones."""
    really = {name: getattr(os, name) for name in ("open", "write", "fsync", "rename")}
    Path(log).touch()

    def told(what: str, about: object) -> None:
        with open(log, "a") as file:
            file.write(json.dumps([what, about]) + "\n")

    def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        descriptor: int = really["open"](path, flags, *arguments, **options)
        if flags & os.O_CREAT:
            told("create", [str(path), stat.S_IMODE(os.fstat(descriptor).st_mode), bool(flags & os.O_EXCL)])
        return descriptor

    def synced(descriptor: int) -> None:
        about = os.fstat(descriptor)
        told("sync", [os.readlink(f"/proc/self/fd/{descriptor}"), about.st_size if stat.S_ISREG(about.st_mode) else 0])
        really["fsync"](descriptor)

    def renamed(source: str, target: str, **options: Any) -> None:
        told("rename", [source, target])
        really["rename"](source, target, **options)

    for name, function in (("open", opened), ("fsync", synced), ("rename", renamed)):
        setattr(os, name, function)


@pytest.mark.one_database
def test_the_file_is_written_aside_for_its_owner_alone_and_synced(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 1, with a umask that keeps nobody out."""
    folder = keyctl.home / "der Schlüssel"
    folder.mkdir()
    path, log = folder / "k e y", tmp_path / "log"
    before = [("os", "umask", [0]), (__name__, "watch", [str(log)])]
    document = keyctl.ok("create", "ci", "--key-file", "der Schlüssel/k e y", "--json", before=before).json
    assert document["delivered_to"] == [f"key-file {path}", "stdout"]
    assert path.read_text() == document["raw_key"] + "\n"
    assert mode_of(path) == 0o600
    assert list(folder.iterdir()) == [path]
    done = [json.loads(line) for line in log.read_text().splitlines()]
    aside = ".k e y.alphalens-keyctl"
    ours = [one for one in done if str(folder) in one[1][0] or aside in one[1][0]]
    assert ours == [
        ["create", [aside, 0o600, True]],
        ["sync", [str(folder / aside), len(document["raw_key"]) + 1]],
        ["rename", [aside, "k e y"]],
        ["sync", [str(folder), 0]],
    ]


@pytest.mark.one_database
def test_a_reader_never_sees_half_a_file_or_none(keyctl: Keyctl) -> None:
    """Promise 3."""
    path = keyctl.home / "key"
    keyctl.ok("create", "ci", "--key-file", "key", "--no-print")
    seen, over = {path.read_text()}, threading.Event()
    missing: list[OSError] = []

    def read() -> None:
        while not over.is_set():
            try:
                seen.add(path.read_text())
            except OSError as error:
                missing.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        keyctl.ok("rotate", "ci", "--key-file", "key", "--no-print")
    over.set()
    reader.join()
    assert not missing
    assert 2 <= len(seen) <= 4
    for content in seen:
        assert content.endswith("\n")
        keyformat.parse(content[:-1])


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o600, 0o600), (0o644, 0o640), (0o640, 0o640), (0o660, 0o660), (0o400, 0o600), (0o604, 0o600), (0o755, 0o650)],
)
def test_a_group_keeps_its_rights_and_others_lose_theirs(tmp_path: Path, before: int, after: int) -> None:
    path = tmp_path / "key"
    path.write_text("something else")
    path.chmod(before)
    raw = deliver(path)
    assert mode_of(path) == after
    assert path.read_text() == raw + "\n"


@pytest.mark.one_database
def test_a_failed_rotation_leaves_the_file_as_it_was_and_for_whom_it_was(keyctl: Keyctl) -> None:
    """Promise 3: who could read the old key still can. A file that was not there is gone again."""
    path = keyctl.home / "key"
    raw = keyctl.ok("create", "ci", "--key-file", "key", "--json").json["raw_key"]
    path.chmod(0o644)
    full = os.open("/dev/full", os.O_WRONLY)
    result = keyctl("rotate", "ci", "--key-file", "key", "--key-file", "new", stdout=full)
    os.close(full)
    assert result.status == 7
    assert path.read_text() == raw + "\n"
    assert mode_of(path) == 0o644
    assert not [entry for entry in keyctl.home.iterdir() if "new" in entry.name or "alphalens-keyctl" in entry.name]
    assert keyctl.opens(raw)


def _link(folder: Path) -> Path:
    (folder / "target").write_text("mine")
    (folder / "key").symlink_to(folder / "target")
    return folder / "key"


def _dangling_link(folder: Path) -> Path:
    (folder / "key").symlink_to(folder / "nowhere")
    return folder / "key"


def _hard_link(folder: Path) -> Path:
    (folder / "key").write_text("old")
    (folder / "other").hardlink_to(folder / "key")
    return folder / "key"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "key")
    return folder / "key"


def _folder(folder: Path) -> Path:
    (folder / "key").mkdir()
    return folder / "key"


def _socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "key"))
    return folder / "key"


def _device(folder: Path) -> Path:
    need_root()
    try:
        os.mknod(folder / "key", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container may make no devices")
    return folder / "key"


def _open_folder(folder: Path) -> Path:
    (folder / "sub").mkdir()
    (folder / "sub").chmod(0o777)
    return folder / "sub" / "key"


def _folder_of_a_group(folder: Path) -> Path:
    need_root()
    (folder / "sub").mkdir()
    os.chown(folder / "sub", 0, NOBODY)
    (folder / "sub").chmod(0o770)
    return folder / "sub" / "key"


def _folder_of_somebody_else(folder: Path) -> Path:
    need_root()
    (folder / "sub").mkdir()
    os.chown(folder / "sub", NOBODY, NOBODY)
    return folder / "sub" / "key"


def _below_a_folder_for_all(folder: Path) -> Path:
    (folder / "open").mkdir()
    (folder / "open" / "sub").mkdir(mode=0o700)
    (folder / "open").chmod(0o777)
    return folder / "open" / "sub" / "key"


def _below_a_folder_of_somebody_else(folder: Path) -> Path:
    need_root()
    (folder / "theirs" / "sub").mkdir(parents=True)
    os.chown(folder / "theirs", NOBODY, NOBODY)
    return folder / "theirs" / "sub" / "key"


def _behind_a_link_of_somebody_else(folder: Path) -> Path:
    """They can let it lead elsewhere the next time."""
    need_root()
    (folder / "sub").mkdir(mode=0o700)
    shared = _shared(folder)
    (shared / "link").symlink_to(folder / "sub")
    os.chown(shared / "link", NOBODY, NOBODY, follow_symlinks=False)
    return shared / "link" / "key"


def _behind_a_link_into_a_folder_of_somebody_else(folder: Path) -> Path:
    path = _below_a_folder_of_somebody_else(folder)
    (folder / "link").symlink_to("theirs/../theirs/sub")
    return folder / "link" / path.name


def _behind_links_without_an_end(folder: Path) -> Path:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    return folder / "one" / "key"


def _file_of_somebody_else_in_a_shared_folder(folder: Path) -> Path:
    """They would get the raw key."""
    need_root()
    path = _shared(folder) / "key"
    path.touch()
    path.chmod(0o666)
    os.chown(path, NOBODY, NOBODY)
    return path


def _shared(folder: Path) -> Path:
    """A folder as /tmp is."""
    (folder / "shared").mkdir()
    (folder / "shared").chmod(0o1777)
    return folder / "shared"


def _below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "key"


def _large_file(folder: Path) -> Path:
    (folder / "key").write_bytes(b"x" * ((1 << 20) + 1))
    return folder / "key"


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a link": (_link, "it is a link"),
    "a dangling link": (_dangling_link, "it is a link"),
    "a hard link": (_hard_link, "a hard link"),
    "a named pipe": (_pipe, "not a regular file"),
    "a folder": (_folder, "Is a directory"),
    "a socket": (_socket, "No such device or address"),
    "a device": (_device, "not a regular file"),
    "stdout": (lambda _: Path("/dev/stdout"), "it is a link"),
    "the null device": (lambda _: Path("/dev/null"), "not a regular file"),
    "in a folder for all": (_open_folder, "other users may write to its folder"),
    "in a folder of a group": (_folder_of_a_group, "other users may write to its folder"),
    "in a folder of somebody else": (_folder_of_somebody_else, "belongs to another user"),
    "below a folder for all": (_below_a_folder_for_all, "other users may write to a folder on its way, '.*/open'$"),
    "below a folder of somebody else": (
        _below_a_folder_of_somebody_else,
        "on its way, '.*/theirs', belongs to another",
    ),
    "behind a link of somebody else": (_behind_a_link_of_somebody_else, "a link on its way, '.*/shared/link', belongs"),
    "behind a link to there": (_behind_a_link_into_a_folder_of_somebody_else, "'.*/theirs', belongs to another user"),
    "behind links without an end": (_behind_links_without_an_end, "the links on its way never end"),
    "somebody else's in a shared folder": (_file_of_somebody_else_in_a_shared_folder, "it belongs to another user"),
    "in no folder": (lambda folder: folder / "none" / "key", "No such file or directory"),
    "below a file": (_below_a_file, "Not a directory"),
    "the root": (lambda _: Path("/"), "No such file"),
    "the folder above": (lambda folder: folder / "..", "Is a directory"),
    "a name that is too long": (lambda folder: folder / ("n" * 250), "File name too long"),
    "a path that is too long": (lambda folder: folder.joinpath(*["p" * 200] * 25), "No such file or directory"),
    "too large a file": (_large_file, "larger than a mebibyte"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_destination_for_a_key_is_refused_untouched(tmp_path: Path, what: str) -> None:
    """Promises 1 and 2."""
    build, why = REFUSED[what]
    path = build(tmp_path)
    before = listing(tmp_path)
    at_the_root = sorted(os.listdir("/"))
    with pytest.raises(KeyctlError, match=why) as refused:
        deliver(path)
    assert refused.value.code is Code.DELIVERY_FAILED
    assert refused.value.message.startswith("key-file /")
    assert listing(tmp_path) == before
    assert sorted(os.listdir("/")) == at_the_root


@pytest.mark.parametrize(
    "what", ["a link", *(pytest.param(each, marks=pytest.mark.one_database) for each in ("stdout", "in no folder"))]
)
def test_a_refused_file_is_exit_7_and_nothing_is_live(keyctl: Keyctl, what: str) -> None:
    """Promises 2 and 3, with a good file before the bad one."""
    bad = REFUSED[what][0](keyctl.home)
    old, _ = keyctl.create("ci")
    (keyctl.home / "good").write_text(old + "\n")
    before = listing(keyctl.home)
    for command in (("create", "new"), ("rotate", "ci")):
        result = keyctl(*command, "--key-file", "good", "--key-file", str(bad), "--json")
        assert (result.status, result.stdout) == (7, "")
        assert result.error["code"] == "delivery_failed"
        assert result.error["message"].startswith(f"key-file {bad}: ")
    assert listing(keyctl.home) == before
    found = keyctl.keys()
    assert sorted(key["status"] for key in found) == ["active", "revoked", "revoked"]
    assert keyctl.opens(old)


def test_somebody_else_s_file_is_refused_and_root_leaves_it_theirs(public: Path) -> None:
    need_root()
    path = public / "key"
    path.write_text("root's")
    path.chmod(0o644)
    os.chown(public, NOBODY, NOBODY)
    with as_nobody(), pytest.raises(KeyctlError, match="belongs to another user"):
        deliver(path)
    assert path.read_text() == "root's"
    os.chown(public, 0, 0)
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o640)
    raw = deliver(path)
    about = path.stat()
    assert (about.st_uid, about.st_gid, mode_of(path), path.read_text()) == (NOBODY, NOBODY, 0o640, raw + "\n")


@pytest.mark.parametrize("option", ["--key-file", "--env-file"])
def test_what_another_user_planted_in_a_sticky_folder_never_gets_the_key(
    keyctl: Keyctl, public: Path, option: str
) -> None:
    """Promises 1 and 3, for root too, who may write to any file."""
    need_root()
    public.chmod(0o1777)
    with as_nobody():
        (public / "svc.key").touch()
        (public / "svc.key").chmod(0o666)
    old, _ = keyctl.create("ci")
    for command in (("create", "svc"), ("rotate", "ci")):
        result = keyctl(*command, option, str(public / "svc.key"), "--no-print")
        assert result.status == 7
        assert "it belongs to another user" in result.stderr
    assert (public / "svc.key").read_text() == ""
    assert [entry.name for entry in public.iterdir()] == ["svc.key"]
    assert keyctl.opens(old)


def test_links_of_the_user_and_of_root_are_followed(public: Path) -> None:
    """Absolute, relative, one behind another, and in a sticky folder."""
    folder = public / "a" / "b"
    folder.mkdir(parents=True)
    shared = _shared(public)
    (shared / "one").symlink_to(public / "a" / "." / "b" / ".." / "b")
    (public / "two").symlink_to("shared/one/../../shared/one")
    for way in ("two", "shared/one", "a/../two/../b"):
        raw = deliver(public / way / "key")
        assert (folder / "key").read_text() == raw + "\n"
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        with as_nobody():
            deliver(public / "two" / "theirs")
        assert (folder / "theirs").stat().st_uid == NOBODY


def test_a_folder_that_becomes_a_link_while_it_is_opened_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two system calls somebody may swap what they can swap."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "sub").mkdir()
    look = os.stat

    def looked_at(path: Any, **how: Any) -> os.stat_result:
        about = look(path, **how)
        if path == "sub" and (tmp_path / "sub").is_dir() and not (tmp_path / "sub").is_symlink():
            (tmp_path / "sub").rmdir()
            (tmp_path / "sub").symlink_to("theirs")
        return about

    monkeypatch.setattr(os, "stat", looked_at)
    with pytest.raises(KeyctlError, match="Not a directory"):
        deliver(tmp_path / "sub" / "key")
    assert not list((tmp_path / "theirs").iterdir())


def test_a_folder_that_may_not_be_written_to_is_refused(public: Path) -> None:
    need_root()
    path = public / "key"
    path.write_text("old")
    os.chown(path, NOBODY, NOBODY)
    for name in ("other", "key"):
        with as_nobody(), pytest.raises(KeyctlError, match="Permission denied"):
            deliver(public / name)
    assert [entry.name for entry in public.iterdir()] == ["key"]
    assert path.read_text() == "old"


def test_a_shared_folder_that_is_sticky_will_do(public: Path) -> None:
    """As /tmp: others may add to it, and not replace what is there."""
    public.chmod(0o1777)
    raw = deliver(public / "key")
    assert (public / "key").read_text() == raw + "\n"
    if os.getuid() == 0:
        # What somebody else has put where it is staged is not written to.
        (public / ".mine.alphalens-keyctl").write_text("theirs")
        with as_nobody(), pytest.raises(KeyctlError, match="Operation not permitted"):
            deliver(public / "mine")
        assert (public / ".mine.alphalens-keyctl").read_text() == "theirs"
        assert not (public / "mine").exists()


@pytest.mark.parametrize("left", ["a file", "a link", "a read-only file", "a named pipe"])
def test_what_a_killed_attempt_left_is_replaced(tmp_path: Path, left: str) -> None:
    """Promise 2; a link that somebody laid there is not followed."""
    aside, victim = tmp_path / ".key.alphalens-keyctl", tmp_path / "victim"
    victim.write_text("mine")
    if left == "a link":
        aside.symlink_to(victim)
    elif left == "a named pipe":
        os.mkfifo(aside)
    else:
        aside.write_text("half a k")
        aside.chmod(0o444 if "read-only" in left else 0o666)
    raw = deliver(tmp_path / "key")
    assert {entry.name for entry in tmp_path.iterdir()} == {"key", "victim"}
    assert (tmp_path / "key").read_text() == raw + "\n"
    assert mode_of(tmp_path / "key") == 0o600
    assert victim.read_text() == "mine"


def test_the_longest_path_there_is_will_do(tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < 3800:
        folder /= "d" * 100
    folder.mkdir(parents=True)
    path = folder / ("k" * 150)
    raw = deliver(path)
    assert path.read_text() == raw + "\n"


@pytest.mark.one_database
@pytest.mark.parametrize("name", ["-", "--help", "a\nb", "\x1b[31mred", "‮key", "'; ls", "%s", os.fsdecode(b"\xff\xe9")])
def test_an_odd_name_is_a_name(keyctl: Keyctl, name: str) -> None:
    """Promise 12: it is written there, and neutralised where it is shown."""
    result = keyctl("create", "ci", f"--key-file=./{name}", "--no-print")
    assert result.status == 0, result
    content = (keyctl.home / name).read_text()
    assert keyctl.opens(content[:-1])
    assert name not in result.stderr.splitlines() or name.isprintable()
    assert "\x1b" not in result.stderr
    assert "‮" not in result.stderr
    keyctl.ok("audit", "--json")
    keyctl.ok("rotate", "ci", f"--key-file=./{name}", "--json")


@pytest.mark.parametrize(
    "options",
    [
        ("--key-file", "key", "--key-file", "./key"),
        ("--key-file", "key", "--env-file", "sub/../key"),
        ("--key-file", "key", "--key-file", "alias/key"),
    ],
)
def test_one_file_is_named_once(fresh_keyctl: Keyctl, options: tuple[str, ...]) -> None:
    (fresh_keyctl.home / "sub").mkdir()
    (fresh_keyctl.home / "alias").symlink_to(fresh_keyctl.home)
    result = fresh_keyctl("create", "ci", *options)
    assert (result.status, result.stdout) == (2, "")
    assert not (fresh_keyctl.home / "key").exists()


@pytest.mark.one_database
def test_a_full_disk_fails_before_anything_is_given_away(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promises 2 and 3."""
    folder = tmp_path / "small"
    with small_disk(folder, 64):
        path = folder / "key"
        old = keyctl.ok("create", "ci", "--key-file", str(path), "--json").json["raw_key"]
        with suppress(OSError), open(folder / "filler", "wb", 0) as filler:
            while True:
                filler.write(b"x" * 4096)
        result = keyctl("rotate", "ci", "--key-file", str(path), "--json")
        assert (result.status, result.stdout) == (7, "")
        assert result.error["message"] == f"key-file {path}: No space left on device"
        assert path.read_text() == old + "\n"
        assert {entry.name for entry in folder.iterdir()} == {"key", "filler"}
    assert keyctl.opens(old)
    found = keyctl.keys()
    assert sorted(key["status"] for key in found) == ["active", "revoked"]
