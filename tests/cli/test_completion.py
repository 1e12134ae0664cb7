"""What TAB offers, asked as the shells' scripts ask."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from alphalens_keyctl import scopes
from alphalens_keyctl.cli.complete import values
from alphalens_keyctl.cli.completion import Shell
from alphalens_keyctl.cli.options.new_values import UNSET
from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action, Key, Reason, Status
from alphalens_keyctl.provenance import Act, Origin
from alphalens_keyctl.verification.recording_policy import RecordingPolicy
from tests.support import shells, unguarded
from tests.support.command_tree import COMMANDS
from tests.support.commands import ROOT, Keyctl
from tests.support.key_rows import put
from tests.support.tab import offered, request

# Metavars for which there is nothing to offer: what a person makes up, a number, a time, a command to run.
MADE_UP: Final = frozenset(
    {
        "ADDRESS",
        "CIDR",
        "CMD",
        "DUR",
        "N",
        "NAME",
        "NET",
        "PATTERN",
        "PLACE",
        "REASON",
        "ROLE",
        "ROW",
        "SECONDS",
        "TEXT",
        "WHEN",
    }
)
FIELDS: Final = Key._fields
NO_METAVAR: Final = frozenset({"--host", "--port", "--workers"})  # what they take is in their help


@pytest.mark.one_database
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_tab_offers_each_command_and_option_with_its_help(path: tuple[str, ...], keyctl: Keyctl) -> None:
    """There is one list of them, the tree that the program runs by."""
    command = COMMANDS[path]
    inner = {name: each for name, each in getattr(command, "commands", {}).items() if not each.hidden}
    if inner:
        texts = offered(keyctl, *path, "").texts
        assert texts.keys() == inner.keys()
        assert all(texts.values())
    options = {
        name: parameter.help
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.hidden
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }
    texts = offered(keyctl, *path, "--").texts
    assert texts == {name: " ".join(text.split()) for name, text in options.items()} | {"--help": texts["--help"]}


def test_every_value_has_a_metavar_that_says_what_tab_offers_for_it() -> None:
    """A new option names what it takes with one of these words, and TAB completes it; a new word is decided on here or
    in `values`."""
    for path, command in COMMANDS.items():
        for parameter in command.params:
            takes_value = parameter.param_type_name == "argument" or not (parameter.is_flag or parameter.count)
            if takes_value and parameter.opts[0] not in NO_METAVAR:
                known = values.kinds() | MADE_UP
                assert parameter.metavar in known, f"{' '.join(path)} {parameter.opts[0]}: {parameter.metavar}"


@pytest.mark.one_database
def test_tab_offers_closed_lists_whole(keyctl: Keyctl) -> None:
    for words, wanted in (
        (["list", "--status", ""], set(Status) - {Status.DAMAGED}),
        (["audit", "--action", ""], set(Action)),
        (["audit", "usage", "--outcome", ""], set(Reason)),
        (["completion", ""], set(Shell)),
        (["update", "a", "--unset", ""], {*UNSET, *(f"scope:{right}" for right in scopes.RESERVED)}),
        (["audit", "check", "--rule", "own"], {"owner-unknown"}),
        (["serve", "--usage", ""], set(RecordingPolicy)),
        (["audit", "check", "--fail-on", ""], {"warning", "error"}),
        (["list", "--sort", "L"], {"last-used"}),
        (["list", "--status=re"], {"--status=revoked", "--status=retired", "--status=retiring"}),
        (["list", "--columns", "name,id,re"], {f"name,id,{each}" for each in FIELDS if each.startswith("re")}),
        (["list", "--columns="], {f"--columns={each}" for each in FIELDS}),
        (["policy", "set", "--require", "owner,"], {"owner,purpose", "owner,expires"}),
        (["policy", "set", "--unset", "m"], {"max-lifetime"}),
        (["list", "text", ""], offered(keyctl, "list", "--").texts.keys()),
        (["li"], {"list"}),
        (["audit", "ch"], {"check"}),
        (["--actor", "list", "sh"], {"show"}),
        (["-q", "sh"], {"show"}),
        (["--quiet", "--nonsense", "sh"], {"show"}),
        (["create", ""], set()),
        (["list", "--unused-for", ""], set()),
        (["revoke", "--", "--"], set()),
        (["create", "x", "-"], offered(keyctl, "create", "x", "--").texts.keys()),
        (["revoke", "-y"], {"-y"}),
    ):
        assert offered(keyctl, *words).texts.keys() == {str(each) for each in wanted}, words
    assert "--json" not in offered(keyctl, "list", "--json", "--").texts
    assert "--status" in offered(keyctl, "list", "--status", "active", "--").texts  # which may be repeated
    assert "--json" in offered(keyctl, "db", "status", "").texts  # there is nothing else to offer


@pytest.mark.one_database
def test_tab_says_where_a_file_is_meant_and_only_there(keyctl: Keyctl) -> None:
    for words in (
        ["create", "x", "--key-file", ""],
        ["audit", "verify", "--head", ""],
        ["--config=x"],
        ["--database", "k"],
    ):
        assert offered(keyctl, *words) == ({}, True), words
    for words in ([""], ["show", ""], ["create", ""], ["rotate", "x", "--pipe-to", ""], ["list", "--owner", ""]):
        assert not offered(keyctl, *words).files, words


def test_tab_offers_names_and_ids_with_status_and_owner(keyctl: Keyctl) -> None:
    """A name stands for the key that it means, once; the id is offered to whoever has begun to type one."""
    keyctl.create("Orders", "--owner", "ops team")
    keyctl.ok("rotate", "orders")
    _, suspended = keyctl.create("other")
    keyctl.ok("suspend", "other")
    keyctl.create("gone")
    keyctl.ok("revoke", "gone")
    assert offered(keyctl, "show", "").texts == {"Orders": "active, ops team", "gone": "revoked", "other": "suspended"}
    assert offered(keyctl, "show", "ORD").texts == {"Orders": "active, ops team"}
    assert offered(keyctl, "audit", "--key", "or").texts == {"Orders": "active, ops team"}
    assert offered(keyctl, "audit", "--key=or").texts == {"--key=Orders": "active, ops team"}
    assert offered(keyctl, "show", suspended[:4]).texts == {suspended: "other, suspended"}
    assert offered(keyctl, "show", suspended.swapcase()[:8]).texts == {}
    # Each command is offered what it can change, and nothing twice.
    assert offered(keyctl, "revoke", "").texts.keys() == {"Orders", "other"}
    assert offered(keyctl, "resume", "").texts.keys() == {"other"}
    assert offered(keyctl, "suspend", "").texts.keys() == {"Orders"}
    assert offered(keyctl, "revoke", "other", "").texts.keys() == {"Orders"}
    assert offered(keyctl, "list", "--name", "o").texts.keys() == {"Orders", "other"}


def test_tab_offers_owners_and_labels(keyctl: Keyctl) -> None:
    keyctl.create("a", "--owner", "Ops team", "--label", "team=x y", "--label", "tier=1")
    keyctl.create("b", "--owner", "Ops team", "--label", "team=$(x)")
    assert offered(keyctl, "list", "--owner", "O").texts.keys() == {"Ops team"}
    assert offered(keyctl, "create", "c", "--owner=").texts.keys() == {"--owner=Ops team"}
    assert offered(keyctl, "list", "--label", "te").texts.keys() == {"team=x y", "team=$(x)"}
    assert offered(keyctl, "list", "--label", "team=x").texts.keys() == {"team=x y"}
    assert offered(keyctl, "update", "a", "--unset", "label:ti").texts.keys() == {"label:tier"}
    assert offered(keyctl, "list", "--label=!t").texts.keys() == {"--label=!team", "--label=!tier"}


def test_tab_offers_the_scopes_that_keys_have_and_the_reserved_ones(keyctl: Keyctl, database: Database) -> None:
    """Promises 12 and 14: a damaged row hides nobody's scopes, and what is no scope is not offered."""
    keyctl.create("a", "--scope", "prices:read", "--scope", "prices:*", "--scope", "reports:read")
    put(database, "odd", scopes=("prices:$(id)", "prices:x y", "-x"))
    if database.one_writer:
        unguarded.write(database, f"UPDATE api_key SET scopes = 'no list' WHERE id = '{put(database, 'bad')}'")
    for words in (
        ["create", "b", "--scope"],
        ["list", "--scope"],
        ["update", "a", "--set-scope"],
        ["verify", "--scope"],
    ):
        assert offered(keyctl, *words, "prices:").texts.keys() == {"prices:*", "prices:read"}, words
        assert offered(keyctl, *words, "k").texts.keys() == {"keyctl:admin", "keyctl:audit", "keyctl:team"}, words
    assert offered(keyctl, "update", "a", "--unset", "scope:r").texts.keys() == {"scope:reports:read"}
    assert {"scopes", "allow-from"} <= offered(keyctl, "update", "a", "--unset", "").texts.keys()


