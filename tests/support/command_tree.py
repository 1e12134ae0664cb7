"""Every command there is, by the words that call it."""

from collections.abc import Iterator
from typing import Any, Final

from alphalens_keyctl.cli import app


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _walk(inner, (*path, name))


COMMANDS: Final = dict(_walk(app.command()))
