"""`doctor` names what is wrong, one thing at a time, whatever else is broken; and it changes nothing."""

import os
import re
import socket
import uuid
from pathlib import Path

import pytest

from tests.services.postgresql import Databases
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, on_postgresql, path_of
from tests.support.terminal import on_terminal
from tests.support.tools import require_tool

BACKEND = """
from keyring.backend import KeyringBackend
class Kept(KeyringBackend):
    priority = 1
    def get_password(self, service, user):
        return None
    def set_password(self, service, user, secret):
        raise AssertionError("a look stores nothing")
"""
CHECKS = [
    *["version", "configuration", "database", "schema", "clock", "rights", "integrity"],
    *["keyring", "completion"],
]


def examined(keyctl: Keyctl, *options: str, status: int, **environment: str) -> dict[str, tuple[str, str]]:
    """State and all that is said, by check."""
    result = keyctl(*options, "doctor", "--json", environment=environment)
    assert result.status == status, result
    document = result.json
    assert document["problems"] == sum(each["state"] == "problem" for each in document["checks"])
    assert document["warnings"] == sum(each["state"] == "warning" for each in document["checks"])
    assert [each["check"] for each in document["checks"]] == CHECKS
    return {each["check"]: (each["state"], f"{each['detail']} {each['advice'] or ''}") for each in document["checks"]}


def configure(keyctl: Keyctl, content: str, mode: int = 0o600) -> Path:
    folder = keyctl.home / ".config" / "alphalens-keyctl"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.toml"
    file.write_text(content)
    file.chmod(mode)
    return file


def test_where_everything_is_well_every_look_says_so(keyctl: Keyctl, tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text(BACKEND)
    path = os.pathsep.join([keyctl.environment["PYTHONPATH"], str(tmp_path)])
    keyring = {"PYTHON_KEYRING_BACKEND": "kept.Kept", "PYTHONPATH": path}
    keyctl.create("billing")
    keyctl.ok("completion", "zsh", "--install")
    in_zshrc = "fpath=(~/.local/share/zsh/site-functions $fpath)\nautoload -Uz compinit && compinit -u\n"
    (keyctl.home / ".zshrc").write_text(in_zshrc)
    found = examined(keyctl, status=0, SHELL="/usr/bin/zsh", **keyring)
    assert {check: said for check, said in found.items() if said[0] != "ok"} == {}
    assert "change keys" in found["rights"][1]
    assert found["keyring"][1].strip() == "kept.Kept"
    assert keyctl.ok("doctor", environment={"SHELL": "/bin/zsh"} | keyring).stdout.endswith("\nNothing is wrong.\n")


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("shell", "set_up"),
    [("bash", "source ~/.local/share/bash-completion/completions/alphalens-keyctl\n"),
     ("zsh", "fpath=(~/.local/share/zsh/site-functions $fpath)\nautoload -Uz compinit && compinit -u\n")],
)  # fmt: skip
def test_a_script_that_the_shell_does_not_load_is_a_warning(keyctl: Keyctl, shell: str, set_up: str) -> None:
    """The shell is asked, as only it knows what its own files come to."""
    require_tool(shell)
    keyctl.ok("completion", shell, "--install")
    (keyctl.home / f".{shell}rc").write_text("")
    said = examined(keyctl, status=0, SHELL=f"/bin/{shell}")["completion"]
    assert said[0] == "warning"
    assert f"a new {shell} does not load it" in said[1]
    (keyctl.home / f".{shell}rc").write_text(set_up)
    assert examined(keyctl, status=0, SHELL=f"/bin/{shell}")["completion"][0] == "ok"


def test_before_the_first_key_nothing_is_wrong_and_nothing_is_made(fresh_keyctl: Keyctl) -> None:
    found = examined(fresh_keyctl, status=0)
    assert found["database"][0] == "ok"
    assert "create NAME" in found["database"][1]
    assert found["integrity"][0] == "skipped"
    assert list(fresh_keyctl.home.iterdir()) == []
    assert examined(fresh_keyctl, "--database", "typo.db", status=5)["database"][0] == "problem"
    assert list(fresh_keyctl.home.iterdir()) == []


def test_where_everything_is_broken_each_look_still_says_what_it_found(fresh_keyctl: Keyctl) -> None:
    """Promise 11: each has its own limit, and none stops the next."""
    (fresh_keyctl.home / "broken.toml").write_text("password = hunter2")
    nowhere = {"HOME": "/nonexistent", "PYTHON_KEYRING_BACKEND": "no.such.Backend", "SHELL": "fish"}
    found = examined(fresh_keyctl, "--config", "broken.toml", status=5, **nowhere)
    assert found["configuration"][0] == "problem"
    assert "broken.toml is not valid TOML" in found["configuration"][1]
    assert found["database"] == ("skipped", "not looked at: the configuration does not say where it is ")
    assert found["keyring"][0] == "warning"
    assert found["completion"] == ("warning", "not installed for fish alphalens-keyctl completion fish --install")
    assert "hunter2" not in str(found)
    beside = examined(fresh_keyctl, "--config", "broken.toml", "--database", "typo.db", status=5, **nowhere)
    assert "there is no database at" in beside["database"][1], "a database that is named is looked at all the same"
    assert examined(fresh_keyctl, "--profile", "prod", status=5)["configuration"][1].startswith("there is no profile")


