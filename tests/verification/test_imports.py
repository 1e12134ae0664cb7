"""Speed without a clock: what a service loads to verify keys, and when."""

import subprocess
import sys

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from tests.support.key_rows import put

# What the command needs, and a service has no use for.
HEAVY = {"sqlmodel", "pydantic", "alembic", "rich", "typer", "click", "keyring"}
SERVICE = """
import sys
from alphalens_keyctl import KeyVerifier
at_import = set(sys.modules)
verifier = KeyVerifier(sys.argv[1])
made = set(sys.modules)
raw = sys.stdin.read()
assert verifier.verify(raw) and verifier.verify(raw, scope="prices:read", address="192.0.2.7")
verifier.flush()
print(*at_import & {"psycopg"})
print(*set(sys.modules) - made)
print(*{name.partition(".")[0] for name in sys.modules})
verifier.close()
"""


def test_a_service_loads_no_more_than_it_needs_and_nothing_in_its_first_request(
    database: Database, database_url: str
) -> None:
    raw = generate()
    put(database, "ci", raw=raw)
    done = subprocess.run(
        [sys.executable, "-c", SERVICE, database_url], input=raw.reveal(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    at_import, in_the_first_request, loaded = (set(line.split()) for line in done.stdout.splitlines())
    assert not at_import
    assert not in_the_first_request
    assert "sqlalchemy" in loaded
    assert not loaded & HEAVY
