"""Writes past what the database holds: rows as an older version, or who owns the database, may have left them."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from alphalens_keyctl.database import Database


@contextmanager
def off(database: Database, *, table: str = "api_key") -> Iterator[None]:
    """While the block lasts, a table is without its triggers."""
    if not database.one_writer:
        _run(database, f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        _run(database, f"ALTER TABLE {table} ENABLE TRIGGER USER")
        return
    query = f"SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'"
    with database.reading() as connection:
        guards = connection.exec_driver_sql(query).all()
    _run(database, *(f"DROP TRIGGER {name}" for name, _ in guards))
    yield
    _run(database, *(made_by for _, made_by in guards))


def write(database: Database, statement: str, *, table: str = "api_key") -> None:
    """Run one statement on a table without its triggers and, on SQLite, without its constraints."""
    with off(database, table=table):
        if database.one_writer:
            _run(database, "PRAGMA ignore_check_constraints = ON", statement, "PRAGMA ignore_check_constraints = OFF")
        else:
            _run(database, statement)


def _run(database: Database, *statements: str) -> None:
    with database.writing() as tx:
        for statement in statements:
            if database.one_writer:
                tx.exec_driver_sql(statement)
            else:
                tx.execute(text(statement))


def take_guards_away(database: Database, table: str) -> None:
    """Take the triggers of a table away for good, as somebody with the database's password can."""
    with database.writing() as tx:
        if not database.one_writer:
            tx.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            return
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
        for (name,) in tx.exec_driver_sql(query, (table,)).all():
            tx.exec_driver_sql(f"DROP TRIGGER {name}")
