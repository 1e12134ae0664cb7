"""`KeyVerifier`: what it answers. Promises 1, 5, 8 and 9."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import checksum, generate
from alphalens_keyctl.keys import conditions
from alphalens_keyctl.models import Key, Reason, Status
from alphalens_keyctl.verification.judgement import Record, judge
from tests.support.commands import Keyctl
from tests.support.key_rows import put
from tests.support.waiting import wait_for


@pytest.fixture
def verifier(database_url: str) -> Iterator[KeyVerifier]:
    with KeyVerifier(database_url) as verifier:
        yield verifier


def test_a_good_key_opens_and_its_record_comes_with_the_answer(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    raw, key_id = keyctl.create("ci", "--owner", "ops", "--label", "env=prod")
    for presented in (raw, raw.encode()):
        answer = verifier.verify(presented)
        assert answer
        assert (answer.allowed, answer.reason) == (True, Reason.OK)
        assert answer.key is not None
        assert (answer.key.id, answer.key.name, answer.key.owner, answer.key.status) == (key_id, "ci", "ops", "active")
        assert dict(answer.key.labels) == {"env": "prod"}


def test_each_reason_is_given_and_none_of_them_opens(database: Database, verifier: KeyVerifier) -> None:
    now = datetime.now(UTC)
    soon, past = now + timedelta(hours=1), now - timedelta(seconds=1)
    cases: dict[Reason, dict[str, Any]] = {
        Reason.PENDING: {"activated_at": None, "lease_until": soon},
        Reason.SUSPENDED: {"suspended_at": past},
        Reason.RETIRED: {"retires_at": past},
        Reason.EXPIRED: {"expires_at": past},
        Reason.REVOKED: {"revoked_at": past, "revoked_by": "x"},
        Reason.UNAVAILABLE: {"digest_scheme": "from the future"},
    }
    for reason, values in cases.items():
        raw = generate()
        put(database, reason.value, raw=raw, **values)
        for _ in range(2):  # looked up, and remembered
            answer = verifier.verify(raw.reveal())
            assert (bool(answer), answer.reason) == (False, reason)


def test_a_wrong_secret_behind_a_real_id_is_as_unknown_as_a_made_up_key(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    raw, key_id = keyctl.create("ci")
    body = f"alk_{key_id}_{generate().reveal().split('_')[2][:43]}"
    assert verifier.verify(raw)
    assert verifier.verify(body + checksum(body)) == verifier.verify(generate().reveal()) == (False, "unknown", None)


def test_nothing_that_a_client_sends_raises(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    raw, _ = keyctl.create("ci")
    hostile = (
        None, "", b"", " ", "\0", raw + "\0", raw + "\n", " " + raw, raw + " ", f"{raw}, {raw}", f"{raw},{raw}",
        raw[:-1], raw.swapcase(), "é" * 66, "\ud800" * 66, b"\xff" * 66, "x" * 10_000_000, b"x" * 10_000_000,
        raw.encode("utf-16"), 0, 1.5, [raw], {"raw": raw}, object(), bytearray(raw.encode()),
    )  # fmt: skip
    for presented in hostile:
        assert verifier.verify(presented) == (False, Reason.MALFORMED, None), repr(presented)[:80]
        assert verifier.verify_cached(presented) == (False, Reason.MALFORMED, None)
    assert verifier.verify(raw)


@given(st.one_of(st.text(), st.binary(), st.from_regex(r"alk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", fullmatch=True)))
def test_nothing_that_chance_sends_raises_or_opens(presented: str | bytes) -> None:
    """Promise 9: there is no database behind this one."""
    verifier = KeyVerifier("/nonexistent/keys.db", usage="off")
    assert not verifier.verify(presented)


MOMENTS = st.integers(0, 10**12).map(lambda micro: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=micro))


@given(
    stored=st.sampled_from([Status.PENDING, Status.ACTIVE, Status.SUSPENDED, Status.REVOKED]),
    expires=st.none() | MOMENTS,
    retires=st.none() | MOMENTS,
    now=MOMENTS,
)
def test_the_clock_says_the_same_in_python_as_in_the_database(
    sqlite_memory: Any, stored: Status, expires: datetime | None, retires: datetime | None, now: datetime
) -> None:
    """The verifier's rule and the list's are two spellings of one."""
    status = Status.RETIRING if stored is Status.ACTIVE and retires is not None else stored
    unset = dict.fromkeys(Key._fields)
    key = Key(**unset | {"status": status, "labels": {}, "expires_at": expires, "retires_at": retires})  # type: ignore[arg-type]  # the rest plays no part
    judged = judge(Record(key, b"", "sha256"), now.timestamp()).answer.key
    assert judged is not None
    assert judged.status == sqlite_memory(status, expires, retires, now)


@pytest.fixture(scope="module")
def sqlite_memory() -> Any:
    """`conditions.status_at` over made-up values."""
    from sqlalchemy import create_engine, select

    from alphalens_keyctl.models import key_table

    engine = create_engine("sqlite://")
    key_table.metadata.tables["api_key"].create(engine)
    connection = engine.connect()

    def status(stored: Status, expires: datetime | None, retires: datetime | None, now: datetime) -> str:
        connection.execute(key_table.delete())
        values: dict[str, Any] = {
            "activated_at": None if stored is Status.PENDING else now, "expires_at": expires, "retires_at": retires,
            "revoked_at": now if stored is Status.REVOKED else None,
            "suspended_at": now if stored is Status.SUSPENDED else None,
        }  # fmt: skip
        connection.execute(
            key_table.insert().values(
                id="a" * 12, name="n", name_folded="n", labels={}, created_at=now, created_by="x", use_count=0,
                digest=b"", digest_scheme="sha256", **values,
            )
        )  # fmt: skip
        found = connection.scalar(select(conditions.status_at(now)).select_from(key_table))
        return str(found)

    return status


def test_the_answer_is_shared_and_cannot_be_written_to(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    raw, _ = keyctl.create("ci", "--label", "env=prod")
    answer = verifier.verify(raw)
    assert answer.key is not None
    with pytest.raises(AttributeError):
        answer.allowed = False  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        answer.key.labels["env"] = "dev"  # type: ignore[index]  # that is the point
    assert raw not in repr(answer)
    assert raw[20:] not in repr(verifier.__dict__)


def test_a_closed_verifier_refuses_and_starts_no_thread_to_record_it(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    """Promise 8: what is no longer written is counted."""
    raw, _ = keyctl.create("ci")
    assert verifier.verify(raw)
    verifier.close()
    verifier.close()
    assert verifier.verify(raw) == (False, Reason.UNAVAILABLE, None)
    assert not verifier.ready()
    assert verifier.dropped == 1


def test_a_bad_configuration_is_an_error_at_once() -> None:
    with pytest.raises(KeyctlError) as error:
        KeyVerifier("mysql://x")
    assert error.value.code == "configuration_invalid"
    with pytest.raises(ValueError, match="sometimes"):
        KeyVerifier("keys.db", usage="sometimes")


def test_without_a_url_the_settings_of_the_command_count(keyctl: Keyctl) -> None:
    raw, _ = keyctl.create("ci")
    script = """
