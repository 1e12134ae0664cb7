"""What the columns of the tables hold, and how a value that this program never writes is read."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, ColumnElement, DateTime, Dialect, Integer, Text, cast, type_coerce
from sqlalchemy.types import TypeDecorator, TypeEngine

from alphalens_keyctl.moments import UNREADABLE

# Byte order, whatever the locale of the database: the start of a name or an id is then a range of the index.
ByteOrderText = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite reads a table in the order of its INTEGER PRIMARY KEY, which is the row number, without an index between.
Sequence = BigInteger().with_variant(Integer(), "sqlite")


# What stands for labels that cannot be read.
UNREADABLE_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
# What stands for a list of texts that cannot be read: no text of any such list is empty.
UNREADABLE_TEXTS: Final = ("",)


def _forgiving(read: Callable[[Any], Any] | None, instead: object) -> Callable[[Any], Any]:
    """Read a value, or give `instead`: one row that cannot be read must not stop the reading of others."""

    def read_or_not(value: Any) -> Any:
        try:
            return value if read is None else read(value)
        except (TypeError, ValueError, RecursionError):
            return instead

    return read_or_not


class Instant(TypeDecorator[datetime]):
    """A time column: aware datetimes in UTC; `UNREADABLE` where what is stored is no time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without its zone")  # Python would take it for local time
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        # SQLite stores no zone: what is there is UTC.
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return _forgiving(super().result_processor(dialect, coltype), UNREADABLE)


class JsonObject(TypeDecorator[Mapping[str, str]]):
    """JSON, on PostgreSQL JSONB. SQLAlchemy's `with_variant` would load PostgreSQL's drivers into every command on
    SQLite."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return _forgiving(super().result_processor(dialect, coltype), UNREADABLE_LABELS)

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        if isinstance(value, Mapping):
            return self
        # A type decorator would bind the name in labels[name] as JSON, but the name is a plain text.
        return self.impl_instance.coerce_compared_value(op, value)


class JsonTexts(TypeDecorator[tuple[str, ...]]):
    """A JSON list of texts, on PostgreSQL JSONB; None is NULL. Read as the text that the database writes, because its
    driver would make None of JSON's own null, and None lifts a restriction (promise 9)."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON(none_as_null=True))
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB(none_as_null=True))

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return type_coerce(cast(column, Text), _TextsAsText())


class _TextsAsText(TypeDecorator[tuple[str, ...]]):
    impl = Text
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return texts_of


def texts_of(stored: object) -> tuple[Any, ...] | None:
    """The list that stands in a column of `JsonTexts`, from its text; None for NULL, `UNREADABLE_TEXTS` for what is no
    list. What stands in the list may be anything."""
    if stored is None:
        return None
    try:
        found = json.loads(stored) if isinstance(stored, str) else None
    except (ValueError, RecursionError):
        return UNREADABLE_TEXTS
    return tuple(found) if isinstance(found, list) else UNREADABLE_TEXTS
