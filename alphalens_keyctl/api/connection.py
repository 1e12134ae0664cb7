"""One connection to `serve-api`: as to `serve`, with a body."""

import json
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alphalens_keyctl.api.problems import MEDIA_TYPE
from alphalens_keyctl.web.connection import Connection

_BODY: Final = json.dumps(
    {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "the request cannot be read",
        "code": "usage",
    }
).encode()


class ApiConnection(Connection):
    """The bounds of `serve` for the head of a request; the doorway bounds the body."""

    refusal = (
        f"HTTP/1.1 {int(HTTPStatus.BAD_REQUEST)} Bad Request\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(_BODY)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    ).encode() + _BODY

    def data_received(self, data: bytes) -> None:
        """Read on. A body is counted by whoever reads it."""
        if not self._closing and self.cycle is not None and self.cycle.more_body:
            HttpToolsProtocol.data_received(self, data)
        else:
            super().data_received(data)
            if self.cycle is not None and self.cycle.more_body:
                # What came behind the head is body.
                self._unfinished = 0
                self._progress()
