"""Statements that SQLAlchemy compiles once a process, not once an engine.

A command opens an engine of its own, and half of its time goes to turning the same statements into the same SQL. The
text depends on the kind of database alone, and so do its processors of values: every engine here is configured alike.
"""

from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine


class _Compiled(dict[Any, Any]):
    """What SQLAlchemy keeps compiled statements in. Of its keys the first part is the engine's own dialect."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(key[1:], compiled)


_COMPILED: dict[type, _Compiled] = {}


def share() -> None:
    """Let all engines of this process, and of its forks, have one store for each kind of database."""
    if not event.contains(Engine, "engine_connect", _share):
        event.listen(Engine, "engine_connect", _share)


def _share(connection: Connection) -> None:
    connection.execution_options(compiled_cache=_COMPILED.setdefault(type(connection.dialect), _Compiled()))
