"""A real nginx, as Debian has it."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.proxy import Ports, Proxy, started
from tests.support.readme import adapted, block
from tests.support.tools import require_tool


@contextmanager
def nginx(configuration: str, port: int) -> Iterator[None]:
    """Run nginx with this inside its `http` block until the block ends; `port` is one that it listens on."""
    with tempfile.TemporaryDirectory(prefix="keyctl-nginx-") as outside:
        folder = Path(outside)
        with started(_command(folder, configuration), folder, port):
            yield


def _command(folder: Path, configuration: str) -> Sequence[str]:
    temporary = "\n".join(
        f"    {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = ""
    if os.getuid() == 0:
        user = "user nobody nogroup;\n"
        shutil.chown(folder, "nobody")
    # One worker, so that all clients' questions go over the same few connections.
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\npid {folder}/pid;\nerror_log stderr warn;\nworker_processes 1;\nevents {{}}\n"
        f"http {{\n    access_log off;\n{temporary}\n{configuration}\n}}\n"
    )
    return [require_tool("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def _readmes(folder: Path, ports: Ports) -> Sequence[str]:
    changes = {
        "listen 80;": f"listen 127.0.0.1:{ports.proxy};",
        "server 127.0.0.1:8377;": f"server 127.0.0.1:{ports.serve};",
        "proxy_pass http://127.0.0.1:8000;": f"proxy_pass http://127.0.0.1:{ports.service};",
    }
    return _command(folder, adapted(block("nginx", "nginx"), changes))


NGINX = Proxy("nginx", _readmes, away=500, hung=(500, 504))
