"""`audit prove`: one event is in the log of a head, checked without the database. Promise 7."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alphalens_keyctl.database import Database
from tests.support import unguarded
from tests.support.commands import Keyctl
from tests.support.readme import block
from tests.support.ssh_signers import Signer, allowed
from tests.support.tools import require_tool


@pytest.fixture
def house(keyctl: Keyctl) -> Keyctl:
    """Ten events; the head at the eighth in head.json, the one at the tenth in later.json, beside an empty home."""
    for name in ("é", "ci", "billing", "web"):
        keyctl.ok("create", name, "--owner", '"ö"')
    (keyctl.home / "head.json").write_text(keyctl.ok("audit", "head", "--json").stdout)
    keyctl.ok("create", "later")
    (keyctl.home / "later.json").write_text(keyctl.ok("audit", "head", "--json").stdout)
    return keyctl


def prove(keyctl: Keyctl, seq: int, *options: str) -> dict[str, Any]:
    """The proof, which is left in proof.json."""
    document = keyctl.ok("audit", "prove", str(seq), *options).stdout
    (keyctl.home / "proof.json").write_text(document)
    proof: dict[str, Any] = json.loads(document)
    return proof


def check(keyctl: Keyctl, head: str, *options: str) -> tuple[int, str | None]:
    """The exit status, and the flaw that was found."""
    nowhere = {"ALPHALENS_KEYCTL_DATABASE_URL": f"sqlite:///{keyctl.home}/nowhere.db"}
    result = keyctl("audit", "prove", "--check", "proof.json", "--head", head, "--json", *options, environment=nowhere)
    assert result.json["holds"] == (result.status == 0), result
    flaw: str | None = result.json["flaw"]
    return result.status, flaw


def test_every_event_is_proven_for_the_head_of_its_log_and_for_no_other(house: Keyctl) -> None:
    """Promise 7."""
    for seq in (1, 5, 8):
        proof = prove(house, seq, "--head", "head.json")
        assert proof["event"] == house.ok("audit", "--json").json[seq - 1]
        assert check(house, "head.json") == (0, None)
        assert check(house, "later.json") == (5, "other_size")
    prove(house, 9)
    assert check(house, "later.json") == (0, None)
    said = house.ok("audit", "prove", "--check", "proof.json", "--head", "later.json").stdout
    assert said.startswith("Proven: event 9, key.create of 'later' by ")
    assert said.endswith(", is one of the 10 events of that head.\n")
    assert house("audit", "prove", "9", "--head", "head.json", "--json").error["code"] == "invalid_input"


def test_a_proof_from_another_log_is_none(house: Keyctl) -> None:
    """Promise 7: the same size, another history."""
    head = json.loads((house.home / "later.json").read_text())
    root = head["root_hash"]
    head["root_hash"] = root[::-1]
    del head["checkpoint"]
    (house.home / "other.json").write_text(json.dumps(head))
    prove(house, 9)
    assert check(house, "other.json") == (5, "not_in_log")
    refused = house("audit", "prove", "9", "--head", "other.json", "--json")
    assert (refused.status, refused.error["code"]) == (5, "unproven")


@pytest.mark.one_database
def test_a_checkpoint_with_the_signatures_of_witnesses_is_a_head(house: Keyctl) -> None:
    text = house.ok("audit", "head", "--checkpoint", "--origin", "example.com/keys").stdout
    assert text.splitlines()[:2] == ["example.com/keys", "10"]
    (house.home / "note").write_text(f"{text}\n— witness.example.com Az3grlgtzPICa5OS8npVmf1Myq\n")
    prove(house, 4, "--head", "note")
    assert check(house, "note") == (0, None)
    assert house.ok("audit", "verify", "--head", "note").stdout.endswith("it extends the saved head.\n")


def test_a_log_that_is_not_the_one_of_a_checkpoint_shows(house: Keyctl, database: Database) -> None:
    """Promise 7: by the root alone."""
    note = house.ok("audit", "head", "--checkpoint").stdout.encode()
    unguarded.write(database, "DELETE FROM audit_event WHERE seq = 10", table="audit_event")
    cut = house("audit", "verify", "--head", "-", "--json", stdin=note)
    assert (cut.status, cut.json["break"]["kind"], cut.json["break"]["seq"]) == (5, "truncated", 10)
    refused = house("audit", "prove", "3", "--head", "later.json", "--json")
    assert (refused.status, refused.error["code"]) == (5, "unproven")
    house.ok("revoke", "later")
    rewritten = house("audit", "verify", "--head", "-", "--json", stdin=note)
    assert (rewritten.status, rewritten.json["break"]["kind"], rewritten.json["break"]["seq"]) == (5, "rewritten", 10)


@pytest.mark.one_database
def test_who_signed_the_head_is_part_of_the_check(house: Keyctl) -> None:
    """Promise 7: a proof is worth what its head is."""
    require_tool("ssh-keygen", "openssh-client")
    ann, eve = Signer(house.home, "ann"), Signer(house.home, "eve")
    signers = str(allowed(house.home, ann.line))
    (house.home / "signed.json").write_text(house.ok("audit", "head", "--sign", str(ann.key)).stdout)
    (house.home / "eves.json").write_text(house.ok("audit", "head", "--sign", str(eve.key)).stdout)
    prove(house, 2)
    assert check(house, "signed.json", "--signers", signers) == (0, None)
    assert check(house, "signed.json", "--signers", signers, "--signer", "ann@example.com") == (0, None)
    said = house.ok("audit", "prove", "--check", "proof.json", "--head", "signed.json", "--signers", signers).stdout
    assert said.endswith(", which ann@example.com signed.\n")
    for head, *more in (("eves.json",), ("later.json",), ("signed.json", "--signer", "eve@example.com")):
        for command in (("prove", "--check", "proof.json"), ("prove", "2"), ("verify",)):
            refused = house("audit", *command, "--head", head, "--signers", signers, *more, "--json")
            assert (refused.status, refused.stdout, refused.error["code"]) == (5, "", "unproven"), (head, command)


@pytest.mark.one_database
def test_what_makes_no_sense_together_is_refused(fresh_keyctl: Keyctl) -> None:
    for arguments in (
        ("prove",),
        ("prove", "1", "--check", "proof.json", "--head", "head.json"),
        ("prove", "--check", "proof.json"),
        ("prove", "--check", "-", "--head", "-"),
        ("prove", "0"),
        ("prove", "one"),
        ("verify", "--signers", "file"),
        ("head", "--checkpoint", "--json"),
        ("head", "--checkpoint", "--sign", "key"),
        ("witness",),
    ):
        refused = fresh_keyctl("audit", *arguments)
        assert (refused.status, refused.stdout) == (2, ""), arguments
    for arguments in (
        ("verify", "--head", "/dev/null", "--signer", "ann"),
        ("prove", "1", "--head", "/dev/null"),
        ("head", "--origin", "a b"),
        ("witness", "--to", "head.json", "--origin", "a\nb"),
    ):
        refused = fresh_keyctl("audit", *arguments, "--json")
        assert (refused.status, refused.stdout) == (2, ""), arguments


@pytest.mark.one_database
def test_a_script_without_our_package_checks_a_proof(house: Keyctl) -> None:
    """Promise 7: the script of the topic, which needs neither the database nor the rest of the log."""
    script = block("proof", "python")
    assert len(script.strip().splitlines()) <= 30
    document = prove(house, 3, "--head", "head.json")

    def proven(proof: object, head: str = "head.json") -> bool:
        (house.home / "given.json").write_text(json.dumps(proof))
        done = subprocess.run(
            [sys.executable, "-I", "-c", script, "given.json", head], cwd=house.home, capture_output=True, check=False
        )
        assert done.stdout.startswith(b"proven") == (done.returncode == 0), done
        return done.returncode == 0

    assert proven(document)
    assert not proven(document, "later.json")
    event = document["event"]
    for altered in (
        document | {"event": event | {"actor": "eve"}},
        document | {"event": event | {"seq": 4}},
        document | {"event": event | {"hash": "0" * 64}},
        document | {"previous_hash": "0" * 64},
        document | {"tree_size": 9},
        document | {"path": document["path"][::-1]},
        document | {"path": document["path"][1:]},
        document | {"path": [*document["path"], "0" * 64]},
    ):
        assert not proven(altered), altered
    assert Path(house.home, "given.json").exists()
