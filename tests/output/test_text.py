"""What leaves the program as text. Promise 10: one ASCII JSON document, stable names. Promise 12: text is inert where
it leaves, also text that somebody wrote into the database by hand."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alphalens_keyctl.keys.selection import KeyDocument
from alphalens_keyctl.logs.audit import GENESIS, Break, BreakKind, Head, Verdict
from alphalens_keyctl.models import Event, Key, Reason, Status, Use
from alphalens_keyctl.moments import rfc3339, rfc3339_exact
from alphalens_keyctl.output import documents, event_list, evidence, sentences, words
from alphalens_keyctl.output.inert import for_spreadsheet, for_terminal
from alphalens_keyctl.output.screen import Screen
from alphalens_keyctl.text import is_inert
from alphalens_keyctl.verification.judgement import Verification

NOW = datetime(2026, 11, 23, 6, 34, tzinfo=UTC)
# These names and their order are a contract: a field is added, never renamed.
K = [
    *["id", "name", "status", "owner", "purpose", "labels", "created_at", "created_by", "activated_at", "expires_at"],
    *["retires_at", "suspended_at", "last_used_at", "use_count", "revoked_at", "revoked_by", "revoke_reason"],
    *["replaces", "replaced_by", "delivering_to", "scopes", "allow_from"],
]
E = ["seq", "at", "actor", "action", "key_id", "key_name", "detail", "hash"]

TEXTS = st.text(st.characters(), max_size=20)  # lone surrogates too
# What a key may hold: a row with a lone surrogate is damaged, and tests/database/test_damaged_rows.py has those.
WHOLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # in UTC
IDS = st.text("0123456789ABCxyz", min_size=12, max_size=12)
STATUSES = [status.value for status in Status if status is not Status.DAMAGED]
KEYS = st.builds(
    Key, IDS, WHOLE, st.sampled_from(STATUSES), st.none() | WHOLE, st.none() | WHOLE,
    st.dictionaries(WHOLE, WHOLE, max_size=3), INSTANTS, WHOLE, *[st.none() | INSTANTS] * 5, st.integers(0, 2**63 - 1),
    st.none() | INSTANTS, st.none() | WHOLE, st.none() | WHOLE, st.none() | IDS, st.none() | IDS,
    st.none() | WHOLE,
    st.none() | st.lists(st.sampled_from(["a", "a:*", "prices:read"]), unique=True).map(tuple),
    st.none() | st.lists(st.sampled_from(["10.0.0.0/8", "192.0.2.7", "::1"]), unique=True).map(tuple),
)  # fmt: skip
USES = st.builds(
    Use, st.integers(1, 2**63 - 1), st.none() | INSTANTS.map(rfc3339_exact), st.none() | IDS, st.none() | TEXTS, TEXTS,
    *[st.none() | TEXTS] * 4, st.integers(1, 2**63 - 1),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
EVENTS = st.builds(
    Event, st.integers(1), INSTANTS, TEXTS, TEXTS, st.none() | IDS, st.none() | TEXTS,
    st.dictionaries(TEXTS, JSON, max_size=3), st.binary(min_size=32, max_size=32),
)  # fmt: skip
KEY = Key(
    "0123456789AB", "ci", "active", "ops", None, {}, NOW - timedelta(days=30), "root", NOW, None, None, None,
    NOW - timedelta(hours=2), 7, None, None, None, None, None, None, None, None,
)  # fmt: skip


def stored_list(texts: tuple[str, ...] | None) -> str | None:
    return None if texts is None else json.dumps(texts)


def row_of(key: Key, *, as_postgresql: bool) -> KeyDocument:
    """What the database writes for a key: JSON in its own order, spacing and alphabet, times as text."""
    pairs = sorted(key.labels.items(), reverse=True)
    # A lone surrogate can only stand in JSON as an escape.
    ascii_ = not as_postgresql or any("\ud800" <= c <= "\udfff" for pair in pairs for text in pair for c in text)
    labels = json.dumps(dict(pairs), ensure_ascii=ascii_, separators=(", ", ": ") if as_postgresql else (",", ":"))
    values = [rfc3339(value) if isinstance(value, datetime) else value for value in key]
    return KeyDocument._make(values)._replace(
        labels=labels, scopes=stored_list(key.scopes), allow_from=stored_list(key.allow_from)
    )


# --- a terminal


@given(st.text(st.characters()))
@example("\x1b]8;;http://example.com\x1b\\click\x1b]8;;\x1b\\")
@example("a\u202eb\u2066c\x9b2J\x85\r\n\t\0\x7f")
@example("é\u00a0\u3000\u200b\ufe0f\u3164\U000e0041\ud800\udfff\ue000")
def test_nothing_that_acts_or_hides_reaches_a_terminal(text: str) -> None:
    shown = for_terminal(text)
    for character in shown:
        # The backslash begins what is spelled out, and plain ASCII is shown as it is; neither moves a cursor.
        assert is_inert(character) or character in "\\`"
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert unicodedata.category(character) != "Zs" or character == " "


@given(st.text(st.characters(), max_size=10), st.text(st.characters(), max_size=10))
@example("C:\\keys", "é")
def test_how_a_text_is_shown_does_not_depend_on_what_stands_beside_it(one: str, other: str) -> None:
    assert for_terminal(one + other) == for_terminal(one) + for_terminal(other)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ci", "ci"),
        ("", ""),
        ("[bold]x[/] :smile: 'q' \"q\" =1+1", "[bold]x[/] :smile: 'q' \"q\" =1+1"),
        ("Zoë 日本語 🚀", "Zoë 日本語 🚀"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb", "a\\x0ab"),
        ("\x9b", "\\x9b"),
        ("\u202e", "\\u202e"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_would_act_is_spelled_out_and_the_rest_is_literal(text: str, shown: str) -> None:
    assert for_terminal(text) == shown


# --- a spreadsheet


@given(st.text(st.characters()) | st.text("'=+-@\t\r\na", max_size=4))
def test_a_spreadsheet_cell_starts_no_formula_and_can_be_read_back(text: str) -> None:
    cell = for_spreadsheet(text)
    assert cell[:1] not in tuple("=+-@\t\r\n")
    assert (cell[1:] if cell.startswith("'") else cell) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        *[("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t=1")],
        *[("\r=1", "'\r=1"), ("\n=1", "'\n=1"), ("'=1", "''=1"), ("", ""), ("a=1", "a=1"), ("1", "1")],
    ],
)
def test_a_formula_is_written_with_an_apostrophe_before_it(text: str, cell: str) -> None:
    assert for_spreadsheet(text) == cell


def table(pieces: Iterable[str]) -> list[list[str]]:
    return list(csv.reader(io.StringIO("".join(pieces), newline="")))


def unquoted(cell: str) -> str:
    return cell.removeprefix("'")


# What names may hold: what a row written by hand holds beyond that need not come back from CSV to the letter.
CELLS = st.text(st.characters().filter(is_inert) | st.sampled_from("'=+-@,;\""), max_size=20)


@given(st.lists(KEYS.map(lambda key: key._replace(revoked_by=None, revoke_reason=None)), max_size=3), CELLS, CELLS)
def test_keys_as_csv_have_ks_columns_and_run_in_no_spreadsheet(keys: list[Key], name: str, owner: str) -> None:
    keys = [key._replace(name=name, owner=owner, purpose=None, created_by="root") for key in keys]
    header, *rows = table(documents.key_rows(row_of(key, as_postgresql=True) for key in keys))
    assert header == K
    assert len(rows) == len(keys)
    for row, key in zip(rows, keys, strict=True):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)
        written = dict(zip(header, row, strict=True))
        assert (unquoted(written["name"]), unquoted(written["owner"])) == (name, owner)
        assert json.loads(written["labels"]) == key.labels
        assert written["purpose"] == ""
        assert written["created_at"] == rfc3339(key.created_at)
        assert written["use_count"] == str(key.use_count)


@given(st.lists(EVENTS, max_size=3), CELLS)
def test_events_as_csv_have_es_columns_and_run_in_no_spreadsheet(events: list[Event], text: str) -> None:
    events = [event._replace(actor=text, action="key.create", key_name=text) for event in events]
    header, *rows = table(documents.event_rows(events))
    assert header == E
    assert len(rows) == len(events)
    for row, event in zip(rows, events, strict=True):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)
        written = dict(zip(header, row, strict=True))
        assert (unquoted(written["actor"]), unquoted(written["key_name"])) == (text, text)
        assert json.loads(written["detail"]) == event.detail
        assert (written["seq"], written["hash"]) == (str(event.seq), event.hash.hex())


def test_csv_lines_end_as_rfc_4180_has_them_and_nothing_is_left_out_of_long_lists() -> None:
    keys = [KEY._replace(name=f"key {number}", purpose="x" * 200) for number in range(2000)]
    pieces = list(documents.key_rows(row_of(key, as_postgresql=False) for key in keys))
    assert len(pieces) > 2, "written in pieces, not held whole"
    assert "".join(pieces).count("\r\n") == 2001
    assert [row[1] for row in table(pieces)[1:]] == [key.name for key in keys]


@pytest.mark.parametrize("character", ["\x1b", "\x9b", "\a", "\u202e"])
def test_csv_of_a_row_written_by_hand_cannot_act_on_the_terminal_that_shows_it(character: str) -> None:
    """Promise 12. `list --csv` is also read on a terminal; no name that came in by the door has this character."""
    key = KEY._replace(name=f"a{character}[2Jb")
    assert character not in "".join(documents.key_rows([row_of(key, as_postgresql=True)]))
    event = Event(1, NOW, f"a{character}", "key.create", None, None, {}, GENESIS)
    assert character not in "".join(documents.event_rows([event]))


# --- JSON


def test_the_names_of_keys_and_events_in_json_are_those_that_programs_know() -> None:
    assert list(documents.key_object(KEY)) == K
    assert list(KeyDocument._fields) == K
    assert list(documents.event_object(Event(1, NOW, "a", "key.create", None, None, {}, GENESIS))) == E


@given(KEYS, st.booleans())
@example(KEY._replace(name='%s %(id)s {id} "\\', labels={"b": "é", "a": "%"}), True)
def test_a_key_is_the_same_json_whether_listed_or_shown(key: Key, as_postgresql: bool) -> None:
    """`list` writes K out by hand for speed, `show` through `json`: not a character may differ."""
    (listed,) = documents.key_texts([row_of(key, as_postgresql=as_postgresql)])
    shown = json.dumps(documents.key_object(key))
    assert listed == shown
    assert listed.isascii()
    assert listed.isprintable()
    assert list(json.loads(listed)) == K


@given(USES)
def test_a_row_of_the_usage_log_is_the_same_json_as_json_writes_it(use: Use) -> None:
    """`audit usage --jsonl` writes U out for speed: not a character may differ from what `json` makes of the fields."""
    (line,) = documents.use_texts([use])
    assert line == json.dumps(use._asdict())


@given(EVENTS)
def test_an_event_is_one_line_of_ascii_json(event: Event) -> None:
    (line,) = documents.event_texts([event])
    assert line.isascii()
    assert line.isprintable()
    document = json.loads(line)
    assert list(document) == E
    assert document["detail"] == event.detail
    assert document["at"] == rfc3339_exact(event.at)
    assert bytes.fromhex(document["hash"]) == event.hash


@given(st.lists(KEYS, max_size=4))
def test_an_array_of_any_length_is_one_ascii_document(keys: list[Key]) -> None:
    texts = documents.key_texts(row_of(key, as_postgresql=False) for key in keys)
    document = "".join(documents.json_array(texts))
    assert document.isascii()
    assert document.endswith("\n")
    assert json.loads(document) == [documents.key_object(key) for key in keys]


@pytest.mark.parametrize(
    ("items", "document"), [([], "[]\n"), (["1"], "[\n1\n]\n"), (["1", "{}", '"a"'], '[\n1,\n{},\n"a"\n]\n')]
)
def test_an_array_has_an_item_a_line(items: list[str], document: str) -> None:
    assert "".join(documents.json_array(items)) == document


def test_an_array_begins_before_its_last_item_is_known() -> None:
    """A million keys go out in constant memory."""
    taken = []

    def items() -> Iterable[str]:
        for number in range(3):
            taken.append(number)
            yield str(number)

    pieces = iter(documents.json_array(items()))
    assert next(pieces) == "[\n0"
    assert taken == [0]


@given(st.lists(KEYS, max_size=4))
def test_json_lines_are_a_document_a_line(keys: list[Key]) -> None:
    rows = [row_of(key, as_postgresql=True) for key in keys]
    lines = "".join(documents.json_lines(documents.key_texts(rows))).splitlines(keepends=True)
    assert all(line.endswith("\n") for line in lines)
    assert [json.loads(line) for line in lines] == [documents.key_object(key) for key in keys]


@given(st.dictionaries(TEXTS, JSON, max_size=3))
def test_a_document_is_one_ascii_line(value: dict[str, object]) -> None:
    document = documents.json_document(value)
    assert document.isascii()
    assert document.endswith("\n")
    assert document.count("\n") == 1
    assert json.loads(document) == value


def test_heads_and_verdicts_are_objects() -> None:
    assert documents.head_object(Head(0, GENESIS, None)) == {"seq": 0, "hash": "00" * 32, "at": None}
    head = Head(3, bytes(range(32)), NOW)
    said = {"seq": 3, "hash": bytes(range(32)).hex(), "at": "2026-11-23T06:34:00.000000Z"}
    assert documents.head_object(head) == said
    assert evidence.verdict_object(Verdict(3, head, None)) == {
        "sound": True, "events": 3, "head": said, "break": None,
    }  # fmt: skip
    broken = evidence.verdict_object(Verdict(3, head, Break(4, BreakKind.ALTERED)))
    assert broken == {"sound": False, "events": 3, "head": said, "break": {"seq": 4, "kind": "altered", "about": None}}


# --- words


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(0), "0 seconds"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=59.9), "59 seconds"),
        (timedelta(minutes=1), "1 minute"),
        (timedelta(minutes=2), "2 minutes"),
        (timedelta(minutes=89, seconds=59), "1 hour"),
        (timedelta(minutes=90), "1 hour"),
        (timedelta(hours=24), "24 hours"),
        (timedelta(hours=36), "2 days"),
        (timedelta(days=7), "7 days"),
        (timedelta(days=13, hours=23), "14 days"),
        (timedelta(days=14), "2 weeks"),
        (timedelta(days=60), "2 months"),
        (timedelta(days=365), "12 months"),
        (timedelta(days=730), "2 years"),
        (timedelta(days=36525), "100 years"),
        (timedelta(days=-1), "0 seconds"),
    ],
)
def test_a_length_of_time_is_said_in_its_largest_fitting_unit(length: timedelta, said: str) -> None:
    assert words.span(length) == said


def test_no_longer_time_is_said_as_a_shorter_one() -> None:
    days = {"hour": 1 / 24, "day": 1, "week": 7, "month": 365.25 / 12, "year": 365.25}
    said = [words.span(timedelta(hours=hours)).split() for hours in range(1, 24 * 1500)]
    lengths = [int(number) * days[unit.removesuffix("s")] for number, unit in said]
    assert lengths == sorted(lengths)
    assert words.exactly(timedelta(days=70)) == "70 days"


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (None, "never"),
        (NOW, "just now"),
        (NOW - timedelta(seconds=59), "just now"),
        (NOW + timedelta(seconds=59), "in a moment"),
        (NOW - timedelta(minutes=1), "1 minute ago"),
        (NOW - timedelta(days=3), "3 days ago"),
        (NOW + timedelta(days=14), "in 2 weeks"),
        (NOW + timedelta(days=7) - timedelta(seconds=2), "in 7 days"),
        (NOW - timedelta(days=400), "13 months ago"),
        (NOW + timedelta(days=3653), "in 10 years"),
    ],
)
def test_an_instant_is_said_by_its_distance(moment: datetime | None, said: str) -> None:
    assert words.ago(moment, NOW) == said


@given(INSTANTS, INSTANTS)
def test_every_distance_is_said_in_its_own_direction(moment: datetime, now: datetime) -> None:
    said = words.ago(moment, now)
    assert said.startswith("in ") is (moment > now)
    assert (said.endswith(" ago") or said == "just now") is (moment <= now)


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 keys"), (1, "1 key"), (2, "2 keys"), (1000, "1,000 keys"), (1_000_000, "1,000,000 keys")],
)
def test_a_number_is_said_with_its_noun(number: int, said: str) -> None:
    assert words.counted(number, "key") == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"status": "retiring", "retires_at": NOW + timedelta(hours=24)},
            "works for 24 hours more, until 2026-11-24T06:34:00Z",
        ),
        (
            {"status": "retiring", "retires_at": NOW + timedelta(days=1), "expires_at": NOW + timedelta(hours=2)},
            "works for 2 hours more, until 2026-11-23T08:34:00Z",
        ),
        ({"status": "retired", "retires_at": NOW}, "stopped working just now"),
        ({"status": "expired", "expires_at": NOW - timedelta(days=1)}, "had expired and opens nothing"),
        ({"status": "retired", "retires_at": NOW, "last_used_at": None, "use_count": 0}, "It was never used."),
        ({"status": "retired", "retires_at": NOW}, "It was last used 2 hours ago, 7 times in all."),
        ({"status": "retired", "retires_at": NOW, "use_count": 1}, "It was last used 2 hours ago, 1 time in all."),
    ],
)
def test_a_rotation_says_until_when_the_old_key_works_and_when_it_was_used(changes: dict[str, Any], said: str) -> None:
    """Promise 3, in plain words."""
    sentence = sentences.retirement(KEY._replace(**changes), NOW)
    assert said in sentence
    assert "0123456789AB" in sentence


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "has the current key, 0123456789AB"),
        ({"status": "suspended", "suspended_at": NOW}, "has the current key, 0123456789AB"),
        ({"status": "expired", "expires_at": NOW}, "has the current key, 0123456789AB"),
        ({"status": "retiring", "retires_at": NOW + timedelta(days=1)}, "has a key that is retiring, 0123456789AB"),
        (
            {"status": "suspended", "suspended_at": NOW, "retires_at": NOW + timedelta(days=1)},
            "has a key that is suspended, 0123456789AB",
        ),
        (
            {"status": "delivering", "activated_at": None, "delivering_to": "keyring"},
            "has a key that is delivering, 0123456789AB",
        ),
        ({"status": "revoked", "revoked_at": NOW}, "has a key that is revoked, 0123456789AB"),
    ],
)
def test_the_keyring_is_said_to_have_the_current_key_where_the_name_means_it(
    changes: dict[str, Any], said: str
) -> None:
    assert sentences.keyring_entry(True, KEY._replace(**changes)) == said
    assert sentences.keyring_entry(True, None) == "an entry that is no key of this lineage"
    assert sentences.keyring_entry(False, None) == "no entry"


@given(KEYS)
def test_a_verification_is_said_for_every_reason_and_every_key(key: Key) -> None:
    for reason in Reason:
        sentence = sentences.verification(Verification(reason is Reason.OK, reason, key), NOW)
        assert sentence.startswith("Opens: " if reason is Reason.OK else "Refused: ")
        assert all(is_inert(character) or character in "\\`" for character in sentence)


# What is broken beside the chain: the tables, their indexes, the policy, the keys.
BESIDE: Final = [
    BreakKind.DAMAGED, BreakKind.INDEX, BreakKind.ALTERED_POLICY, BreakKind.ALTERED_KEY, BreakKind.UNKNOWN_KEY,
    BreakKind.MISSING_KEY,
]  # fmt: skip


@pytest.mark.parametrize("kind", BESIDE)
def test_a_fault_of_the_tables_is_said_inert_and_with_what_holds_together(kind: BreakKind) -> None:
    """Promises 7 and 12: whoever makes an index chooses its name."""
    said = sentences.log_verdict(Verdict(3, Head(3, GENESIS, NOW), Break(None, kind, "index a\x1b[2J")), extends=False)
    assert said.startswith(f"Broken ({kind.value}): ")
    assert ("index a" in said) == (kind is not BreakKind.ALTERED_POLICY)  # of which there is but one
    assert "\x1b" not in said
    assert said.endswith(" 3 events hold together.")


@pytest.mark.parametrize("kind", [kind for kind in BreakKind if kind not in BESIDE])
def test_a_broken_log_is_said_with_its_place_and_kind(kind: BreakKind) -> None:
    """Promise 7."""
    said = sentences.log_verdict(Verdict(3, Head(3, GENESIS, NOW), Break(4, kind)), extends=False)
    assert said.startswith(f"Broken ({kind.value}): ")
    assert "event 4" in said
    assert "3 events before it" in said


def test_a_sound_log_is_said_with_what_was_proved() -> None:
    verdict = Verdict(1, Head(1, GENESIS, NOW), None)
    assert sentences.log_verdict(verdict, extends=False) == "Sound: 1 event, each following the one before."
    assert sentences.log_verdict(verdict, extends=True).endswith("and it extends the saved head.")


@pytest.mark.parametrize(
    ("actor", "origin", "told"),
    [
        ("ann", {"host": "vm", "os_user": "ann"}, "ann created ci (x)  [from ann@vm]"),
        ("cron", {"host": "vm", "os_user": "ann"}, '"cron" created ci (x)  [from ann@vm]'),
        (
            "github-actions:acme",
            {
                "host": "vm",
                "os_user": "ann",
                "database_user": "keys",
                "ci": "github-actions",
                "ci_run_url": "https://c",
            },
            '"github-actions:acme" created ci (x)  [from ann@vm, database user keys, "https://c"]',
        ),
        (
            "key:abc admin",
            {"address": "192.0.2.1", "request_id": "r"},
            "key:abc admin created ci (x)  [from 192.0.2.1]",
        ),
        ("key:abc admin", {"os_user": "ann", "host": "vm"}, '"key:abc admin" created ci (x)  [from ann@vm]'),
        ("ann", {"os_user": "ann", "claims": {"sudo_user": "jo"}}, 'ann created ci (x)  [from ann, sudo user "jo"]'),
        ("ann", {}, '"ann" created ci (x)'),
        ('a" b', {}, '"a\\" b" created ci (x)'),
        ("ann", {"os_user": ["odd"], "claims": 3}, "\"ann\" created ci (x)  [from ['odd']]"),
        ("ann", "odd", '"ann" created ci (x)'),
    ],
)
def test_an_event_says_from_where_it_came_facts_plain_and_claims_in_quotes(
    actor: str, origin: object, told: str
) -> None:
    """The digest of the key's row is for machines. Promise 14: what is odd is told as it is."""
    event = Event(1, NOW, actor, "key.create", "x", "ci", {"origin": origin, "row": "ab" * 32}, b"")
    pieces = event_list.event_list([event], 1, screen=Screen(width=200, terminal=False, color=False, unicode=True))
    assert "".join(pieces).splitlines()[1] == f"  1  {NOW:%Y-%m-%d %H:%M:%SZ}  {told}"