def test_tab_offers_the_latest_events_by_their_numbers(keyctl: Keyctl, database: Database) -> None:
    """Promise 12: with what happened, to which key and when; a name that is not inert acts on no terminal."""
    keyctl.create("first")
    with database.writing() as tx:
        act = Act(datetime(2026, 9, 1, 12, 30, 59, tzinfo=UTC), "ops", Origin("host", "user", None, None))
        audit.append_each(tx, act, Action.PRUNE_USAGE, [(None, None, {})] * 118)
        audit.append(tx, act, Action.PRUNE_USAGE, key_id=None, key_name="evil\x1b[2J\u202e\nname")
    (last,) = keyctl.ok("audit", "--limit", "1", "--json").json
    newest = last["seq"]
    shown = offered(keyctl, "audit", "show", "").texts
    assert list(shown) == [f"{newest - back}" for back in range(50)]
    assert shown[f"{newest - 1}"] == "usage.prune at 2026-09-01 12:30Z"
    assert not set("\x1b\u202e\n") & set("".join(shown.values()))
    assert list(offered(keyctl, "audit", "prove", "11").texts) == [*map(str, range(119, 109, -1)), "11"]
    assert offered(keyctl, "audit", "show", "1").texts.keys() >= {f"{newest}", "100"}
    assert list(offered(keyctl, "audit", "--after=12").texts)[-1] == "--after=12"
    assert offered(keyctl, "audit", "show", "1").texts["1"].startswith("key.create first at 20")
    for nothing in ("0", "01", "x", "-1", f"{newest + 1}", "9" * 30, "1 ", "１"):
        assert offered(keyctl, "audit", "show", "--", nothing).texts == {}, nothing


