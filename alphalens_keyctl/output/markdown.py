"""A topic, which is a file of Markdown → plain text of the paper's width. Knows what the topics use: headings,
paragraphs, lists, tables and code."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.pages import Paper, heading, wrapped

_COMMENT: Final = re.compile(r"^<!-- .* -->\n", re.MULTILINE)
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_CODE: Final = re.compile(r"(`[^`]*`)")
_ITEM: Final = re.compile(r"(- |[0-9]+\. )(.*)", re.DOTALL)
_GAP: Final = "  "


def plain(text: str, paper: Paper) -> str:
    """Return the text without Markdown's marks, but for the backquotes; code keeps its lines, whatever their width."""
    lines: list[str] = []
    for block in _blocks(_COMMENT.sub("", text)):
        lines += [*_drawn(block, paper), ""]
    return "\n".join(map(_inert, lines))


def _inert(line: str) -> str:
    bold = line.startswith("\x1b[1m")
    return line if bold else for_terminal(line)


def _blocks(text: str) -> Iterator[str]:
    """Return the parts that blank lines divide; code is one part whatever stands in it."""
    block: list[str] = []
    code = False
    for line in text.splitlines():
        fence = line.startswith("```")
        if block and ((fence and not code) or (not line and not code) or _begins_item(line, block)):
            yield "\n".join(block)
            block = []
        if line or code:
            block.append(line)
        if fence:
            code = not code
            if not code:
                yield "\n".join(block)
                block = []
    if block:
        yield "\n".join(block)


def _begins_item(line: str, block: Sequence[str]) -> bool:
    return _ITEM.match(line) is not None and _ITEM.match(block[0]) is not None


def _drawn(block: str, paper: Paper) -> list[str]:
    if block.startswith("```"):
        return [f"    {line}" if line else "" for line in block.split("\n")[1:-1]]
    if block.startswith("|"):
        return _table([_cells(line) for line in block.splitlines()], paper.width)
    marks, _, title = block.partition(" ")
    if marks and not marks.strip("#"):
        return [heading(_words(title), paper)]
    item = _ITEM.fullmatch(block)
    if item is not None:
        return wrapped(" ".join(_words(item[2]).split()), paper.width, " " * len(item[1]), first=item[1])
    return wrapped(" ".join(_words(block).split()), paper.width)


def _words(text: str) -> str:
    """Return text without the marks of links and emphasis; what stands in backquotes stays as it is."""
    parts = _CODE.split(_LINK.sub(r"\1", text))
    return "".join(part if part.startswith("`") else part.replace("**", "") for part in parts)


def _cells(line: str) -> list[str]:
    """Return the cells of a table's row; a bar in backquotes or behind a backslash divides nothing."""
    parts = re.findall(r"(?:`[^`]*`|\\\||[^|`])+|(?<=\|)(?=\|)", line.strip().strip("|"))
    return [_words(part.strip().replace("\\|", "|")) for part in parts]


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return a table in columns, of which the last one wraps; or where the others take more than half of the
    width, each row as its first cell with the others below."""
    names, *body = [row for row in rows if any(cell.strip("-: ") for cell in row) or not any(row)]
    count = max(map(len, [names, *body]))
    full = [[*row, *[""] * (count - len(row))] for row in [names, *body]]
    widths = [max(len(row[number]) for row in full) for number in range(count)]
    before = sum(widths[:-1]) + len(_GAP) * (count - 1)
    if before <= width // 2 or before + widths[-1] <= width:
        return [line for row in (full if any(names) else full[1:]) for line in _in_columns(row, widths, width)]
    lines: list[str] = []
    for row in full[1:]:
        lines += wrapped(row[0], width, "    ", first="")
        for name, cell in zip(full[0][1:], row[1:], strict=True):
            if cell:
                lines += wrapped(f"{name}: {cell}" if count > 2 and name else cell, width, "    ")
    return lines


def _in_columns(row: Sequence[str], widths: Sequence[int], width: int) -> list[str]:
    first = "".join(cell.ljust(wide) + _GAP for cell, wide in zip(row[:-1], widths, strict=False))
    return [line.rstrip() for line in wrapped(row[-1], width, " " * len(first), first=first)]
