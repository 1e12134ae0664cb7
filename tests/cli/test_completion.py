"""TAB in the real shells. Promise 12: what is completed cannot run."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.commands import ROOT, Keyctl
from tests.support.completions import FILES, FOLDER, generate
from tests.support.tools import require_tool


@pytest.fixture
def program_on_path(tmp_path: Path) -> str:
    """A PATH on which the program stands under its name, as an installation puts it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "alphalens-keyctl"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m alphalens_keyctl "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def run(shell: str, script: str, keyctl: Keyctl, path: str) -> str:
    program = require_tool(shell)
    done = subprocess.run(
        [program, *(["-f"] if shell == "zsh" else ["--no-config"] if shell == "fish" else ["--norc"]), "-c", script],
        env=keyctl.environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("shell", FILES)
def test_the_script_in_the_repository_is_the_one_that_typer_generates(shell: str) -> None:
    assert (FOLDER / FILES[shell]).read_text() == generate(shell)


def test_tab_completes_ids_of_keys_and_never_names_in_bash(keyctl: Keyctl, program_on_path: str) -> None:
    _, key_id = keyctl.create("$(touch pwned)")
    script = f"""
        source {FOLDER / FILES["bash"]}
        COMP_WORDS=(alphalens-keyctl show {key_id[:3]}); COMP_CWORD=2
        _alphalens_keyctl_completion alphalens-keyctl
        printf '<%s>' "${{COMPREPLY[@]}}"
    """
    assert run("bash", script, keyctl, program_on_path) == f"<{key_id}>"


@pytest.mark.one_database
def test_tab_completes_commands_and_options_in_fish(keyctl: Keyctl, program_on_path: str) -> None:
    lines = ("alphalens-keyctl ro", "alphalens-keyctl rotate --gr")
    script = f"source {FOLDER / FILES['fish']}; " + "; ".join(f'complete -C "{line}"' for line in lines)
    said = run("fish", script, keyctl, program_on_path)
    assert "rotate" in said
    assert "--grace" in said


@pytest.mark.one_database
def test_the_first_tab_already_completes_in_zsh_and_runs_nothing(
    keyctl: Keyctl, program_on_path: str, tmp_path: Path
) -> None:
    _, key_id = keyctl.create("$(touch pwned)")
    functions = tmp_path / "site-functions"
    functions.mkdir()
    shutil.copy(FOLDER / FILES["zsh"], functions)
    # A zsh of its own on a pseudo-terminal, typed into and read like a person's.
    script = f"""
        zmodload zsh/zpty
        zpty shell 'zsh -f -i'
        zpty -w shell 'PS1=; fpath=({functions} $fpath); autoload -Uz compinit; compinit -u -D; print REA''DY'
        zpty -r shell line '*READY*'
        zpty -n -w shell $'alphalens-keyctl show {key_id[:4]}\t'
        sleep 2
        zpty -n -w shell $'\n'
        zpty -r shell line '*last used*' && print -r -- "$line"
    """
    said = run("zsh", script, keyctl, program_on_path)
    assert key_id in said, said
    assert not list(tmp_path.rglob("pwned"))


def test_tab_neither_creates_a_database_nor_complains_where_there_is_none(
    fresh_keyctl: Keyctl, program_on_path: str
) -> None:
    script = f"""
        source {FOLDER / FILES["bash"]}
        COMP_WORDS=(alphalens-keyctl revoke ""); COMP_CWORD=2
        _alphalens_keyctl_completion alphalens-keyctl
        printf '<%s>' "${{COMPREPLY[@]}}"
    """
    assert run("bash", script, fresh_keyctl, program_on_path) == "<>"
    assert not list(fresh_keyctl.home.rglob("*.db*"))


def test_the_wheel_installs_the_scripts_where_shells_look(tmp_path: Path) -> None:
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
