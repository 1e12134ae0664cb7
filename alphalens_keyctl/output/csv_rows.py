"""Rows → CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from alphalens_keyctl.output.inert import for_spreadsheet, for_terminal


def csv_rows(header: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Rows as CSV (RFC 4180), with a header line unless `header` is empty, streamed. Text is inert, for a terminal and
    for a spreadsheet (promise 12)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    if header:
        writer.writerow(header)
    for row in rows:
        writer.writerow(
            "" if cell is None else for_spreadsheet(for_terminal(cell)) if isinstance(cell, str) else cell
            for cell in row
        )
        if buffer.tell() > 1 << 16:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
