"""Replacing one file in a folder, whole or not at all, where no other user can reach it."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from alphalens_keyctl.delivery.destination import failed
from alphalens_keyctl.delivery.way import is_shared, open_folder

_LARGEST: Final = 1 << 20  # bytes; no file of keys or variables is near that


class Found(NamedTuple):
    """A file as it was read: its content, mode, owner and group."""

    content: bytes
    mode: int
    uid: int
    gid: int


class Spot:
    """Where one file is, or will be. `name` is what errors call the file.

    Every step goes through a descriptor of the folder, so that nobody can swap the folder between two system calls. All
    steps raise `KeyctlError` (delivery_failed), also for a way to the folder that another user could change.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        # One name for all attempts: what a killed attempt left is overwritten by the next.
        self._aside = f".{path.name}.alphalens-keyctl"

    def read(self) -> Found | None:
        """Return the file, or None when there is none.

        Raises `KeyctlError` (delivery_failed) for a link, a folder, or another user's file.
        """
        with self._folder() as folder:
            shared = is_shared(os.fstat(folder))
            try:
                descriptor = os.open(
                    self._path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
                )
            except FileNotFoundError:
                return None
            with open(descriptor, "rb") as file:
                about = os.fstat(descriptor)
                self._refuse_odd(about, shared=shared)
                content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise failed(self._name, "it is larger than a mebibyte, so it is left alone")
        return Found(content, stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid)

    def stage(self, content: bytes, like: Found | None, *, exactly: bool = False) -> None:
        """Write `content` to a temporary file beside the file, and sync it. The file is created with mode 0600.

        When the file replaces one, `like`, the group keeps its rights: a service that may no longer read its key has
        lost it. Others get none, unless `exactly`, which gives a file that is put back the mode it had.
        """
        mode = 0o600 if like is None else like.mode if exactly else 0o600 | like.mode & 0o070
        with self._folder() as folder:
            with suppress(FileNotFoundError):
                os.unlink(self._aside, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(self._aside, flags, 0o600, dir_fd=folder), "wb") as file:
                if like is not None and (like.uid, like.gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), like.uid, like.gid)
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    def move_in(self) -> None:
        """Rename the temporary file over the file, in one step, and sync the folder."""
        with self._folder() as folder:
            os.rename(self._aside, self._path.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def clear(self) -> None:
        """Remove the temporary file."""
        with self._folder() as folder, suppress(FileNotFoundError):
            os.unlink(self._aside, dir_fd=folder)

    def remove(self) -> None:
        """Remove the file itself."""
        with self._folder() as folder:
            with suppress(FileNotFoundError):
                os.unlink(self._path.name, dir_fd=folder)
            os.fsync(folder)

    @contextmanager
    def _folder(self) -> Iterator[int]:
        try:
            descriptor = open_folder(self._path.parent, self._name)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            problem = "it is a link" if error.errno == errno.ELOOP else f"{error.strerror}"
            raise failed(self._name, problem, "Check the path, the folder and its owner.") from error

    def _refuse_odd(self, file: os.stat_result, *, shared: bool) -> None:
        if not stat.S_ISREG(file.st_mode):
            raise failed(self._name, "it is not a regular file")
        if file.st_nlink > 1:
            raise failed(self._name, "it has a second name (a hard link), which would keep what it held")
        # In a folder that is not shared only root and this user put files, or gave them to somebody.
        if file.st_uid != os.geteuid() and (shared or os.geteuid() != 0):
            raise failed(self._name, "it belongs to another user", "Remove it, or choose a folder of your own.")
