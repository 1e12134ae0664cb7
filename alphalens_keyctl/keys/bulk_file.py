"""A file of keys to create → drafts: CSV with a header line, or JSON Lines. Every fault is told with its line.

The file may be what `list --csv` or `list --jsonl` wrote: the fields that a new key cannot have are passed over.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, NoReturn

from alphalens_keyctl import networks, scopes, text
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.models import Key
from alphalens_keyctl.moments import parse_expiry

LARGEST: Final = 64 << 20  # bytes; the names of a million keys take less
_TAKEN: Final = ("name", "owner", "purpose", "labels", "expires", "scopes", "allow_from")
_KNOWN: Final = frozenset({*_TAKEN, *Key._fields})
_FORMULA: Final = frozenset("=+-@\t\r")
_LIST: Final = 'For example ["prices:read"], or one behind the other; leave them out for a key that is not restricted.'
_ROTATED: Final = "A key that was rotated is listed twice; 'list --status active' leaves the old one out."


class Line(NamedTuple):
    """A draft, and the number of the line of the file in which it stands, from 1."""

    number: int
    draft: Draft


def parse(content: bytes, *, now: datetime, override: str | None = None) -> list[Line]:
    """The drafts of a file, in the order of its lines. A span in `expires` counts from `now` (aware); each draft
    gets `override`.

    Raises `KeyctlError` (invalid_input) for the first fault, and for a file without a key.
    """
    try:
        # Spreadsheets put a byte order mark before UTF-8.
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise KeyctlError(Code.INVALID_INPUT, f"line {line} is not UTF-8", "Save the file as UTF-8.") from None
    rows = _json_lines(decoded) if decoded.lstrip().startswith("{") else _csv_rows(decoded)
    lines: list[Line] = []
    first: dict[str, int] = {}
    for number, row in rows:
        draft = _draft(number, row, now)
        folded = text.fold(draft.name)
        if folded in first:
            _refuse(
                number, f"'{draft.name}' stands in line {first[folded]} already", _ROTATED if "status" in row else ""
            )
        first[folded] = number
        lines.append(Line(number, draft._replace(override=override)))
    if not lines:
        raise KeyctlError(
            Code.INVALID_INPUT, "the file holds no key", "It takes a header line, and a line for each key."
        )
    return lines


def _csv_rows(content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    header: list[str] | None = None
    began = 1
    try:
        for cells in reader:
            number, began = began, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = _header(number, cells)
                continue
            if len(cells) != len(header):
                _refuse(number, f"has {len(cells)} cells, and the header {len(header)}")
            yield number, {name: _cell(number, name, cell) for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        # Told by the line in which the row began: a quote that is never closed is noticed at the end of the file.
        _refuse(began, f"is not CSV: {error}")


def _header(number: int, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    unknown = [name for name in header if name not in _KNOWN]
    if "name" not in header or unknown or len(set(header)) < len(header):
        wrong = f"has an unknown column '{unknown[0]}'" if unknown else "has no column 'name', or one twice"
        _refuse(number, f"is the header and {wrong}", f"The columns are {', '.join(_TAKEN)}; name must be there.")
    return header


def _cell(number: int, name: str, cell: str) -> str | None:
    # `list --csv` writes an apostrophe before what a spreadsheet would run, and before a leading apostrophe.
    if cell.startswith("'"):
        return cell[1:]
    if cell[:1] in _FORMULA and cell[:1]:
        _refuse(number, f"has a formula in column {name}", "Take it out, or write an apostrophe before it.")
    return cell or None


def _json_lines(content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            _refuse(number, "is not a JSON object, or has a field twice")
        if not isinstance(row, dict) or not _KNOWN.issuperset(row):
            unknown = sorted(set(row) - _KNOWN) if isinstance(row, dict) else []
            _refuse(number, f"has an unknown field '{unknown[0]}'" if unknown else "is not a JSON object")
        yield number, row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _draft(number: int, row: Mapping[str, Any], now: datetime) -> Draft:
    expires = row.get("expires") if row.get("expires") is not None else row.get("expires_at")
    try:
        return Draft(
            name=text.parse_name(_text(row.get("name"))),
            owner=_line(row.get("owner"), "owner", text.LONGEST_OWNER),
            purpose=_line(row.get("purpose"), "purpose", text.LONGEST_PURPOSE),
            labels=_labels(row.get("labels")),
            expires_at=None if expires is None else parse_expiry(_text(expires), now=now),
            scopes=scopes.parse_all(_texts(row.get("scopes"))),
            allow_from=networks.parse_all(_texts(row.get("allow_from"))),
        )
    except KeyctlError as error:
        _refuse(number, f"is refused: {error.message}", error.hint)


def _line(value: object, what: str, longest: int) -> str | None:
    return None if value is None else text.parse_line(_text(value), what=what, longest=longest)


def _labels(value: object) -> Mapping[str, str]:
    if isinstance(value, str):
        if not value.startswith("{"):
            return text.parse_labels(value.split())
        try:
            value = json.loads(value, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            raise KeyctlError(Code.INVALID_INPUT, "labels are not a JSON object", "Or write k=v k2=v2.") from None
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise KeyctlError(Code.INVALID_INPUT, "labels are no object of texts", 'For example {"env": "prod"}.')
    return text.parse_labels(f"{name}={each}" for name, each in value.items())


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        if not value.startswith("["):
            return value.split()
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise KeyctlError(Code.INVALID_INPUT, "scopes or networks are no JSON list", _LIST) from None
    if value is None:
        return []
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise KeyctlError(Code.INVALID_INPUT, "scopes or networks are no list of texts", _LIST)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise KeyctlError(Code.INVALID_INPUT, "a value is missing or is no text", "Names and times are texts.")
    return value


def _refuse(number: int, problem: str, hint: str = "") -> NoReturn:
    said = " ".join(part for part in (hint, "Nothing was written.") if part)
    raise KeyctlError(Code.INVALID_INPUT, f"line {number} {problem}", said)
