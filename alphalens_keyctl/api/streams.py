"""JSON Lines, streamed while the rows are read. A stream that breaks off lacks its end, so that nobody takes it for
whole."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from itertools import islice
from typing import Final, TypeVar

from fastapi.responses import StreamingResponse

from alphalens_keyctl.errors import Code, KeyctlError

MEDIA_TYPE: Final = "application/jsonl"
# Seconds that one stream may take: it keeps a connection to the database.
LONGEST: Final = 600.0
_LINES_AT_ONCE: Final = 1000
BEAT: Final = 1.0
_UNDER_WAY: Final = b'{"under_way": true}\n'

_Row = TypeVar("_Row")


def lines(
    rows: AbstractContextManager[Iterator[_Row]], written: Callable[[Iterable[_Row]], Iterator[str]]
) -> StreamingResponse:
    """The rows as JSON Lines. What is wrong before the first row is an error of the request."""
    pieces = _pieces(rows, written)
    next(pieces)
    return StreamingResponse(pieces, media_type=MEDIA_TYPE)


def awaited(work: Callable[[], str]) -> StreamingResponse:
    """The line that `work` returns, after a line for each second that `work` takes: whoever waits can tell a long work
    from a server that is gone. What is wrong within the first second is an error of the request.

    `work` goes on to its end where the client leaves, and has to bound itself.
    """
    pool = ThreadPoolExecutor(1)
    done = pool.submit(work)
    pool.shutdown(wait=False)
    with suppress(TimeoutError):
        done.result(BEAT)
    return StreamingResponse(_beats(done), media_type=MEDIA_TYPE)


def _beats(done: "Future[str]") -> Iterator[bytes]:
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        try:
            yield done.result(BEAT).encode("ascii")
        except TimeoutError:
            if done.done():
                raise
            yield _UNDER_WAY
        else:
            return
    raise KeyctlError(Code.DATABASE_BUSY, "it takes too long")


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
