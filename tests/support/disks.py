"""File systems that are small enough to be filled."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tools import lack


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a file system of this size at a new folder until the block ends."""
    folder.mkdir()
    mount = [] if os.getuid() == 0 else ["sudo", "-n"]
    command = [*mount, "mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700,uid={os.getuid()}", "none"]
    if not shutil.which(command[0]) or subprocess.run([*command, folder], capture_output=True, check=False).returncode:
        lack("mounting a tmpfs needs root, or sudo without a password")
    try:
        yield folder
    finally:
        subprocess.run([*mount, "umount", folder], check=True)
