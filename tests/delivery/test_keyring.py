"""`--keyring`: against a real Secret Service, and against what looks like a keyring and is none."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alphalens_keyctl import keyformat
from tests.services.secret_service import SecretService, secret_service
from tests.support.commands import LIMIT, Keyctl, Process, Result
from tests.support.waiting import wait_for

# Backends that fail in the ways that matter; one class is chosen by PYTHON_KEYRING_BACKEND.
BACKENDS = '''
import base64, json, os, time
from pathlib import Path
from keyring.backend import KeyringBackend

class Honest(KeyringBackend):
    """Stores in a file, for a test that looks at what comes after."""
    priority = 1
    file = Path(os.environ["BACKEND_FILE"])
    def _all(self):
        return json.loads(self.file.read_text()) if self.file.exists() else {}
    def get_password(self, service, user):
        return self._all().get(f"{service} {user}")
    def set_password(self, service, user, secret):
        self.file.write_text(json.dumps(self._all() | {f"{service} {user}": secret}))
    def delete_password(self, service, user):
        self.file.write_text(json.dumps({k: v for k, v in self._all().items() if k != f"{service} {user}"}))

class StoresNothing(Honest):
    def set_password(self, service, user, secret):
        pass

class StoresSomethingElse(Honest):
    def set_password(self, service, user, secret):
        super().set_password(service, user, secret[:-1])

class HangsWhileStoring(Honest):
    def set_password(self, service, user, secret):
        (self.file.parent / "storing").touch()
        time.sleep(600)

class EndsItsProcess(Honest):
    def set_password(self, service, user, secret):
        os._exit(0)

class EchoesIt(Honest):
    def set_password(self, service, user, secret):
        raise RuntimeError(f"cannot take {secret} or {base64.b64encode(secret.encode())}")

class Talks(Honest):
    def get_password(self, service, user):
        print("looking")
        os.system("echo really")
        return super().get_password(service, user)

class NeverForgets(Honest):
    def delete_password(self, service, user):
        pass

class TakesNothingTwice(Honest):
    def set_password(self, service, user, secret):
        seen = self.file.with_name("seen")
        if not seen.exists() or secret not in seen.read_text():
            with seen.open("a") as known:
                known.write(secret)
            super().set_password(service, user, secret)
'''


@pytest.fixture
def service(tmp_path: Path) -> Iterator[SecretService]:
    with secret_service(tmp_path / "service") as service:
        yield service


@pytest.fixture
def ring(keyctl: Keyctl, service: SecretService) -> Keyctl:
    """The program, where there is an unlocked Secret Service."""
    keyctl.environment.update(service.environment)
    return keyctl


@pytest.fixture
def backend(keyctl: Keyctl, tmp_path: Path) -> Callable[[str], Keyctl]:
    """The program with one of `BACKENDS`."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "odd_backends.py").write_text(BACKENDS)
    keyctl.environment["PYTHONPATH"] += f"{os.pathsep}{modules}"
    keyctl.environment["BACKEND_FILE"] = str(tmp_path / "stored.json")

    def choose(name: str) -> Keyctl:
        keyctl.environment["PYTHON_KEYRING_BACKEND"] = f"odd_backends.{name}"
        return keyctl

    return choose


def assert_refused(keyctl: Keyctl, result: Result) -> None:
    """Exit 7, a way out, and neither a raw key nor a live key."""
    assert result.status == 7, result
    assert result.stdout == ""
    assert result.stderr.startswith("error: keyring: ")
    assert "--key-file" in result.stderr
    assert "alk_" not in result.stderr
    assert {key["status"] for key in keyctl.keys()} <= {"revoked"}


def children(process: Process) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


# What a keyring does, it does whatever the database: on PostgreSQL there are the tests of what a delivery leaves open,
# here and in test_faults.
@pytest.mark.one_database
def test_what_create_and_rotate_store_another_program_reads_and_revoke_removes(
    ring: Keyctl, service: SecretService
) -> None:
    """Promise 1: a raw key that opens nothing any more lies about nowhere; another key's entry stays. An entry's
    service is `alphalens-keyctl`, its user name the key's name; odd names too."""
    created = ring.ok("create", "Été ci", "--keyring", "--json").json
    assert created["delivered_to"] == ["keyring", "stdout"]
    assert service.read("Été ci") == created["raw_key"]
    rotated = ring.ok("rotate", "été CI", "--keyring", "--no-print")
    assert rotated.stdout == ""
    stored = service.read("Été ci")
    assert stored is not None
    assert stored != created["raw_key"]
    assert ring.opens(stored)
    assert ring.opens(created["raw_key"])
    assert stored not in rotated.stderr
    assert ring.ok("show", "été ci", "--json").json["id"] == stored.split("_")[1]
    ring.ok("revoke", created["key"]["id"], "--keyring")
    assert service.read("Été ci") == stored
    ring.ok("revoke", "été ci", "--keyring", "--dry-run")
    assert service.read("Été ci") == stored
    ring.ok("revoke", "été ci", "--keyring", "--json")
    assert service.read("Été ci") is None


