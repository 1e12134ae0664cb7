"""`audit witness`: the last good head stays until a log that extends it has a later one. Promise 7."""

import json
from pathlib import Path
from typing import Any

import pytest

from alphalens_keyctl.database import Database
from tests.support import unguarded
from tests.support.commands import Keyctl
from tests.support.databases import one_database
from tests.support.ssh_signers import Signer, allowed
from tests.support.tools import require_tool


def witness(keyctl: Keyctl, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the document of a run that keeps the head in head.json."""
    result = keyctl("audit", "witness", "--to", "head.json", "--json", *options)
    document: dict[str, Any] = result.json
    return result.status, document


def test_each_head_extends_the_one_before(keyctl: Keyctl) -> None:
    file = keyctl.home / "head.json"
    for number, before in ((0, None), (2, 0), (2, 2), (4, 2)):
        if number > (before or 0):
            keyctl.create(f"key {number}")
        status, found = witness(keyctl)
        assert (status, found["sound"], found["events"], found["extends"]) == (0, True, number, before)
        assert found["kept"] == json.loads(file.read_text()) == keyctl.ok("audit", "head", "--json").json
        assert found["kept_in"] == [f"to {file}"]
    said = keyctl.ok("audit", "witness", "--to", "head.json").stdout
    assert said.splitlines() == [
        "Sound: 4 events, each following the one before, and it extends the saved head.",
        f"Kept the head at event 4, the last one was at event 4: to {file}.",
    ]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        one_database("DELETE FROM audit_event WHERE seq = 6", "truncated"),
        one_database("DELETE FROM audit_event WHERE seq = 3", "missing"),
        ("UPDATE audit_event SET actor = 'eve' WHERE seq = 3", "altered"),
    ],
)
def test_a_log_that_does_not_extend_the_last_head_leaves_the_head_alone(
    keyctl: Keyctl, database: Database, tmp_path: Path, damage: str, kind: str
) -> None:
    """Promise 7."""
    for name in ("one", "two", "three"):
        keyctl.create(name)
    witness(keyctl)
    file = keyctl.home / "head.json"
    good = file.read_bytes()
    unguarded.write(database, damage, table="audit_event")
    sent = tmp_path / "sent"
    status, found = witness(keyctl, "--pipe-to", f"tee {sent}")
    assert (status, found["break"]["kind"], found["extends"]) == (5, kind, 6)
    assert (found["kept"], found["kept_in"]) == (None, [])
    assert file.read_bytes() == good
    assert not sent.exists()
    said = keyctl("audit", "witness", "--to", "head.json").stdout
    assert said.startswith("Broken (")
    assert said.endswith("\nNothing was kept.\n")


@pytest.mark.one_database
def test_a_head_that_the_command_did_not_take_is_not_forgotten(keyctl: Keyctl, tmp_path: Path) -> None:
    keyctl.create("one")
    file, sent = keyctl.home / "head.json", tmp_path / "sent"
    failed = keyctl("audit", "witness", "--to", "head.json", "--pipe-to", "false", "--json")
    assert (failed.status, failed.stdout, failed.error["code"]) == (7, "", "delivery_failed")
    missing = keyctl("audit", "witness", "--to", "head.json", "--pipe-to", "no-such-command", "--json")
    assert (missing.status, missing.stdout, missing.error["code"]) == (7, "", "delivery_failed")
    slow = keyctl("audit", "witness", "--pipe-to", "sleep 60", "--pipe-timeout", "0.2", "--json")
    assert (slow.status, slow.error["code"]) == (7, "delivery_failed")
    assert not file.exists()
    status, found = witness(keyctl, "--pipe-to", f"tee {sent}")
    assert (status, found["extends"], found["kept_in"]) == (0, None, ["pipe-to tee", f"to {file}"])
    assert sent.read_bytes() == file.read_bytes()
    alone = keyctl.ok("audit", "witness", "--pipe-to", f"tee {sent}", "--json").json
    assert (alone["kept_in"], alone["extends"]) == (["pipe-to tee"], None)


@pytest.mark.one_database
def test_the_last_head_has_to_be_signed_where_signers_are_named(keyctl: Keyctl) -> None:
    """Promise 7: else whoever can write to the file has the log begin anew."""
    require_tool("ssh-keygen", "openssh-client")
    ann, eve = Signer(keyctl.home, "ann"), Signer(keyctl.home, "eve")
    signed = ("--sign", str(ann.key), "--signers", str(allowed(keyctl.home, ann.line)))
    keyctl.create("one")
    assert witness(keyctl, *signed)[1]["signed_by"] is None  # there was none before
    keyctl.create("two")
    assert witness(keyctl, *signed)[1]["signed_by"] == "ann@example.com"
    file = keyctl.home / "head.json"
    good = json.loads(file.read_text())
    eves = keyctl.ok("audit", "head", "--sign", str(eve.key)).json
    for forged in (good | {"signature": None}, eves, good | {"signature": eves["signature"]}):
        file.write_text(json.dumps(forged))
        refused = keyctl("audit", "witness", "--to", "head.json", *signed, "--json")
        assert (refused.status, refused.stdout, refused.error["code"]) == (5, "", "unproven")
        assert json.loads(file.read_text()) == forged


@pytest.mark.one_database
def test_a_key_that_does_not_sign_keeps_nothing(keyctl: Keyctl) -> None:
    """Promise 11: without a terminal nobody is asked for a passphrase."""
    require_tool("ssh-keygen", "openssh-client")
    locked = Signer(keyctl.home, "locked", passphrase="secret")
    for key in (locked.key, keyctl.home / "nothing"):
        refused = keyctl("audit", "witness", "--to", "head.json", "--sign", str(key), "--json")
        assert (refused.status, refused.stdout, refused.error["code"]) == (7, "", "signature_failed")
    nowhere = keyctl("audit", "head", "--sign", str(locked.key), "--json", environment={"PATH": str(keyctl.home)})
    assert (nowhere.status, nowhere.error["code"]) == (7, "signature_failed")
    assert "Install OpenSSH" in nowhere.error["hint"]
    assert not (keyctl.home / "head.json").exists()