@pytest.mark.one_database
def test_tab_offers_some_hundred_names_at_most(keyctl: Keyctl, database: Database) -> None:
    for number in range(205):
        put(database, f"key-{number:03}")
    assert list(offered(keyctl, "show", "key").texts) == [f"key-{number:03}" for number in range(200)]


def test_tab_offers_nothing_that_is_not_inert_or_would_be_an_option(keyctl: Keyctl, database: Database) -> None:
    """Promises 12 and 14: a name that no key could be given gives way to the id, and all other rows are offered."""
    with unguarded.off(database):
        evil = put(database, "evil\x1b[2J\u202e\n$(x)", owner="own\x07er\ttab")
        put(database, "trap", id=r"\$(touch zz)", owner="back\\slash")
    option = put(database, "--yes", owner="-x")
    texts = offered(keyctl, "revoke", "").texts
    assert texts.keys() == {evil, "trap", option}
    assert not set("\x1b\x07\u202e") & set("".join(texts.values()))
    assert offered(keyctl, "revoke", "--", "--").texts.keys() == {"--yes"}
    assert offered(keyctl, "show", r"\$").texts == {}
    assert offered(keyctl, "list", "--owner", "").texts == {}
    assert offered(keyctl, "list", "--owner=").texts.keys() == {"--owner=-x"}


@pytest.mark.one_database
def test_what_is_set_before_the_command_decides_which_database_tab_asks(
    keyctl: Keyctl, fresh_keyctl: Keyctl, tmp_path: Path
) -> None:
    keyctl.create("there")
    url = str(keyctl.database_url)
    config = tmp_path / "other.toml"
    config.write_text(f'database_url = "{url}"\n')
    assert offered(fresh_keyctl, "show", "").texts == {}
    for words in (["--database", url], [f"--database={url}"], ["-q", "--config", str(config)]):
        assert offered(fresh_keyctl, *words, "show", "").texts.keys() == {"there"}, words
    environment = {"ALPHALENS_KEYCTL_DATABASE_URL": url}
    assert offered(fresh_keyctl, "show", "", environment=environment).texts.keys() == {"there"}
    assert offered(keyctl, "--database", str(tmp_path / "none.db"), "show", "").texts == {}
    assert not list(fresh_keyctl.home.rglob("*.db*"))
    assert not (tmp_path / "none.db").exists()


@pytest.mark.one_database
def test_tab_completes_profiles_and_asks_the_database_of_the_one_that_is_named(
    keyctl: Keyctl, fresh_keyctl: Keyctl
) -> None:
    keyctl.create("there")
    file = fresh_keyctl.home / ".config" / "alphalens-keyctl" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(
        f'[profile.prod]\ndatabase_url = "{keyctl.database_url}"\n'
        '[profile.staging]\ndatabase_url = "postgresql://me:secret@host/keys"\n'
    )
    assert offered(fresh_keyctl, "--profile", "st").texts == {"staging": "postgresql://me@host/keys"}
    assert offered(fresh_keyctl, "--profile=").texts.keys() == {"--profile=prod", "--profile=staging"}
    assert offered(fresh_keyctl, "--profile", "prod", "show", "").texts.keys() == {"there"}
    assert offered(fresh_keyctl, "show", "").texts == {}
    environment = {"ALPHALENS_KEYCTL_PROFILE": "prod"}
    assert offered(fresh_keyctl, "show", "", environment=environment).texts.keys() == {"there"}
    assert offered(fresh_keyctl, "--config", "none.toml", "--profile", "").texts == {}


