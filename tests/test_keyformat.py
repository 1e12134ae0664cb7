"""The raw key's form. Promise 1: its secret leaves through `reveal()` alone, and `redact` finds it in any text."""

import copy
import hashlib
import math
import pickle
import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alphalens_keyctl import keyformat
from alphalens_keyctl.keyformat import ALPHABET, MalformedKeyError, RawKey

PREFIXES = st.from_regex(r"[a-z][a-z0-9]{1,9}", fullmatch=True)
BASE62 = st.text(ALPHABET, max_size=30)


@st.composite
def raw_keys(draw: st.DrawFn) -> str:
    """A valid raw key built from parts, so that hypothesis can shrink it and replay it."""
    key_id = draw(st.text(ALPHABET, min_size=12, max_size=12))
    secret = draw(st.text(ALPHABET, min_size=43, max_size=43))
    body = f"{draw(PREFIXES)}_{key_id}_{secret}"
    return body + keyformat.checksum(body)


def secret_of(raw: str) -> str:
    return raw.rpartition("_")[2]


def is_refused(text: str | bytes) -> bool:
    try:
        keyformat.parse(text)
    except MalformedKeyError:
        return True
    return False


@given(PREFIXES)
def test_a_generated_key_is_parsed_again_as_text_and_as_bytes(prefix: str) -> None:
    made = keyformat.generate(prefix)
    raw = made.reveal()
    for parsed in (keyformat.parse(raw), keyformat.parse(raw.encode())):
        assert (parsed.reveal(), parsed.prefix, parsed.id) == (raw, prefix, made.id)


@given(PREFIXES)
def test_a_generated_key_is_a_prefix_an_id_a_secret_and_a_checksum(prefix: str) -> None:
    """The lengths are spelled out again here, so that a changed constant is noticed."""
    raw = keyformat.generate(prefix).reveal()
    assert re.fullmatch(rf"{prefix}_[0-9A-Za-z]{{12}}_[0-9A-Za-z]{{49}}", raw)
    assert len(raw) == len(prefix) + 63
    assert len(raw) <= keyformat.LONGEST


def test_the_default_prefix_is_alk() -> None:
    assert keyformat.generate().reveal().startswith("alk_")


def test_a_secret_carries_at_least_256_bits() -> None:
    assert len(set(ALPHABET)) == 62
    assert keyformat.SECRET_LENGTH * math.log2(len(set(ALPHABET))) >= 256


def test_every_place_of_id_and_secret_is_drawn_from_the_whole_alphabet() -> None:
    """2,000 keys: that one of 62 characters is missing at a place by chance has odds of 1 in 10^10."""
    keys = [keyformat.generate().reveal() for _ in range(2000)]
    assert len(set(keys)) == 2000
    for place in [*range(4, 16), *range(17, 60)]:
        assert {key[place] for key in keys} == set(ALPHABET), place


@pytest.mark.parametrize(
    "prefix", ["", "a", "A1", "1a", "alk\n", "a_b", "abcdefghijk", "äb", "a" + "\u0663", "al k", "-ab"]
)
def test_a_prefix_out_of_form_makes_no_key(prefix: str) -> None:
    assert not keyformat.is_prefix(prefix)
    with pytest.raises(ValueError, match="prefix"):
        keyformat.generate(prefix)


def test_the_checksum_of_a_text_is_its_crc32_in_base62() -> None:
    """A value worked out by hand: CRC32("123456789") is 0xCBF43926, the check value of its specification."""
    digits, value = "", 0xCBF43926
    while value:
        value, digit = divmod(value, 62)
        digits = ALPHABET[digit] + digits
    assert keyformat.checksum("123456789") == digits.rjust(6, "0")
    assert keyformat.checksum("") == "000000"


@given(st.text() | st.binary())
def test_anything_but_a_raw_key_is_malformed_and_nothing_worse(text: str | bytes) -> None:
    assert is_refused(text)


@given(raw_keys(), st.integers(0, 72), st.text(max_size=3) | st.binary(max_size=3), st.integers(0, 3))
def test_text_near_a_raw_key_is_a_raw_key_or_malformed_and_nothing_worse(
    raw: str, place: int, put: str | bytes, cut: int
) -> None:
    text: str | bytes
    if isinstance(put, bytes):
        text = raw.encode()[:place] + put + raw.encode()[place + cut :]
        unchanged = text == raw.encode()
    else:
        text = raw[:place] + put + raw[place + cut :]
        unchanged = text == raw
    # Characters put into or cut out of a prefix could in principle meet the checksum again, one time in 2^32.
    assert is_refused(text) is not unchanged


