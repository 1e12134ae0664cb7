"""The server's log: one JSON object per line, on stderr. The log holds no raw key (promise 1) and nothing that moves
a cursor (promise 12): ASCII JSON has no such characters.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from alphalens_keyctl.keyformat import redact

# The attributes that every record has; any other attribute was given as `extra`.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "color_message"}


class JsonLines(logging.Handler):
    """Writes records to stderr. The server goes on when stderr is closed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        stream = sys.stderr
        if stream is None:
            return
        try:
            stream.write(line(record) + "\n")
            stream.flush()
        except (OSError, ValueError):
            return


def line(record: logging.LogRecord) -> str:
    """Return a record as one line of JSON, without the newline."""
    document: dict[str, Any] = {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": record.getMessage().strip(),
        "process": record.process,
    }
    document |= {name: value for name, value in vars(record).items() if name not in _OWN}
    if record.exc_info:
        document["traceback"] = logging.Formatter().formatException(record.exc_info)
    return redact(json.dumps(document, default=str))


def configure(*, quiet: bool = False) -> None:
    """Send every log of this process to stderr; with `quiet` only warnings and errors."""
    root = logging.getLogger()
    root.handlers[:] = [JsonLines()]
    root.setLevel(logging.WARNING)
    logging.getLogger("alphalens_keyctl").setLevel(logging.WARNING if quiet else logging.INFO)
    # uvicorn warns of what clients send, as often as clients like; the server logs its own start and stop.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
