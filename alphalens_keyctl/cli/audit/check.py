"""`audit check`: check every key against the policy."""

from enum import StrEnum
from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption, parse_key
from alphalens_keyctl.cli.options.groups import Panel
from alphalens_keyctl.cli.options.guards import KeysArgument
from alphalens_keyctl.errors import Code, KeyctlError


class Report(StrEnum):
    """A machine format of `audit check`; its value is the name of its option."""

    JSON = "json"
    SARIF = "sarif"
    JUNIT = "junit"


def check(
    ctx: typer.Context,
    keys: KeysArgument = None,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="ID", show_default=False, help="Check only this rule; repeat for more."),
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option(
            "--fail-on", metavar="SEVERITY", help="Exit 5 for a finding of this severity or worse: warning or error."
        ),
    ] = "warning",
    json: JsonOption = False,
    sarif: Annotated[
        bool, typer.Option("--sarif", rich_help_panel=Panel.OUTPUT, help="Print SARIF 2.1.0, for code scanning.")
    ] = False,
    junit: Annotated[
        bool, typer.Option("--junit", rich_help_panel=Panel.OUTPUT, help="Print JUnit XML, for CI.")
    ] = False,
) -> None:
    """Check every key against the policy, or the keys that are named; exit 5 when one breaks a rule.

    Says of each such key what is wrong, in numbers, and one command line to paste that puts it right.

    The table `check` of config.toml sets the limits: rotation_age, unused, never_used, expiring, suspended, owners,
    ignore.

    Examples:
      alphalens-keyctl audit check --fail-on error
      alphalens-keyctl audit check --rule expiring --json
      alphalens-keyctl audit check billing
    """
    run = runs.of(ctx)
    reports = [Report(name) for name, wanted in (("json", json), ("sarif", sarif), ("junit", junit)) if wanted]
    if len(reports) > 1:
        raise KeyctlError(Code.USAGE, "--json, --sarif and --junit exclude each other", "Choose one output format.")
    from alphalens_keyctl.cli.audit import check_keys

    references = [parse_key(key) for key in keys or ()]
    check_keys.check_keys(run, references, rules=rule or (), fail_on=fail_on, report=reports[0] if reports else None)