@pytest.mark.one_database
def test_tab_says_nothing_of_a_database_that_it_cannot_read(fresh_keyctl: Keyctl, tmp_path: Path) -> None:
    """Promises 11 and 12: whatever is wrong, the command will say so."""
    folder = tmp_path / "databases"
    folder.mkdir()
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
    os.mkfifo(folder / "fifo")
    (folder / "text").write_text("no database\n" * 999)
    (folder / "empty").touch()
    with closing(sqlite3.connect(folder / "foreign")) as connection:
        # Has all that is asked for, and never ends.
        connection.execute("CREATE VIEW api_key AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
                           " SELECT x AS id, x AS name, x AS name_folded, x AS status, x AS owner FROM n")  # fmt: skip
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    for database in (
        *(str(folder / name) for name in ("none", "fifo", "text", "empty", "foreign", "none/none")), str(folder),
        f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/keys", "postgresql://me@127.0.0.1:1/keys",
        "mysql://me:secret@host/keys", "",
    ):  # fmt: skip
        assert offered(fresh_keyctl, "--database", database, "show", "").texts == {}, database
    silent.close()
    (fresh_keyctl.home / "broken.toml").write_text("nonsense")
    assert offered(fresh_keyctl, "--config", str(fresh_keyctl.home / "broken.toml"), "show", "").texts == {}
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.one_database
def test_tab_leaves_no_trace_beside_a_file_and_sees_what_others_have_not_written_back(keyctl: Keyctl) -> None:
    """Promise 5's file is read as a stranger reads it: no -wal, no -shm and no lock stays; a live -wal is read."""
    file = Path(str(keyctl.database_url).removeprefix("sqlite:///"))
    keyctl.create("first")

    def files() -> set[str]:
        return {path.name for path in file.parent.glob("keys.db*")} - {"keys.db-lock"}

    assert files() == {"keys.db"}
    assert offered(keyctl, "show", "").texts.keys() == {"first"}
    assert files() == {"keys.db"}
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("SELECT * FROM api_key").fetchall()  # has the file open, so that nobody writes the -wal back
        keyctl.create("second")
        writer.execute("BEGIN IMMEDIATE")  # a command that waits for its turn must not make TAB wait
        assert files() == {"keys.db", "keys.db-wal", "keys.db-shm"}
        assert offered(keyctl, "show", "").texts.keys() == {"first", "second"}
        assert files() == {"keys.db", "keys.db-wal", "keys.db-shm"}
        writer.execute("ROLLBACK")
    assert files() == {"keys.db"}
    (file.parent / "keys.db-wal").touch()  # left by a copy: to read it SQLite would make a -shm
    assert offered(keyctl, "show", "").texts == {}
    assert files() == {"keys.db", "keys.db-wal"}


@pytest.mark.one_database
def test_tab_on_a_raw_key_or_on_nonsense_says_nothing_back(keyctl: Keyctl) -> None:
    """Promise 1: a raw key among the words is neither refused, which would say so on TAB, nor repeated."""
    raw = generate().reveal()
    for words in (
        ["show", raw],
        ["show", raw, "--js"],
        ["\udcff"],
        ["show", "\udcff"],
        ["--", ""],
        ["show", "a\nb\tc"],
    ):
        done = keyctl("__complete", stdin=request(*words))
        assert (done.status, done.stderr) == (0, "")
        assert raw not in done.stdout
    assert keyctl("__complete").stdout == keyctl("__complete", stdin=b"no end").stdout == ""
    assert keyctl("__complete", "and more").status == 2


@pytest.mark.one_database
def test_tab_that_gets_no_whole_request_ends_by_itself(keyctl: Keyctl) -> None:
    """Promise 11: whatever it waits for, also inside a library, TAB gives the shell back."""
    read, write = os.pipe()
    waiting = keyctl.start("__complete", stdin=read)
    os.write(write, request("show"))
    done = waiting.wait()
    os.close(read)
    os.close(write)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.one_database
