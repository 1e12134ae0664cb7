"""What `audit check` does: check every key against the policy, print the findings, and exit 0 or 5."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import typer

from alphalens_keyctl.cli.audit.check import Report
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import ExitStatus
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import policy
from alphalens_keyctl.keys.policy import Finding, Rule, Severity
from alphalens_keyctl.output import channel, findings
from alphalens_keyctl.settings import Thresholds
from alphalens_keyctl.text import one_of


def check_keys(
    run: Run, references: Sequence[str | RawKey], *, rules: Sequence[str], fail_on: str, report: Report | None
) -> None:
    """Print every finding about the keys that each KEY of `references` means, or about all keys where it is empty, of
    the rules with these ids, or of all rules where `rules` is empty.

    Exits 5 when there is a finding of the severity `fail_on` or worse. Raises `KeyctlError`.
    """
    limits = run.settings.check
    chosen = policy.chosen(rules, ignored=limits.ignore)
    least = one_of(Severity, fail_on, "severity")
    with run.manager() as manager:
        advised = _allowed(limits, manager.policy().max_lifetime)
        with manager.findings(chosen, limits, references) as broken:
            found = _Watched(broken)
            _write(run, found, chosen, report, advised)
            deque(found, maxlen=0)  # the verdict is about every finding, even when nobody reads on
    if Severity.ERROR in found.severities or (found.severities and least is Severity.WARNING):
        raise typer.Exit(ExitStatus.FOUND)


def _write(
    run: Run, found: Iterable[Finding], rules: Sequence[Rule], report: Report | None, limits: Thresholds
) -> None:
    with suppress(channel.ReaderGoneError):
        channel.write(_rendered(run, found, rules, report, limits), utf8=report is Report.JUNIT)


def _allowed(limits: Thresholds, longest: timedelta | None) -> Thresholds:
    """Return the thresholds by which a command is advised: the command must give no key a longer life than the stored
    policy allows, or the command is refused."""
    if longest is None:
        return limits
    return replace(limits, rotation_age=min(limits.rotation_age, longest), expiring=min(limits.expiring, longest / 2))


def _rendered(
    run: Run, found: Iterable[Finding], rules: Sequence[Rule], report: Report | None, limits: Thresholds
) -> Iterable[str]:
    if report is Report.JSON:
        return findings.as_json(found, limits)
    if report is Report.SARIF:
        return findings.as_sarif(found, rules, limits)
    if report is Report.JUNIT:
        return findings.as_junit(found, rules, limits)
    return findings.listed(found, rules, limits, run.screen())


class _Watched:
    """Findings on their way to the renderer, read once; `severities` holds those that passed."""

    def __init__(self, findings: Iterator[Finding]) -> None:
        self._findings = findings
        self.severities: set[Severity] = set()

    def __iter__(self) -> Iterator[Finding]:
        for finding in self._findings:
            self.severities.add(finding.rule.severity)
            yield finding
