"""TAB in the real shells. Promise 12: what is completed selects what it names, and runs nothing."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.commands import Keyctl
from tests.support.shells import SCRIPTS, SHELLS, Program, Shell

# Names on which one shell or another would act, could it. `touch pwned` would leave a file where the shell works.
HOSTILE: Final = (
    "two words", "it's", '"quoted"', "'q'\"$HOME\"!'", "$(touch pwned)", "`touch pwned`", ";touch pwned",
    "a&touch pwned", "a|touch pwned", ">pwned", "<in", "*", "?", "a[1]", "{a,b}", "!!", "!x", "a!b", "^a^b", "#x",
    "=ls", "%self", "x=~y", "a\\b", "ends\\", "$HOME", "${HOME}", "(x)", "a:b c", "x=y z", "me@host", "ünï ✓", "אב",
    "a'b\\c", "--% x", "’smart",
)  # fmt: skip
QUOTES: Final = ("", "'", '"')
# What stands for itself under one kind of quotes and not under the other.
UNDER_QUOTES: Final = frozenset("'\"$`!\\")


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_selects_a_hostile_name_under_every_quote_and_runs_nothing(shell: str, tmp_path: Path) -> None:
    """Promise 12: quoted by the shell's own means, the name arrives as the one argument it is."""
    program = Program.noting(tmp_path, [f"{name}\tactive, ops" for name in HOSTILE])
    with Shell(shell, program) as session:
        for number, name in enumerate(HOSTILE, 1):
            for quote in QUOTES if UNDER_QUOTES & set(name) else QUOTES[:1]:
                session.type(f"alphalens-keyctl show {number} {quote}\t\r")
                session.wait_for("noted")
                assert program.runs[-1] == ["show", str(number), name], (quote, session.wait_for("ready>"))
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_never_makes_a_home_folder_of_a_name_that_begins_with_a_tilde(shell: str, tmp_path: Path) -> None:
    """Promise 12. fish would insert it bare, so there it is offered only behind a quote."""
    program = Program.noting(tmp_path, ["~root\tactive"])
    with Shell(shell, program) as session:
        for quote in QUOTES:
            session.type(f"alphalens-keyctl show 1 {quote}\t\r")
            session.wait_for("noted")
            assert program.runs[-1] == ["show", "1", *([] if shell == "fish" and not quote else ["~root"])], quote


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_goes_on_in_the_middle_of_a_name(shell: str, tmp_path: Path) -> None:
    """What is typed already may be quoted in any way, hold what readline takes for the end of a word, or be written in
    another letter case than the name."""
    cases = {
        r"a\ ": "a b:c", "'a b':": "a b:c d", '"a \\$': "a $b c", "'a \"": 'a "b', r"'it'\''": "it's so",
        "ORD": "orders", "ü": "Ünï x",
        "--owner=": "--owner=ops team", '--owner="': "--owner=$(x) y", "--label=team:": "--label=team:a=b c",
    }  # fmt: skip
    program = Program.noting(tmp_path, [f"{name}\tactive" for name in cases.values()])
    with Shell(shell, program) as session:
        for number, (typed, name) in enumerate(cases.items(), 1):
            if shell == "fish" and typed == '--owner="':
                continue  # fish completes nothing where a quote opens inside a word
            session.type(f"alphalens-keyctl show {number} {typed}\t\r")
            session.wait_for("noted")
            assert program.runs[-1] == ["show", str(number), name], typed


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_behind_a_comma_offers_what_may_follow(shell: str, tmp_path: Path) -> None:
    program = Program.noting(tmp_path, ["name,owner\t", "name,owner\t", "name,owner,replaced_by\t"])
    with Shell(shell, program) as session:
        for number, typed in enumerate(("name,", "name,ow", "name,owner,repl"), 1):
            session.type(f"alphalens-keyctl show {number} {typed}\t\r")
            shown = session.wait_for("noted")
            assert program.runs[-1][2] == ("name,owner,replaced_by" if number == 3 else "name,owner")
            assert "\\," not in shown


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_shows_what_there_is_with_its_description(shell: str, tmp_path: Path) -> None:
    program = Program.noting(
        tmp_path, ["orders-a\tactive, ops", "orders-b\tsuspended, $(touch pwned)"], all_at_once=True
    )
    with Shell(shell, program) as session:
        session.type("alphalens-keyctl show or\t\t" + ("\t" if shell == "bash" else ""))
        session.wait_for("active, ops")
        session.wait_for("suspended, $(touch pwned)")
        if shell == "bash":  # the others have a list to walk through, which goes by itself
            session.type("b\r")
            session.wait_for("noted")
            assert program.runs == [["show", "orders-b"]]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_inserts_nothing_of_names_that_differ_beyond_the_width_of_the_terminal(shell: str, tmp_path: Path) -> None:
    """What is cut to be shown is not what is inserted."""
    long = "x" * 130
    program = Program.noting(tmp_path, [f"{long}a\tactive", f"{long}b\tactive"], all_at_once=True)
    with Shell(shell, program) as session:
        session.type("alphalens-keyctl show x\tb\r")
        session.wait_for("noted")
    assert program.runs == [["show", f"{long}b"]]


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_offers_files_only_where_a_file_is_meant(shell: str, tmp_path: Path) -> None:
    program = Program.noting(tmp_path, [":files", ":files", "word\t"])
    with Shell(shell, program) as session:
        (tmp_path / "home" / "a file").touch()
        for number, typed, there in ((1, "a", "a file"), (2, "--key-file=a", "--key-file=a file"), (3, "", "word")):
            session.type(f"alphalens-keyctl create {number} {typed}\t\r")
            session.wait_for("noted")
            assert program.runs[-1] == ["create", str(number), there]


