"""Where the tests' files are quick: a file system in memory, where there is one with enough room.

On a disk every commit waits for it: five milliseconds a time, thousands of times.
"""

import os
import shutil
from pathlib import Path

FOLDER = Path("/dev/shm")
# Twice what both workers' databases take, most of it PostgreSQL's.
ROOM = 12 << 30


def memory_disk() -> Path | None:
    """The folder, or None where a file system in memory is missing, small, lacks memory or runs no programs."""
    if not os.access(FOLDER, os.W_OK) or os.statvfs(FOLDER).f_flag & os.ST_NOEXEC:
        return None
    return FOLDER if min(shutil.disk_usage(FOLDER).free, _available_memory()) > ROOM else None


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, value = line.split(":")
        if name == "MemAvailable":
            return int(value.removesuffix("kB")) << 10
    return 0
