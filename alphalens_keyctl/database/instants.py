"""SQL functions that the database applies to a time column. To do the same in Python to the times of a million rows
would take longer than the query."""

from typing import Any

from sqlalchemy import BigInteger, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class stored_text(FunctionElement[str]):  # noqa: N801  # reads as the SQL function it stands for
    """A time column as the text that the database keeps or writes for it, date and time of day first."""

    type = Text()
    inherit_cache = True


@compiles(stored_text, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    # As it is: a cast would make a text of what is none.
    return f"({compiler.process(element.clauses, **options)})"


@compiles(stored_text, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS TEXT)"


class microsecond_text(FunctionElement[str]):  # noqa: N801  # reads as the SQL function it stands for
    """A time column as `2026-11-23T06:34:00.123456Z`, the form of `moments.rfc3339_exact`."""

    type = Text()
    inherit_cache = True


@compiles(microsecond_text, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    # NULL for every other spelling, so that two times that are stored differently never look the same.
    known = f"typeof({column}) = 'text' AND substr({column}, 11, 1) = ' '"
    return f"CASE WHEN {known} THEN replace({column}, ' ', 'T') || 'Z' END"


@compiles(microsecond_text, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    # With the era, because without it 2026 BC would look like 2026.
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || CASE WHEN {column} < '0001-01-01 00:00:00+00' THEN ' BC' ELSE '' END"""


class epoch_second(FunctionElement[int]):  # noqa: N801  # reads as the SQL function it stands for
    """A time column as whole seconds since 1970-01-01T00:00:00Z, rounded down."""

    type = BigInteger()
    inherit_cache = True


@compiles(epoch_second, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    # Without the fraction, which SQLite would round: half a millisecond before a minute does not belong to the minute.
    return f"CAST(strftime('%s', substr({column}, 1, 19)) AS INTEGER)"


@compiles(epoch_second, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    return f"CAST(floor(extract(epoch FROM {column})) AS BIGINT)"