import sys
from alphalens_keyctl import KeyVerifier
verifier = KeyVerifier()
print(verifier.verify(sys.stdin.read()).reason)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], input=raw, env=keyctl.environment, capture_output=True,
        text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("ok\n", "")
    # It ended without a word to the verifier, and the use is there.
    assert keyctl.ok("show", "ci", "--json").json["use_count"] == 1


def test_the_command_counts_as_a_use_only_when_asked(keyctl: Keyctl) -> None:
    raw, _ = keyctl.create("ci")
    keyctl.ok("verify", stdin=raw.encode())
    assert keyctl.ok("show", "ci", "--json").json["use_count"] == 0
    keyctl.ok("verify", "--record", stdin=raw.encode())
    shown = keyctl.ok("show", "ci", "--json").json
    assert (shown["use_count"], shown["usage"]["uses"]) == (1, 1)
    assert keyctl("verify", "--record", stdin=generate().reveal().encode()).status == 4
    # Refused attempts stand at the start of their minute, which may be the one after the use.
    assert {use["outcome"] for use in keyctl.ok("audit", "usage", "--json").json} == {"unknown", "ok"}


def test_the_command_refuses_where_there_is_no_database_and_makes_none(fresh_keyctl: Keyctl) -> None:
    """Promise 9."""
    result = fresh_keyctl("verify", "--json", stdin=generate().reveal().encode())
    assert (result.status, result.json) == (4, {"allowed": False, "reason": "unavailable", "key": None})
    said = fresh_keyctl("verify", stdin=generate().reveal().encode())
    assert said.status == 4
    assert "there is no database" in said.stderr
    assert not list(fresh_keyctl.home.rglob("keys.db*"))


def test_a_key_on_its_way_to_its_destination_opens() -> None:
    """Promise 2: a destination that outlives the process may already hold it."""
    unset: dict[str, Any] = dict.fromkeys(Key._fields)
    for status in Status:
        key = Key(**unset | {"status": status, "labels": {}})
        opens = judge(Record(key, b"", "sha256"), 0.0).answer.allowed
        assert opens is (status in {"active", "retiring", "delivering"}), status


def test_a_key_that_does_not_open_is_looked_up_each_time_as_one_that_never_was(
    keyctl: Keyctl, database_url: str
) -> None:
    """An answer from memory takes microseconds, and a look-up far longer: that would tell a revoked key from a made-up
    one."""
    raw_keys = {name: keyctl.create(name)[0] for name in ("good", "revoked", "suspended")}
    raw_keys["unknown"] = generate().reveal()
    with KeyVerifier(database_url) as verifier:
        for raw_key in raw_keys.values():
            verifier.verify(raw_key)
        keyctl.ok("revoke", "revoked", "--yes")
        keyctl.ok("suspend", "suspended", "--yes")
        for _ in range(3):
            wait_for(lambda: not verifier.verify(raw_keys["revoked"]) and not verifier.verify(raw_keys["suspended"]))
            assert verifier.verify(raw_keys["good"])
            from_memory = {name for name, raw_key in raw_keys.items() if verifier.verify_cached(raw_key) is not None}
            assert from_memory == {"good"}
