"""The README as the tests read it."""

import re
from collections.abc import Mapping
from typing import Final

from tests.support.commands import ROOT

README: Final = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text under a heading, up to the next one: `#` alone begins a comment in an example."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{2,3}} |\Z)", README, re.M | re.S)
    assert match is not None, title
    return match[2]


def block(marker: str, language: str) -> str:
    """The code that stands below a marker, `<!-- marker -->`."""
    match = re.search(rf"<!-- {marker} -->\n```{language}\n(.*?)```", README, re.S)
    assert match is not None, marker
    return match[1]


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """`text` with each of these replaced. What is replaced must stand in it once, so that nothing else changes."""
    for there, here in changes.items():
        assert text.count(there) == 1, there
        text = text.replace(there, here)
    return text
