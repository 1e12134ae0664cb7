"""What tables for people share: how they look, and the mark of a status."""

from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from alphalens_keyctl.models import Status
from alphalens_keyctl.output.screen import Screen

# Columns of a screen below which a table would break into pieces.
NARROW: Final = 72
# For each status its mark in UTF-8, its mark in ASCII, and its colour.
DOTS: Final = {
    Status.ACTIVE: ("●", "*", "green"),
    Status.RETIRING: ("◐", "~", "yellow"),
    Status.SUSPENDED: ("○", "o", "magenta"),
    Status.PENDING: ("◌", "?", "cyan"),
    Status.DELIVERING: ("◍", "!", "cyan"),
    Status.EXPIRED: ("◇", "x", "red"),
    Status.RETIRED: ("·", ".", "dim"),
    Status.REVOKED: ("✕", "X", "red"),
    Status.DAMAGED: ("‼", "#", "bold red"),
}


def dot(status: str, screen: Screen) -> Text:
    """Return a status as a coloured mark. Each status has its own shape, for those who do not see the colour."""
    unicode, ascii_, style = DOTS[Status(status)]
    return Text(unicode if screen.unicode else ascii_, style=style)


def ruled(screen: Screen) -> Table:
    """Return an empty table as all tables look: without border, with a rule under the head; in a pipe bare columns."""
    return Table(
        box=(box.SIMPLE_HEAD if screen.unicode else box.ASCII2) if screen.terminal else None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold" if screen.color else "",
        show_edge=False,
    )
