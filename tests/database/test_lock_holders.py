"""A revocation does not wait behind a hostile or hung session without saying for whom (promises 11 and 14).

PostgreSQL alone: a SQLite file is locked by processes of the machine, and the system tells which.
"""

import hashlib
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.services.postgresql import Databases
from tests.support.commands import ForkServer, Keyctl


@pytest.fixture
def keyctl(fork_server: ForkServer, databases: Databases, postgresql_template: str, fresh_keyctl: Keyctl) -> Keyctl:
    config = fresh_keyctl.home / "patient.toml"
    config.write_text("lock_timeout = 0.3\n")
    return Keyctl(fork_server, fresh_keyctl.home, databases.create(postgresql_template))


@pytest.fixture
def hostile(keyctl: Keyctl) -> Iterator[psycopg.Connection]:
    """A session in a transaction, of whoever owns the database here."""
    assert keyctl.database_url is not None
    with psycopg.connect(keyctl.database_url) as session:
        yield session
        session.rollback()


def revoke(keyctl: Keyctl, ident: str) -> tuple[int, str, str]:
    told = keyctl("--config", str(keyctl.home / "patient.toml"), "revoke", ident, "--json")
    return (0, "", "") if told.status == 0 else (told.status, told.error["message"], told.error["hint"])


@pytest.mark.parametrize(
    "held",
    [
        "SELECT * FROM api_key FOR UPDATE",
        "SELECT * FROM api_key FOR SHARE",
        "UPDATE api_key SET use_count = use_count + 1",
        "LOCK TABLE api_key IN EXCLUSIVE MODE",
        "LOCK TABLE audit_event IN SHARE MODE",
        "LOCK TABLE alphalens_keyctl_writer IN EXCLUSIVE MODE",
    ],
)
def test_a_revocation_that_is_held_up_says_by_whom_and_how_to_end_it(
    keyctl: Keyctl, hostile: psycopg.Connection, held: str
) -> None:
    _, ident = keyctl.create("ci")
    hostile.execute(held.encode())
    status, message, hint = revoke(keyctl, ident)
    assert status == 7
    assert f"process {hostile.info.backend_pid} of role '{hostile.info.user}' since 20" in message
    assert f"pg_terminate_backend({hostile.info.backend_pid})" in hint
    hostile.rollback()
    assert revoke(keyctl, ident) == (0, "", "")


def test_a_lock_that_anybody_can_take_does_not_hold_a_revocation_up(
    keyctl: Keyctl, hostile: psycopg.Connection
) -> None:
    """Promise 13: the numbers of advisory locks are nobody's."""
    _, ident = keyctl.create("ci")
    digest = hashlib.sha256(b"alphalens-keyctl writer").digest()
    hostile.execute("SELECT pg_advisory_lock(%s)", (int.from_bytes(digest[:8], signed=True),))
    hostile.execute("SELECT * FROM api_key, audit_event")
    assert revoke(keyctl, ident) == (0, "", "")


def test_a_role_without_rights_on_it_cannot_take_the_lock_of_the_writer(
    keyctl: Keyctl, hostile: psycopg.Connection
) -> None:
    """Promise 13."""
    hostile.execute("CREATE ROLE keyctl_nobody")
    hostile.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO keyctl_nobody"))
    hostile.execute("SET LOCAL ROLE keyctl_nobody")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        hostile.execute("LOCK TABLE alphalens_keyctl_writer IN EXCLUSIVE MODE")
