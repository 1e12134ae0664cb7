"""Ending a process, with all that it started."""

import os
import signal
import subprocess
from contextlib import suppress


def end(process: "subprocess.Popen[bytes]") -> None:
    """The process is over when this returns. It must lead a session of its own."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
