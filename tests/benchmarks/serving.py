"""Forward-auth requests through a real nginx, against the same server around an application that only says yes."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.benchmarks import processes, seeding, table
from tests.benchmarks.scale import Scale
from tests.services.nginx import nginx

_AT_LEAST = 0.7
_CONNECTIONS = 32
_START = 20.0  # seconds that a server gets until it listens
_BARE = "uvicorn, 204 to everything"
# The options with which `serve` runs uvicorn: what is compared is what our application adds.
_YES = """
import sys
import uvicorn

async def yes(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})

uvicorn.run(yes, port=int(sys.argv[1]), interface="asgi3", http="httptools", ws="none", lifespan="off",
            log_level="critical", access_log=False, proxy_headers=False, server_header=False, date_header=False,
            timeout_keep_alive=75)
"""
# What is let through is answered by nginx itself, in the phase after the one that asks.
_CONFIGURATION = """
    upstream asked { server 127.0.0.1:UPSTREAM; keepalive 32; }
    server {
        listen 127.0.0.1:PORT;
        location / { auth_request /asked; empty_gif; }
        location = /asked {
            internal;
            proxy_pass http://asked/verify;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Transfer-Encoding "";
            proxy_set_header Cookie "";
            proxy_set_header Authorization "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Original-Method $request_method;
            proxy_set_header X-Original-URI $request_uri;
        }
    }
"""


def rows(scale: Scale, folder: Path) -> list[table.Row]:
    path = folder / "keys.db"
    seeding.sqlite(path, keys=0, events=0)
    (raw_key,) = seeding.known(1, str(path))
    what = "serve, forward-auth requests through nginx"
    lacking = [name for name in ("nginx", "wrk") if found(name) is None]
    if lacking:
        return [table.missing(what, f"{' and '.join(lacking)}: not installed", _AT_LEAST)]
    env = processes.environment(folder)
    ours = (*processes.PROGRAM, "--quiet", "--database", str(path), "serve", "--trusted-proxy", "127.0.0.1")
    speeds: dict[str, list[float]] = {"ours": [], "bare": []}
    with (
        running(lambda port: (*ours, "--port", str(port)), env) as one,
        running(lambda port: (*processes.python(_YES), str(port)), env) as other,
        _behind_nginx(one.port) as ours_at,
        _behind_nginx(other.port) as bare_at,
    ):
        for number in range(scale.rounds + 1):
            for name, port in (("ours", ours_at), ("bare", bare_at)):
                speed = load(port, raw_key, scale.seconds if number else 1)
                if number:
                    speeds[name].append(speed)
    return [table.rate(what, median(speeds["ours"]), median(speeds["bare"]), _BARE, _AT_LEAST)]


class Running(NamedTuple):
    """A server that runs as a process, and its port."""

    process: int
    port: int

    def processor_seconds(self) -> float:
        """The time of a processor that the server has taken so far, all threads together."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(command: Callable[[int], Sequence[str]], env: Mapping[str, str]) -> Iterator[Running]:
    """A server as a process, on a port that was free."""
    port = _free_port()
    process = subprocess.Popen(command(port), env=env, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"did not start: {command(port)}")
            time.sleep(0.05)
        yield Running(process.pid, port)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _behind_nginx(upstream: int) -> Iterator[int]:
    """nginx that asks there and answers by itself; its port."""
    port = _free_port()
    with nginx(_CONFIGURATION.replace("UPSTREAM", str(upstream)).replace("PORT", str(port)), port):
        yield port


def load(port: int, raw_key: str, seconds: int, *, path: str = "/", connections: int = _CONNECTIONS) -> float:
    """Requests a second, each of which was let through."""
    command = ("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s")
    said = processes.output((*command, "--header", f"API-Key: {raw_key}", f"http://127.0.0.1:{port}{path}"), os.environ)
    text = said.decode()
    found = re.search(r"Requests/sec:\s*([0-9.]+)", text)
    if found is None or "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    return float(found[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def found(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
