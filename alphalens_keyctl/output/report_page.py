"""The report on a period → one HTML page: whole in itself, without scripts, for a screen, a phone and paper.

Every text from the database goes through `_e` (promise 12). The page's own policy (CSP) allows its one style sheet, by
its digest, and nothing else: no script, no picture, no request.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Final, NamedTuple

from alphalens_keyctl import __version__
from alphalens_keyctl.logs.audit import Head, Verdict
from alphalens_keyctl.logs.report import Breach, Doings, Entry, Listed, Report
from alphalens_keyctl.models import Action
from alphalens_keyctl.output import sentences
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.report_style import STYLE
from alphalens_keyctl.output.words import counted, moment
from alphalens_keyctl.settings import PROGRAM

# Keys that are named of each rule; the whole is in `audit check`.
_MOST_NAMED: Final = 20


class _Control(NamedTuple):
    """A control: its name and where it stands, what it asks, in its own words or shortly, and the sections that show
    it."""

    name: str
    standard: str
    asks: str
    shown: Sequence[str]


_CONTROLS: Final = (
    _Control(
        "IA-5d",
        "NIST SP 800-53 Rev. 5",
        "Procedures for initial authenticator distribution, for lost or compromised or damaged authenticators, and for"
        " revoking authenticators.",
        ("keys", "revocations", "ended"),
    ),
    _Control(
        "IA-5f",
        "NIST SP 800-53 Rev. 5",
        "Changing or refreshing authenticators after an organization-defined time period, or when organization-defined"
        " events occur.",
        ("ages", "breaches", "revocations"),
    ),
    _Control(
        "IA-5g",
        "NIST SP 800-53 Rev. 5",
        "Protecting authenticator content from unauthorized disclosure and modification.",
        ("verification",),
    ),
    _Control(
        "8.6.3",
        "PCI DSS 4.0",
        "Passwords/passphrases of application and system accounts are changed periodically, as the targeted risk"
        " analysis says, and upon suspicion or confirmation of compromise, and are as complex as that period asks.",
        ("ages", "revocations", "exceptions", "breaches"),
    ),
    _Control(
        "13.3.1",
        "OWASP ASVS 5.0",
        "A secrets management solution creates, stores, controls access to and destroys secrets.",
        ("keys", "actors"),
    ),
    _Control(
        "13.3.4",
        "OWASP ASVS 5.0",
        "Secrets are configured to expire and be rotated as the application's documentation says.",
        ("ages", "breaches", "exceptions"),
    ),
)
_SECTIONS: Final = {
    "verification": "The record",
    "keys": "Keys",
    "ages": "Age at rotation",
    "revocations": "Revocations",
    "exceptions": "Exceptions and overrides",
    "ended": "Use of keys that had ended",
    "breaches": "Breaches of the policy",
    "actors": "Who did what",
}
_FIGURES: Final = (
    (Action.CREATE, "made"), (Action.ACTIVATE, "came into use"), (Action.DISCARD, "given up before use"),
    (Action.ROTATE, "rotated"), (Action.ABORT, "rotations taken back"), (Action.REVOKE, "revoked"),
    (Action.SUSPEND, "suspended"), (Action.RESUME, "resumed"), (Action.UPDATE, "changed"),
)  # fmt: skip
_DID: Final = {
    Action.ROTATE: "rotated", Action.REVOKE: "revoked", Action.CREATE: "made", Action.UPDATE: "changed",
    Action.SET_POLICY: "set the policy", Action.PRUNE_USAGE: "removed rows of the usage log",
}  # fmt: skip


def page(report: Report, verdict: Verdict, source: str) -> Iterator[str]:
    """Yield the page in pieces. `verdict` is what a check of the log, up to the report's head at least, and of the keys
    found; `source` says where the keys are."""
    digest = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    title = f"API keys, {report.period.name}"
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="'
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{_e(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<p>Evidence on API keys</p>\n"
        f"<h1>{_e(report.period.name)}{'' if report.ended else ' so far'}</h1>\n"
        f"<p>{_span(report)}. Made {moment(report.made_at)} by {PROGRAM} {_e(__version__)}, from {_e(source)}.</p>\n"
        "</header>\n<main>\n"
    )
    yield _verification(report.head, verdict)
    yield from _controls()
    yield from _keys(report)
    yield from _ages(report)
    yield from _entries("revocations", report.activity.revocations, "No key was revoked.")
    yield from _entries(
        "exceptions",
        report.activity.exceptions,
        "Nothing was done against the policy, no rotation came late, and nobody changed the rules.",
        "Changes that the stored policy forbids and that somebody let through, with the reason; rotations later than "
        f"the rotation age of {_days(report.activity.ages.limit)}; changes of the rules themselves.",
        limit=report.activity.ages.limit,
    )
    yield from _ended(report)
    yield from _breaches(report.breaches, report.made_at)
    yield from _actors(report)
    yield (
        "</main>\n<footer><p>The page says what the log records. Whether a control is met, its assessor decides. "
        f"Every event of the period: <code>{PROGRAM} audit report --period {_e(report.period.name)} --csv</code></p>"
        "</footer>\n</body>\n</html>\n"
    )


def _verification(head: Head, verdict: Verdict) -> str:
    said = sentences.log_verdict(verdict, extends=False).partition(": ")[2]
    sentence = _e(said[0].upper() + said[1:])
    word, style = ("Sound", "sound") if verdict.broken is None else (f"Not sound: {verdict.broken.kind}", "broken")
    rows = [
        ("Events in the log", f"{head.seq:,}"),
        ("Last event at", "-" if head.at is None else moment(head.at)),
        ("Its hash", head.hash.hex()),
        ("Root of the tree", "-" if head.root is None else head.root.hex()),
    ]
    told = "".join(f"<tr><th scope=row>{name}</th><td><code>{value}</code></td></tr>" for name, value in rows)
    return (
        f'{_heading("verification")}<p class="verdict {style}"><strong>{word}.</strong> {sentence}</p>\n'
        "<p>The whole log was checked for this page, and every key compared with it. A log that its owner wrote anew "
        "shows only by a head that somebody else kept: the head kept must be the one below, or one before it.</p>\n"
        f'<table class="facts"><tbody>{told}</tbody></table>\n'
        f"<p>Check it again: <code>{PROGRAM} audit verify --head head.json</code></p>\n</section>\n"
    )


def _controls() -> Iterator[str]:
    yield '<section id="controls"><h2>What this page serves</h2>\n'
    yield from _table(
        ("Control", "What it asks", "Shown under"),
        (
            (
                f"<strong>{_e(each.name)}</strong><br>{_e(each.standard)}",
                _e(each.asks),
                ", ".join(f'<a href="#{section}">{_SECTIONS[section]}</a>' for section in each.shown),
            )
            for each in _CONTROLS
        ),
    )
    yield (
        "<p>An API key stands for the authenticator, or secret, of those controls. A raw key has 256 random bits, is "
        "shown once, and is kept as its SHA-256 alone.</p>\n</section>\n"
    )


def _keys(report: Report) -> Iterator[str]:
    actions = report.activity.actions
    yield _heading("keys") + '<dl class="figures">'
    for action, said in _FIGURES:
        more = f" ({report.activity.successors:,} to replace another)" if action is Action.CREATE else ""
        yield f"<div><dd>{actions.get(action.value, 0):,}</dd><dt>{said}{more}</dt></div>"
    standing = ", ".join(f"{number:,} {_e(status)}" for status, number in report.keys.items() if number)
    yield f"</dl>\n<p>At {moment(report.made_at)} there were: {standing or 'no keys'}.</p>\n</section>\n"


def _ages(report: Report) -> Iterator[str]:
    ages = report.activity.ages
    yield _heading("ages")
    if not ages.rotated:
        yield "<p>No key was rotated.</p>\n</section>\n"
        return
    yield '<dl class="figures">'
    for value, said in ((ages.shortest, "youngest"), (ages.median, "median"), (ages.longest, "oldest")):
        yield f"<div><dd>{_days(value)}</dd><dt>{said}</dt></div>"
    late = ' class="late"' if ages.beyond else ""
    yield (
        f"<div{late}><dd>{ages.beyond:,} of {ages.rotated:,}</dd><dt>later than {_days(ages.limit)}</dt></div></dl>\n"
        "<p>The age is that of the old key when its successor took over its name. The limit is "
        "<code>rotation_age</code> of the settings, as of today.</p>\n</section>\n"
    )


def _entries(
    section: str, listed: Listed, nothing: str, about: str = "", *, limit: float | None = None
) -> Iterator[str]:
    yield _heading(section) + (f"<p>{_e(about)}</p>\n" if about else "")
    if not listed.total:
        yield f"<p>{_e(nothing)}</p>\n</section>\n"
        return
    yield from _table(("When", "Key", "What, by whom", "Why"), (_entry_cells(entry, limit) for entry in listed.entries))
    yield _rest(listed.total, len(listed.entries)) + "</section>\n"


def _entry_cells(entry: Entry, limit: float | None) -> Sequence[str]:
    did = _DID.get(entry.action, entry.action)  # type: ignore[call-overload]  # a word of the log may be none of ours
    age = "" if entry.age_days is None else f", {_days(entry.age_days)} old"
    key = "-" if entry.key_id is None else f"{_b(entry.key_name or '')}<br><code>{_e(entry.key_id)}</code>"
    why = [_b(entry.reason)] if entry.reason else []
    if entry.override is not None:
        broken = f"of {_e(', '.join(entry.breaches))}" if entry.breaches else "of nothing that was broken"
        why.append(f"<strong>Override</strong> {broken}: {_b(entry.override)}")
    if entry.age_days is not None and limit is not None and entry.age_days > limit:
        why.append(f"<strong>Late</strong>: the limit is {_days(limit)}")
    return (
        f"{moment(entry.at)}<br><code>event {entry.seq}</code>",
        key,
        f"{_e(did)}{age}<br>{_b(entry.actor)}",
        "<br>".join(why) or "-",
    )


def _ended(report: Report) -> Iterator[str]:
    yield _heading("ended")
    uses = report.activity.refused_uses
    if not uses:
        yield "<p>Nobody tried a key that had ended.</p>\n</section>\n"
        return
    yield "<p>Each was refused. Attempts by the reason of the refusal, as far as the usage log goes back:</p>\n"
    yield from _table(
        ("The key was", "Attempts", "Keys", "The last"),
        ((_e(use.outcome), f"{use.attempts:,}", f"{use.keys:,}", moment(use.last_at)) for use in uses),
    )
    yield "</section>\n"


def _breaches(breaches: Sequence[Breach], at: datetime) -> Iterator[str]:
    yield _heading("breaches") + f"<p>As of {moment(at)}; no earlier instant can be told.</p>\n"
    if not breaches:
        yield "<p>No key breaks a rule.</p>\n</section>\n"
        return
    yield from _table(("Rule", "Keys", "Which"), map(_breach_cells, breaches))
    yield "</section>\n"


def _breach_cells(breach: Breach) -> Sequence[str]:
    named = breach.named[:_MOST_NAMED]
    rest = breach.keys - len(named)
    which = ", ".join(f"{_b(key.name)} <code>{_e(key.id)}</code>" for key in named)
    return (
        f"<strong>{_e(breach.severity)}</strong>: {_e(breach.problem)}<br><code>{_e(breach.rule)}</code>",
        f"{breach.keys:,}",
        which + (f", and {counted(rest, 'other')}" if rest > 0 else ""),
    )


def _actors(report: Report) -> Iterator[str]:
    yield _heading("actors")
    activity = report.activity
    if not activity.actors:
        yield "<p>Nobody did anything.</p>\n</section>\n"
        return
    yield from _table(("Actor", "Events", "Of which"), map(_doings_cells, activity.actors))
    yield _rest(activity.actors_total, len(activity.actors)) + "</section>\n"


def _doings_cells(doings: Doings) -> Sequence[str]:
    of_which = ", ".join(f"{number:,} {_e(action)}" for action, number in doings.actions.items())
    return _b(doings.actor), f"{doings.events:,}", of_which


def _heading(section: str) -> str:
    return f'<section id="{section}"><h2>{_SECTIONS[section]}</h2>\n'


def _rest(total: int, listed: int) -> str:
    return f"<p>The first {listed:,} of {total:,}; <code>--csv</code> has all.</p>\n" if total > listed else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of cells that are HTML. The roles stay where a phone shows each row as a block."""
    names = "".join(f'<th role="columnheader" scope="col">{_e(head)}</th>' for head in heads)
    yield f'<table role="table"><thead role="rowgroup"><tr role="row">{names}</tr></thead>\n<tbody role="rowgroup">\n'
    for row in rows:
        cells = (
            f'<td role="cell" data-head="{_e(head)}"><div>{cell}</div></td>'
            for head, cell in zip(heads, row, strict=True)
        )
        yield f'<tr role="row">{"".join(cells)}</tr>\n'
    yield "</tbody></table>\n"


def _span(report: Report) -> str:
    first, last = report.period.since, report.period.until - timedelta(days=1)
    if first == last:
        return f"{first:%Y-%m-%d}, UTC"
    return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}, UTC"


def _days(days: float | None) -> str:
    if days is None:
        return "-"
    return f"{days:,.0f} days" if days >= 10 else f"{days:g} {'day' if days == 1 else 'days'}"


def _b(text: str) -> str:
    """A text of somebody's, which may run from right to left, without moving what stands beside it."""
    return f"<bdi>{_e(text)}</bdi>"


def _e(text: str) -> str:
    return escape(for_terminal(text))