def shown(ring: Keyctl) -> object:
    """What `show --keyring` says, in JSON."""
    result = ring.ok("show", "ci", "--keyring", "--json")
    assert not shows_a_key(result)
    return result.json["keyring"]


def shows_a_key(result: Result) -> bool:
    return re.search("alk_[0-9A-Za-z]{12}_", result.stdout + result.stderr) is not None


@pytest.mark.one_database
def test_show_says_which_key_is_there_and_never_the_key(ring: Keyctl, service: SecretService) -> None:
    """Promise 1. And no stranger is taken for a key: neither any text, nor the right id with another secret and a right
    checksum."""
    _, key_id = ring.create("ci")
    assert shown(ring) == {"present": False, "key_id": None, "status": None}
    body = f"alk_{key_id}_{'A' * 43}"
    for stranger in ("hunter2", body + keyformat.checksum(body)):
        service.write("ci", stranger)
        assert shown(ring) == {"present": True, "key_id": None, "status": None}
    second = ring.ok("rotate", "ci", "--keyring", "--json").json["key"]["id"]
    assert shown(ring) == {"present": True, "key_id": second, "status": "active"}
    ring.ok("rotate", "ci")
    assert shown(ring) == {"present": True, "key_id": second, "status": "retiring"}
    words = ring.ok("show", "ci", "--keyring")
    assert not shows_a_key(words)
    line = next(line for line in words.stdout.splitlines() if line.lstrip(" │").startswith("keyring"))
    assert " ".join(line.strip("│ ").split()) == f"keyring has a key that is retiring, {second}"
    assert "keyring" not in ring.ok("show", "ci", "--json").json


@pytest.mark.one_database
def test_where_a_later_destination_fails_the_entry_is_as_it_was(ring: Keyctl, service: SecretService) -> None:
    """Promise 3. The keyring is handed the key before stdout, which is full here."""
    full = os.open("/dev/full", os.O_WRONLY)
    assert ring("create", "ci", "--keyring", stdout=full).status == 7
    assert service.read("ci") is None
    old, _ = ring.create("ci", "--keyring")
    assert ring("rotate", "ci", "--keyring", stdout=full).status == 7
    os.close(full)
    assert service.read("ci") == old
    assert ring.opens(old)


@pytest.mark.one_database
def test_where_the_entry_does_not_come_back_the_key_in_it_goes_on_opening(backend: Callable[[str], Keyctl]) -> None:
    """Promise 2: a backend that drops what it is given to put back keeps the new key, and that key must work."""
    keyctl = backend("TakesNothingTwice")
    old, _ = keyctl.create("ci", "--keyring")
    failed = keyctl("rotate", "ci", "--keyring", "--no-print", "--check", "false")
    assert failed.status == 7
    assert "still opens" in " ".join(failed.stderr.split())
    held = json.loads(Path(keyctl.environment["BACKEND_FILE"]).read_text())["alphalens-keyctl ci"]
    assert held != old
    assert keyctl.opens(held)
    assert keyctl.opens(old)


@pytest.mark.one_database
def test_a_delivery_that_is_undone_leaves_an_entry_that_somebody_has_stored_meanwhile(
    backend: Callable[[str], Keyctl], tmp_path: Path
) -> None:
    """Promise 3: the entry is put back only where it is the one that this delivery stored."""
    keyctl = backend("Honest")
    old, _ = keyctl.create("ci")
    trial = tmp_path / "trial"
    trial.write_text("""#!/bin/sh\necho '{"alphalens-keyctl ci": "another"}' > "$BACKEND_FILE"; exit 1\n""")
    trial.chmod(0o700)
    assert keyctl("rotate", "ci", "--keyring", "--no-print", "--check", str(trial)).status == 7
    assert json.loads(Path(keyctl.environment["BACKEND_FILE"]).read_text()) == {"alphalens-keyctl ci": "another"}
    assert keyctl.opens(old)


