"""Looks at a database from outside, and says whether what must always hold holds."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, text
from sqlalchemy import select as sql_select

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.address import SQLiteAddress
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.keys import selection
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import CURRENT_SQL, Key, Reason, key_table
from tests.support.waiting import wait_for


class Judge:
    """Looks at a database from outside, with the program's own reading functions and without a process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.database = Database.connect(parse_address(url), Limits())
        self.kind = "sqlite" if isinstance(self.database.address, SQLiteAddress) else "postgresql"

    def opens(self, raw: str) -> bool:
        """Whether a raw key opens, without cleaning up after anybody."""
        with KeyVerifier(self._url, usage="off") as verifier:
            answer = verifier.verify(raw)
        assert answer.reason is not Reason.UNAVAILABLE, verifier.trouble
        return answer.allowed

    def every_key(self, name: str | None = None) -> list[Key]:
        """The keys there are, or those that had a name, oldest first."""
        with self.database.reading() as connection:
            return self._keys(connection, name)

    def current(self, name: str) -> Key | None:
        """The key a name means; a pending first key holds its name too."""
        with self.database.reading() as connection:
            return selection.current(connection, name, now=datetime.now(UTC))

    def close(self) -> None:
        self.database.close()

    def execute(self, statement: str) -> None:
        with self.database.writing() as tx:
            tx.execute(text(statement))

    def scalar(self, query: str) -> Any:
        with self.database.reading() as connection:
            return connection.scalar(text(query))

    def wait_until_alone(self) -> None:
        """Wait until PostgreSQL has seen that killed clients are gone: it learns it from the closed socket,
        at once, but not before the next process of this machine may ask; and until the locks of killed attempts are
        gone."""
        query = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        with self.database.reading() as connection:

            def alone() -> bool:
                connection.execute(text("SELECT pg_stat_clear_snapshot()"))
                return not connection.scalar(query)

            if self.kind == "postgresql":
                wait_for(alone, "a killed command's session is still there")
        self.wait_until_unlocked()

    def wait_until_unlocked(self) -> None:
        """Wait until no lock of a killed attempt is left: its command, which is being ended, holds the lock too, and
        PostgreSQL learns of the end from the closed socket."""
        query = (
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        )
        if self.kind == "postgresql":
            wait_for(lambda: not self.scalar(query), "a killed command's lock is still there")
        else:
            wait_for(lambda: not self._any_runs(), "a killed command's lock is still there")

    def _any_runs(self) -> bool:
        unfinished = [key for key in self.every_key() if key.is_unfinished]
        with self.database.reading() as connection:
            return any(self.database.attempts.runs(connection, key.id) for key in unfinished)

    def assert_sound(self) -> None:
        """Promises 4, 6 and 7: the file is whole, the chain holds, and keys and events say the same."""
        assert audit.verify(self.database).broken is None
        self.database.close()  # it took two connections, of which `wait_until_alone` knows one; the next use connects
        with self.database.reading() as connection:
            if connection.dialect.name == "sqlite":
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
                assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            found = self._keys(connection)
            said: dict[str | None, list[str]] = {}
            for one in audit.read(connection, audit.LogFilter()):
                said.setdefault(one.key_id, []).append(one.action)
            assert set(said) == {key.id for key in found}
            for key in found:
                assert _is_told(key, Counter(said[key.id])), (key, said[key.id])
            current = sql_select(key_table.c.name_folded).where(text(CURRENT_SQL)).group_by(key_table.c.name_folded)
            assert not connection.execute(current.having(func.count() > 1)).all()
            successors = Counter(key.replaces for key in found if key.replaces and key.revoked_at is None)
            assert all(number == 1 for number in successors.values()), successors

    @staticmethod
    def _keys(connection: Connection, name: str | None = None) -> list[Key]:
        wanted = selection.Selection(final=True, name_glob=name)
        found = selection.read(connection, wanted, sort=selection.Sort.CREATED, limit=None, now=datetime.now(UTC))
        return found[::-1]


@contextmanager
def judge(url: str | None) -> Iterator[Judge]:
    """A `Judge` for the length of a block; sound at its end."""
    assert url is not None
    one = Judge(url)
    try:
        yield one
        one.assert_sound()
    finally:
        one.close()


def _is_told(key: Key, said: Counter[str]) -> bool:
    """Whether a key's events are those that its state says, one each."""
    was_discarded = key.activated_at is None and key.revoke_reason in ("abandoned", "delivery_failed")
    there = {
        "key.create": True,
        # The next attempt takes a key over that was left on its way: it counts from then on, and was never delivered.
        "key.activate": key.activated_at is not None and key.delivering_to is None,
        "key.rotate": key.replaced_by is not None,
        "key.discard": was_discarded,
        "key.revoke": key.revoked_at is not None and not was_discarded,
    }
    said.pop("key.update", None)  # any number of them, in any state but the last
    deliveries = said.pop("key.deliver", 0)
    may_have_been_delivered = deliveries <= 1 and (deliveries == 1 or key.delivering_to is None)
    return may_have_been_delivered and said == Counter(action for action, expected in there.items() if expected)
