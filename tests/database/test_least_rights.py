"""The rights that `db grant` gives a database role are enough, and no more than enough.

PostgreSQL alone: SQLite knows no users. The database belongs to an ordinary user, as in production; a superuser
owns everything and would hide what is missing. Promises 5 and 8.
"""

import json
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
from alphalens_keyctl.models import Reason, key_table
from tests.services.postgresql import Databases
from tests.support import old_schema
from tests.support.commands import ForkServer, Keyctl
from tests.support.databases import listeners
from tests.support.freshness import NEVER, TOLD, until
from tests.support.waiting import wait_for

OLD = datetime.now(UTC) - timedelta(days=200)
FORBIDDEN = [
    "UPDATE api_key SET revoked_at = NULL, revoked_by = NULL",
    "UPDATE api_key SET suspended_at = NULL",
    "UPDATE api_key SET last_used_at = 'infinity'",
    "UPDATE api_key SET use_count = 9223372036854775807",
    "UPDATE api_key SET first_used_at = now()",
    "SELECT 1 FROM api_key FOR UPDATE",
    "SELECT 1 FROM api_key FOR KEY SHARE",
    "LOCK TABLE api_key IN ROW SHARE MODE",
    "LOCK TABLE alphalens_keyctl_writer IN EXCLUSIVE MODE",
    "INSERT INTO usage_event (at, outcome) VALUES (now(), 'malformed')",
    "UPDATE usage_event SET count = 1",
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
    """The program as a verifier's role."""
    keyctl.ok("db", "grant", "--verifier", roles.name)
    return Keyctl(fork_server, keyctl.home, roles.other)


def single_rights(statements: list[str]) -> Iterator[tuple[str, str]]:
    """What was granted, each right on each thing by itself."""
    for statement in statements:
        if statement.startswith("GRANT "):
            right, _, rest = statement.removeprefix("GRANT ").partition(" ON ")
            kind = "FUNCTION " if rest.startswith("FUNCTION ") else ""
            things = rest.removeprefix(kind).partition(" TO ")[0]
            yield from ((right, kind + thing) for thing in re.findall(r"[a-z_]+(?:\([a-z, ]*\))?", things))


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


def test_a_verifiers_role_verifies_records_and_is_told_of_changes(
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


def test_each_right_of_a_verifier_is_needed(keyctl: Keyctl, service: Keyctl, roles: Roles) -> None:
    raw, _ = keyctl.create("ci")
    assert use(roles.other, raw) is Reason.OK
    granted = keyctl.ok("db", "grant", "--verifier", roles.name, "--json").json["statements"]
    for right, thing in single_rights(granted):
        # The schema and the partitions are open to everybody here; the log's rows are asked for after a lost commit.
        if thing.startswith(("SCHEMA", "public", "FUNCTION alphalens_keyctl_make", "usage_event")) or right == "USAGE":
            continue
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


def test_a_verifiers_role_can_change_lock_and_read_nothing_else(keyctl: Keyctl, service: Keyctl, roles: Roles) -> None:
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


def record(url: str, accepted: str = "[]", refused: str = "[]") -> None:
    """Call the function as a hostile service would."""
    with psycopg.connect(url) as session:
        session.execute(
            "SELECT alphalens_keyctl_record_uses(CAST(%s AS jsonb), CAST(%s AS jsonb))", (accepted, refused)
        )


def test_what_a_hostile_service_says_of_uses_is_cut_to_what_can_be(
    keyctl: Keyctl, service: Keyctl, roles: Roles
) -> None:
    """Promises 5, 13 and 14: other keys are recorded, listed and revoked as ever."""
    _, ident = keyctl.create("hot")
    raw, _ = keyctl.create("cold")
    for at in ("infinity", "2999-01-01 00:00:00", "-infinity", "1970-01-01 00:00:00", "0044-03-15 00:00:00 BC"):
        try:
            record(roles.other, json.dumps([[at, ident, "x" * 9999, None, None, None]]))
        except psycopg.errors.DataError:
            continue  # what is no time at all is that caller's own trouble
    for count in (0, -5, 2**63 - 1, 10**30, 2**63 - 1):
        record(
            roles.other, refused=json.dumps([["2999-01-01 00:00:00", None, "malformed", None, None, None, None, count]])
        )
    record(roles.other, refused=json.dumps([["2999-01-01 00:00:00", None, "ok", None, None, None, None, 1]]))
    key = keyctl.ok("show", "hot", "--json").json
    now = datetime.now(UTC)
    assert now - timedelta(minutes=5) <= datetime.fromisoformat(key["last_used_at"]) <= now
    assert key["status"] == "active"
    with psycopg.connect(roles.owner) as session:
        earliest, latest, most = session.execute(
            "SELECT min(at), max(at), max(length(client_ip)) FROM usage_event"
        ).fetchone() or (None, None, None)
    assert now - timedelta(days=32) < earliest <= latest <= now
    assert most == 64
    assert use(roles.other, raw) is Reason.OK
    keyctl.ok("audit", "usage")
    keyctl.ok("revoke", "hot", "cold")


def test_a_count_at_its_end_stays_there_and_jams_nobody(keyctl: Keyctl, service: Keyctl, roles: Roles) -> None:
    """Promises 8 and 14."""
    hot, ident = keyctl.create("hot")
    cold, _ = keyctl.create("cold")
    execute(roles.owner, f"UPDATE api_key SET use_count = 9223372036854775807 WHERE id = '{ident}'")
    with KeyVerifier(roles.other) as verifier:
        assert verifier.verify(hot)
        assert verifier.verify(cold)
        verifier.flush()
    assert [keyctl.ok("show", name, "--json").json["use_count"] for name in ("hot", "cold")] == [2**63 - 1, 1]


def test_a_first_use_is_now_and_once_whatever_a_service_says(keyctl: Keyctl, service: Keyctl, roles: Roles) -> None:
    """Promises 3 and 13: a predecessor is not ended by a first use that is put into the past."""
    _, old = keyctl.create("ci")
    new = keyctl.ok("rotate", "ci", "--until-used", "--grace", "1h", "--json").json["key"]["id"]
    begun = datetime.now(UTC)
    past = (begun - timedelta(days=20)).strftime("%Y-%m-%d %H:%M:%S")
    record(roles.other, json.dumps([[past, new, None, None, None, None]]))
    first = "SELECT first_used_at FROM api_key WHERE first_used_at IS NOT NULL"
    with psycopg.connect(roles.owner) as session:
        (at,) = session.execute(first).fetchone() or (None,)
        record(roles.other, json.dumps([[past, new, None, None, None, None]]))
        assert session.execute(first).fetchone() == (at,)
    assert at >= begun - timedelta(seconds=5)
    assert keyctl.ok("show", old, "--json").json["status"] == "retiring"


def test_an_auditor_reads_keys_without_digests_and_both_logs(
    fork_server: ForkServer, keyctl: Keyctl, roles: Roles
) -> None:
    """Promise 13."""
    keyctl.create("ci")
    keyctl.ok("db", "grant", "--auditor", roles.name)
    auditor = Keyctl(fork_server, keyctl.home, roles.other)
    for command in (
        ("list", "--all"), ("list", "--json"), ("show", "ci"), ("audit", "--jsonl"), ("audit", "verify"),
        ("audit", "usage"), ("audit", "usage", "--json"), ("audit", "head", "--json"), ("audit", "prove", "1"),
        ("audit", "witness", "--to", "head.json"), ("audit", "report"), ("audit", "report", "--csv"),
        ("policy", "show"), ("audit", "check", "--rule", "policy-owner"),
    ):  # fmt: skip
        auditor.ok(*command)
    for statement in ("SELECT digest FROM api_key", "SELECT * FROM api_key", *FORBIDDEN):
        if statement.startswith(("SELECT 1 FROM audit_event", "SELECT path", "SELECT user")):
            continue
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(roles.other, statement)
    assert auditor("revoke", "ci").status == 7


def test_who_read_the_log_before_the_stored_policy_came_reads_the_policy_and_cannot_set_it(
    fork_server: ForkServer, fresh_keyctl: Keyctl, roles: Roles
) -> None:
    """Promise 13."""
    old_schema.make(roles.owner, "0006").close()
    execute(
        roles.owner,
        f"GRANT USAGE ON SCHEMA public TO {roles.name}",
        f"GRANT SELECT (id, status, owner, created_at, expires_at) ON api_key TO {roles.name}",
        f"GRANT SELECT ON audit_event, alphalens_keyctl_version TO {roles.name}",
    )
    Keyctl(fork_server, fresh_keyctl.home, roles.owner).ok("db", "upgrade")
    auditor = Keyctl(fork_server, fresh_keyctl.home, roles.other)
    auditor.ok("policy", "show")
    assert auditor("policy", "set", "--require", "owner").status == 7
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(roles.other, "INSERT INTO key_policy (one, required) VALUES (1, '')")


def test_who_read_keys_before_there_were_scopes_reads_them_too_and_still_no_digest(
    fork_server: ForkServer, fresh_keyctl: Keyctl, roles: Roles
) -> None:
    """Promise 13."""
    old_schema.make(roles.owner, "0007").close()
    before = [column.name for column in key_table.columns if column.name not in ("scopes", "allow_from")]
    legible = ", ".join(name for name in before if not name.startswith("digest"))
    execute(
        roles.owner,
        f"GRANT USAGE ON SCHEMA public TO {roles.name}",
        f"GRANT SELECT ({legible}) ON api_key TO {roles.name}",
        f"GRANT SELECT ON audit_event, usage_event, key_policy, alphalens_keyctl_version TO {roles.name}",
    )
    Keyctl(fork_server, fresh_keyctl.home, roles.owner).ok("db", "upgrade")
    auditor = Keyctl(fork_server, fresh_keyctl.home, roles.other)
    assert auditor.ok("list", "--json").json == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(roles.other, "SELECT digest FROM api_key")


def test_what_was_granted_is_taken_back_and_replaces_what_was_granted_by_hand(
    keyctl: Keyctl, service: Keyctl, roles: Roles
) -> None:
    raw, _ = keyctl.create("ci")
    execute(roles.owner, f"GRANT UPDATE (use_count) ON api_key TO {roles.name}")
    keyctl.ok("db", "grant", "--verifier", roles.name)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(roles.other, "UPDATE api_key SET use_count = 7")
    assert use(roles.other, raw) is Reason.OK
    keyctl.ok("db", "grant", "--verifier", roles.name, "--revoke")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(roles.other, "SELECT 1 FROM api_key")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), "usage"),
        (("--verifier", "a", "--auditor", "b"), "usage"),
        (("--verifier", "no such role"), "invalid_input"),
    ],
)
def test_roles_that_cannot_be_granted_anything_are_refused(keyctl: Keyctl, options: tuple[str, ...], code: str) -> None:
    refused = keyctl("db", "grant", *options, "--json")
    assert (refused.status, refused.error["code"]) == (2, code)


def test_the_owner_and_a_superuser_are_no_verifiers(keyctl: Keyctl, roles: Roles) -> None:
    for url in (roles.owner, roles.superuser):
        refused = keyctl("db", "grant", "--verifier", urlsplit(url).username or "", "--json")
        assert (refused.status, refused.error["code"]) == (2, "invalid_input")


def test_sqlite_knows_no_roles(fresh_keyctl: Keyctl) -> None:
    fresh_keyctl.create("ci")
    refused = fresh_keyctl("db", "grant", "--verifier", "api", "--json")
    assert (refused.status, refused.error["code"]) == (2, "usage")