def odd_texts(raw: str) -> dict[str, str | bytes]:
    arabic_digits = raw[:4] + "\u0663" * 12 + raw[16:]
    return {
        "empty": "",
        "no bytes": b"",
        "ten megabytes": "a" * 10_000_000,
        "ten megabytes of bytes": b"\xff" * 10_000_000,
        "a key with ten megabytes behind it": raw + "a" * 10_000_000,
        "NUL behind": raw + "\0",
        "NUL within": raw[:20] + "\0" + raw[21:],
        "NUL bytes": b"\0" * 66,
        "newline behind": raw + "\n",
        "newline behind bytes": raw.encode() + b"\n",
        "carriage return behind": raw + "\r",
        "space before": " " + raw,
        "space behind": raw + " ",
        "Arabic digits": arabic_digits,
        "Arabic digits as bytes": arabic_digits.encode(),
        "full-width letters": "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in raw),
        "Cyrillic a": "\u0430" + raw[1:],
        "not UTF-8": b"\xff\xfe" + raw.encode(),
        "UTF-16": raw.encode("utf-16"),
        "surrogates": "\udcff" * 66,
        "byte order mark": "\ufeff" + raw,
        "upper case": raw.upper(),
        "quoted": f'"{raw}"',
        "header": f"API-Key: {raw}",
        "twice": raw + raw,
        "checksum of zeroes": raw[:-6] + "000000",
        "checksum swapped": raw[:-6] + raw[:-7:-1],
        "without checksum": raw[:-6],
        "only the id": raw[:16],
        "no prefix": raw[3:],
        "hyphens": raw.replace("_", "-"),
    }


# Fixed, so that the names of the tests are too; its checksum is neither zeroes nor a palindrome.
FIXED = "alk_0123456789AB_" + ALPHABET[10:53]
FIXED += keyformat.checksum(FIXED)


@pytest.mark.parametrize("what", odd_texts(FIXED))
def test_what_is_not_exactly_a_raw_key_is_malformed(what: str) -> None:
    assert not is_refused(FIXED)
    assert is_refused(odd_texts(FIXED)[what])


@given(st.text(min_size=60) | st.binary(min_size=60) | raw_keys().map(lambda raw: raw[:-1] + "!"))
def test_why_a_text_is_malformed_is_said_without_repeating_it(text: str | bytes) -> None:
    """Promise 1: a key that was copied badly still holds most of its secret."""
    with pytest.raises(MalformedKeyError) as caught:
        keyformat.parse(text)
    said = str(caught.value)
    assert said in {
        "it is too long for a raw key",
        "it is not ASCII",
        "it does not have the form prefix_id_secret",
    }
    assert caught.value.__cause__ is None


def test_a_wrong_checksum_is_said_without_repeating_the_key() -> None:
    wrong = FIXED[:-1] + ("a" if FIXED[-1] != "a" else "b")
    with pytest.raises(MalformedKeyError, match="checksum") as caught:
        keyformat.parse(wrong)
    assert secret_of(wrong)[:8] not in str(caught.value)


@given(raw_keys(), st.data())
def test_a_key_with_one_character_changed_is_refused(raw: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(raw) - 1))
    other = data.draw(st.characters())
    assume(other != raw[place])
    assert is_refused(raw[:place] + other + raw[place + 1 :])


def test_a_key_with_any_one_character_changed_to_any_other_is_refused() -> None:
    """All 66 places times all 62 characters: CRC32 finds every error burst of up to 32 bits."""
    accepted = [
        (place, other)
        for place in range(len(FIXED))
        for other in ALPHABET
        if other != FIXED[place] and not is_refused(FIXED[:place] + other + FIXED[place + 1 :])
    ]
    assert accepted == []


@given(raw_keys(), st.data())
def test_a_key_with_two_neighbours_swapped_is_refused(raw: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(raw) - 2))
    assume(raw[place] != raw[place + 1])
    assert is_refused(raw[:place] + raw[place + 1] + raw[place] + raw[place + 2 :])


