"""The text that people type, on its way in. Promise 12: what is accepted can act on nothing that shows it.
Promise 1: a raw key is never taken for metadata."""

import unicodedata
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alphalens_keyctl import keyformat, text
from alphalens_keyctl.errors import Code, KeyctlError

T = TypeVar("T")

# Default_Ignorable_Code_Point of Unicode (DerivedCoreProperties.txt): characters that show nothing. Written
# out here because Python's database does not have the property.
IGNORABLE = [
    *[0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0],
    *range(0x180B, 0x1810),
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
    *range(0xFFF0, 0xFFF9),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0xE0000, 0xE1000),
]
BIDI = [0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]


def refusal(given: str, parse: object = text.parse_name) -> KeyctlError:
    assert callable(parse)
    with pytest.raises(KeyctlError) as caught:
        parse(given)
    return caught.value


def outcome(parse: Callable[[], T]) -> T | KeyctlError:
    """What parsing gives: a value, or the refusal. Anything else that is raised fails the test."""
    try:
        return parse()
    except KeyctlError as error:
        return error


@pytest.mark.parametrize(
    "name",
    {
        "empty": "",
        "too long": "a" * 101,
        "a megabyte": "a" * 1_000_000,
        "lone hyphen": "-",
        "only spaces": "   ",
        "space before": " ci",
        "space behind": "ci ",
        "newline": "a\nb",
        "newline behind": "ci\n",
        "carriage return": "a\rb",
        "tab": "a\tb",
        "NUL": "a\0b",
        "bell": "a\ab",
        "delete": "a\x7fb",
        "ESC": "\x1b[2Jx",
        "link": "\x1b]8;;http://example.com\x1b\\x",
        "C1 CSI": "a\x9b2Jb",
        "C1 NEL": "a\x85b",
        "line separator": "a\u2028b",
        "paragraph separator": "a\u2029b",
        "zero-width space": "a\u200bb",
        "zero-width joiner": "a\u200db",
        "word joiner": "a\u2060b",
        "byte order mark": "\ufeffci",
        "soft hyphen": "a\u00adb",
        "no-break space": "a\u00a0b",
        "narrow no-break space": "a\u202fb",
        "ideographic space": "a\u3000b",
        "en quad": "a\u2000b",
        "Hangul filler": "a\u3164b",
        "half-width Hangul filler": "a\uffa0b",
        "Hangul choseong filler": "a\u115fb",
        "blank Braille cell": "a\u2800b",
        "variation selector": "a\ufe0fb",
        "variation selector supplement": "a\U000e0100b",
        "tag": "a\U000e0041b",
        "Mongolian variation selector": "a\u180bb",
        "combining grapheme joiner": "a\u034fb",
        "leading combining mark": "\u0301ci",
        "leading enclosing mark": "\u20ddci",
        "lone high surrogate": "a\ud800b",
        "lone low surrogate": "a\udfffb",
        "bytes that are not UTF-8": b"a\xffb".decode("utf-8", "surrogateescape"),
        "private use": "a\ue000b",
        "non-character": "a\uffffb",
        "unassigned": "a\U000e1fffb",
        "backslash": "a\\b",
        "backtick": "`id`",
        "Greek varia that NFC makes a backtick": "\u1fefid\u1fef",
    }.items(),
    ids=lambda given: given[0],
)
def test_a_name_that_could_act_or_hide_is_refused(name: tuple[str, str]) -> None:
    error = refusal(name[1])
    assert error.code is Code.INVALID_INPUT
    assert error.code.exit_status == 2
    assert error.hint


@pytest.mark.parametrize(
    "kind", ["controls", "formats", "surrogates", "private use", "separators", "bidi", "ignorable", "shells"]
)
def test_no_character_of_a_refused_kind_gets_through(kind: str) -> None:
    """Every one that Unicode has, not a sample."""
    categories = {
        "controls": {"Cc"}, "formats": {"Cf"}, "surrogates": {"Cs"}, "private use": {"Co"}, "separators": {"Zl", "Zp"},
    }  # fmt: skip
    if kind in categories:
        # Planes 15 and 16 hold private use alone; a few of it stand for the rest.
        points = [p for p in [*range(0xF0000), 0xF0000, 0x10FFFD] if unicodedata.category(chr(p)) in categories[kind]]
    else:
        points = {"bidi": BIDI, "ignorable": IGNORABLE, "shells": [ord("\\"), ord("`")]}[kind]
    assert points
    for point in points:
        assert not text.is_inert(chr(point)), f"U+{point:04X}"


