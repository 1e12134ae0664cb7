"""What is asked of a key in SQL, on both databases: its status at an instant, its labels, what its texts contain."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from string import punctuation
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    ColumnElement,
    Connection,
    Text,
    and_,
    bindparam,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from alphalens_keyctl.models import RETIRES_SQL, STATUS_AT_SQL, key_table


class _Retirement(FunctionElement[datetime]):
    """The instant at which a key that was rotated out stops opening: `RETIRES_SQL`.

    A function to SQLAlchemy, which remembers no statement with an element of a kind that it knows less of: to compile
    the statement anew takes ten times as long as to run it.
    """

    inherit_cache = True
    type = key_table.c.retires_at.type


@compiles(_Retirement)
def _write_retirement(_element: _Retirement, compiler: SQLCompiler, **_: object) -> str:
    return RETIRES_SQL[compiler.dialect.name]


RETIRES: Final = _Retirement()


def one_of(connection: Connection, column: ColumnElement[Any], values: Iterable[int | str]) -> ColumnElement[bool]:
    """Whether a column has one of these values, which are one parameter: with a parameter for each, a statement of
    thousands would take longer to build than to run."""
    if connection.dialect.name == "postgresql":
        each = text("SELECT unnest(CAST(:values AS text[]))").bindparams(values=list(values))
    else:
        each = text("SELECT value FROM json_each(:values)").bindparams(values=json.dumps(list(values)))
    return column.in_(each)


# The instant at which a statement that is made once is executed: the parameter "now".
NOW: Final = bindparam("now", type_=key_table.c.expires_at.type)


class status_at(FunctionElement[str]):  # noqa: N801  # reads as the functions of SQL do
    """The status of a key at an instant: the stored one, and what the clock makes of it. `STATUS_AT_SQL`, which to put
    together from a dozen elements would take longer than to run most statements."""

    inherit_cache = True
    type = key_table.c.status.type

    def __init__(self, now: datetime | BindParameter[datetime]) -> None:
        instant = now if isinstance(now, BindParameter) else bindparam(None, now, NOW.type, unique=True)
        super().__init__(instant)


@compiles(status_at)
def _write_status(element: status_at, compiler: SQLCompiler, **how: Any) -> str:
    (instant,) = element.clauses
    return STATUS_AT_SQL[compiler.dialect.name].replace(":now", compiler.process(instant, **how))


class has_label(ColumnElement[bool]):  # noqa: N801  # reads as the functions of SQL do
    """Whether a key has a label of this name and value, asked as the index of each database wants it."""

    inherit_cache = False  # an element holds its own name and value
    type = Boolean()

    def __init__(self, name: str, value: str) -> None:
        self.name = bindparam(None, name, Text, unique=True)
        self.value = bindparam(None, value, Text, unique=True)

    def self_group(self, against: object = None) -> ColumnElement[bool]:
        # SQLAlchemy would write "… = 1" behind the condition for SQLite, which has no booleans; no index serves that.
        return self


@compiles(has_label, "sqlite")
def _look_label_up(element: has_label, compiler: SQLCompiler, **how: Any) -> str:
    name, value = (compiler.process(each, **how) for each in (element.name, element.value))
    return f"api_key.id IN (SELECT key_id FROM api_key_label WHERE name = {name} AND value = {value})"  # noqa: S608  # bound


@compiles(has_label, "postgresql")
def _contain_label(element: has_label, compiler: SQLCompiler, **how: Any) -> str:
    name, value = (compiler.process(each, **how) for each in (element.name, element.value))
    return f"api_key.labels @> jsonb_build_object(CAST({name} AS text), CAST({value} AS text))"


class holds_any(ColumnElement[bool]):  # noqa: N801  # reads as the functions of SQL do
    """Whether a column of `JsonTexts` has one of some texts. NULL has none."""

    inherit_cache = False  # an element holds its own texts
    type = Boolean()

    def __init__(self, column: ColumnElement[Any], texts: Iterable[str]) -> None:
        self.column = column
        self.texts = [bindparam(None, each, Text, unique=True) for each in sorted(texts)]

    def self_group(self, against: object = None) -> ColumnElement[bool]:
        return self


@compiles(holds_any, "sqlite")
def _look_through_list(element: holds_any, compiler: SQLCompiler, **how: Any) -> str:
    column = compiler.process(element.column, **how)
    texts = ", ".join(compiler.process(each, **how) for each in element.texts)
    # What is no JSON has no text; `json_each` of it would be the end of the whole list.
    listed = f"CASE WHEN json_valid({column}) THEN {column} END"
    # The first condition lets the index be used that has restricted keys alone.
    return f"({column} IS NOT NULL AND EXISTS (SELECT 1 FROM json_each({listed}) WHERE value IN ({texts})))"  # noqa: S608  # bound


@compiles(holds_any, "postgresql")
def _ask_list(element: holds_any, compiler: SQLCompiler, **how: Any) -> str:
    column = compiler.process(element.column, **how)
    texts = ", ".join(f"CAST({compiler.process(each, **how)} AS text)" for each in element.texts)
    return f"({column} IS NOT NULL AND {column} ?| ARRAY[{texts}])"


class contains(ColumnElement[bool]):  # noqa: N801  # reads as the functions of SQL do
    """Whether a text column contains a text, whatever the case of each letter. No character of it is a wildcard.

    Neither database folds the letters of every language: SQLite knows the case of ASCII alone, and PostgreSQL goes by
    the locale. So each letter of the text becomes the class of its cases. A letter that folds into two (ß) is itself.
    """

    inherit_cache = False  # an element holds its own text
    type = Boolean()

    def __init__(self, column: ColumnElement[str], part: str) -> None:
        self.column = column
        cases = [sorted({each for each in (c, c.lower(), c.upper(), c.title()) if len(each) == 1}) for c in part]
        self.glob = bindparam(None, f"*{''.join(map(_in_glob, cases))}*", Text, unique=True)
        self.pattern = bindparam(None, "".join(map(_in_pattern, cases)), Text, unique=True)

    def self_group(self, against: object = None) -> ColumnElement[bool]:
        return self


def _in_glob(cases: Sequence[str]) -> str:
    return f"[{''.join(cases)}]" if len(cases) > 1 or cases[0] in "*?[" else cases[0]


def _in_pattern(cases: Sequence[str]) -> str:
    return f"[{''.join(cases)}]" if len(cases) > 1 else f"\\{cases[0]}" if cases[0] in punctuation else cases[0]


@compiles(contains, "sqlite")
def _match_glob(element: contains, compiler: SQLCompiler, **how: Any) -> str:
    return f"({compiler.process(element.column, **how)} GLOB {compiler.process(element.glob, **how)})"


@compiles(contains, "postgresql")
def _match_pattern(element: contains, compiler: SQLCompiler, **how: Any) -> str:
    return f"({compiler.process(element.column, **how)} ~ {compiler.process(element.pattern, **how)})"


class outlives(ColumnElement[bool]):  # noqa: N801  # reads as the functions of SQL do
    """Whether a key expires more than a lifetime after its creation.

    A second later than that: SQLite reckons in milliseconds. What is no time outlives nothing.
    """

    inherit_cache = False  # an element holds its own lifetime
    type = Boolean()

    def __init__(self, lifetime: timedelta) -> None:
        self.seconds = bindparam(None, round(lifetime.total_seconds()) + 1, BigInteger, unique=True)

    def self_group(self, against: object = None) -> ColumnElement[bool]:
        return self


@compiles(outlives, "sqlite")
def _add_seconds(element: outlives, compiler: SQLCompiler, **how: Any) -> str:
    seconds = compiler.process(element.seconds, **how)
    latest = f"strftime('%Y-%m-%d %H:%M:%f000', api_key.created_at, '+' || {seconds} || ' seconds')"
    return f"api_key.expires_at > {latest}"


@compiles(outlives, "postgresql")
def _add_interval(element: outlives, compiler: SQLCompiler, **how: Any) -> str:
    seconds = compiler.process(element.seconds, **how)
    # Within what PostgreSQL can reckon with: an overflow in one row would be the end of the whole check.
    created = "least(api_key.created_at, TIMESTAMPTZ '9999-01-01 00:00:00+00')"
    return f"api_key.expires_at > {created} + make_interval(secs => CAST({seconds} AS double precision))"


class unindexed(FunctionElement[Any]):  # noqa: N801  # reads as the functions of SQL do
    """A column that SQLite must not reach through an index; PostgreSQL gets the bare column.

    SQLite keeps no statistics unless told to. So it takes a status that nearly every key has for a rare one, and walks
    through all keys in their order rather than sort a few.
    """

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(unindexed)
def _leave_as_it_is(element: unindexed, compiler: SQLCompiler, **how: Any) -> str:
    return compiler.process(next(iter(element.clauses)), **how)


@compiles(unindexed, "sqlite")
def _keep_from_indexes(element: unindexed, compiler: SQLCompiler, **how: Any) -> str:
    # https://www.sqlite.org/optoverview.html, "Disqualifying WHERE Clause Terms Using Unary +"
    return f"+{compiler.process(next(iter(element.clauses)), **how)}"


def matches(column: ColumnElement[str], glob: str) -> ColumnElement[bool]:
    """Whether a column in byte order matches `glob`, in which `*` and `?` mean what they mean to a shell.

    The fixed start of `glob` becomes a range, which an index serves on both databases.
    """
    pattern = "".join({"*": "%", "?": "_", "%": r"\%", "_": r"\_"}.get(c, c) for c in glob)
    start = glob[: min((glob.index(c) for c in "*?" if c in glob), default=len(glob))]
    like = column.like(pattern, escape="\\")
    return and_(starts_with(column, start), like) if start else like


def starts_with(column: ColumnElement[str], start: str | BindParameter[str]) -> ColumnElement[bool]:
    """Whether a column in byte order begins with `start`: a range, which an index serves."""
    # In byte order everything that begins with `start` lies before `start` and the last code point.
    return and_(column >= start, column < start + "\U0010ffff")
