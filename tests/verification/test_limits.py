"""What a key may do and from where it may be used, as a verifier judges it. Promises 5, 8, 9 and 13."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.models import Reason
from tests.support.commands import Keyctl
from tests.support.freshness import NEVER, TOLD, wait_until_told
from tests.support.key_rows import change, put
from tests.support.waiting import wait_for
from tests.support.web import uses

HERE: Final = "10.1.2.3"


@pytest.fixture
def verifier(database_url: str) -> Iterator[KeyVerifier]:
    with KeyVerifier(database_url, max_staleness=NEVER) as verifier:
        yield verifier


def made(database: Database, name: str, **values: Any) -> str:
    raw = generate()
    put(database, name, raw=raw, **values)
    return raw.reveal()


def warmed(verifier: KeyVerifier, url: str, raw: str) -> None:
    assert verifier.verify(raw)  # the first call starts to listen
    wait_until_told(verifier, url, raw)


def test_a_key_does_what_its_scopes_cover_and_is_used_from_its_networks(
    database: Database, verifier: KeyVerifier
) -> None:
    """Promises 9 and 13."""
    free = made(database, "free")
    scoped = made(database, "scoped", scopes=("prices:*", "reports:read"))
    local = made(database, "local", allow_from=("10.0.0.0/8", "::1"))
    both = made(database, "both", scopes=("prices:read",), allow_from=("10.0.0.0/8",))
    nothing = made(database, "nothing", scopes=(), allow_from=())
    cases: list[tuple[str, dict[str, Any], Reason]] = [
        (free, {}, Reason.OK),
        (free, {"scope": "prices:read"}, Reason.OK),
        (free, {"scope": ()}, Reason.OK),
        (free, {"scope": "keyctl:admin"}, Reason.SCOPE),
        (free, {"scope": ["prices:read", "keyctl:team"]}, Reason.SCOPE),
        *((free, {"scope": wrong}, Reason.SCOPE) for wrong in ("", "*", "A", "a::b", 5, [None], [["a"]], "a" * 9999)),
        (free, {"address": "nonsense"}, Reason.OK),
        (scoped, {}, Reason.OK),
        (scoped, {"scope": "prices:read"}, Reason.OK),
        (scoped, {"scope": ("prices:read", "reports:write")}, Reason.SCOPE),
        (scoped, {"scope": "prices"}, Reason.SCOPE),
        (local, {}, Reason.ADDRESS),
        (local, {"client_ip": HERE}, Reason.ADDRESS),  # what is logged is not known for certain
        (local, {"address": HERE}, Reason.OK),
        (local, {"address": f"::ffff:{HERE}"}, Reason.OK),
        (local, {"address": "::1"}, Reason.OK),
        (local, {"address": "11.0.0.1"}, Reason.ADDRESS),
        *((local, {"address": wrong}, Reason.ADDRESS) for wrong in ("", "unix", "10.1", HERE + " ", "::1%lo")),
        (both, {"address": HERE, "scope": "prices:read"}, Reason.OK),
        (both, {"address": HERE, "scope": "reports:read"}, Reason.SCOPE),
        # From elsewhere nobody learns what the key may do.
        (both, {"address": "11.0.0.1", "scope": "reports:read"}, Reason.ADDRESS),
        (nothing, {"address": HERE}, Reason.ADDRESS),
    ]
    for raw, asked, reason in cases:
        for _ in range(2):  # looked up, and remembered
            assert verifier.verify(raw, **asked).reason is reason, asked
    assert verifier.verify(scoped, scope=iter(["prices:read", "reports:read"]))


def test_an_address_from_which_a_key_does_not_open_is_never_answered_from_memory(
    database: Database, database_url: str, verifier: KeyVerifier
) -> None:
    """A thief elsewhere would know a live key by the speed of the answer."""
    warmed(verifier, database_url, made(database, "free"))
    raw = made(database, "local", allow_from=("10.0.0.0/8",))
    assert verifier.verify(raw, address=HERE)
    remembered = verifier.verify_cached(raw, address=HERE)
    assert remembered is not None
    assert remembered.allowed
    assert verifier.verify_cached(raw, address="11.0.0.1") is None
    assert verifier.verify_cached(raw) is None
    elsewhere = verifier.verify(raw, address="11.0.0.1")
    assert (elsewhere.reason, elsewhere.key and elsewhere.key.name) == (Reason.ADDRESS, "local")
    assert verifier.verify(raw, address=HERE)


def test_a_scope_that_a_key_lacks_is_answered_from_memory(
    database: Database, database_url: str, verifier: KeyVerifier
) -> None:
    warmed(verifier, database_url, made(database, "free"))
    raw = made(database, "scoped", scopes=("prices:read",))
    assert verifier.verify(raw)
    refused = verifier.verify_cached(raw, scope="reports:read")
    assert refused is not None
    assert refused.reason is Reason.SCOPE


def test_the_usage_log_has_both_outcomes_with_the_key_and_uses_with_the_address(
    keyctl: Keyctl, database: Database, database_url: str
) -> None:
    """Promise 8."""
    raw = made(database, "ci", scopes=("prices:read",), allow_from=("10.0.0.0/8",))
    with KeyVerifier(database_url) as verifier:
        assert verifier.verify(raw, address=HERE, scope="prices:read", path="/prices")
        assert not verifier.verify(raw, address=HERE, scope="prices:write")
        for _ in range(2):
            assert not verifier.verify(raw, address="11.0.0.1", scope="prices:read")
    said = {(use["outcome"], use["key_name"], use["client_ip"], use["count"]) for use in uses(keyctl)}
    assert said == {("ok", "ci", HERE, 1), ("scope", "ci", HERE, 1), ("address", "ci", "11.0.0.1", 2)}
    assert keyctl.keys()[0]["use_count"] == 1


def test_an_address_that_is_empty_once_and_unknown_once_stops_no_record(
    keyctl: Keyctl, database: Database, database_url: str
) -> None:
    """Promise 8: both are one row to the index that coalesces refused attempts."""
    with KeyVerifier(database_url) as verifier:
        assert verifier.verify(made(database, "ci"))
        for address in (None, "", " "):
            verifier.verify(generate().reveal(), client_ip=address)
    assert sum(use["count"] for use in uses(keyctl, "unknown")) == 3
    assert keyctl.keys()[0]["use_count"] == 1


def test_a_narrowed_key_counts_in_a_warm_verifier_as_a_revocation_does(
    database: Database, database_url: str, verifier: KeyVerifier
) -> None:
    """Promise 5: on SQLite at the next call, on PostgreSQL once it is announced; widened again just as soon."""
    raw = generate()
    key_id = put(database, "ci", raw=raw)
    warmed(verifier, database_url, raw.reveal())
    asked = {"scope": "prices:read", "address": HERE}

    def soon(reason: Reason) -> None:
        if database.one_writer:
            assert verifier.verify(raw.reveal(), **asked).reason is reason
        else:
            wait_for(lambda: verifier.verify(raw.reveal(), **asked).reason is reason, str(reason), within=TOLD)

    for values, reason in (
        ({"scopes": ("reports:read",)}, Reason.SCOPE),
        ({"scopes": ("prices:*",)}, Reason.OK),
        ({"allow_from": ("11.0.0.0/8",)}, Reason.ADDRESS),
        ({"allow_from": ("10.1.0.0/16",)}, Reason.OK),
        ({"scopes": None, "allow_from": None}, Reason.OK),
    ):
        change(database, key_id, **values)
        soon(reason)
