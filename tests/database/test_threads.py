"""Threads share a `Database`."""

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from alphalens_keyctl.database import Database

THREADS = 8


def test_no_thread_loses_its_transaction_to_another(database: Database) -> None:
    """Promise 14: a thread that opens a transaction closes nobody's connection."""
    together = threading.Barrier(THREADS)

    def read() -> int:
        with database.reading() as connection:
            connection.execute(text("SELECT count(*) FROM api_key")).scalar_one()
            together.wait(30)  # until every thread is in a transaction of its own
            return int(connection.execute(text("SELECT count(*) FROM api_key")).scalar_one())

    with ThreadPoolExecutor(THREADS) as threads:
        results = [threads.submit(read) for _ in range(THREADS)]
    assert [each.result() for each in results] == [0] * THREADS
