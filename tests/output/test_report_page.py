"""The report's page: whole in itself, and inert whatever texts it shows. Promise 12."""

import hashlib
import re
from base64 import b64encode
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Final

from alphalens_keyctl.logs.audit import Break, BreakKind, Head, Verdict
from alphalens_keyctl.logs.report import (
    Activity,
    Ages,
    Breach,
    Doings,
    Entry,
    KeyNamed,
    Listed,
    RefusedUse,
    Report,
)
from alphalens_keyctl.models import Action
from alphalens_keyctl.moments import Period
from alphalens_keyctl.output import report_documents, report_page
from tests.support.hostile import HOSTILE_TEXT

AT: Final = datetime(2026, 7, 1, tzinfo=UTC)
TEXTS: Final = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "</style></td></table>", "&lt;b&gt;", "=cmd()",
    "כשר", "javascript:alert(1)", HOSTILE_TEXT,
)  # fmt: skip
HEAD: Final = Head(9, b"\x0f" * 32, AT, b"\xf0" * 32)
SOUND: Final = Verdict(9, HEAD, None)
VOID: Final = {"meta", "br"}
EMPTY: Final = Activity({}, 0, Ages(0, None, None, None, 90.0, 0), Listed(0, []), Listed(0, []), [], 0, [])


def report(text: str, *, until: datetime = datetime(2026, 10, 1, tzinfo=UTC)) -> Report:
    """A report with this text in every place that has one of somebody's."""
    entry = Entry(1, AT, Action.ROTATE, text, text, text, text, text, (text, "owner"), 100.5, b"\1" * 32)
    other = entry._replace(action=text, override=None, key_id=None, key_name=None, age_days=None)
    return Report(
        Period("2026-Q3", AT, until),
        datetime(2026, 11, 26, tzinfo=UTC),
        HEAD,
        {"active": 3, text: 1},
        Activity(
            {Action.CREATE: 4, Action.ROTATE: 1},
            1,
            Ages(1, 100.5, 100.5, 100.5, 90.0, 1),
            Listed(1, [entry]),
            Listed(300, [entry, other]),
            [Doings(text, 3, {text: 3})],
            7,
            [RefusedUse(text, 4, 2, AT)],
        ),
        [Breach(text, "error", text, 30, [KeyNamed(text, text, text, "active")])],
    )


class Page(HTMLParser):
    """A page as a browser reads it: its elements and their attributes, its text."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self._open: list[str] = []
        self.feed(document)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.said.append(data)

    @property
    def text(self) -> str:
        return "".join(self.said)


def test_whatever_a_text_says_the_page_has_the_same_elements_and_shows_the_text() -> None:
    plain = Page("".join(report_page.page(report("plain"), SOUND, "plain")))
    for text in TEXTS:
        document = "".join(report_page.page(report(text), SOUND, text))
        page = Page(document)
        assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements], text
        assert text is HOSTILE_TEXT or page.text.count(text) == plain.text.count("plain"), text
        assert not set(document) & set("\x1b\x07\u202e")


def test_the_page_loads_and_runs_nothing() -> None:
    document = "".join(report_page.page(report("x"), SOUND, "x"))
    page = Page(document)
    assert {tag for tag, _ in page.elements} <= {
        "html", "head", "meta", "title", "style", "body", "header", "main", "section", "footer", "h1", "h2", "p", "a",
        "table", "thead", "tbody", "tr", "th", "td", "div", "dl", "dd", "dt", "code", "strong", "bdi", "br",
    }  # fmt: skip
    attributes = {name for _, given in page.elements for name in given}
    assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "srcset")]
    ids = {given["id"] for _, given in page.elements if "id" in given}
    links = {str(given["href"]) for _, given in page.elements if "href" in given}
    assert links
    assert links <= {f"#{name}" for name in ids}
    (style,) = re.findall(r"<style>(.*?)</style>", document, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [given["content"] for _, given in page.elements if given.get("http-equiv")]
    allowed = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"


def test_the_page_says_what_the_log_is_and_whether_the_period_is_over() -> None:
    """Promise 7."""
    sound = Page("".join(report_page.page(report("x"), SOUND, "database /keys.db")))
    assert "Sound. 9 events, each following the one before." in sound.text
    assert HEAD.hash.hex() in sound.text
    assert "\u00f0" not in sound.text
    assert "Not sound" not in sound.text
    assert "so far" not in sound.text
    assert "database /keys.db" in sound.text
    for part in (
        "1 of 1later than 90 days",
        "100 days old",
        "Override of x, owner: x",
        "Late: the limit is 90 days",
        "The first 2 of 300; --csv has all.",
        "The first 1 of 7; --csv has all.",
        "and 29 others",
    ):
        assert part in sound.text, part
    going_on = report("x", until=datetime(2026, 12, 1, tzinfo=UTC))
    broken = SOUND._replace(broken=Break(4, BreakKind.ALTERED))
    page = Page("".join(report_page.page(going_on, broken, "x")))
    assert "Not sound: altered. Event 4 is not what was written" in page.text
    assert "2026-Q3 so far" in page.text
    nothing = "".join(report_page.page(report("x")._replace(activity=EMPTY, breaches=[]), SOUND, "x"))
    for said in ("No key was revoked.", "No key was rotated.", "Nobody did anything.", "No key breaks a rule."):
        assert said in nothing


def test_the_csv_runs_in_no_spreadsheet() -> None:
    listed = report("=cmd()").activity.exceptions.entries
    rows = "".join(report_documents.entry_rows(listed)).splitlines()
    assert rows[0] == "seq,at,action,actor,key_id,key_name,reason,override,breaches,age_days,hash"
    assert rows[1].startswith("1,2026-07-01T00:00:00.000000Z,key.rotate,'=cmd(),'=cmd(),")
    assert ",100.5," in rows[1]
    assert len(rows) == 3
