"""The rights that README gives a service's own database user are enough, and no more than enough.

PostgreSQL alone: SQLite knows no users. The database belongs to an ordinary user, as in production; a superuser
owns everything and would hide what is missing. Promises 5 and 8.
"""

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import Reason
from tests.services.postgresql import Databases
from tests.support.commands import ForkServer, Keyctl
from tests.support.databases import listeners
from tests.support.freshness import NEVER, TOLD, until
from tests.support.readme import README
from tests.support.waiting import wait_for

OLD = datetime.now(UTC) - timedelta(days=200)
FORBIDDEN = [
    "UPDATE api_key SET revoked_at = NULL, revoked_by = NULL",
    "UPDATE api_key SET suspended_at = NULL",
    "UPDATE api_key SET digest = digest",
    "UPDATE api_key SET expires_at = NULL",
    "INSERT INTO api_key (id) VALUES ('AAAAAAAAAAAA')",
    "DELETE FROM api_key",
    "TRUNCATE api_key CASCADE",
    "ALTER TABLE api_key DISABLE TRIGGER api_key_announce",
    "SELECT 1 FROM audit_event",
    "INSERT INTO audit_event (seq) VALUES (1)",
    "DELETE FROM audit_event",
    "UPDATE usage_event SET key_id = NULL",
    "UPDATE usage_event SET outcome = 'ok'",
    "DELETE FROM usage_event",
    "TRUNCATE usage_event",
    "DROP TABLE usage_event_default",
    "SELECT path FROM usage_event",
    "SELECT user_agent FROM usage_event",
    "UPDATE alphalens_keyctl_version SET version_num = '0001'",
    "CREATE TABLE mine (id int)",
]


class Roles(NamedTuple):
    """URLs of one database: of a superuser, of the user that owns it, and of another one, who has no rights yet."""

    superuser: str
    owner: str
    other: str

    @property
    def name(self) -> str:
        return urlsplit(self.other).username or ""


@pytest.fixture
def roles(databases: Databases, postgresql_url: str) -> Iterator[Roles]:
    url = databases.create()
    server = urlsplit(url)
    names = [f"keyctl_{who}_{uuid.uuid4().hex[:12]}" for who in ("owner", "other")]
    place = f"{server.hostname}:{server.port or 5432}{server.path}"
    made = Roles(url, *(f"postgresql://{name}:secret@{place}" for name in names))
    identifiers = [sql.Identifier(name) for name in names]
    with psycopg.connect(postgresql_url, autocommit=True) as admin:
        for role in identifiers:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(role))
        owned = sql.Identifier(server.path[1:])
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(owned, identifiers[0]))
        yield made
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(owned))
        for role in identifiers:
            admin.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture
def keyctl(fresh_keyctl: Keyctl, roles: Roles) -> Keyctl:
    """The program as the database's owner."""
    fresh_keyctl.database_url = roles.owner
    fresh_keyctl.environment["ALPHALENS_KEYCTL_DATABASE_URL"] = roles.owner
    fresh_keyctl.ok("db", "upgrade")
    return fresh_keyctl


@pytest.fixture
def service(fork_server: ForkServer, keyctl: Keyctl, roles: Roles) -> Keyctl:
    """The program as the user that README describes."""
    execute(roles.owner, *grants(roles.name))
    return Keyctl(fork_server, keyctl.home, roles.other)


def grants(role: str) -> list[str]:
    """README's statements, for a role."""
    (block,) = re.findall(r"```sql\n(GRANT .*?)```", README, re.S)
    return [f"{statement.removesuffix(' TO api')} TO {role}" for statement in block.strip().rstrip(";").split(";\n")]


def single_rights(role: str) -> Iterator[tuple[str, str]]:
    """The same, each right on each thing and column by itself."""
    for grant in grants(role):
        rights, _, rest = grant.removeprefix("GRANT ").partition(" ON ")
        for right, columns in re.findall(r"(\w+)(?: \((.*?)\))?", rights):
            for thing in rest.partition(" TO ")[0].split(", "):
                for column in columns.split(", "):
                    yield f"{right} ({column})" if column else right, thing


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url) as session:
        for statement in statements:
            session.execute(statement.encode())


def outcomes(url: str) -> dict[str, int]:
    with psycopg.connect(url) as session:
        return dict(session.execute("SELECT outcome, sum(count)::int FROM usage_event GROUP BY 1").fetchall())


def use(url: str, raw: str) -> Reason:
    """A use and a refused attempt, written in two batches, so that the second one meets the first one's row."""
    with KeyVerifier(url) as verifier:
        for _ in range(2):
            answer = verifier.verify(raw)
            verifier.verify("x")
            verifier.flush()
    return answer.reason


def test_with_the_readmes_rights_a_service_verifies_records_and_is_told_of_changes(
    keyctl: Keyctl, service: Keyctl, roles: Roles
) -> None:
    raw, ident = keyctl.create("ci")
    execute(roles.owner, *(f"DROP TABLE {month}" for month in months(roles.owner)))  # nobody made them in time
    assert use(roles.other, raw) is Reason.OK
    assert outcomes(roles.owner) == {"ok": 2, "malformed": 2}
    assert keyctl.ok("show", "ci", "--json").json["use_count"] == 2
    assert len(months(roles.owner)) == 2
    with KeyVerifier(roles.other, max_staleness=NEVER) as verifier:
        assert verifier.verify(raw)
        wait_for(lambda: listeners(roles.superuser), "nobody listens")
        assert verifier.verify(raw)
        keyctl.ok("revoke", ident)
        until(verifier, raw, Reason.REVOKED, within=TOLD)
    assert service("verify", stdin=raw.encode()).status == 4


