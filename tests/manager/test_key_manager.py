"""KeyManager, as a program uses it. Promises 1, 2 and 3."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from alphalens_keyctl import KeyManager, KeyVerifier
from alphalens_keyctl.cli.options.filters import Filters as Options
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import proof
from alphalens_keyctl.manager import values
from alphalens_keyctl.manager.values import NewValues, When
from tests.support.databases import one_database
from tests.support.readme import block

DAY: Final = timedelta(days=1)


class Vault:
    """A store that outlives the process."""

    def __init__(self) -> None:
        self.held: list[str] = []

    def put(self, raw: str) -> None:
        self.held.append(raw)

    def refuse_after(self, raw: str) -> None:
        """Keep the raw key, and say that this failed."""
        self.put(raw)
        raise ZeroDivisionError


@pytest.fixture
def manager(database_url: str) -> Iterator[KeyManager]:
    with KeyManager(database_url, actor="deploy") as manager:
        yield manager


def opens(database_url: str, raw: str) -> bool:
    with KeyVerifier(database_url, usage="off") as verifier:
        return verifier.verify(raw).allowed


def code_of(error: pytest.ExceptionInfo[KeyctlError]) -> Code:
    return error.value.code


@pytest.mark.one_database
def test_the_example_of_the_topic_runs(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHALENS_KEYCTL_DATABASE_URL", database_url)
    vault = Vault()
    exec(block("manager", "python"), {"vault": vault})  # the topic's own code
    assert len(vault.held) == 2
    with KeyManager(database_url) as manager:
        key = manager.key("billing")
        assert (key.status, key.owner, key.purpose, key.scopes) == ("revoked", "team-a", "invoices", ("prices:read",))
        assert [event.action for event in manager.events("billing")].count("key.revoke") == 2


def test_a_block_that_ends_well_activates_and_one_that_raises_leaves_nothing(
    manager: KeyManager, database_url: str
) -> None:
    """Promise 2."""
    with manager.creating("billing", expires=DAY, labels={"tier": "gold"}) as new:
        assert not opens(database_url, new.raw_key)
        assert (new.key.status, new.made, new.previous) == ("active", True, None)
    assert opens(database_url, new.raw_key)
    with pytest.raises(ZeroDivisionError), manager.creating("export") as lost:
        1 / 0  # noqa: B018  # what a block does
    assert not opens(database_url, lost.raw_key)
    assert (manager.key(lost.key.id).status, manager.key(lost.key.id).revoke_reason) == ("revoked", "delivery_failed")
    with manager.creating("export", if_missing=True) as again:
        assert again.made
    with manager.creating("export", if_missing=True) as third:
        assert not third.made
        with pytest.raises(KeyctlError) as raised:
            third.raw_key  # noqa: B018  # it raises
    assert code_of(raised) is Code.WRONG_STATE


def test_a_rotation_that_raises_leaves_the_old_key_as_it_was(manager: KeyManager, database_url: str) -> None:
    """Promise 3. A store that may hold the new key keeps one that opens, unless it was given the old one back."""
    old, vault = manager.create("billing"), Vault()
    before = manager.key("billing")
    with pytest.raises(ZeroDivisionError), manager.rotating("billing"):
        1 / 0  # noqa: B018  # what a block does
    assert manager.key("billing") == before
    with (
        pytest.raises(ZeroDivisionError),
        manager.rotating("billing", store={"destination": "vault", "put_back": lambda: vault.put(old.raw_key)}) as new,
    ):
        vault.refuse_after(new.raw_key)
    assert vault.held[-1] == old.raw_key
    assert [opens(database_url, raw) for raw in vault.held] == [False, True]
    assert manager.key("billing") == before
    with (
        pytest.raises(ZeroDivisionError),
        manager.rotating("billing", store={"destination": "vault"}) as stuck,
    ):
        vault.refuse_after(stuck.raw_key)
    assert opens(database_url, old.raw_key)
    assert opens(database_url, stuck.raw_key), "the vault may hold it"
    assert manager.key(stuck.key.id).delivering_to == "vault"
    done = manager.rotate("billing", grace="0")
    assert done.previous is not None
    assert [opens(database_url, raw) for raw in (old.raw_key, stuck.raw_key, done.raw_key)] == [False, False, True]


KILLED: Final = """
import os, signal, sys
from alphalens_keyctl import KeyManager
with KeyManager(sys.argv[1]) as manager:
    store = {"destination": "vault"} if sys.argv[2] == "named" else None
    with manager.rotating("billing", store=store) as new:
        print(new.raw_key, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("store", ["named", one_database("unnamed")])
def test_a_process_that_is_killed_in_the_block_leaves_what_the_topic_says(
    manager: KeyManager, database_url: str, store: str
) -> None:
    """Promises 2 and 3."""
    old = manager.create("billing")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, database_url, store], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    raw = done.stdout.strip()
    assert opens(database_url, old.raw_key)
    assert opens(database_url, raw) is (store == "named")
    key = manager.key(raw)
    assert (key.status, key.delivering_to) == (("delivering", "vault") if store == "named" else ("pending", None))
    with manager.rotating("billing", grace=timedelta(0)) as new:
        pass
    assert [opens(database_url, each) for each in (old.raw_key, raw, new.raw_key)] == [False, False, True]


