"""Writes past what the database holds: rows as an older version, or who owns the database, may have left them."""

from sqlalchemy import text

from alphalens_keyctl.database import Database


def write(database: Database, statement: str, *, table: str = "api_key") -> None:
    """Run one statement on a table without its triggers and, on SQLite, without its constraints."""
    if not database.one_writer:
        with database.writing() as tx:
            tx.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            tx.execute(text(statement))
            tx.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
        return
    with database.writing() as tx:
        tx.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
        guards = tx.exec_driver_sql(query, (table,)).all()
        for name, _ in guards:
            tx.exec_driver_sql(f"DROP TRIGGER {name}")
        tx.exec_driver_sql(statement)
        for _, made_by in guards:
            tx.exec_driver_sql(made_by)
        tx.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")


def take_guards_away(database: Database, table: str) -> None:
    """Take the triggers of a table away for good, as somebody with the database's password can."""
    with database.writing() as tx:
        if not database.one_writer:
            tx.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            return
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
        for (name,) in tx.exec_driver_sql(query, (table,)).all():
            tx.exec_driver_sql(f"DROP TRIGGER {name}")
