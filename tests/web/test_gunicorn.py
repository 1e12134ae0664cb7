"""Promise 8 under gunicorn: the application, and the verifier in it, is made once, and then forked."""

import subprocess
import sys
from pathlib import Path

from tests.support.commands import Keyctl
from tests.support.waiting import wait_for
from tests.support.web import LIMIT, Address, Load, ask, uses

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
        wait_for(lambda: (tmp_path / "s").exists() or process.poll() is not None)
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
