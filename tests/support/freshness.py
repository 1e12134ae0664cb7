"""How soon a verifier knows what happened to a key: the bounds of promise 5, and the waiting for them."""

import time

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.models import Reason
from alphalens_keyctl.verification.judgement import Verification
from tests.support.databases import listeners
from tests.support.waiting import wait_for

# Longer than any test: what is refused within it was refused because the database said so.
NEVER = 300.0
TOLD = 1.0  # seconds: the promise is 100 ms, the rest is for two busy cores
BOUND = 0.5
SLACK = 2.5  # seconds of scheduling, on top of a bound
HANGING = 20.0  # seconds after which a call counts as unbounded


def until(verifier: KeyVerifier, raw: str, reason: Reason, *, within: float) -> Verification:
    """Verify until the answer has this reason; fail when it has another one `within` seconds later."""
    deadline = time.monotonic() + within
    while True:
        started = time.monotonic()
        answer = verifier.verify(raw)
        if answer.reason is reason:
            return answer
        assert started < deadline, (answer.reason, verifier.trouble)
        time.sleep(0.01)


def assert_revocation_counts(verifier: KeyVerifier, url: str, raw: str, *, within: float) -> None:
    """On SQLite the very next call refuses; on PostgreSQL a call `within` seconds."""
    if url.startswith("sqlite"):
        assert verifier.verify(raw).reason is Reason.REVOKED
    else:
        until(verifier, raw, Reason.REVOKED, within=within)


def wait_until_told(verifier: KeyVerifier, url: str, raw: str) -> None:
    """Wait until the verifier listens for notifications and remembers a record that it read since then."""
    if url.startswith("postgresql"):
        wait_for(lambda: listeners(url), "nobody listens")
        time.sleep(0.2)  # what was read before it listened is forgotten once
    assert verifier.verify(raw)
