"""Promise 12, on the way out: text from the database cannot act on what shows it.

What comes in is checked, but a row may have been written by hand, by an older version or by someone else.
"""

from typing import Final

from alphalens_keyctl.text import is_inert

# A spreadsheet takes these for the start of a formula (OWASP, "CSV Injection").
_FORMULA_STARTS: Final = frozenset("=+-@\t\r\n")


def for_terminal(text: str) -> str:
    """`text` with everything that could move a cursor, open a link or hide something spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if is_inert(c) or c in "\\`" else _spelled(c) for c in text)


def for_spreadsheet(text: str) -> str:
    """`text` as a cell that no spreadsheet runs: an apostrophe stands before what would be a formula, and
    before what begins with an apostrophe, so that reading it back is unambiguous."""
    return "'" + text if text and (text[0] in _FORMULA_STARTS or text[0] == "'") else text


def _spelled(character: str) -> str:
    point = ord(character)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
