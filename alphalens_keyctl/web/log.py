"""What the server says of itself: a JSON object a line, on stderr. No raw key gets into it (promise 1), and
nothing that moves a cursor (promise 12): JSON in ASCII has no such characters.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from alphalens_keyctl.keyformat import redact

# The attributes that every record has; what is beside them was given as `extra`.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "color_message"}


class JsonLines(logging.Handler):
    """Writes to stderr. Where nobody reads it any longer, the server goes on."""

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
    """A record as one line of JSON, without its end."""
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
    """Send every log of this process to stderr; with `quiet` warnings and errors alone."""
    root = logging.getLogger()
    root.handlers[:] = [JsonLines()]
    root.setLevel(logging.WARNING)
    logging.getLogger("alphalens_keyctl").setLevel(logging.WARNING if quiet else logging.INFO)
    # Its warnings are about what clients send, as many as they like; its news are said in our own words.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