@given(raw_keys(), st.integers(1, 72))
def test_a_key_cut_short_is_refused(raw: str, cut: int) -> None:
    assert is_refused(raw[:-cut])


@given(raw_keys())
def test_a_digest_is_sha256_of_the_whole_key(raw: str) -> None:
    digest = keyformat.parse(raw).digest()
    assert digest == hashlib.sha256(raw.encode("ascii")).digest()
    assert len(digest) == 32
    assert keyformat.DIGEST_SCHEME == "sha256"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_digests_are_the_same_exactly_when_their_bytes_are(one: bytes, other: bytes) -> None:
    assert keyformat.same_digest(one, bytes(bytearray(one)))
    assert keyformat.same_digest(one, other) is (one == other)


@pytest.mark.parametrize(
    "shown",
    [repr, str, ascii, "{}".format, "{!r}".format, "%s".__mod__, lambda key: f"{key!s:>90}", lambda key: repr([key])],
    ids=["repr", "str", "ascii", "format", "format!r", "percent", "padded", "in a list"],
)
def test_no_way_to_show_a_key_shows_its_secret(shown: object) -> None:
    """Promise 1."""
    key = keyformat.parse(FIXED)
    assert callable(shown)
    text = shown(key)
    assert secret_of(FIXED)[:8] not in text
    assert "alk_0123456789AB" in text


@pytest.mark.parametrize("width", [">90", "90", "s", ".200", "r"])
def test_a_format_specification_shows_no_secret(width: str) -> None:
    """Promise 1. Whether the specification is obeyed or refused does not matter."""
    key = keyformat.parse(FIXED)
    try:
        shown = format(key, width)
    except (TypeError, ValueError) as error:
        shown = str(error)
    assert secret_of(FIXED)[:8] not in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_key_is_never_pickled(protocol: int) -> None:
    """Promise 1: a pickle would go to a file, a cache or another process."""
    with pytest.raises(TypeError, match="never pickled") as caught:
        pickle.dumps(keyformat.parse(FIXED), protocol)
    assert secret_of(FIXED)[:8] not in str(caught.value)


def test_a_key_is_not_copied_in_secret_and_has_no_dict_to_print() -> None:
    """Promise 1: tools that print an object's attributes look at `__dict__`."""
    key = keyformat.parse(FIXED)
    assert not hasattr(key, "__dict__")
    with pytest.raises(TypeError):
        vars(key)
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            duplicate(key)


def test_an_error_that_holds_a_key_prints_no_secret() -> None:
    """Promise 1: an exception's arguments are shown by repr."""
    error = ValueError("refused", keyformat.parse(FIXED))
    assert secret_of(FIXED)[:8] not in str(error) + repr(error)


def pieces_of_secret_in(text: str, raw: str) -> list[str]:
    """Every run of 16 characters of the secret that stands in `text`: what is left must not help a guesser."""
    secret = secret_of(raw)
    return [secret[i : i + 16] for i in range(len(secret) - 15) if secret[i : i + 16] in text]


CONTEXTS = st.text() | BASE62 | st.text(ALPHABET[:3] + "ab_- \n", max_size=40)


@given(CONTEXTS, raw_keys(), CONTEXTS)
def test_redaction_takes_the_secret_out_of_any_text_and_leaves_the_id(before: str, raw: str, behind: str) -> None:
    """Promise 1."""
    text = before + raw + behind
    assert keyformat.resembles_raw_key(text)
    redacted = keyformat.redact(text)
    # What surrounds the key may by chance hold a run of it; hypothesis likes runs of zeroes.
    assume(not pieces_of_secret_in(before + " " + behind, raw))
    assert pieces_of_secret_in(redacted, raw) == []
    assert keyformat.parse(raw).id in redacted


@given(raw_keys(), st.sampled_from(["%5f", "%5F"]))
def test_redaction_finds_a_key_in_a_url_that_encodes_its_underscores(raw: str, underscore: str) -> None:
    """Promise 1."""
    assert pieces_of_secret_in(keyformat.redact(f"/a/{raw.replace('_', underscore)}?b"), raw) == []


