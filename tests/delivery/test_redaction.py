"""What a command prints shows no raw key, whatever the command made of it (promise 1)."""

import base64
import json
import textwrap
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl import keyformat
from alphalens_keyctl.delivery.redaction import without
from tests.support.raw_keys import shows

RAW = keyformat.generate()
SECRET = RAW.reveal()[-49:]

# What a command may make of a key, or of a text that holds one.
ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 without padding": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "hex with colons": lambda text: text.encode().hex(":"),
    "hex with dashes": lambda text: text.encode().hex("-").upper(),
    "a C string": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "a C array": lambda text: ", ".join(f"0x{byte:02X}" for byte in text.encode()),
    "a URL": lambda text: quote(text, safe=""),
    "a URL throughout": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "JSON": json.dumps,
    "JSON throughout": lambda text: "".join(f"\\u{ord(sign):04x}" for sign in text),
    "base64 twice over lines, in JSON": lambda text: json.dumps(base64.encodebytes(text.encode()).decode()),
    "quoted-printable": lambda text: "=\r\n".join(textwrap.wrap(text, 76)),
}
# Their signs are several characters each, which nothing breaks.
WHOLE_SIGNS = {"a C string", "a C array", "a URL throughout", "JSON throughout"}
# How a line is broken.
BREAKS: dict[str, Callable[[str], str]] = {
    "not": str,
    "at 76": lambda text: "\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
    "at 64": lambda text: "\r\n".join(text[at : at + 64] for at in range(0, len(text), 64)),
    "indented at 20": lambda text: "\n    ".join(text[at : at + 20] for at in range(0, len(text), 20)),
    "at 6, in JSON": lambda text: "\\n".join(text[at : at + 6] for at in range(0, len(text), 6)),
    "after each": " ".join,
}
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@given(
    before=ANY_TEXT,
    around=st.tuples(ANY_TEXT, ANY_TEXT),
    behind=ANY_TEXT,
    encoding=st.sampled_from(list(ENCODINGS)),
    line_break=st.sampled_from(list(BREAKS)),
    cut=st.tuples(st.integers(0, 80), st.integers(0, 80)),
    what=st.sampled_from([RAW.reveal(), SECRET, SECRET[:43]]),
)
def test_no_eight_characters_of_the_secret_are_left_whatever_was_made_of_it(
    before: str, around: tuple[str, str], behind: str, encoding: str, line_break: str, cut: tuple[int, int], what: str
) -> None:
    """Encoded by itself or with what stands around it, wrapped, cut off at both ends."""
    printed = ENCODINGS[encoding](what.join(around))
    printed = printed if encoding in WHOLE_SIGNS else BREAKS[line_break](printed)
    printed = before + printed[cut[0] : max(cut[0], len(printed) - cut[1])] + behind
    shown = without(printed, RAW)
    assert not shows(RAW.reveal(), shown)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_text_around_stays_and_what_was_taken_out_is_marked(encoding: str) -> None:
    """An encoding that this test could not read back would prove nothing above."""
    printed = ENCODINGS[encoding](RAW.reveal())
    assert shows(RAW.reveal(), printed, characters=len(SECRET))
    shown = without(f"stored: {printed} (version 7, sha256 {'0123456789abcdef' * 4})", RAW)
    assert shown.startswith("stored: ")
    assert "[redacted" in shown
    assert shown.endswith(f" (version 7, sha256 {'0123456789abcdef' * 4})")


@given(text=st.text(max_size=300) | st.binary(max_size=300).map(lambda some: base64.b64encode(some).decode()))
def test_a_text_without_a_key_is_left_alone(text: str) -> None:
    if not keyformat.resembles_raw_key(text):
        assert without(text, RAW) == text


def test_other_raw_keys_are_redacted_where_they_stand_as_they_are() -> None:
    other = keyformat.generate()
    assert without(f"{other.reveal()} {RAW.reveal()}", RAW) == f"alk_{other.id}_[redacted] [redacted {RAW.id}]"
