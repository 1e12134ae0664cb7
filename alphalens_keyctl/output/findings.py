"""The findings of `audit check` → a list for people, key by key, JSON, SARIF for code scanning, JUnit XML for CI."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final
from xml.sax.saxutils import escape, quoteattr

from rich.table import Table
from rich.text import Text

from alphalens_keyctl import __version__
from alphalens_keyctl.keys.policy import Finding, Rule, Severity
from alphalens_keyctl.output.advice import command, days, placeholders, problem
from alphalens_keyctl.output.fitting import folded
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.screen import Screen, cell
from alphalens_keyctl.output.words import counted
from alphalens_keyctl.settings import PROGRAM, Thresholds

# Keys that the list names; the machine formats name all.
_MOST_KEYS: Final = 100
_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow"}
_LONGEST_SEVERITY: Final = max(map(len, Severity))
_IN_MEMORY: Final = 1 << 20  # bytes
# The schema of SARIF 2.1.0 (OASIS), at the address that GitHub's code scanning documents.
_SARIF: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def listed(findings: Iterable[Finding], rules: Sequence[Rule], limits: Thresholds, screen: Screen) -> Iterator[str]:
    """Yield the findings key by key as text for `screen`: the key, its problems, and one command line to paste.

    The findings come ordered by rule. Of more than `_MOST_KEYS` keys the first are listed, each with all its problems.
    """
    keys: dict[str, list[Finding]] = {}
    numbers: Counter[Severity] = Counter()
    unlisted = 0
    for finding in findings:
        numbers[finding.rule.severity] += 1
        if finding.key_id in keys or len(keys) < _MOST_KEYS:
            keys.setdefault(finding.key_id, []).append(finding)
        else:
            unlisted += 1
    to_replace: dict[str, None] = {}
    for broken in keys.values():
        line = command(broken, limits)
        to_replace |= dict.fromkeys(placeholders(line))
        yield _of_a_key(broken, line, screen)
    remarks = []
    if unlisted:
        remarks.append(f"and {counted(unlisted, 'finding')} about other keys: --json lists all")
    if to_replace:
        remarks.append(f"Put your own words for {', '.join(to_replace)}.")
    kept = counted(len(rules), "rule")
    total = f"{counted(numbers[Severity.ERROR], 'error')}, {counted(numbers[Severity.WARNING], 'warning')} by {kept}"
    remarks.append(total if keys else f"Nothing found by {kept}.")
    yield screen.draw(*(Text(remark, style="dim") for remark in remarks))


def as_json(findings: Iterable[Finding], limits: Thresholds) -> Iterator[str]:
    """Yield one JSON document, `{"findings": […], "errors": …, "warnings": …}`, in pieces."""
    numbers: Counter[Severity] = Counter()
    yield '{"findings": ['
    for number, finding in enumerate(findings):
        numbers[finding.rule.severity] += 1
        yield (", " if number else "") + json.dumps(_object(finding, limits))
    yield f'], "errors": {numbers[Severity.ERROR]}, "warnings": {numbers[Severity.WARNING]}}}\n'


def as_sarif(findings: Iterable[Finding], rules: Sequence[Rule], limits: Thresholds) -> Iterator[str]:
    """Yield one SARIF 2.1.0 document in pieces: one run, with a result for each finding.

    A result of SARIF is about a file; the key's id stands in for the path.
    """
    driver = {
        "name": PROGRAM,
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
        yield (", " if number else "") + json.dumps(_result(finding, limits))
    yield "]}]}\n"


def as_junit(findings: Iterable[Finding], rules: Sequence[Rule], limits: Thresholds) -> Iterator[str]:
    """Yield one JUnit XML document in pieces: a test suite with a case for each rule, failed when a key breaks it.

    The findings come ordered by rule. How many there are stands before them, so they wait in a file.
    """
    with SpooledTemporaryFile(max_size=_IN_MEMORY) as waiting:
        broken: dict[Rule, tuple[int, int]] = {}  # how many keys break the rule, and how many bytes tell of them
        for rule, group in groupby(findings, key=lambda finding: finding.rule):
            sizes = Counter(waiting.write(f"{escape(_line(finding, limits))}\n".encode()) for finding in group)
            broken[rule] = sizes.total(), sum(size * times for size, times in sizes.items())
        waiting.seek(0)
        yield '<?xml version="1.0" encoding="UTF-8"?>\n'
        yield f'<testsuite name="{PROGRAM} audit check" tests="{len(rules)}" failures="{len(broken)}">\n'
        for rule in rules:
            yield f'<testcase classname="{rule.severity}" name={quoteattr(rule.id)}'
            if rule not in broken:
                yield "/>\n"
                continue
            count, size = broken[rule]
            message = f"{counted(count, 'key')}, {rule.problem}. {rule.advice}"
            yield f'>\n<failure type="{rule.severity}" message={quoteattr(message)}>'
            yield from _decoded(waiting, size)
            yield "</failure>\n</testcase>\n"
        yield "</testsuite>\n"


def _decoded(waiting: IO[bytes], size: int) -> Iterator[str]:
    end = waiting.tell() + size
    while waiting.tell() < end:
        yield waiting.readline().decode()


def _of_a_key(broken: Sequence[Finding], line: str, screen: Screen) -> str:
    key = broken[0]
    owner = f", owner {key.owner}" if key.owner else ""
    name = "\n".join(folded(for_terminal(key.key_name), screen.width))
    about = cell(f" ({key.key_id}, {key.status}{owner})")
    about = Text.assemble((name, "bold"), about, overflow="fold")
    problems = Table.grid(padding=(0, 2, 0, 0))
    for each in broken:
        severity = Text(f"  {each.rule.severity:{_LONGEST_SEVERITY}}", style=_STYLES[each.rule.severity])
        problems.add_row(severity, Text.assemble(problem(each), "  ", (each.rule.id, "dim")))
    # A command line is not drawn by Rich, which would break it at the screen's edge: it is there to be pasted.
    return f"{screen.draw(about, problems)}  {screen.paint(line, 'cyan')}\n\n"


def _object(finding: Finding, limits: Thresholds) -> dict[str, Any]:
    return {
        "rule": finding.rule.id,
        "severity": finding.rule.severity.value,
        "key_id": finding.key_id,
        "key_name": finding.key_name,
        "owner": finding.owner,
        "status": finding.status,
        "problem": finding.rule.problem,
        "advice": finding.rule.advice,
        **_measured(finding, limits),
    }


def _measured(finding: Finding, limits: Thresholds) -> dict[str, Any]:
    """What a finding says in numbers, which are in days, and the command line against it."""
    return {"value": days(finding.value), "limit": days(finding.limit), "command": command([finding], limits)}


def _result(finding: Finding, limits: Thresholds) -> dict[str, Any]:
    return {
        "ruleId": finding.rule.id,
        "level": finding.rule.severity.value,
        "message": {"text": _line(finding, limits)},
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
        "properties": _measured(finding, limits),
    }


def _line(finding: Finding, limits: Thresholds) -> str:
    key = f"key '{finding.key_name}' ({finding.key_id}, {finding.status})"
    return for_terminal(f"{key}: {problem(finding)}. {command([finding], limits)}")
