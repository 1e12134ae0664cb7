"""`audit check`: keys that are not as they should be."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption, one_of
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError

if TYPE_CHECKING:
    from alphalens_keyctl.keys.policy import Finding, Severity


def check(
    ctx: typer.Context,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="ID", show_default=False, help="Only this rule; repeat for more."),
    ] = None,
    fail_on: Annotated[
        str, typer.Option("--fail-on", metavar="SEVERITY", help="warning, or error: exit 5 from there on.")
    ] = "warning",
    json: JsonOption = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0, for code scanning.")] = False,
    junit: Annotated[bool, typer.Option("--junit", help="Print JUnit XML, for CI.")] = False,
) -> None:
    """Check every key against the policy; exit 5 when one breaks a rule.

    The table `check` of config.toml says when: rotation_age, unused, never_used, expiring, suspended, owners, ignore.
    """
    run = runs.of(ctx)
    from alphalens_keyctl.keys import policy
    from alphalens_keyctl.output import channel, findings

    if sum((json, sarif, junit)) > 1:
        raise KeyctlError(Code.USAGE, "--json, --sarif and --junit exclude each other", "Choose one output format.")
    limits = run.settings.check
    rules = policy.chosen(rule or (), ignored=limits.ignore)
    least = one_of(policy.Severity, fail_on, "severity")
    with run.database() as database, database.reading() as connection:
        found = _Watched(policy.check(connection, rules, limits, now=run.act.at))
        if json:
            pieces: Iterable[str] = findings.as_json(found)
        elif sarif:
            pieces = findings.as_sarif(found, rules)
        elif junit:
            pieces = findings.as_junit(found, rules)
        else:
            pieces = [findings.listed(found, rules, run.screen())]
        with suppress(channel.ReaderGoneError):
            channel.write(pieces, utf8=junit)
        deque(found, maxlen=0)  # the verdict is about all of them, whoever still reads
    if policy.Severity.ERROR in found.severities or (found.severities and least is policy.Severity.WARNING):
        raise typer.Exit(ExitStatus.FOUND)


class _Watched:
    """Findings on their way to the renderer, which are read once; and how bad the worst were."""

    def __init__(self, findings: "Iterator[Finding]") -> None:
        self._findings = findings
        self.severities: set[Severity] = set()

    def __iter__(self) -> "Iterator[Finding]":
        for finding in self._findings:
            self.severities.add(finding.rule.severity)
            yield finding
