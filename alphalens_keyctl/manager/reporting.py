"""The report on a period: what the logs say of it, and what the keys are now."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from sqlalchemy import Connection

from alphalens_keyctl.keys import census, policy
from alphalens_keyctl.keys.policy import Finding, Rule
from alphalens_keyctl.logs import audit, report
from alphalens_keyctl.logs.report import Breach, Entry, KeyNamed, Report
from alphalens_keyctl.manager.access import Access
from alphalens_keyctl.manager.rights import Rights
from alphalens_keyctl.moments import Period
from alphalens_keyctl.settings import Thresholds


def made(access: Access, period: Period, rules: Sequence[Rule], limits: Thresholds) -> Report:
    """The report on a period, for a caller who may see everything."""
    with access.reading() as (connection, rights, act):
        _require_all(rights)
        head = audit.head(connection)
        activity = report.activity(connection, period, limits.rotation_age)
        keys = {status.value: number for status, number in census.by_status(connection, act.at).items()}
        breaches = list(_breaches(policy.check(connection, rules, limits, now=act.at)))
        return Report(period, act.at, head, keys, activity, breaches)


def entries(connection: Connection, rights: Rights, period: Period) -> Iterator[Entry]:
    """Every event of a period, for a caller who may see everything."""
    _require_all(rights)
    return report.entries(connection, period)


def _require_all(rights: Rights) -> None:
    rights.require_all("report on the keys", to_see=True)


def _breaches(findings: Iterable[Finding]) -> Iterator[Breach]:
    """The findings, which come rule by rule, as the report has them."""
    for rule, found in groupby(findings, key=lambda finding: finding.rule):
        number, named = 0, list[KeyNamed]()
        for each in found:
            number += 1
            if len(named) < report.MOST_LISTED:
                named.append(KeyNamed(each.key_id, each.key_name, each.owner, each.status))
        yield Breach(rule.id, rule.severity.value, rule.problem, number, named)