@given(st.lists(raw_keys() | BASE62, min_size=2, max_size=4), st.sampled_from(["", "_", "\n", ",", "a"]))
def test_redaction_takes_out_the_secrets_of_all_keys_however_close_they_stand(texts: list[str], between: str) -> None:
    """Promise 1: `cat one two` of files without a newline glues two keys together."""
    redacted = keyformat.redact(between.join(texts))
    for raw in filter(re.compile(".*_.*_").match, texts):
        assume(not any(pieces_of_secret_in(other, raw) for other in texts if other != raw))
        assert pieces_of_secret_in(redacted, raw) == []


def test_redaction_takes_out_the_second_of_two_keys_written_without_a_gap() -> None:
    """Promise 1: the case that the property above finds, kept so that it is always tried."""
    one, other = keyformat.generate().reveal(), keyformat.generate().reveal()
    redacted = keyformat.redact(one + other)
    assert secret_of(one) not in redacted
    assert secret_of(other) not in redacted


@given(raw_keys(), st.integers(0, 30))
def test_redaction_also_finds_a_key_that_lost_its_end(raw: str, cut: int) -> None:
    """Promise 1: three dozen characters of secret are most of it."""
    broken = raw[: len(raw) - cut]
    assert keyformat.resembles_raw_key(broken)
    assert pieces_of_secret_in(keyformat.redact(f"got {broken}!"), raw) == []


@given(raw_keys(), st.sampled_from([str.upper, str.lower, str.swapcase, str.title]), st.integers(20, 49), st.data())
def test_no_case_and_no_cut_keeps_a_key_from_being_found(
    raw: str, cased: Callable[[str], str], left: int, data: st.DataObject
) -> None:
    """Promise 1: 20 characters of secret behind the id and the end of a prefix are a key, whatever the case."""
    changed = cased(raw)
    cut_before = data.draw(st.integers(0, len(raw.partition("_")[0]) - 1))
    broken = changed[cut_before : len(raw) - 49 + left]
    for text in (broken, f"got '{broken}'!", "".join(chr(ord(c) + 0xFEE0) for c in broken)):
        assert keyformat.resembles_raw_key(text)
    assert pieces_of_secret_in(keyformat.redact(f"got {broken}!"), changed) == []


@given(st.text().filter(lambda text: "_" not in unicodedata.normalize("NFKC", text)))
def test_redaction_leaves_text_without_keys_as_it_is(text: str) -> None:
    assert not keyformat.resembles_raw_key(text)
    assert keyformat.redact(text) == text


@given(CONTEXTS, raw_keys(), CONTEXTS)
def test_redacting_twice_changes_nothing_more(before: str, raw: str, behind: str) -> None:
    once = keyformat.redact(before + raw + behind)
    assert keyformat.redact(once) == once


@pytest.mark.parametrize("text", ["alk_0123456789AB", "my_nightly_backup", "AKIA_0123456789AB_short", "a_b_c", ""])
def test_an_id_and_an_ordinary_name_do_not_resemble_a_raw_key(text: str) -> None:
    assert not keyformat.resembles_raw_key(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("0123456789AB", True), ("0123456789A", False), ("0123456789ABC", False), ("0123456789AB\n", False)],
        *[("\u0663" * 12, False), ("0123456789A_", False), ("", False)],
    ],
)
def test_an_id_is_twelve_base62_characters(text: str, expected: bool) -> None:
    assert keyformat.is_id(text) is expected


@given(st.integers(1, 4))
def test_generated_ids_are_ids(count: int) -> None:
    keys: list[RawKey] = [keyformat.generate() for _ in range(count)]
    assert all(keyformat.is_id(key.id) and key.prefix == "alk" for key in keys)


@given(raw_keys(), st.integers(1, 60), st.sampled_from([" ", "\n", "\r\n  "]))
def test_a_raw_key_without_its_prefix_or_wrapped_resembles_one(raw: str, at: int, gap: str) -> None:
    """Promise 1: the secret is in such a text whole."""
    bare = raw.partition("_")[2]
    assert keyformat.resembles_raw_key(f"key {bare}!")
    assert bare[13:] not in keyformat.redact(f"key {bare}!")
    assert keyformat.resembles_raw_key(f"here is {raw[:at]}{gap}{raw[at:]}")


def test_words_that_stand_together_without_their_spaces_resemble_no_raw_key() -> None:
    assert not keyformat.resembles_raw_key(
        "the my_applications_are rotated nightly by the team that runs all of the platform"
    )
