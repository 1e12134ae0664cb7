"""Errors and exit statuses: promise 10, and the closed lists that scripts compare with."""

import ast
import json
from pathlib import Path

import alphalens_keyctl
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.output.errors import error_document
from tests.support.commands import Keyctl

PACKAGE = Path(alphalens_keyctl.__file__).parent


def test_the_help_lists_every_exit_status_with_its_meaning(fresh_keyctl: Keyctl) -> None:
    """Promise 10: exact exit codes are part of what a script reads."""
    listed = " ".join(fresh_keyctl.ok("--help").stdout.split()).partition("Exit codes: ")[2]
    assert listed == ", ".join(f"{status.value} {status.meaning}" for status in ExitStatus) + "."
    assert len({status.meaning for status in ExitStatus}) == len(ExitStatus)


def test_every_exit_status_of_a_command_stands_in_one_list() -> None:
    """No command spells a status out as a number: `ExitStatus` is what `--help` and the README are compared with."""
    spelled = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in (PACKAGE / "cli").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("Exit", "exit", "SystemExit", "answer")
        and any(
            isinstance(part, ast.Constant) and isinstance(part.value, int)
            for argument in (*node.args, *(keyword.value for keyword in node.keywords))
            for part in ast.walk(argument)
        )
    ]
    assert spelled == []


def test_every_code_has_an_exit_status_that_says_failure() -> None:
    assert ExitStatus.DONE not in {code.exit_status for code in Code}
    # A refused raw key and a finding are results. What is not proven is both: there is nothing to show.
    results = {ExitStatus.REFUSED, ExitStatus.FOUND}
    assert {code for code in Code if code.exit_status in results} == {Code.UNPROVEN, Code.LOG_REPLACED}


def test_the_document_of_an_error_is_one_line_of_ascii_without_a_raw_key() -> None:
    """Promises 1 and 10."""
    raw = generate().reveal()
    error = KeyctlError(Code.CONFLICT, f"é {raw} \u202e\n", f"try {raw}")
    document = error_document(error)
    assert document.isascii()
    assert "\n" not in document
    assert raw[-20:] not in document
    told = json.loads(document)
    assert list(told) == ["error"]
    assert list(told["error"]) == ["code", "message", "hint"]
    assert told["error"]["code"] == "conflict"
    assert told["error"]["message"].startswith("é ")