@pytest.mark.one_database
@pytest.mark.parametrize("shell", SHELLS)
def test_the_first_tab_of_a_session_completes_a_key_of_the_database(shell: str, keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 12: end to end, with the program itself."""
    keyctl.create("$(touch pwned) it's")
    program = Program.real(tmp_path)
    with Shell(shell, program, {"ALPHALENS_KEYCTL_DATABASE_URL": str(keyctl.database_url)}) as session:
        session.type("alphalens-keyctl show \\$\t\r")
        session.wait_for("noted")
        session.type("alphalens-keyctl sh\t x --js\t\r")
        session.wait_for("noted")
    assert program.runs == [["show", "$(touch pwned) it's"], ["show", "x", "--json"]]
    assert not list(tmp_path.rglob("pwned"))


def test_the_script_for_powershell_is_one_that_powershell_can_read() -> None:
    """No package of PowerShell can be had here, so its grammar stands for it; what the script does is read, not run."""
    import tree_sitter
    import tree_sitter_powershell

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    tree = parser.parse((SCRIPTS / "alphalens-keyctl.ps1").read_bytes())
    assert not tree.root_node.has_error


def test_tab_selects_a_hostile_name_in_powershell(tmp_path: Path) -> None:
    """Promise 12, where PowerShell is installed."""
    if (powershell := shutil.which("pwsh")) is None:
        pytest.skip("needs pwsh, which is in none of the registries that the tests install from")
    Program.noting(tmp_path, [f"{name}\tactive, ops" for name in HOSTILE])
    lines = [f". '{SCRIPTS / 'alphalens-keyctl.ps1'}'"]
    for number in range(1, len(HOSTILE) + 1):
        lines += [
            f"$line = 'alphalens-keyctl show {number} '",
            "$found = (TabExpansion2 -inputScript $line -cursorColumn $line.Length).CompletionMatches",
            "Invoke-Expression ($line + $found[0].CompletionText)",
        ]
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "FOLDER": str(tmp_path)}
    subprocess.run(
        [powershell, "-NoProfile", "-Command", "\n".join(lines)], env=environment, cwd=tmp_path, check=True, timeout=60
    )
    assert Program(tmp_path).runs == [["show", str(number), name] for number, name in enumerate(HOSTILE, 1)]
    assert not list(tmp_path.rglob("pwned"))
