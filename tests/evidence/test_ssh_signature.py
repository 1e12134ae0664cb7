"""Signatures by ssh-keygen: whose they are, and which are refused. Promises 7 and 11."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.evidence import ssh_signature
from alphalens_keyctl.evidence.ssh_signature import NAMESPACE
from tests.support.ssh_signers import Signer, allowed

MESSAGE: Final = "alphalens-keyctl/test\n3\nroot\n"


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("ann"), "ann")


@pytest.fixture(scope="module")
def eve(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("eve"), "eve", kind="ecdsa")


def test_a_signature_is_of_whoever_the_file_says(tmp_path: Path, ann: Signer, eve: Signer) -> None:
    signers = allowed(tmp_path, ann.line, eve.line)
    for each, name in ((ann, "ann@example.com"), (eve, "eve@example.com")):
        signature = each.sign(MESSAGE)
        assert ssh_signature.signer(MESSAGE, signature, signers, None) == name
        assert ssh_signature.signer(MESSAGE, signature, signers, name) == name


def test_whatever_is_no_signature_of_an_allowed_signer_is_refused(tmp_path: Path, ann: Signer, eve: Signer) -> None:
    """Promise 7."""
    good = ann.sign(MESSAGE)
    anns = allowed(tmp_path, ann.line).rename(tmp_path / "ann")
    other_namespace = ann.sign_for("git", MESSAGE)
    for_git_alone = allowed(tmp_path, ann.line.replace(" ", ' namespaces="git" ', 1)).rename(tmp_path / "git")
    expired = allowed(tmp_path, ann.line.replace(" ", ' valid-before="20200101" ', 1)).rename(tmp_path / "expired")
    signers = allowed(tmp_path, ann.line, eve.line.replace(" ", f' namespaces="{NAMESPACE}" ', 1))
    for message, signature, file, name in (
        (MESSAGE, None, signers, None),
        (MESSAGE, "", signers, None),
        (MESSAGE, "no signature", signers, None),
        (f"{MESSAGE}\n", good, signers, None),
        (MESSAGE.replace("3", "4"), good, signers, None),
        (MESSAGE, good, signers, "eve@example.com"),
        (MESSAGE, good, signers, "nobody"),
        (MESSAGE, eve.sign(MESSAGE), anns, None),
        (MESSAGE, other_namespace, signers, None),
        (MESSAGE, good, for_git_alone, None),
        (MESSAGE, good, expired, None),
        (MESSAGE, good, Path(os.devnull), None),
    ):
        with pytest.raises(KeyctlError) as refused:
            ssh_signature.signer(message, signature, file, name)
        assert refused.value.code is Code.UNPROVEN, (message, signature, file, name)


def test_the_agent_signs_for_a_public_key(
    tmp_path: Path, ann: Signer, agent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = tmp_path / "ann.pub"
    shutil.copy(ann.public, public)  # away from its private key
    subprocess.run(["ssh-add", "-q", str(ann.key)], check=True)
    signature = ssh_signature.sign(MESSAGE, public, may_ask=False)
    assert ssh_signature.signer(MESSAGE, signature, allowed(tmp_path, ann.line), None) == "ann@example.com"
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(KeyctlError) as refused:
        ssh_signature.sign(MESSAGE, public, may_ask=False)
    assert refused.value.code is Code.SIGNATURE_FAILED


def test_what_cannot_sign_says_so_and_nobody_is_asked(
    tmp_path: Path, ann: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 11: no prompt, and no wait without an end."""
    locked = Signer(tmp_path, "locked", passphrase="secret")
    asked = tmp_path / "asked"
    askpass = tmp_path / "askpass"
    askpass.write_text(f"#!/bin/sh\ntouch '{asked}'\necho secret\n")
    askpass.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(askpass))
    monkeypatch.setenv("DISPLAY", ":9")
    for key in (locked.key, tmp_path / "nothing", tmp_path):
        with pytest.raises(KeyctlError, match="did not sign") as refused:
            ssh_signature.sign(MESSAGE, key, may_ask=False)
        assert refused.value.code is Code.SIGNATURE_FAILED
    assert not asked.exists()
    for script, limit, said in (
        ("sleep 60", 0.2, "did not answer within 0.2 seconds"),
        ("echo 'ssh-keygen: unknown option -- Y' >&2; exit 1", 5, "cannot sign and verify"),
        ("exit 0", 5, "did not sign"),
    ):
        stand_in = tmp_path / "bin" / "ssh-keygen"
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(f"#!/bin/sh\n{script}\n")
        stand_in.chmod(0o700)
        monkeypatch.setenv("PATH", str(stand_in.parent), prepend=os.pathsep)
        with pytest.raises(KeyctlError, match=said) as refused:
            ssh_signature.sign(MESSAGE, ann.key, may_ask=False, limit=limit)
        assert refused.value.code is Code.SIGNATURE_FAILED


def test_without_ssh_keygen_the_error_says_what_to_install(
    tmp_path: Path, ann: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature, signers = ann.sign(MESSAGE), allowed(tmp_path, ann.line)
    monkeypatch.setenv("PATH", str(tmp_path))
    attempts: tuple[Callable[[], str], ...] = (
        lambda: ann.sign(MESSAGE),
        lambda: ssh_signature.signer(MESSAGE, signature, signers, None),
    )
    for attempt in attempts:
        with pytest.raises(KeyctlError, match="cannot be started") as refused:
            attempt()
        assert refused.value.code is Code.SIGNATURE_FAILED
        assert "Install" in refused.value.hint


def test_a_file_of_signers_that_cannot_be_read_refuses_nobody_by_mistake(tmp_path: Path, ann: Signer) -> None:
    with pytest.raises(KeyctlError) as refused:
        ssh_signature.signer(MESSAGE, ann.sign(MESSAGE), tmp_path / "nothing", None)
    assert refused.value.code is Code.INVALID_INPUT


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An agent of its own, without keys."""
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it says where it listens
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        yield
        process.terminate()
