"""Sums that no row can make overflow: one count of 2^63-1 would otherwise be the end of every summary."""

from typing import Any, Final

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

_MOST: Final = 2**63 - 1


class saturating_sum(FunctionElement[int]):  # noqa: N801  # reads as the SQL function it stands for
    """The sum of whole numbers over a group, 2^63-1 at most; over none NULL. SQLite is exact up to 2^53."""

    type = BigInteger()
    inherit_cache = True


@compiles(saturating_sum, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    summed = compiler.process(element.clauses, **options)
    return f"CASE WHEN count({summed}) > 0 THEN CAST(total({summed}) AS INTEGER) END"


@compiles(saturating_sum, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    # Not least(): it leaves NULL out, and the sum over no row would be the most there is.
    summed = f"sum({compiler.process(element.clauses, **options)})"
    return f"CAST(CASE WHEN {summed} > {_MOST} THEN {_MOST} ELSE {summed} END AS BIGINT)"


class saturating_total(FunctionElement[int]):  # noqa: N801  # the same
    """The sum of a value over all groups of a query, 2^63-1 at most."""

    type = BigInteger()
    inherit_cache = True


@compiles(saturating_total, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST(total({compiler.process(element.clauses, **options)}) OVER () AS INTEGER)"


@compiles(saturating_total, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    summed = f"sum({compiler.process(element.clauses, **options)}) OVER ()"
    return f"CAST(CASE WHEN {summed} > {_MOST} THEN {_MOST} ELSE {summed} END AS BIGINT)"