@pytest.mark.one_database
def test_no_text_of_a_new_key_but_raw_key_shows_it(manager: KeyManager) -> None:
    """Promise 1."""
    new = manager.create("billing")
    secret = new.raw_key.split("_")[2]
    assert secret not in f"{new!r} {new} {vars(new)}"
    with pytest.raises(KeyctlError) as raised:
        manager.key(new.raw_key[:-1])
    assert secret[:20] not in f"{raised.value.message}{raised.value.hint}{raised.value.told}"
    assert manager.key(new.raw_key).id == new.key.id


@pytest.mark.one_database
def test_times_are_texts_spans_or_aware_datetimes(manager: KeyManager) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + 30 * DAY
    right: tuple[When, ...] = ("30d", 30 * DAY, soon, f"{soon:%Y-%m-%dT%H:%M:%SZ}")
    for number, expires in enumerate(right):
        found = manager.create(f"key-{number}", expires=expires).key.expires_at
        assert found is not None
        assert abs(found - soon) < timedelta(minutes=1)
    wrong: tuple[Any, ...] = (datetime(2099, 1, 1), -DAY, datetime(2020, 1, 1, tzinfo=UTC), "soon")  # noqa: DTZ001  # refused
    for expires in wrong:
        with pytest.raises(KeyctlError) as raised:
            manager.create("never", expires=expires)
        assert code_of(raised) is Code.INVALID_INPUT
    nothing: tuple[NewValues, ...] = ({"scopes": []}, {"allow_from": []})
    for given in nothing:
        with pytest.raises(KeyctlError) as raised:
            manager.create("never", **given)
        assert code_of(raised) is Code.INVALID_INPUT, "no scope at all is not every scope"


def test_everything_a_command_does_can_be_done_on_values(manager: KeyManager) -> None:
    manager.set_policy(require=["purpose"], max_lifetime="365d", reason="the auditors asked")
    assert manager.policy().require == ("purpose",)
    for name in ("one", "two", "three"):
        manager.create(name, owner="team-a", purpose="x", expires="90d")
    with pytest.raises(KeyctlError) as raised:
        manager.create("four")
    assert code_of(raised) is Code.POLICY_VIOLATION
    manager.create("four", override="for a day")
    done = manager.update("one", "two", new={"owner": None, "labels": {"a": "b"}, "add_scopes": ["prices:read"]})
    assert [(key.name, key.owner, key.scopes) for key in done.changed] == [
        ("one", None, ("prices:read",)), ("two", None, ("prices:read",)),
    ]  # fmt: skip
    assert manager.suspend(where={"label": ["a=b"]}, dry_run=True).changed[0].status == "active"
    assert [key.status for key in manager.suspend(where={"label": ["a=b"]}).changed] == ["suspended"] * 2
    assert len(manager.resume("one").changed) == 1
    new = manager.rotate("three")
    assert manager.abort_rotation("three").id != new.key.id
    assert {key.name for key in manager.keys(where={"status": ["active"]}, sort="name")} == {"one", "three", "four"}
    assert manager.details("three").lineage[0].name == "three"
    assert [each.key_name for each in manager.check("policy-purpose")] == ["four"]
    assert list(manager.usage("one")) == []
    assert manager.verify_log(manager.head()).broken is None
    head = manager.head(rooted=True)
    assert manager.verify_log(head).broken is None
    assert proof.flaw(manager.prove(2, size=head.seq), head.seq, head.root or b"") is None
    assert {event.actor for event in manager.events(since="1h", limit=3)} == {"deploy"}
    outcome = manager.revoke(where={"owner": "team-a"}, reason="over")
    assert [key.revoke_reason for key in outcome.changed] == ["over"]
    with pytest.raises(KeyctlError) as raised:
        manager.revoke()
    assert code_of(raised) is Code.USAGE


def test_filters_have_the_names_of_the_options() -> None:
    assert {each.name for each in fields(Options)} | {"final", "containing"} == set(values.Filters.__annotations__)


def test_a_file_that_is_not_there_is_no_database_unless_it_is_to_be_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mistyped.db"
    with pytest.raises(KeyctlError) as raised:
        KeyManager(url)
    assert code_of(raised) is Code.DATABASE_MISSING
    with KeyManager(url, create=True) as manager:
        assert list(manager.keys()) == []
