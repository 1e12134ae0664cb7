"""The findings of `audit check` → a list for people, JSON, SARIF for code scanning, JUnit XML for CI."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from rich.text import Text

from alphalens_keyctl import __version__
from alphalens_keyctl.keys.policy import Finding, Rule, Severity
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.screen import Screen, cell
from alphalens_keyctl.output.words import counted

# Keys that the list names for each rule; the machine formats name all.
_MOST_NAMED: Final = 20
# The schema of SARIF 2.1.0 (OASIS), at the address that GitHub's code scanning documents.
_SARIF: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_PROGRAM: Final = "alphalens-keyctl"


def listed(findings: Iterable[Finding], rules: Sequence[Rule], screen: Screen) -> str:
    """Return the findings rule by rule, with the first keys of each, as text for `screen`.

    The findings come ordered by rule.
    """
    parts: list[Text] = []
    numbers: Counter[Severity] = Counter()
    for rule, group in groupby(findings, key=lambda finding: finding.rule):
        lines, count = [], 0
        for count, finding in enumerate(group, 1):
            if count <= _MOST_NAMED:
                owner = f", owner {finding.owner}" if finding.owner else ""
                lines.append(cell(f"  {finding.key_name} ({finding.key_id}, {finding.status}{owner})"))
        numbers[rule.severity] += count
        style = "bold red" if rule.severity is Severity.ERROR else "bold yellow"
        parts.append(Text(f"{rule.severity} {rule.id}: {counted(count, 'key')}, {rule.problem}", style=style))
        parts += lines
        parts += [Text(f"  and {count - _MOST_NAMED:,} more", style="dim")] if count > _MOST_NAMED else []
        parts.append(Text(f"  {rule.advice}", style="dim"))
    kept = counted(len(rules), "rule")
    total = f"{counted(numbers[Severity.ERROR], 'error')}, {counted(numbers[Severity.WARNING], 'warning')} by {kept}"
    return screen.draw(*parts, Text(total if parts else f"Nothing found by {kept}.", style="dim"))


def as_json(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield one JSON document, `{"findings": […], "errors": …, "warnings": …}`, in pieces."""
    numbers: Counter[Severity] = Counter()
    yield '{"findings": ['
    for number, finding in enumerate(findings):
        numbers[finding.rule.severity] += 1
        yield (", " if number else "") + json.dumps(_object(finding))
    yield f'], "errors": {numbers[Severity.ERROR]}, "warnings": {numbers[Severity.WARNING]}}}\n'


def as_sarif(findings: Iterable[Finding], rules: Sequence[Rule]) -> Iterator[str]:
    """Yield one SARIF 2.1.0 document in pieces: one run, with a result for each finding.

    A result of SARIF is about a file; the key's id stands in for the path.
    """
    driver = {
        "name": _PROGRAM,
        "version": __version__,
        "rules": [
            {
                "id": rule.id,
                "shortDescription": {"text": rule.problem},
                "fullDescription": {"text": f"A key: {rule.problem}. {rule.advice}"},
                "help": {"text": rule.advice},
                "defaultConfiguration": {"level": rule.severity.value},
            }
            for rule in rules
        ],
    }
    tool = json.dumps({"driver": driver})
    yield f'{{"$schema": "{_SARIF}", "version": "2.1.0", "runs": [{{"tool": {tool}, "results": ['
    for number, finding in enumerate(findings):
        yield (", " if number else "") + json.dumps(_result(finding))
    yield "]}]}\n"


def as_junit(findings: Iterable[Finding], rules: Sequence[Rule]) -> Iterator[str]:
    """Yield one JUnit XML document in pieces: a test suite with a case for each rule, failed when a key breaks it."""
    broken: dict[Rule, list[str]] = {}
    for finding in findings:
        broken.setdefault(finding.rule, []).append(_line(finding))
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield f'<testsuite name="{_PROGRAM} audit check" tests="{len(rules)}" failures="{len(broken)}">\n'
    for rule in rules:
        yield f'<testcase classname="{rule.severity}" name={quoteattr(rule.id)}'
        if rule not in broken:
            yield "/>\n"
            continue
        message = f"{counted(len(broken[rule]), 'key')}, {rule.problem}. {rule.advice}"
        yield f'>\n<failure type="{rule.severity}" message={quoteattr(message)}>'
        yield from (escape(line) + "\n" for line in broken[rule])
        yield "</failure>\n</testcase>\n"
    yield "</testsuite>\n"


def _object(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule.id,
        "severity": finding.rule.severity.value,
        "key_id": finding.key_id,
        "key_name": finding.key_name,
        "owner": finding.owner,
        "status": finding.status,
        "problem": finding.rule.problem,
        "advice": finding.rule.advice,
    }


def _result(finding: Finding) -> dict[str, Any]:
    return {
        "ruleId": finding.rule.id,
        "level": finding.rule.severity.value,
        "message": {"text": _line(finding)},
        "locations": [
            {
                # GitHub's code scanning shows no result without a line number.
                "physicalLocation": {
                    "artifactLocation": {"uri": f"api-keys/{finding.key_id}"},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [{"name": for_terminal(finding.key_name), "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"keyAndRule/v1": f"{finding.key_id}/{finding.rule.id}"},
    }


def _line(finding: Finding) -> str:
    return for_terminal(f"key '{finding.key_name}' ({finding.key_id}, {finding.status}): {finding.rule.problem}")
