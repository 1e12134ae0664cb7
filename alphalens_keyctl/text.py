"""The text that people type: which text is accepted, and which two texts are the same name.

Promise 12, on the way in. A terminal, a table, a shell completion and a log can show accepted text without moving a
cursor, hiding a character or running anything.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, TypeVar

from alphalens_keyctl import keyformat
from alphalens_keyctl.errors import Code, KeyctlError

LONGEST_NAME: Final = 100
_LONGEST_QUOTED: Final = 60
# Of a text that is longer no more is looked at: to search a megabyte for raw keys takes a second.
_LONGEST_SEARCHED: Final = 4000
LONGEST_OWNER: Final = 100
LONGEST_PURPOSE: Final = 200
LONGEST_REASON: Final = 500
LONGEST_ACTOR: Final = 200
LONGEST_LABEL_VALUE: Final = 100
MOST_LABELS: Final = 32

# What a command line of advice has where a person has to put other words. Pasted as it stands, it is refused.
OWNER_TO_NAME: Final = "<owner>"
PURPOSE_TO_NAME: Final = "<purpose>"
NAME_TO_GIVE: Final = "<new name>"
PLACEHOLDERS: Final = (OWNER_TO_NAME, PURPOSE_TO_NAME, NAME_TO_GIVE)

_LABEL_KEY = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?")
# General categories (Unicode 4.5) with no place in a one-line text: controls, formats (bidi and zero-width characters
# among them), surrogates (bytes that were not UTF-8), private use, unassigned, line and paragraph separators.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# How Unicode marks a letter or digit that is a plain one in another width, font or position in its word (UAX 44, 5.7.3;
# `<compat>` has among others the Roman numerals and the radicals, which look like the letters and ideographs).
_DRESSES: Final = ("<wide>", "<narrow>", "<font>", "<initial>", "<medial>", "<final>", "<isolated>", "<compat>")
# Characters of other categories that show nothing (Default_Ignorable_Code_Point, and the blank Braille cell), and the
# backslash and the backquote, on which a shell or a completion script may act.
_REFUSED: Final = frozenset(
    "\\`\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0x180B, 0x1810)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)


_Word = TypeVar("_Word", bound=StrEnum)


def parse_line(text: str, *, what: str, longest: int) -> str:
    """One line of text as it will be stored: normalised to NFC, without anything that a terminal would act on.

    `what` names the text in the message ("name"); `longest` is in characters after normalisation. Raises `KeyctlError`:
    invalid_input, or raw_key_in_argument for a text that holds a raw key. The message never repeats the
    text; `told` does, as `quoted` shows it.
    """
    if len(text) > _LONGEST_SEARCHED:
        # Not repeated: it may hold a raw key.
        raise _refusal(what, "", f"is {len(text)} characters long", f"Keep it to {longest} characters.")
    text = unicodedata.normalize("NFC", text)
    if keyformat.resembles_raw_key(text):
        raise KeyctlError(
            Code.RAW_KEY_IN_ARGUMENT,
            f"the {what} holds a raw key",
            "Keep raw keys out of metadata; name a key by its id.",
        )
    if not text:
        raise _refusal(what, "", "is empty", f"It takes 1 to {longest} characters.")
    if text in PLACEHOLDERS:
        raise _refusal(what, text, "is a placeholder", "Put your own words in its place.")
    if len(text) > longest:
        raise _refusal(what, text, f"is {len(text)} characters long", f"Keep it to {longest} characters.")
    for character in text:
        if (problem := _problem_with(character)) is not None:
            raise _refusal(what, text, f"holds {problem}", "Leave the character out.")
    if text != text.strip(" "):
        raise _refusal(what, text, "begins or ends with a space", "Leave the outer spaces out.")
    if unicodedata.category(text[0]).startswith("M"):
        raise _refusal(what, text, "begins with a combining mark", "Begin with a letter, digit or symbol.")
    return text


def quoted(text: str) -> str:
    """Return `text` in quotes, to be repeated in an error: one that is long loses its middle, and one in which a secret
    may stand, a raw key or a URL with its password, is left out as `'...'` (promise 1)."""
    if keyformat.resembles_raw_key(text) or "://" in text:
        return "'...'"
    return f"'{text}'" if len(text) <= _LONGEST_QUOTED else f"'{text[:40]}...{text[-10:]}'"


def tame(text: str, *, longest: int) -> str:
    """`text`, which nobody can be asked to correct (the name of a host, say), made acceptable: a question mark in place
    of each character that `parse_line` would refuse, raw keys redacted, cut to `longest` characters. May be empty."""
    text = unicodedata.normalize("NFC", text[:longest])
    text = "".join("?" if _problem_with(c) else c for c in text).strip(" ")
    if text and unicodedata.category(text[0]).startswith("M"):
        text = "?" + text
    return keyformat.redact(text[:longest].rstrip(" "))


def parse_name(text: str) -> str:
    """The name of a key, as `parse_line` returns it.

    Refused too are `-` alone, which as KEY means a raw key on stdin, and a name in letters of another width or font
    (`plainly`), which would stand beside the plain name and look like it: `told` says how the name is written plainly.
    Only the new name is refused. A key that has such a name already keeps it, and every command finds the key by it, so
    that no upgrade has to rename a key or to choose between two.
    """
    name = parse_line(text, what="name", longest=LONGEST_NAME)
    if name == "-":
        raise _refusal("name", "", "is a lone '-'", "That stands for a raw key on standard input.")
    if fold(plain := plainly(name)) != fold(name):
        hint = "In letters of another width or font a name looks like another name."
        raise _refusal("name", name, f"must be written {quoted(plain)}", hint, silent="is not in plain letters")
    return name


def plainly(name: str) -> str:
    """`name` with the plain letter or digit in place of each one of another width, font or position in its word.

    Of Unicode's compatibility mappings (NFKC) only those of one letter to one letter count: what they map looks the
    same. `™`, `№`, `㈱`, `½` and the Thai `ำ` do not look like what NFKC makes of them, no more than `²` and `①` like 2
    and 1, and the brackets and colons of an East Asian keyboard are how its users write: all of them stay. So do the
    letters that a keyboard has and NFKC makes one that no keyboard has (Hangul Jamo).
    """
    return unicodedata.normalize("NFC", "".join(map(_plain, name)))


def _plain(character: str) -> str:
    if character.isascii() or not unicodedata.decomposition(character).startswith(_DRESSES):
        return character
    plain = unicodedata.normalize("NFKC", character)
    same_looks = len(plain) == 1 and unicodedata.category(plain)[0] in "LMN" and not "\u1100" <= plain <= "\u11ff"
    return plain if same_looks else character


def fold(name: str) -> str:
    """The form in which names are compared: canonical caseless matching (Unicode 3.13, D145)."""
    decomposed = unicodedata.normalize("NFD", name)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", decomposed.casefold()).casefold())


def parse_label(text: str) -> tuple[str, str]:
    """`key=value` → the key and the value. Raises `KeyctlError` as `parse_label_name` and `parse_line` do."""
    key, equals, value = text.partition("=")
    if not equals:
        raise _refusal("label", text, "has no '='", "Write it as key=value, for example team=billing.")
    return parse_label_name(key), parse_line(value, what="label value", longest=LONGEST_LABEL_VALUE)


def parse_label_name(text: str) -> str:
    """The key of a label: `[a-z0-9]`, with `. _ / -` inside, 63 characters at most. Raises `KeyctlError`
    (invalid_input)."""
    if _LABEL_KEY.fullmatch(text) is None:
        raise _refusal(
            "label",
            text,
            "has a key that is not plain",
            "Label keys are 1 to 63 of a-z 0-9 . _ / -, with a letter or digit at both ends.",
        )
    return text


def parse_labels(texts: Iterable[str]) -> Mapping[str, str]:
    """Several `key=value` texts → a mapping. Raises `KeyctlError` (invalid_input) also for a key given twice and for
    more than `MOST_LABELS` labels."""
    labels: dict[str, str] = {}
    for key, value in map(parse_label, texts):
        if key in labels:
            raise _refusal("label", "", f"'{key}' is given twice", "Give each label key once.")
        labels[key] = value
    if len(labels) > MOST_LABELS:
        raise _refusal("label", "", f"count is {len(labels)}", f"Keep it to {MOST_LABELS} labels.")
    return labels


def one_of(words: type[_Word], given: str, what: str) -> _Word:
    """The member of `words` that was given, in any letter case. Raises `KeyctlError` (usage), with the list."""
    try:
        return words(given.lower())
    except ValueError:
        raise KeyctlError(Code.USAGE, f"there is no {what} '{given}'", f"There are: {', '.join(words)}.") from None


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: "1 key", "2 keys"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def is_inert(character: str) -> bool:
    """Whether a character can be written to a terminal unchanged."""
    return character == " " or _problem_with(character) is None


def _problem_with(character: str) -> str | None:
    category = unicodedata.category(character)
    if category == "Cs":
        return "bytes that are not UTF-8"
    if category in _REFUSED_CATEGORIES or character in _REFUSED:
        name = unicodedata.name(character, "")
        return f"the character U+{ord(character):04X}" + (f" ({name})" if name else "")
    if category == "Zs" and character != " ":
        return f"the space U+{ord(character):04X}, which looks like another"
    return None


def _refusal(what: str, text: str, problem: str, hint: str, *, silent: str | None = None) -> KeyctlError:
    """`silent` is the problem in words that repeat nothing of the text, where `problem` repeats some."""
    told = f"the {what} {quoted(text)} {problem}" if text else None
    return KeyctlError(Code.INVALID_INPUT, f"the {what} {silent or problem}", hint, told=told)