@given(st.text(min_size=1))
def test_a_text_is_accepted_in_nfc_or_refused_and_nothing_worse(line: str) -> None:
    accepted = outcome(lambda: text.parse_line(line, what="owner", longest=100))
    if isinstance(accepted, KeyctlError):
        assert accepted.code is Code.INVALID_INPUT
        return
    assert accepted == unicodedata.normalize("NFC", line)
    assert 1 <= len(accepted) <= 100
    for character in accepted:
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert ord(character) not in IGNORABLE
        assert character not in "\\`"


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"]), min_size=1, max_size=100))
def test_parsing_what_was_parsed_changes_nothing(name: str) -> None:
    once = outcome(lambda: text.parse_name(name))
    assume(not isinstance(once, KeyctlError))
    assert text.parse_name(str(once)) == once


@pytest.mark.parametrize(
    "name",
    [
        *["[bold red]x[/]", "[link=http://example.com]x[/link]", ":smile:", "🚀 rocket", "O'Brien", '"quoted"'],
        *["'; DROP TABLE api_key; --", "=1+1", "+1", "-1", "@SUM(A1)", "--json", "$(id)", "${HOME}", "%s%n", "{0}"],
        *["a;b|c&d", "*", "?", "~", "#", "!", "日本語", "עברית", "ŋ", "a b", "null", "NULL", "0", "a,b", "e\u0301a"],
        *["<b>&amp;</b>", "a" * 100, "\u00e9" * 100, "e\u0301" * 100],
    ],
)
def test_markup_quotes_sql_and_formulas_are_kept_literally(name: str) -> None:
    assert text.parse_name(name) == unicodedata.normalize("NFC", name)


def test_length_counts_characters_after_normalisation() -> None:
    """200 code points that are 100 letters: the same name must not pass or fail by how a keyboard composes it."""
    assert len(text.parse_name("e\u0301" * 100)) == 100
    assert refusal("e\u0301" * 101).code is Code.INVALID_INPUT


@pytest.mark.parametrize(
    ("longest", "what"),
    [
        (text.LONGEST_NAME, "name"),
        (text.LONGEST_OWNER, "owner"),
        (text.LONGEST_PURPOSE, "purpose"),
        (text.LONGEST_REASON, "reason"),
        (text.LONGEST_ACTOR, "actor"),
    ],
)
def test_each_text_is_accepted_up_to_its_limit_and_no_further(longest: int, what: str) -> None:
    assert text.parse_line("x" * longest, what=what, longest=longest) == "x" * longest
    error = refusal("x" * (longest + 1), lambda given: text.parse_line(given, what=what, longest=longest))
    assert error.message.startswith(f"the {what} is {longest + 1} characters")


@given(st.text())
def test_a_name_folds_the_same_however_it_is_composed(name: str) -> None:
    folded = text.fold(name)
    for form in ("NFC", "NFD"):
        assert text.fold(unicodedata.normalize(form, name)) == folded
    assert text.fold(folded) == folded


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789 äöüéñßæøåжщδλ"))
def test_a_name_folds_the_same_in_upper_and_lower_case(name: str) -> None:
    assert text.fold(name.upper()) == text.fold(name) == text.fold(name.lower())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[("CI", "ci"), ("Café", "CAFE\u0301"), ("Straße", "STRASSE"), ("ΣΊΣΥΦΟΣ", "σίσυφος"), ("\u212a", "k")],
        *[("\u00c5", "\u212b"), ("\ufb03", "FFI"), ("\u1e9e", "ss"), ("\u01c4", "\u01c6")],
    ],
)
def test_names_that_differ_by_case_or_composition_are_one(one: str, other: str) -> None:
    assert text.fold(one) == text.fold(other)


