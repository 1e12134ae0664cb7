"""Which scopes are accepted, and which cover which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl import scopes
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import generate

WORDS = st.sampled_from(["a", "b", "ab", "a.b", "-", "keyctl"])
PATHS = st.lists(WORDS, min_size=1, max_size=4).map(":".join).filter(lambda path: not path.startswith("keyctl"))
WRITTEN = PATHS | PATHS.map(lambda path: f"{path}:*") | st.sampled_from(scopes.RESERVED)
HELD = st.none() | st.lists(WRITTEN, max_size=5).map(scopes.normal)


@pytest.mark.parametrize("text", ["a", "prices:read", "reports:*", "a.b_c-9:x", "a:" * 30 + "abcd", *scopes.RESERVED])
def test_a_scope_is_stored_as_it_was_written(text: str) -> None:
    assert scopes.parse(text) == text
    assert scopes.are_sound([text])


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "*", "*:a", "a::b", ":a", "a:", "a:*:b", "a:**", "a*", "A:b", "ä", "a b", "a/b", "a\n", "a:b\u200b",
        "а:b", "a" * 65, "keyctl", "keyctl:*", "keyctl:a", "keyctl:admin:x", "keyctl:admin:*", "\u0661", "a,b",
    ],
)  # fmt: skip
def test_what_is_no_scope_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(KeyctlError) as refused:
        scopes.parse(text)
    assert refused.value.code is Code.INVALID_INPUT
    assert refused.value.hint
    assert not scopes.covers_all(None, text)
    assert not scopes.covers_all((text,), text)


def test_a_scope_in_capitals_is_told_in_small_letters_and_a_raw_key_is_not_repeated() -> None:
    """Promise 1."""
    with pytest.raises(KeyctlError) as refused:
        scopes.parse("Prices:Read")
    assert (refused.value.told, refused.value.hint) == (
        "the scope 'Prices:Read' is not written as a scope is", "Write prices:read.",
    )  # fmt: skip
    with pytest.raises(KeyctlError) as refused:
        scopes.parse(generate().reveal())
    assert refused.value.code is Code.RAW_KEY_IN_ARGUMENT


def test_a_key_has_fifty_scopes_at_most_each_once_in_order() -> None:
    assert scopes.parse_all([]) is None
    assert scopes.parse_all(["b", "a", "b"]) == ("a", "b")
    fifty = [f"a:{number}" for number in range(50)]
    assert len(scopes.parse_all([*fifty, "a:0"]) or ()) == 50
    with pytest.raises(KeyctlError, match="50 scopes at most, not 51"):
        scopes.parse_all([*fifty, "b"])
    assert not scopes.are_sound([*fifty, "b"])
    assert not scopes.covers_all(None, [*fifty, "b"])


@pytest.mark.parametrize(
    ("held", "wanted", "covered"),
    [
        (("a:*",), "a:b", True),
        (("a:*",), "a:b:c", True),
        (("a:*",), "a:b:*", True),
        (("a:*",), "a:*", True),
        (("a:*",), "a", False),
        (("a:*",), "aa:b", False),
        (("a:b:*",), "a:*", False),
        (("a:b",), "a:b:c", False),
        (("a:b",), "a:*", False),
        ((), "a", False),
        (None, "a", True),
        (None, "a:*", True),
        (None, "keyctl:admin", False),
        (("keyctl:admin",), "keyctl:admin", True),
        (("keyctl:admin",), "keyctl:team", False),
        (("keyctl:admin",), "a", False),
        # Nobody can write it; a row that somebody wrote past this program gives no rights either.
        (("keyctl:*",), "keyctl:admin", False),
        (("keyctl:*",), "keyctl:team", False),
    ],
)
def test_what_a_scope_covers(held: tuple[str, ...] | None, wanted: str, covered: bool) -> None:
    """Promise 13: a key that is not restricted administers nothing."""
    assert scopes.covers(held, wanted) is covered
    assert scopes.covers_all(held, wanted) is covered
    assert scopes.covers_all(held, [wanted, wanted]) is covered
    assert scopes.grants(held, (wanted,)) is covered


def below(scope: str) -> str:
    return scope.removesuffix("*") + "x" if scope.endswith("*") else scope


@given(HELD, WRITTEN)
def test_covering_is_what_a_plain_reading_of_each_pair_says(held: tuple[str, ...] | None, wanted: str) -> None:
    """Promise 13."""
    if held is None:
        assert scopes.covers(held, wanted) is not (wanted in scopes.RESERVED)
        return
    plain = any(
        one == wanted or (one.endswith(":*") and wanted.startswith(one[:-1]) and wanted not in scopes.RESERVED)
        for one in held
    )
    assert scopes.covers(held, wanted) is plain
    # Whoever covers a wildcard covers what lies below it.
    assert not scopes.covers(held, wanted) or scopes.covers(held, below(wanted))


@given(HELD, HELD, WRITTEN)
def test_nobody_gives_what_they_lack(held: tuple[str, ...] | None, given_: tuple[str, ...] | None, wanted: str) -> None:
    """Promise 13: through however many keys, nobody comes to a scope that the first did not cover."""
    if scopes.grants(held, given_) and scopes.covers(given_, wanted):
        assert scopes.covers(held, wanted)
    assert scopes.grants(held, held)
    assert scopes.grants(held, None) is (held is None)
