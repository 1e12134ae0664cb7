"""Rows of the keys' table, made without the program."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, update

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import DIGEST_SCHEME, RawKey, generate
from alphalens_keyctl.models import key_table
from alphalens_keyctl.text import fold


def key_row(name: str = "ci", *, raw: RawKey | None = None, **values: Any) -> dict[str, Any]:
    """The row of a key that is active since now unless `values` say otherwise."""
    raw = raw or generate()
    now = datetime.now(UTC)
    return {
        "id": raw.id, "name": name, "name_folded": fold(name), "labels": {}, "created_at": now, "created_by": "sql",
        "activated_at": now, "use_count": 0, "digest": raw.digest(), "digest_scheme": DIGEST_SCHEME,
    } | values  # fmt: skip


def put(database: Database, name: str, *, raw: RawKey | None = None, **values: Any) -> str:
    """Write a key's row, as `key_row` makes it; returns the key's id."""
    row = key_row(name, raw=raw, **values)
    with database.writing() as tx:
        tx.execute(insert(key_table).values(row))
    key_id: str = row["id"]
    return key_id


def change(database: Database, key_id: str, **values: Any) -> None:
    """Write columns of one key's row."""
    with database.writing() as tx:
        assert tx.execute(update(key_table).where(key_table.c.id == key_id).values(**values)).rowcount == 1
