"""Speed without a clock: each command is two files, and loads what it needs and nothing heavy beside."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Final

import pytest

from tests.support.command_tree import COMMANDS
from tests.support.commands import ForkServer, Keyctl
from tests.support.tab import request

# Not pydantic: Typer itself reads arguments with it.
HEAVY = {"sqlmodel", "sqlalchemy", "alembic", "psycopg", "keyring"}


def loaded(keyctl: Keyctl, *arguments: str) -> set[str]:
    """The top-level packages that an interpreter loads to run a command."""
    return imported(run_alone(keyctl, *arguments).stderr)


def run_alone(keyctl: Keyctl, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
    """Run a command that must succeed in an interpreter of its own, which writes to stderr what it loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "alphalens_keyctl", *arguments],
        env=keyctl.environment,
        input=stdin.decode(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def imported(importtime: str) -> set[str]:
    """The top-level packages in what `-X importtime` wrote."""
    return set(re.findall(r"\|\s+([A-Za-z_]\w*)$", importtime, re.M))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["create", "--help"], ["audit", "--help"]])
def test_help_and_version_load_no_database(fresh_keyctl: Keyctl, arguments: list[str]) -> None:
    assert not loaded(fresh_keyctl, *arguments) & HEAVY


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [(["--help"], set()), (["rotate", "--help"], {"rotate"}), (["audit", "head", "--help"], {"audit"})],
)
def test_help_loads_the_options_of_its_own_command_alone(
    fresh_keyctl: Keyctl, arguments: list[str], needed: set[str]
) -> None:
    script = "import sys; from alphalens_keyctl.cli.entry import main; main(); print('loaded:', *sys.modules)"
    told = subprocess.check_output([sys.executable, "-c", script, *arguments], env=fresh_keyctl.environment, text=True)
    loaded_by_it = re.findall(r"alphalens_keyctl\.cli\.(\w+)", told.partition("\nloaded:")[2])
    assert set(loaded_by_it) & {path[0] for path in COMMANDS if path} == needed


def test_tab_loads_no_library_of_databases_and_on_a_key_of_a_file_the_driver_alone(fresh_keyctl: Keyctl) -> None:
    fresh_keyctl.create("orders")
    for words, offers in ((["ro"], "rotate\t"), (["list", "--js"], "--json\t"), (["show", "or"], "orders\t")):
        done = run_alone(fresh_keyctl, "__complete", stdin=request(*words))
        assert done.stdout.startswith(offers)
        assert not imported(done.stderr) & (HEAVY | {"pydantic", "rich"}), words


def test_a_command_on_sqlite_loads_neither_alembic_nor_psycopg_nor_rich_once_the_file_exists(
    fresh_keyctl: Keyctl,
) -> None:
    fresh_keyctl.create("first")
    for arguments in (["list", "--json"], ["create", "second"], ["rotate", "second"], ["revoke", "second"]):
        told = run_alone(fresh_keyctl, *arguments).stderr
        assert not imported(told) & {"alembic", "psycopg", "rich", "keyring"}, arguments
        assert "sqlalchemy.dialects.postgresql" not in told, arguments


# What a job file may import inside a function, as only some of its runs need it: drawings, which load Rich, the
# destinations of a raw key, and the way over HTTP.
LATE: Final = {
    *(
        f"alphalens_keyctl.output.{name}"
        for name in ("event_list", "event_panel", "key_list", "panels", "tables", "usage")
    ),
    *(f"alphalens_keyctl.delivery.{name}" for name in ("command", "files", "keyring")),
    "alphalens_keyctl.manager.over_http",
}
# They import late for every command at once, and say why.
ENTRY: Final = {
    "alphalens_keyctl.cli.entry", "alphalens_keyctl.cli.failure", "alphalens_keyctl.cli.run",
    "alphalens_keyctl.cli.complete.values",
}  # fmt: skip


def test_an_options_file_imports_its_job_file_when_it_runs_and_a_job_file_imports_on_top() -> None:
    files, start = command_files(), loaded_at_start()
    for name, path in files.items():
        late = late_imports(path, known=files.keys() | LATE)
        allowed = files.keys() - start if name in start else LATE
        assert late <= allowed, f"{name} imports {late - allowed} inside a function: move the import to the top"