@pytest.mark.parametrize(
    ("one", "other"), [("a", "b"), ("e", "é"), ("o", "0"), ("\u0131", "i"), ("a b", "ab"), ("a", "\u0430")]
)
def test_names_that_differ_by_more_are_two(one: str, other: str) -> None:
    assert text.fold(one) != text.fold(other)


WIDE = str.maketrans({c: chr(ord(c) + 0xFEE0) for c in map(chr, range(0x21, 0x7F))})


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("billing".translate(WIDE), "billing"),
        ("b\uff49lling", "billing"),
        ("BILLING-7".translate(WIDE), "BILLING\uff0d7"),
        ("\U0001d41b\U0001d422\U0001d425\U0001d425", "bill"),
        ("\uff76\uff9e\uff72\uff84\uff9e", "ガイド"),
        ("\uff76\uff9e\uff72\uff84\uff9e\uff08テスト\uff09", "ガイド\uff08テスト\uff09"),
        ("\u2160\u2169", "IX"),
        ("\u2f47本", "日本"),
        ("\ufe8d\u0644", "\u0627\u0644"),
    ],
    ids=ascii,
)
def test_a_new_name_in_letters_of_another_width_or_font_is_refused_with_its_plain_form(name: str, plain: str) -> None:
    """Such a name would stand beside the plain one and look like it."""
    error = refusal(name)
    assert error.code is Code.INVALID_INPUT
    assert error.told == f"the name '{name}' must be written '{plain}'"
    assert text.parse_name(plain) == plain
    assert text.parse_line(name, what="owner", longest=100) == name


@pytest.mark.parametrize(
    "name",
    [
        *[
            "Acme™",
            "x²",
            "½",
            "№ 5",
            "㈱アルファ",
            "①",
            "支付（测试）：一",
            "n.º 5",
            "ทำงาน",
            "ㅋㅋ",
            "µservice",
            "ſ",
            "ﬁle",
            "a…b",
        ],
        *["ガイド", "Ⅱ", "日本", "billing", "Ŀ", "ﷲ", "＄", "a・b"],
    ],
    ids=ascii,
)
def test_a_name_that_its_own_keyboard_writes_or_that_looks_like_no_other_is_taken(name: str) -> None:
    assert text.parse_name(name) == name


@given(st.text())
def test_the_plain_form_of_a_name_is_plain_and_takes_the_place_of_no_letter(name: str) -> None:
    plain = text.plainly(name)
    assert text.plainly(plain) == plain
    assert unicodedata.normalize("NFKC", plain) == unicodedata.normalize("NFKC", name)
    if name.isascii():
        assert plain == name


