"""Promises 8 and 11 under gunicorn: the application, and the verifier in it, is made once, and then forked."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.commands import Keyctl
from tests.support.waiting import wait_for
from tests.support.web import LIMIT, Address, Load, ask, uses, with_key

# Verifies before it is forked, so that there are connections, and uses that wait, for a child to inherit.
SERVICE = """
from pathlib import Path
from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.web import ApiKeyWsgiMiddleware

verifier = KeyVerifier()
assert all(verifier.verify(Path("raw").read_text()) for _ in range(10))

def hello(environ, start_response):
    start_response("204 No Content", [])
    return []

app = ApiKeyWsgiMiddleware(hello, verifier)
"""


def test_workers_forked_from_a_loaded_application_lose_no_use_and_write_none_twice(
    keyctl: Keyctl, tmp_path: Path
) -> None:
    raw_key, key_id = keyctl.create("good")
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "raw").write_text(raw_key)
    address = Address(unix_socket=tmp_path / "s")
    options = ("--preload", "--workers=2", "--worker-class=gthread", "--threads=2", "--no-control-socket")
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, f"--bind=unix:{address.unix_socket}", "service:app"],
        cwd=tmp_path, env=keyctl.environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: _listens(address) or process.poll() is not None)
        assert ask(address).status == 401
        load = Load(address, raw_key)
        wait_for(lambda: load.accepted > 300)
        process.terminate()
        _, said = process.communicate(timeout=LIMIT)
        load.stop()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert load.others == set()
    rows = uses(keyctl, "ok")
    # A use may be written whose answer did not get out any more; never the other way round.
    assert load.accepted + 10 <= len(rows) <= load.accepted + 10 + load.broken
    assert {row["key_id"] for row in rows} == {key_id}
    (key,) = keyctl.keys()
    assert key["use_count"] == len(rows)
    assert sum(row["count"] for row in uses(keyctl, "malformed")) == 1


GREENLETS = """
from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.web import ApiKeyWsgiMiddleware

def hello(environ, start_response):
    start_response("204 No Content", [])
    return []

app = ApiKeyWsgiMiddleware(hello, KeyVerifier())
"""


@pytest.mark.parametrize(
    ("database_url", "options"),
    [
        pytest.param("sqlite", ["--preload"], id="sqlite-preloaded"),
        pytest.param("postgresql", ["--preload"], id="postgresql-preloaded"),
        # gevent came first: a connection's wait is all that is still in its hands, and SQLite has none.
        pytest.param("postgresql", [], id="postgresql-loaded"),
    ],
    indirect=["database_url"],
)
def test_greenlets_are_served_at_full_priority_and_stop_with_every_use_written(
    options: list[str], keyctl: Keyctl, tmp_path: Path
) -> None:
    """gevent puts its own threads in the place of Python's, under --preload after the verifier was made."""
    raw_key, _ = keyctl.create("good")
    (tmp_path / "service.py").write_text(GREENLETS)
    address = Address(unix_socket=tmp_path / "s")
    command = ["gunicorn", *options, "--workers=1", "--worker-class=gevent", "--no-control-socket", "service:app"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, f"--bind=unix:{address.unix_socket}"],
        cwd=tmp_path, env=keyctl.environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: _listens(address) or process.poll() is not None)
        answers: list[int] = []
        # All at once: none of them has been looked up, and each has to wait for the database.
        first = [
            threading.Thread(target=lambda: answers.append(ask(address, headers=with_key(raw_key)).status))
            for _ in range(12)
        ]
        for thread in first:
            thread.start()
        for thread in first:
            thread.join(LIMIT)
        assert answers == [204] * 12
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        # The thread that serves is the first one; the one that writes may stand back.
        wait_for(lambda: len(list(Path(f"/proc/{worker}/task").iterdir())) > 1)
        assert _nice(Path(f"/proc/{worker}/task/{worker}/stat")) == 0
        keyctl.ok("revoke", "good", "--yes")
        wait_for(lambda: ask(address, headers=with_key(raw_key)).status == 401, within=2.0)
        process.terminate()
        _, said = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert len(uses(keyctl, "ok")) >= 12
    assert len(uses(keyctl, "revoked")) >= 1


def _listens(address: Address) -> bool:
    # The socket is there before anybody listens on it.
    try:
        address.connect().close()
    except OSError:
        return False
    return True


def _nice(stat: Path) -> int:
    return int(stat.read_text().rpartition(")")[2].split()[16])