@pytest.mark.one_database
def test_a_locked_keyring_is_refused_and_nothing_changes(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promises 2, 3 and 11, locked by hand and never unlocked. Promise 5: what is to be revoked is revoked all the
    same."""
    folder = tmp_path / "service"
    with secret_service(folder) as service:
        keyctl.environment.update(service.environment)
        old, _ = keyctl.create("ci", "--keyring")
        service.lock()
        _assert_locked(keyctl, old, "rotate", "ci")
        assert keyctl("show", "ci", "--keyring").status == 7
    with secret_service(folder, unlocked=False) as service:
        keyctl.environment.update(service.environment)
        _assert_locked(keyctl, old, "create", "other")
        result = keyctl("revoke", "ci", "--keyring")
        assert result.status == 7
        assert result.stdout.startswith("Revoked key 'ci'")
        assert "revoked all the same" in result.stderr
        assert not keyctl.opens(old)
    with secret_service(folder) as service:
        assert service.read("ci") == old
        assert service.read("other") is None


def _assert_locked(keyctl: Keyctl, old: str, *command: str) -> None:
    result = keyctl(*command, "--keyring", "--json")
    assert (result.status, result.stdout) == (7, "")
    assert result.error["code"] == "delivery_failed"
    assert "--key-file" in result.error["hint"]
    open_keys = [key for key in keyctl.keys() if key["status"] != "revoked"]
    assert [(key["name"], key["status"], key["replaced_by"]) for key in open_keys] == [("ci", "active", None)]
    assert keyctl.opens(old)


@pytest.mark.one_database
def test_a_bus_that_never_answers_is_given_up(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 11. Python's keyring gives such a bus up itself, and takes what is left: nothing that is good enough."""
    with silent_bus(keyctl, tmp_path):
        assert_refused(keyctl, keyctl("create", "ci", "--keyring"))


@pytest.mark.one_database
def test_a_bus_that_greets_and_falls_silent_is_given_up(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 11: a request has 5 s. And what asks it inherits nothing but its three streams, and what marks the
    attempt as running."""
    with silent_bus(keyctl, tmp_path) as bus:
        process = keyctl.start("create", "ci", "--keyring")
        connection, _ = bus.accept()
        assert heard(connection).startswith(b"\0AUTH")
        connection.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
        said = heard(connection)
        if said.startswith(b"NEGOTIATE"):
            connection.sendall(b"AGREE_UNIX_FD\r\n")
            said = heard(connection)
        assert said.startswith(b"BEGIN")
        (child,) = children(process)
        assert "keyring_process" in Path(f"/proc/{child}/cmdline").read_text()
        held = {os.readlink(link) for link in Path(f"/proc/{child}/fd").iterdir()}
        assert sum(one.endswith("keys.db-lock") for one in held) == 1, held
        held = {one for one in held if not one.endswith("keys.db-lock")}
        assert all(one.startswith(("pipe:", "socket:", "/dev/null", "anon_inode:")) for one in held), held
        assert os.getsid(child) == child
        result = process.wait()
        connection.close()
    assert_refused(keyctl, result)
    assert "did not answer within 5 seconds" in result.stderr
    assert not Path(f"/proc/{child}").exists()


def heard(connection: socket.socket) -> bytes:
    """What the client says, to the end of a line."""
    said = b""
    while b"\r\n" not in said:
        said += connection.recv(1 << 10)
    return said


@contextmanager
def silent_bus(keyctl: Keyctl, folder: Path) -> Iterator[socket.socket]:
    path = folder / "silent"
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind(str(path))
        bus.listen(8)
        bus.settimeout(LIMIT)
        keyctl.environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={path}"
        yield bus


@pytest.mark.one_database
@pytest.mark.parametrize("address", [None, "unix:path=/nonexistent/bus", "nonsense"])
def test_without_a_bus_it_is_refused(keyctl: Keyctl, address: str | None) -> None:
    """Promises 2 and 11."""
    if address is not None:
        keyctl.environment["DBUS_SESSION_BUS_ADDRESS"] = address
    assert_refused(keyctl, keyctl("create", "ci", "--keyring"))


@pytest.mark.one_database
@pytest.mark.parametrize(
    "name",
    [
        "keyring.backends.null.Keyring",
        "keyring.backends.fail.Keyring",
        "keyring.backends.chainer.ChainerBackend",
        "keyrings.alt.file.PlaintextKeyring",
    ],
)
def test_a_backend_that_keeps_nothing_or_in_the_open_is_refused_by_name(keyctl: Keyctl, name: str) -> None:
    """Promise 1. The chainer is empty: no bus, and of keyrings.alt none but what is refused."""
    keyctl.environment["PYTHON_KEYRING_BACKEND"] = name
    result = keyctl("create", "ci", "--keyring")
    assert_refused(keyctl, result)
    named = ("keyrings.alt", "has no keyring") if "chainer" in name else (name,)
    assert any(one in result.stderr for one in named), result
    assert not list(keyctl.home.rglob("*.cfg"))


@pytest.mark.one_database
def test_a_backend_that_does_not_store_is_noticed_and_cannot_say_the_key(backend: Callable[[str], Keyctl]) -> None:
    """Promises 1, 2 and 3: what was stored is read back and compared; what was there before is there again."""
    old, _ = backend("Honest").create("ci", "--keyring")
    stored = Path(backend("Honest").environment["BACKEND_FILE"])
    before = stored.read_text()
    for name, why in (
        ("StoresNothing", "what was stored is not what it holds now"),
        ("EndsItsProcess", "it ended without an answer"),
        ("EchoesIt", "RuntimeError: cannot take [redacted "),
        ("StoresSomethingElse", "what was stored is not what it holds now"),
    ):
        keyctl = backend(name)
        result = keyctl("rotate", "ci", "--keyring", "--no-print", "--json")
        assert (result.status, result.stdout) == (7, ""), name
        assert result.error["message"].startswith(f"keyring: {why}"), name
        assert "--key-file" in result.error["hint"], name
        if name == "EchoesIt":
            _, plain, encoded = re.split(r"take | or ", result.error["message"])
            assert "[redacted" in plain
            assert "[redacted]" in encoded
            assert not re.search("[A-Za-z0-9+/]{24}", encoded)
        if name != "StoresSomethingElse":  # which cannot be put right by the same backend either
            assert stored.read_text() == before, name
        assert keyctl.opens(old), name
        assert keyctl.ok("show", "ci", "--json").json["status"] == "active", name


@pytest.mark.one_database
def test_what_a_backend_prints_is_no_answer(backend: Callable[[str], Keyctl]) -> None:
    keyctl = backend("Talks")
    assert keyctl.ok("create", "ci", "--keyring", "--no-print", "--json").stderr == ""
    assert keyctl.ok("show", "ci", "--keyring", "--json").json["keyring"]["status"] == "active"


def test_a_child_that_hangs_while_storing_shows_the_key_to_nobody_and_is_ended(
    backend: Callable[[str], Keyctl], tmp_path: Path
) -> None:
    """Promises 1, 2 and 11: the secret goes through a pipe; no argument and no environment has it."""
    keyctl = backend("HangsWhileStoring")
    process = keyctl.start("create", "ci", "--keyring", "--no-print")
    wait_for((tmp_path / "storing").exists)
    (child,) = children(process)  # which has looked as well
    for pid in (process.pid, child):
        for what in ("cmdline", "environ"):
            assert b"alk_" not in Path(f"/proc/{pid}/{what}").read_bytes()
    files = {os.readlink(link) for link in Path(f"/proc/{child}/fd").iterdir()}
    # Beside its pipes it has what marks the attempt as running: a lock, or the socket of the session that holds one.
    marks = {one for one in files if one.endswith("keys.db-lock") or one.startswith("socket:")}
    assert len(marks) == 1
    assert all(one.startswith(("pipe:", "/dev/null")) for one in files - marks), files
    result = process.wait()
    assert_refused(keyctl, result)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.one_database
def test_what_asks_the_keyring_ends_with_the_program_though_it_hangs(
    backend: Callable[[str], Keyctl], tmp_path: Path
) -> None:
    """Promise 3: it could store a key after the next attempt has stored a newer one."""
    process = backend("HangsWhileStoring").start("create", "ci", "--keyring", "--no-print", to_the_last=True)
    wait_for((tmp_path / "storing").exists)
    process.kill()
    assert process.wait().status == -signal.SIGKILL


@pytest.mark.one_database
def test_an_entry_that_cannot_be_removed_is_said(backend: Callable[[str], Keyctl]) -> None:
    keyctl = backend("NeverForgets")
    raw, _ = keyctl.create("ci")
    Path(keyctl.environment["BACKEND_FILE"]).write_text(json.dumps({"alphalens-keyctl ci": raw}))
    result = keyctl("revoke", "ci", "--keyring")
    assert result.status == 7
    assert "still there" in result.stderr
    assert [key["status"] for key in keyctl.keys()] == ["revoked"]


@pytest.mark.one_database
def test_a_module_planted_in_the_current_folder_is_not_imported(
    backend: Callable[[str], Keyctl], tmp_path: Path
) -> None:
    """Promise 1: it would be given the key."""
    keyctl = backend("Honest")
    imported = tmp_path / "imported"
    for module in ("keyring", "json", "encodings", "alphalens_keyctl", "sitecustomize"):
        (keyctl.home / f"{module}.py").write_text(f"open({str(imported)!r}, 'a').write('{module} ')\n")
    keyctl.create("ci", "--keyring")
    assert not imported.exists(), imported.read_text()