def test_names_arrive_whole_under_every_locale(keyctl: Keyctl) -> None:
    keyctl.create("ünï ✓")
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = keyctl.spawn("__complete", stdin=request("show", "ü"), environment=plain)
    assert done.stdout == "ünï ✓\tactive\n"


@pytest.mark.parametrize("shell", Shell)
def test_completion_prints_the_script_of_the_repository(shell: Shell, fresh_keyctl: Keyctl) -> None:
    file = {Shell.BASH: "alphalens-keyctl.bash", Shell.ZSH: "_alphalens-keyctl", Shell.FISH: "alphalens-keyctl.fish"}
    script = (shells.SCRIPTS / file.get(shell, "alphalens-keyctl.ps1")).read_text()
    (fresh_keyctl.home / "broken.toml").write_text("nonsense")
    done = fresh_keyctl.ok("--config", "broken.toml", "completion", shell)
    assert done == (0, script, "")
    assert script.isascii()
    assert "eval" not in script.replace("evaluated", "")
    assert "Invoke-Expression" not in script


def kept(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_mtime_ns


def put_there(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("mine\n")
    elif kind == "link":
        path.symlink_to("elsewhere")
    else:
        path.mkdir()


def test_completion_install_puts_the_script_where_the_shell_looks_and_says_what_is_left(fresh_keyctl: Keyctl) -> None:
    folders = {"XDG_DATA_HOME": str(fresh_keyctl.home / "d"), "XDG_CONFIG_HOME": "relative/is/void"}
    for shell, place, left in (
        ("bash", "d/bash-completion/completions/alphalens-keyctl", "source "),
        ("zsh", "d/zsh/site-functions/_alphalens-keyctl", "autoload -Uz compinit && compinit"),
        ("fish", ".config/fish/completions/alphalens-keyctl.fish", "nothing is left to do"),
        ("powershell", ".config/powershell/alphalens-keyctl.ps1", "$PROFILE"),
    ):
        path = fresh_keyctl.home / place
        done = fresh_keyctl.ok("completion", shell, "--install", environment=folders)
        assert done.stdout == ""
        assert f"Installed: {path}" in done.stderr
        assert left in done.stderr
        script = fresh_keyctl.ok("completion", shell).stdout
        assert path.read_text() == script
        assert path.stat().st_mode & 0o777 == 0o644
        # Again, and over an older version of the script.
        assert "Already there" in fresh_keyctl.ok("completion", shell, "--install", environment=folders).stderr
        path.write_text(script + "# as it was\n")
        assert fresh_keyctl.ok("--quiet", "completion", shell, "--install", environment=folders).stderr == ""
        assert path.read_text() == script
        # What somebody else put there stays.
        for kind in ("text", "link", "folder"):
            path.unlink()
            put_there(path, kind)
            before = kept(path)
            refused = fresh_keyctl("completion", shell, "--install", environment=folders)
            assert (refused.status, refused.stdout) == (6, "")
            assert kept(path) == before
        assert {each.name for each in path.parent.iterdir()} == {path.name}
    assert fresh_keyctl("completion", "tcsh").status == 2


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_a_shell_that_is_set_up_as_install_says_completes(shell: str, fresh_keyctl: Keyctl, tmp_path: Path) -> None:
    program = shells.Program.real(tmp_path)
    home = tmp_path / "home"
    said = fresh_keyctl.ok("completion", shell, "--install", environment={"HOME": str(home)}).stderr
    start = "\n".join(line.strip() for line in said.splitlines() if line.startswith("  "))
    with shells.Shell(shell, program, start=start.replace("&& compinit", "&& compinit -u -D")) as session:
        for _ in range(2):
            session.type("alphalens-keyctl sus\t x\r")
            session.wait_for("noted")
    assert program.runs == [["suspend", "x"]] * 2


def test_the_wheel_installs_the_scripts_where_shells_look_and_where_completion_finds_them(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, copy, ignore=ignored)
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(copy)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    for place in (
        "data/share/bash-completion/completions/alphalens-keyctl",
        "data/share/zsh/site-functions/_alphalens-keyctl",
        "data/share/fish/vendor_completions.d/alphalens-keyctl.fish",
    ):
        assert any(name.endswith(place) for name in names), names
    assert any(name.endswith("migrations/versions/rev_0001_keys_and_audit_log.py") for name in names)
    assert any(name.endswith("alphalens_keyctl/docs/exit-codes.md") for name in names)
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    printed = subprocess.check_output(
        [sys.executable, "-m", "alphalens_keyctl", "completion", "powershell"],
        cwd=tmp_path / "installed",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
    )
    assert printed == (shells.SCRIPTS / "alphalens-keyctl.ps1").read_bytes()
