"""Opening a folder by a way that no other user can change: a raw key that is written there stays with its owner."""

import os
import stat
from pathlib import Path
from typing import Final

from alphalens_keyctl.delivery.destination import failed, spelled

_MOST_LINKS: Final = 40  # as many as Linux follows
# A folder on the way is entered, and need not be readable. Where the system knows no such way to open it, it has to be.
_ENTER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(path: Path, name: str) -> int:
    """Open the folder at an absolute path and return a descriptor, which the caller closes.

    Every folder and every link on the way has to belong to root or to this user, and nobody else may write to such a
    folder, unless it is sticky: there nobody can move what belongs to these two. Raises OSError, and `KeyctlError`
    (delivery_failed), which calls what is to be delivered `name`.
    """
    ahead = [*reversed(path.parts)]
    way, links = Path("/"), 0
    folder = os.open("/", _ENTER)
    try:
        while ahead:
            part = ahead.pop()
            about = os.stat(part, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(about.st_mode):
                # The kernel would follow a link of anybody's.
                _refuse_foreign(about, f"a link on its way, '{way / part}',", name)
                links += 1
                if links > _MOST_LINKS:
                    raise failed(name, "the links on its way never end")
                ahead += reversed(Path(os.readlink(part, dir_fd=folder)).parts)
                continue
            way /= part
            entered = os.open(part, _ENTER, dir_fd=folder)
            os.close(folder)
            folder = entered
            _refuse_unsafe(os.fstat(folder), way, name, last=not ahead)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def is_shared(folder: os.stat_result) -> bool:
    """Whether other users may put files into the folder."""
    # Many systems make a group for each user, of which nobody else is a member.
    by_group = folder.st_mode & stat.S_IWGRP and folder.st_gid != os.getegid()
    return bool(folder.st_mode & stat.S_IWOTH or by_group)


def _refuse_unsafe(folder: os.stat_result, way: Path, name: str, *, last: bool) -> None:
    called = "its folder" if last else f"a folder on its way, '{way}',"
    _refuse_foreign(folder, called, name)
    if is_shared(folder) and not folder.st_mode & stat.S_ISVTX:
        raise failed(name, spelled(f"other users may write to {called.rstrip(',')}"), spelled(f"chmod go-w '{way}'"))


def _refuse_foreign(about: os.stat_result, called: str, name: str) -> None:
    """Refuse what belongs to another user, who could put something else in its place at any time."""
    if about.st_uid not in (0, os.geteuid()):
        hint = "Run the command as that user." if os.geteuid() == 0 else "Choose a folder of your own."
        raise failed(name, spelled(f"{called} belongs to another user"), hint)
