"""The README and the topics of `help` as the tests read them: the documents."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.commands import ROOT

TOPICS: Final = ROOT / "alphalens_keyctl" / "docs"
PATHS: Final = (ROOT / "README.md", *sorted(TOPICS.glob("*.md")))
DOCUMENTS: Final = {path.stem: path.read_text() for path in PATHS}
_BLOCK: Final = re.compile(r"(?:<!-- ([a-z -]+) -->\n)?```([a-z]*)\n(.*?)```\n", re.DOTALL)


class Block(NamedTuple):
    """Code in a document: the marker above it, or None, its language and its lines."""

    marker: str | None
    language: str
    text: str


def blocks(document: str) -> list[Block]:
    """The code of a document, in order."""
    return [Block(marker or None, language, text) for marker, language, text in _BLOCK.findall(DOCUMENTS[document])]


def section(title: str) -> str:
    """The text under a heading of one of the documents, up to the next one: `#` alone begins a remark in an example."""
    found = [
        match[2]
        for text in DOCUMENTS.values()
        if (match := re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{2,3}} |\Z)", text, re.M | re.S)) is not None
    ]
    assert len(found) == 1, (title, len(found))
    return found[0]


def block(marker: str, language: str) -> str:
    """The code that stands below a marker, `<!-- marker -->`; the same wherever it stands."""
    found = {
        each.text
        for document in DOCUMENTS
        for each in blocks(document)
        if (each.marker, each.language) == (marker, language)
    }
    assert len(found) == 1, (marker, len(found))
    return found.pop()


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """`text` with each of these replaced. What is replaced must stand in it once, so that nothing else changes."""
    for there, here in changes.items():
        assert text.count(there) == 1, there
        text = text.replace(there, here)
    return text


def links(path: Path) -> list[str]:
    """The targets of a document's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", path.read_text())