def test_a_server_that_never_answers_is_told_within_connect_timeout(fresh_keyctl: Keyctl) -> None:
    """Promise 11."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        configure(fresh_keyctl, "connect_timeout = 0.5")
        url = f"postgresql://ops:hunter2@127.0.0.1:{port}/keys"
        found = examined(fresh_keyctl, "--database", url, status=5)
    assert found["database"][0] == "problem"
    assert {found[check][0] for check in ("schema", "clock", "rights", "integrity")} == {"skipped"}
    assert "hunter2" not in str(found)


@pytest.mark.one_database
def test_a_configuration_that_others_may_change_or_whose_password_they_may_read_is_a_problem(keyctl: Keyctl) -> None:
    plain = "[profile.prod]\ndatabase_url = 'postgresql://ops@db.example/keys'\n"
    for content, mode, wrong in (
        (plain, 0o644, ""),
        (plain, 0o664, "chmod go-w"),
        (plain.replace("ops@", "ops:hunter2@"), 0o600, ""),
        (plain.replace("ops@", "ops:hunter2@"), 0o640, "chmod 600"),
    ):
        file = configure(keyctl, content, mode)
        state, said = examined(keyctl, status=5 if wrong else 0)["configuration"]
        assert (state, str(file) in said, "hunter2" in said) == ("problem" if wrong else "ok", True, False)
        assert wrong in said


def test_a_missing_index_is_a_problem_of_integrity(keyctl: Keyctl) -> None:
    keyctl.create("billing")
    by_hand(keyctl.database_url, "DROP INDEX api_key_owner")
    state, said = examined(keyctl, status=5)["integrity"]
    assert (state, "index api_key_owner is missing" in said) == ("problem", True)


@pytest.mark.one_database
def test_a_damaged_page_is_a_problem_and_a_file_of_another_program_too(keyctl: Keyctl) -> None:
    path = path_of(str(keyctl.database_url))
    for number in range(3):
        keyctl.create(f"key-{number}")
    by_hand(keyctl.database_url, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    found = examined(keyctl, status=5)
    assert "problem" in {found[check][0] for check in ("database", "schema", "integrity")}
    path.write_bytes(b"no database")
    assert examined(keyctl, status=5)["database"][0] == "problem"


def test_a_schema_that_is_missing_or_newer_is_a_problem_and_what_needs_it_is_left_out(
    keyctl: Keyctl, databases: Databases
) -> None:
    by_hand(keyctl.database_url, "UPDATE alphalens_keyctl_version SET version_num = '9999'")
    found = examined(keyctl, status=5)
    assert found["schema"][0] == "problem"
    assert "newer version" in found["schema"][1]
    assert (found["rights"][0], found["integrity"][0], found["clock"][0]) == ("ok", "skipped", "ok")
    empty = examined(keyctl, "--database", databases.create(), status=5)
    assert (empty["database"][0], empty["schema"][0]) == ("ok", "problem")
    assert "db upgrade" in empty["schema"][1]


@on_postgresql
def test_a_server_whose_clock_is_off_is_a_problem(keyctl: Keyctl) -> None:
    """The server is made to believe another time: by a function of the same name, ahead of its own."""
    by_hand(keyctl.database_url, "CREATE SCHEMA wrong")
    by_hand(
        keyctl.database_url,
        "CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
        " AS 'SELECT pg_catalog.clock_timestamp() - interval ''45 seconds'''",
    )
    url = f"{keyctl.database_url}?options=-csearch_path%3Dwrong,pg_catalog,public"
    state, said = examined(keyctl, "--database", url, status=5)["clock"]
    assert state == "problem"
    assert "seconds behind this machine's" in said


@on_postgresql
def test_a_role_is_told_what_it_may_do(keyctl: Keyctl) -> None:
    """Promise 13: a look needs no more than the role has."""
    role = f"doctor_{uuid.uuid4().hex[:8]}"
    by_hand(keyctl.database_url, f"CREATE ROLE {role} LOGIN")
    try:
        url = f"{keyctl.database_url}?options=-crole%3D{role}"
        assert examined(keyctl, "--database", url, status=5)["rights"][0] == "problem"
        keyctl.ok("db", "grant", "--verifier", role)
        assert "may check keys and record their use" in examined(keyctl, "--database", url, status=0)["rights"][1]
        keyctl.ok("db", "grant", "--auditor", role)
        assert examined(keyctl, "--database", url, status=0)["rights"][1].strip() == "may read keys and logs"
        reading = f"{keyctl.database_url}?options=-cdefault_transaction_read_only%3Don"
        state, said = examined(keyctl, "--database", reading, status=0)["rights"]
        assert (state, "read-only" in said) == ("warning", True)
    finally:
        by_hand(keyctl.database_url, f"DROP OWNED BY {role}")
        by_hand(keyctl.database_url, f"DROP ROLE {role}")


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 120])
def test_on_a_terminal_state_and_advice_stand_in_words(keyctl: Keyctl, width: int) -> None:
    shown = on_terminal(keyctl, "doctor", width=width, environment={"SHELL": "/bin/bash"})
    assert shown.status == 0
    assert all(len(line) <= width or " " not in line for line in shown.lines), "a path alone may be wider"
    assert re.search("^warning +completion", shown.text, re.M)
    assert "--install" in shown.text
