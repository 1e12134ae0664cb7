"""Promise 12, where text leaves: text from the database cannot act on the terminal or spreadsheet that shows it.

Text is also validated where it enters, but a row may have been written by hand or by an older version.
"""

from typing import Final

from alphalens_keyctl.text import is_inert

# A spreadsheet takes these for the start of a formula (OWASP, "CSV Injection").
_FORMULA_STARTS: Final = frozenset("=+-@\t\r\n")


def for_terminal(text: str) -> str:
    """Return `text` with every character spelled out that could move a cursor, open a link or hide text."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if is_inert(c) or c in "\\`" else _spelled(c) for c in text)


def for_spreadsheet(text: str) -> str:
    """Return `text` as a cell that no spreadsheet runs: with an apostrophe before what would be a formula.

    Text that begins with an apostrophe gets another, so that the cell can be read back.
    """
    return "'" + text if text and (text[0] in _FORMULA_STARTS or text[0] == "'") else text


def _spelled(character: str) -> str:
    point = ord(character)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
