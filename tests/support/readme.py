"""The README as the tests read it."""

import re
from typing import Final

from tests.support.commands import ROOT

README: Final = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", README, re.M | re.S)
    assert match is not None, title
    return match[2]


def block(marker: str, language: str) -> str:
    """The code that stands below a marker, `<!-- marker -->`."""
    match = re.search(rf"<!-- {marker} -->\n```{language}\n(.*?)```", README, re.S)
    assert match is not None, marker
    return match[1]