PARSERS = {
    "name": text.parse_name,
    "owner": lambda given: text.parse_line(given, what="owner", longest=text.LONGEST_OWNER),
    "reason": lambda given: text.parse_line(given, what="reason", longest=text.LONGEST_REASON),
    "label": text.parse_label,
    "label value": lambda given: text.parse_label(f"team={given}"),
    "labels": lambda given: text.parse_labels([given, f"a={given}"]),
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("around", ["{}", "key {}", "{} is the key", "x{}x", "{}\n", "\x1b{}"])
def test_a_raw_key_in_metadata_is_refused_and_not_repeated(parser: str, around: str) -> None:
    raw = keyformat.generate().reveal()
    error = refusal(around.format(raw), PARSERS[parser])
    assert error.code.exit_status == 2
    assert raw.rpartition("_")[2][:8] not in f"{error} {error.message} {error.hint} {error!r}"


@pytest.mark.parametrize("parser", ["name", "owner", "reason", "label value"])
def test_a_raw_key_in_metadata_is_refused_by_a_code_of_its_own(parser: str) -> None:
    assert refusal(keyformat.generate().reveal(), PARSERS[parser]).code is Code.RAW_KEY_IN_ARGUMENT


def test_a_text_that_nobody_typed_is_measured_and_neither_searched_nor_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 1. To search a megabyte for raw keys takes a second."""
    raw = keyformat.generate().reveal()
    searched: list[str] = []
    monkeypatch.setattr(keyformat, "resembles_raw_key", searched.append)
    error = refusal(raw * 20_000)
    assert error.code is Code.INVALID_INPUT
    assert raw not in f"{error.message} {error.told} {error.hint}"
    assert not searched


def test_a_raw_key_that_only_normalisation_completes_is_refused() -> None:
    """U+212A KELVIN SIGN becomes K in NFC: looked at before, the text is no raw key; stored, it would be one."""
    body = "alk_0123456789AK_" + "a" * 43
    raw = body + keyformat.checksum(body)
    disguised = raw.replace("K", "\u212a")
    assert unicodedata.normalize("NFC", disguised) == raw
    for parser in ("name", "owner", "reason", "label value"):
        refusal(disguised, PARSERS[parser])


@given(st.text(min_size=8))
def test_a_refused_text_is_not_repeated(line: str) -> None:
    """Whoever reads the message may have a terminal that the text would act on."""
    error = refusal(line + "\x1b", text.parse_name)
    for said in (error.message, error.hint):
        assert said.isascii()
        assert said.isprintable()


@pytest.mark.parametrize(
    ("label", "parsed"),
    [
        ("team=billing", ("team", "billing")),
        ("a=b=c", ("a", "b=c")),
        ("k8s.io/name=x y", ("k8s.io/name", "x y")),
        ("a=-", ("a", "-")),
        ("0==", ("0", "=")),
        (f"{'k' * 63}={'v' * 100}", ("k" * 63, "v" * 100)),
        ("a_b-c.d/e=e\u0301", ("a_b-c.d/e", "\u00e9")),
    ],
)
def test_a_label_is_a_key_and_a_value(label: str, parsed: tuple[str, str]) -> None:
    assert text.parse_label(label) == parsed


@pytest.mark.parametrize(
    "label",
    [
        *[
            "",
            "team",
            "=",
            "=x",
            "a=",
            "A=x",
            "-a=x",
            "a-=x",
            "a b=x",
            " a=x",
            "a =x",
            "a= x",
            "a=x ",
            "a\n=x",
            "a=x\n",
        ],
        *["ä=x", "\u0663=x", "a\0=x", "a=\0", "a*=x", "a=\udcff", ".=x", "a=\x1b[2J", "a=\\"],
        *[f"{'k' * 64}=x", f"a={'v' * 101}"],
    ],
)
def test_a_label_out_of_form_is_refused(label: str) -> None:
    assert refusal(label, text.parse_label).code is Code.INVALID_INPUT


def test_labels_keep_every_pair_and_refuse_a_key_given_twice() -> None:
    assert text.parse_labels([]) == {}
    assert text.parse_labels(["a=1", "b=1"]) == {"a": "1", "b": "1"}
    assert "'a' is given twice" in refusal("", lambda _: text.parse_labels(["a=1", "b=2", "a=1"])).message


def test_labels_are_limited_in_number() -> None:
    assert len(text.parse_labels(f"k{i}=v" for i in range(32))) == 32
    refusal("", lambda _: text.parse_labels(f"k{i}=v" for i in range(33)))


@given(st.text())
def test_any_label_is_accepted_or_refused_and_nothing_worse(label: str) -> None:
    parsed = outcome(lambda: text.parse_label(label))
    if isinstance(parsed, KeyctlError):
        assert parsed.code.exit_status == 2
        return
    assert text.parse_label("=".join(parsed)) == parsed


def test_what_is_repeated_in_an_error_is_short_and_holds_no_secret() -> None:
    """Promise 1."""
    raw = keyformat.generate().reveal()
    wide = raw.translate(WIDE)
    for secret in (raw, f"x {raw[:50]} y", wide, "postgresql://jo:hunter2@db/keys"):
        assert text.quoted(secret) == "'...'"
    assert text.quoted("90 days") == "'90 days'"
    assert text.quoted("x" * 60) == f"'{'x' * 60}'"
    assert text.quoted("x" * 61) == f"'{'x' * 40}...{'x' * 10}'"


@pytest.mark.parametrize("placeholder", text.PLACEHOLDERS)
def test_a_placeholder_of_advice_that_was_pasted_as_it_stands_is_refused(placeholder: str) -> None:
    with pytest.raises(KeyctlError, match="is a placeholder"):
        text.parse_line(placeholder, what="owner", longest=100)
