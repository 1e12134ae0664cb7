"""Promises 3, 5 and 8 together: many threads verify while another process creates, rotates and revokes."""

import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing

import psycopg

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.models import Reason
from tests.support.commands import Keyctl
from tests.support.databases import path_of
from tests.support.freshness import TOLD
from tests.support.raw_keys import key_id

DURATION = 1.5  # seconds of verifying while keys come and go
THREADS = 8


def scalar(url: str, query: str) -> int:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(path_of(url), timeout=10)) as connection:
            found = connection.execute(query).fetchone()
    else:
        with psycopg.connect(url) as session:
            found = session.execute(query.encode()).fetchone()
    return int(found[0])


class Crowd:
    """Threads that verify every key they know of and note what must not be."""

    def __init__(self, verifier: KeyVerifier, allowance: float) -> None:
        self.verifier = verifier
        self.allowance = allowance
        self.known: tuple[str, ...] = ()
        self.doomed: set[str] = set()  # whose revocation has begun
        self.revoked_at: dict[str, float] = {}  # and is over
        self.reasons: Counter[Reason] = Counter()
        self.wrong: list[str] = []
        self.over = threading.Event()
        self.counting = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(THREADS)]

    def run(self) -> None:
        reasons: Counter[Reason] = Counter()
        try:
            while not self.over.is_set():
                for raw in self.known:
                    started = time.monotonic()
                    answer = self.verifier.verify(raw)
                    reasons[answer.reason] += 1
                    if answer and started > self.revoked_at.get(raw, started) + self.allowance:
                        self.wrong.append(f"allowed {started - self.revoked_at[raw]:.3f} s after its revocation")
                    if not answer and raw not in self.doomed:
                        self.wrong.append(f"refused as {answer.reason}: {self.verifier.trouble}")
                time.sleep(0.002)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the test has to hear of it
            self.wrong.append(f"raised {error!r}")
        with self.counting:
            self.reasons += reasons


def test_no_thread_accepts_a_revoked_key_while_keys_come_and_go_and_every_use_is_written(
    keyctl: Keyctl, database_url: str
) -> None:
    """Promises 3, 5 and 8."""
    allowance = 0.0 if database_url.startswith("sqlite") else TOLD
    with KeyVerifier(database_url, timeout=10) as verifier:
        crowd = Crowd(verifier, allowance)
        for thread in crowd.threads:
            thread.start()
        deadline = time.monotonic() + DURATION
        made = 0
        while time.monotonic() < deadline:
            created = keyctl("create", f"key-{made}", "--json").json["raw_key"]
            crowd.known = (*crowd.known[-6:], created)
            successor = keyctl("rotate", f"key-{made}").stdout.strip()
            crowd.known = (*crowd.known, successor)
            for raw in (created, successor)[: 1 + made % 2]:
                crowd.doomed.add(raw)
                assert keyctl("revoke", key_id(raw), "--yes").status == 0
                crowd.revoked_at[raw] = time.monotonic()
            made += 1
        time.sleep(allowance + 0.2)
        crowd.over.set()
        for thread in crowd.threads:
            thread.join()
    assert crowd.wrong == []
    assert made > 0
    assert set(crowd.reasons) == {Reason.OK, Reason.REVOKED}
    accepted = crowd.reasons[Reason.OK]
    assert scalar(database_url, "SELECT count(*) FROM usage_event WHERE outcome = 'ok'") == accepted
    assert scalar(database_url, "SELECT sum(use_count) FROM api_key") == accepted
    refused = "SELECT sum(count) FROM usage_event WHERE outcome = 'revoked'"
    assert scalar(database_url, refused) == crowd.reasons[Reason.REVOKED]