def test_each_command_does_its_job_in_a_file_beside_its_options() -> None:
    files = command_files()
    for name in files.keys() & loaded_at_start():
        if "ctx: typer.Context" in files[name].read_text("utf-8") and not name.endswith(".app"):
            assert late_imports(files[name], known=files.keys()), f"{name} calls no job file"


# Every command but the servers and those that need one, in an order in which each one succeeds, with options that load
# something more.
RUNS: Final = (
    ("create", "ci", "--json"),
    ("create", "billing", "--key-file", "key", "--env-file", ".env", "--pipe-to", "cat", "--no-print"),
    ("create", "--from", "fleet.csv"),
    ("list",), ("list", "--csv"), ("show", "ci"), ("verify",),
    ("rotate", "ci", "--key-file", "ci-key", "--check", "cat"), ("rotate", "--abort", "ci"),
    ("rotate", "billing", "search", "--grace", "0", "--jsonl"),
    ("update", "search", "--set-owner", "ops", "--set-expires", "30d"),
    ("suspend", "search"), ("resume", "search"), ("revoke", "search", "--yes"), ("revoke", "--owner", "ops", "--yes"),
    ("audit",), ("audit", "verify"), ("audit", "head"), ("audit", "usage"), ("audit", "check"),
    ("audit", "show", "1"), ("audit", "prove", "1"), ("audit", "witness", "--pipe-to", "cat"), ("audit", "report"),
    ("audit", "check", "--sarif"), ("audit", "prune", "--usage", "--older-than", "90d", "--yes"),
    ("completion", "bash"), ("policy", "set", "--require", "owner"), ("policy", "show"),
    ("db", "status"), ("db", "upgrade"), ("db", "grant", "--verifier", "svc"), ("config",), ("doctor",),
    ("help",), ("help", "exit-codes"), ("version",),
)  # fmt: skip


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Keyctl]:
    """The program of which nothing is loaded before a command."""
    server = ForkServer(libraries_alone=True)
    (home := tmp_path / "forgetful").mkdir()
    yield Keyctl(server, home, None)
    server.close()


def test_every_command_finds_what_it_loads(forgetful: Keyctl) -> None:
    """Elsewhere the fork server has everything loaded already, which would hide an import that is missing."""
    (forgetful.home / "fleet.csv").write_text("name,owner\nsearch,ops\nold,ops\n")
    raw = ""
    for arguments in RUNS:
        # With an environment that a standing child cannot have, each is a fork of its own.
        done = forgetful(*arguments, environment={"TZ": "UTC"}, stdin=raw.encode() if arguments[0] == "verify" else b"")
        # SQLite has no roles; the command finds that out by what it loads.
        assert done.status == {"audit check": 5, "db grant": 2}.get(" ".join(arguments[:2]), 0), (arguments, done)
        raw = raw or done.json["raw_key"]
    called = {path for path in COMMANDS for arguments in RUNS if path and arguments[: len(path)] == path}
    assert called | {("serve",), ("serve-api",), ("login",), ("logout",)} == {path for path in COMMANDS if path}


def command_files() -> dict[str, Path]:
    """The files of `alphalens_keyctl.cli`, by the names of their modules."""
    root = Path(__file__).parents[2]
    files = root.joinpath("alphalens_keyctl", "cli").rglob("*.py")
    named = {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}
    return {name: file for name, file in named.items() if name not in ENTRY}


def loaded_at_start() -> set[str]:
    """The modules that `COMMAND --help` loads, of all commands together."""
    script = "import sys, tests.support.command_tree; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", script], text=True).split())


def late_imports(path: Path, *, known: Set[str]) -> set[str]:
    """The modules that a file imports inside a function; `known` tells which names of a package are modules."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names = {f"{node.module}.{alias.name}" for alias in node.names}
                    found |= names if names <= known else {str(node.module)}
    return found


def test_an_error_of_usage_is_told_to_a_machine_without_loading_the_database(fresh_keyctl: Keyctl) -> None:
    """Promise 10: a wrong option is told as fast as `--help`, and told also where the database's library is broken."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "alphalens_keyctl", "list", "--json", "--bogus"],
        env=fresh_keyctl.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert '{"error": {"code": "usage"' in done.stderr
    assert not imported(done.stderr) & HEAVY
