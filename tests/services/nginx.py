"""A real nginx, as Debian has it."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tools import require_tool


@contextmanager
def nginx(configuration: str, port: int) -> Iterator[None]:
    """Run nginx with this inside its `http` block until the block ends; `port` is one that it listens on."""
    program = require_tool("nginx")
    with tempfile.TemporaryDirectory(prefix="keyctl-nginx-") as outside:
        folder = Path(outside)
        temporary = "\n".join(
            f"    {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off;\npid {folder}/pid;\nerror_log stderr warn;\nworker_processes 1;\nevents {{}}\n"
            f"http {{\n    access_log off;\n{temporary}\n{configuration}\n}}\n"
        )
        user = "nobody" if os.getuid() == 0 else None
        if user is not None:
            shutil.chown(folder, user)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")],
                user=user, stdout=log, stderr=log, cwd="/",
            )  # fmt: skip
        try:
            _wait_until_up(process, port, folder / "log")
            yield
        finally:
            process.terminate()
            process.wait(10)


def _wait_until_up(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"nginx did not start: {log.read_text()}") from None
            time.sleep(0.02)
        else:
            return