def test_each_of_the_readmes_rights_is_needed(keyctl: Keyctl, service: Keyctl, roles: Roles) -> None:
    raw, _ = keyctl.create("ci")
    assert use(roles.other, raw) is Reason.OK
    for right, thing in single_rights(roles.name):
        # The first use of a successor is written down apart.
        raw = keyctl.ok("rotate", "ci").stdout.strip()
        execute(roles.owner, f"REVOKE {right} ON {thing} FROM {roles.name}")
        try:
            reason = use(roles.other, raw)
        except KeyctlError:
            reason = Reason.UNAVAILABLE
        assert reason is Reason.UNAVAILABLE, (right, thing)
        execute(roles.owner, f"GRANT {right} ON {thing} TO {roles.name}")
    assert use(roles.other, raw) is Reason.OK


def test_a_database_that_may_not_be_read_is_left_without_a_connection(
    keyctl: Keyctl, service: Keyctl, roles: Roles
) -> None:
    """Whoever tries again and again would use up the server's connections."""
    execute(roles.owner, f"REVOKE SELECT ON alphalens_keyctl_version FROM {roles.name}")
    with pytest.raises(KeyctlError) as kept:
        Database.open(parse_address(roles.other), Limits())
    sessions = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{roles.name}'"
    with psycopg.connect(roles.superuser, autocommit=True) as session:
        wait_for(lambda: session.execute(sessions.encode()).fetchone() == (0,), "a session is left", within=5)
    assert kept.value.code is Code.DATABASE_UNUSABLE


def test_with_the_readmes_rights_a_service_can_change_and_read_nothing_else(
    keyctl: Keyctl, service: Keyctl, roles: Roles
) -> None:
    raw, _ = keyctl.create("ci")
    allowed = []
    for statement in FORBIDDEN:
        try:
            execute(roles.other, statement)
        except psycopg.errors.InsufficientPrivilege:
            continue
        except psycopg.Error as error:
            allowed.append(f"{statement}: {error}")
        else:
            allowed.append(statement)
    assert allowed == []
    for command in (("revoke", "ci"), ("rotate", "ci"), ("create", "other"), ("audit",),
                    ("audit", "prune", "--usage", "--older-than", "1d")):  # fmt: skip
        refused = service(*command, "--json")
        assert (refused.status, refused.stdout, refused.error["code"]) == (7, "", "database_unusable"), command
    assert keyctl.opens(raw)
    (key,) = keyctl.ok("list", "--all", "--json").json
    assert key["status"] == "active"


def aged(owner_url: str) -> str:
    """A month that is old as a whole, with two uses in it; returns the name of its partition."""
    start = OLD.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = (start + timedelta(days=32)).replace(day=1)
    month = f"usage_event_{start:%Y_%m}"
    execute(
        owner_url,
        f"CREATE TABLE {month} PARTITION OF usage_event FOR VALUES FROM ('{start}') TO ('{end}')",
        *(
            f"INSERT INTO usage_event (at, key_id, outcome) VALUES ('{at}', 'AAAAAAAAAAAA', 'ok')"
            for at in (start, start, start - timedelta(days=1))
        ),
    )
    return month


def months(url: str) -> list[str]:
    with psycopg.connect(url) as session:
        query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_event'::regclass ORDER BY 1"
        return [name for (name,) in session.execute(query) if name != "usage_event_default"]


def test_who_does_not_own_the_partitions_prunes_nothing_and_is_told_so(
    keyctl: Keyctl, fork_server: ForkServer, roles: Roles
) -> None:
    """Promise 6: even with every right that can be granted."""
    month = aged(roles.owner)
    before = months(roles.owner)
    execute(
        roles.owner,
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {roles.name}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {roles.name}",
    )
    stranger = Keyctl(fork_server, keyctl.home, roles.other)
    prune = ("audit", "prune", "--usage", "--older-than", "90d", "--json")
    assert stranger.ok(*prune, "--dry-run").json["pruned"] == 3
    refused = stranger(*prune)
    assert (refused.status, refused.stdout) == (7, "")
    assert refused.error["code"] == "database_unusable"
    assert f"must be owner of table {month}" in refused.error["message"]
    assert "rights" in refused.error["hint"]
    assert months(roles.owner) == before
    assert outcomes(roles.owner) == {"ok": 3}
    assert keyctl.ok("audit", "--json").json == []


def test_the_owner_of_the_partitions_prunes(keyctl: Keyctl, roles: Roles) -> None:
    """Promise 6."""
    month = aged(roles.owner)
    before = months(roles.owner)
    assert keyctl.ok("audit", "prune", "--usage", "--older-than", "90d", "--json").json["pruned"] == 3
    assert months(roles.owner) == [name for name in before if name != month]
    assert outcomes(roles.owner) == {}
    (event,) = keyctl.ok("audit", "--json").json
    assert (event["action"], event["detail"]["pruned"]) == ("usage.prune", 3)
