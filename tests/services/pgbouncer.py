"""A real pgbouncer: what stands before many a PostgreSQL."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.services.postgresql import wait_until_up
from tests.support.tools import require_tool


class Pooler(NamedTuple):
    """Listens on a port of 127.0.0.1, for every database of its server."""

    port: int

    def url(self, direct_url: str) -> str:
        """The way through it to the database that `direct_url` leads to."""
        return f"postgresql://keyctl@127.0.0.1:{self.port}{urlsplit(direct_url).path}"


@contextmanager
def pooling(server_url: str, mode: str = "transaction") -> Iterator[Pooler]:
    """Start one in front of the server of a URL; it ends with the block. Skips where there is no pgbouncer."""
    program = require_tool("pgbouncer")
    server = urlsplit(server_url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        pooler = Pooler(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as outside:
        folder = Path(outside)
        password = f" password={server.password}" if server.password else ""
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host={server.hostname} port={server.port or 5432} user={server.username}{password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {pooler.port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = 3\n"
            f"logfile = {folder / 'log'}\npidfile = {folder / 'pid'}\n"
        )
        user: str | None = None
        if os.getuid() == 0:  # it refuses to run as root
            user = "nobody"
            shutil.chown(folder, user)
        process = subprocess.Popen([program, "-q", str(configuration)], user=user, stderr=subprocess.DEVNULL)
        try:
            wait_until_up(pooler.url(server_url))
            yield pooler
        finally:
            process.terminate()
            process.wait(10)
