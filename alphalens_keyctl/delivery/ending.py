"""Ending a process together with what it started."""

import os
import signal
import subprocess
from contextlib import suppress


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process and its process group, unless the process has ended, and return once it has ended.

    The process must lead a session of its own.
    """
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
