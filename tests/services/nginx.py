"""A real nginx, as Debian has it."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.tools import require_tool
from tests.support.waiting import wait_for


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
    def up() -> bool:
        assert process.poll() is None, f"nginx did not start: {log.read_text()}"
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    wait_for(up, "nginx does not listen")
