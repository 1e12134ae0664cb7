"""JSON Lines, streamed while the rows are read. A stream that breaks off lacks its end, so that nobody takes it for
whole."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final, TypeVar

from fastapi.responses import StreamingResponse

from alphalens_keyctl.errors import Code, KeyctlError

MEDIA_TYPE: Final = "application/jsonl"
# Seconds that one stream may take: it keeps a connection to the database.
LONGEST: Final = 600.0
_LINES_AT_ONCE: Final = 1000

_Row = TypeVar("_Row")


def lines(
    rows: AbstractContextManager[Iterator[_Row]], written: Callable[[Iterable[_Row]], Iterator[str]]
) -> StreamingResponse:
    """The rows as JSON Lines. What is wrong before the first row is an error of the request."""
    pieces = _pieces(rows, written)
    next(pieces)
    return StreamingResponse(pieces, media_type=MEDIA_TYPE)


def _pieces(
    rows: AbstractContextManager[Iterator[_Row]], written: Callable[[Iterable[_Row]], Iterator[str]]
) -> Iterator[bytes]:
    until = time.monotonic() + LONGEST
    with rows as found:
        texts = written(found)
        some = list(islice(texts, _LINES_AT_ONCE))
        yield b""
        while some:
            yield ("\n".join(some) + "\n").encode("ascii")
            if time.monotonic() > until:
                raise KeyctlError(Code.DATABASE_BUSY, "the client reads too slowly")
            some = list(islice(texts, _LINES_AT_ONCE))
