"""A file of keys to be: what is taken, and every fault told by its line. What `list` writes is read back."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl import keyformat, networks, scopes, text
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import bulk_file
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.selection import KeyDocument
from alphalens_keyctl.models import Key
from alphalens_keyctl.output import documents

NOW: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
JANUARY: Final = datetime(2027, 1, 31, tzinfo=UTC)
BOM: Final = b"\xef\xbb\xbf"


def parsed(content: str | bytes) -> list[tuple[int, Draft]]:
    lines = bulk_file.parse(content.encode() if isinstance(content, str) else content, now=NOW)
    return [(number, draft) for number, draft in lines]


def refusal(content: str | bytes) -> KeyctlError:
    with pytest.raises(KeyctlError) as caught:
        parsed(content)
    assert caught.value.code is Code.INVALID_INPUT
    assert caught.value.code.exit_status == 2
    return caught.value


def test_a_csv_of_all_columns_in_any_order_gives_drafts_with_their_lines() -> None:
    content = (
        "expires,labels,name,purpose,owner\n"
        '2027-01-31,env=prod team=a,billing,"nightly, export",ops\n'
        ',"{""env"": ""two words""}",search,,\n'
        "never,,ci,,\n"
        "7d,,cd,,\n"
        "2027-01-31T10:00:00+01:00,,ce,,\n"
    )
    assert parsed(content) == [
        (2, Draft("billing", "ops", "nightly, export", {"env": "prod", "team": "a"}, JANUARY)),
        (3, Draft("search", labels={"env": "two words"})),
        (4, Draft("ci")),
        (5, Draft("cd", expires_at=NOW + timedelta(days=7))),
        (6, Draft("ce", expires_at=JANUARY + timedelta(hours=9))),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", BOM])
def test_a_byte_order_mark_and_any_line_end_are_taken(bom: bytes, end: str) -> None:
    content = bom + end.join(["name,owner", "a,ops", "", "b,", ""]).encode()
    assert parsed(content) == [(2, Draft("a", "ops")), (4, Draft("b"))]
    assert parsed(bom + end.join(["name", "a"]).encode()) == [(2, Draft("a"))], "without an end of the last line"


def test_a_fault_behind_cells_with_line_breaks_is_told_by_the_line_where_its_row_begins() -> None:
    """A purpose with a line break is refused; in a column that is not taken it counts as lines all the same."""
    content = 'name,created_by\na,"one\ntwo\n\nthree"\n\nb,"x\r\ny"\na,z\n'
    assert refusal(content).message == "line 9 'a' stands in line 2 already"
    assert refusal('name,purpose\na,b\nc,"two\nlines"\nd,e\n').message.startswith(
        "line 3 is refused: the purpose holds"
    )


def test_json_lines_of_all_fields_give_drafts_with_their_lines() -> None:
    content = (
        '{"name": "a", "owner": "ops", "purpose": "x", "labels": {"env": "prod"}, "expires": "7d"}\n'
        "\n"
        '  {"name": "b", "owner": null, "labels": null, "expires": null}\r\n'
        '{"name": "c", "labels": "env=prod"}'
    )
    wanted = [
        (1, Draft("a", "ops", "x", {"env": "prod"}, NOW + timedelta(days=7))),
        (3, Draft("b")),
        (4, Draft("c", labels={"env": "prod"})),
    ]
    assert parsed(content) == wanted
    assert parsed(BOM + content.encode()) == wanted
    assert parsed("\n" + content) == [(number + 1, draft) for number, draft in wanted]


def test_a_line_separator_inside_a_text_of_json_ends_no_line() -> None:
    content = '{"name": "a", "purpose": "one\u2028two"}\n'
    assert refusal(content).message.startswith("line 1 is refused: the purpose holds the character U+2028")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file holds no key"),
        ("\n\n", "the file holds no key"),
        (BOM, "the file holds no key"),
        ("name,owner\n", "the file holds no key"),
        ("owner,purpose\nops,x\n", "line 1 is the header and has no column 'name', or one twice"),
        ("a\nb\n", "line 1 is the header and has an unknown column 'a'"),
        ("\nname,colour\na,b\n", "line 2 is the header and has an unknown column 'colour'"),
        ("name;owner\na;b\n", "line 1 is the header and has an unknown column 'name;owner'"),
        ("name,owner,name\na,b,c\n", "line 1 is the header and has no column 'name', or one twice"),
        ("name,\na,b\n", "line 1 is the header and has an unknown column ''"),
        ("Name\na\n", "line 1 is the header and has an unknown column 'Name'"),
        ("name,owner\na,b\nc\n", "line 3 has 1 cells, and the header 2"),
        ("name,owner\na,b,c\n", "line 2 has 3 cells, and the header 2"),
        ("name,owner\na,b\n,c\n", "line 3 is refused: a value is missing or is no text"),
        ('name\na\n"b\nc\nd\n', "line 3 is not CSV: unexpected end of data"),
        ('name\n"a"b\n', "line 2 is not CSV: ',' expected after '\"'"),
        (f"name\n{'x' * 200_000}\n", "line 2 is not CSV: field larger than field limit (131072)"),
        (b"name\na\n\xff\n", "line 3 is not UTF-8"),
        (BOM + b"name\na\n\xff\n", "line 3 is not UTF-8"),
        (BOM + b"name\n\xff\n", "line 2 is not UTF-8"),
        (b"name\n" + "b\u00fc".encode("latin-1"), "line 2 is not UTF-8"),
        ("name\na\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("name\na\0b\n", "line 2 is refused: the name holds the character U+0000"),
        ("name\n\0\n", "line 2 is refused: the name holds the character U+0000"),
        ("name\na\nA\n", "line 3 'A' stands in line 2 already"),
        ("name\nstraße\nx\nSTRASSE\n", "line 4 'STRASSE' stands in line 2 already"),
        ("name\n-\n", "line 2 has a formula in column name"),
        ("name\n'-\n", "line 2 is refused: the name is a lone '-'"),
        ("name\n a\n", "line 2 is refused: the name begins or ends with a space"),
        ("name\n\x1b[2J\n", "line 2 is refused: the name holds the character U+001B"),
        (f"name\n{'x' * 101}\n", "line 2 is refused: the name is 101 characters long"),
        ("name,owner\na,'\n", "line 2 is refused: the owner is empty"),
        ("name,labels\na,env\n", "line 2 is refused: the label has no '='"),
        ("name,labels\na,env=a env=b\n", "line 2 is refused: the label 'env' is given twice"),
        ("name,labels\na,ENV=a\n", "line 2 is refused: the label has a key that is not plain"),
        ("name,labels\na,{env}\n", "line 2 is refused: labels are not a JSON object"),
        ('name,labels\na,"{""env"": 1}"\n', "line 2 is refused: labels are no object of texts"),
        ('name,labels\na,"{""a"": ""1"", ""a"": ""2""}"\n', "line 2 is refused: labels are not a JSON object"),
        ("name,expires\na,soon\n", "line 2 is refused: the expiry is neither a duration, a date nor an instant"),
        ("name,expires\na,2026-11-01\n", "line 2 is refused: the expiry lies in the past"),
        ("name,expires\na,0d\n", "line 2 is refused: the expiry is a duration of nothing"),
        ("name,expires\na,2027-02-30\n", "line 2 is refused: the expiry names a day or time that does not exist"),
        ("name,expires\na,9999-01-01\n", "line 2 is refused: the expiry is more than a hundred years away"),
        ("name,expires\na,2027-01-31 10:00\n", "line 2 is refused: the expiry says nothing of its time zone"),
        ('{"name": "a"}\n{"name": "b"\n', "line 2 is not a JSON object"),
        ('{"name": "a"}\nname\n', "line 2 is not a JSON object"),
        ('{"name": "a"}\n["b"]\n', "line 2 is not a JSON object"),
        ('{"name": "a"}\nnull\n', "line 2 is not a JSON object"),
        ('{"name": "a"} {"name": "b"}\n', "line 1 is not a JSON object"),
        ('{\n"name": "a"}\n', "line 1 is not a JSON object"),
        ('{"name": "a", "x": ' + "[" * 50_000 + "\n", "line 1 is not a JSON object"),
        ('{"name": "a", "use_count": ' + "9" * 5000 + "}\n", "line 1 is not a JSON object"),
        ('{"name": "a", "colour": 1}\n', "line 1 has an unknown field 'colour'"),
        ('{"name": "a", "name": "b"}\n', "line 1 is not a JSON object, or has a field twice"),
        ('{"owner": "a"}\n', "line 1 is refused: a value is missing or is no text"),
        ("{}\n", "line 1 is refused: a value is missing or is no text"),
        ('{"name": 1}\n', "line 1 is refused: a value is missing or is no text"),
        ('{"name": ["a"]}\n', "line 1 is refused: a value is missing or is no text"),
        ('{"name": "a", "owner": 1}\n', "line 1 is refused: a value is missing or is no text"),
        ('{"name": "a", "owner": false}\n', "line 1 is refused: a value is missing or is no text"),
        ('{"name": "a", "purpose": {}}\n', "line 1 is refused: a value is missing or is no text"),
        ('{"name": "a", "expires": 7}\n', "line 1 is refused: a value is missing or is no text"),
        ('{"name": "a", "expires": 0}\n', "line 1 is refused: a value is missing or is no text"),
        ('{"name": "a", "expires": false}\n', "line 1 is refused: a value is missing or is no text"),
        ('{"name": "a", "expires": ""}\n', "line 1 is refused: the expiry is neither"),
        ('{"name": "a", "labels": ["env=a"]}\n', "line 1 is refused: labels are no object of texts"),
        ('{"name": "a", "labels": {"env": null}}\n', "line 1 is refused: labels are no object of texts"),
        ('{"name": "a", "labels": 1}\n', "line 1 is refused: labels are no object of texts"),
        ('{"name": "\\ud800"}\n', "line 1 is refused: the name holds bytes that are not UTF-8"),
        ('{"name": "a\\u0000"}\n', "line 1 is refused: the name holds the character U+0000"),
        ('[{"name": "a"}]\n', 'line 1 is the header and has an unknown column \'[{"name": "a"}]\''),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_fault_is_told_by_its_line(content: str | bytes, message: str) -> None:
    error = refusal(content)
    assert error.message.startswith(message)
    assert error.hint


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_a_formula_is_refused_in_every_column_and_an_apostrophe_before_it_makes_it_text(start: str) -> None:
    """Promise 12."""
    cell = f"{start}1+1"
    for column in ("owner", "purpose", "expires", "use_count"):
        error = refusal(f"name,{column}\na,b\nb,{cell}\n" if column != "expires" else f"name,expires\na,7d\nb,{cell}\n")
        assert error.message == f"line 3 has a formula in column {column}"
        assert "apostrophe" in error.hint
    if start != "\t":
        assert parsed(f"name,owner\n'{cell},'{cell}\n") == [(2, Draft(cell, cell))]
    assert parsed("name,owner\n''tis,O'Neill\n") == [(2, Draft("'tis", "O'Neill"))]


def test_a_name_twice_is_told_by_both_lines_however_far_apart_and_however_written() -> None:
    names = [f"service {number}" for number in range(2, 4000)]
    names.append("SERVICE 7")
    error = refusal("name\n" + "\n".join(names) + "\n")
    assert error.message == "line 4000 'SERVICE 7' stands in line 7 already"
    lines = "".join(f'{{"name": "{name}"}}\n' for name in names)
    assert refusal(lines).message == "line 3999 'SERVICE 7' stands in line 6 already"


def test_a_key_in_its_grace_that_list_wrote_beside_its_successor_is_told_with_the_way_out() -> None:
    assert "--status active" in refusal("name,status\na,active\na,retiring\n").hint
    assert "--status active" not in refusal("name\na\na\n").hint


def test_a_raw_key_in_a_cell_is_refused_and_not_repeated() -> None:
    """Promise 1."""
    raw = keyformat.generate().reveal()
    for content in (
        f"name\n{raw}\n",
        f"name,purpose\na,{raw}\n",
        f'{{"name": "{raw}"}}\n',
        f'{{"name":"a","labels":{{"a":"{raw}"}}}}',
    ):
        error = refusal(content)
        assert "raw key" in error.message
        assert raw[-40:] not in error.message + error.hint


def test_what_is_larger_than_any_fleet_is_a_limit_of_bytes() -> None:
    assert bulk_file.LARGEST == 64 * 1024 * 1024


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda said: said.encode("utf-8", "replace")))
def test_any_file_gives_drafts_or_a_refusal(content: bytes) -> None:
    for head in (b"", b"name,owner\n", b'{"name": "a"}\n'):
        try:
            lines = bulk_file.parse(head + content, now=NOW)
        except KeyctlError as error:
            if error.code is not Code.INVALID_INPUT:
                raise
        else:
            assert lines
            assert len({text.fold(line.draft.name) for line in lines}) == len(lines)


def is_line(longest: int) -> "st.SearchStrategy[str]":
    """Text as `parse_line` takes and leaves it, with those characters often that a file gives a meaning to."""

    def stays(said: str) -> bool:
        try:
            return text.parse_line(said, what="text", longest=longest) == said
        except KeyctlError:
            return False

    telling = st.text("=+-@'\",;{}: \u00e9\u00df😀ab12", min_size=1, max_size=20)
    return (telling | st.text(min_size=1, max_size=30)).filter(stays)


NAMES = is_line(text.LONGEST_NAME).filter(lambda name: name != "-")
KEYS = st.builds(
    Draft,
    name=NAMES,
    owner=st.none() | is_line(text.LONGEST_OWNER),
    purpose=st.none() | is_line(text.LONGEST_PURPOSE),
    labels=st.dictionaries(
        st.from_regex(r"\A[a-z0-9]([a-z0-9._/-]{0,9}[a-z0-9])?\Z"), is_line(text.LONGEST_LABEL_VALUE), max_size=4
    ),
    expires_at=st.none() | st.timedeltas(timedelta(days=1), timedelta(days=30_000)).map(NOW.__add__),
    override=st.none(),  # stands in no file
    scopes=st.none() | st.lists(st.sampled_from(["a", "a:*", "keyctl:team", "-"]), min_size=1).map(scopes.normal),
    allow_from=st.none() | st.lists(st.sampled_from(["10.0.0.0/8", "::1"]), min_size=1).map(networks.normal),
)


def document(draft: Draft) -> KeyDocument:
    """K as the database hands it to what writes JSON Lines and CSV."""
    nothing: dict[str, Any] = dict.fromkeys(KeyDocument._fields)
    return KeyDocument(**nothing | {
        "id": "0123456789AB", "name": draft.name, "status": "active", "owner": draft.owner, "purpose": draft.purpose,
        "labels": json.dumps(dict(draft.labels)), "created_at": "2026-10-01 00:00:00.000000", "created_by": "=jo",
        "activated_at": "2026-10-01 00:00:00.000000", "use_count": 0,
        "scopes": draft.scopes and json.dumps(draft.scopes),
        "allow_from": draft.allow_from and json.dumps(draft.allow_from),
        "expires_at": draft.expires_at and draft.expires_at.strftime("%Y-%m-%d %H:%M:%S.%f"),
    })  # fmt: skip


@given(st.lists(KEYS, min_size=1, max_size=5, unique_by=lambda draft: text.fold(draft.name)))
def test_what_list_writes_as_csv_and_json_lines_runs_in_no_spreadsheet_and_is_read_back_as_it_was(
    fleet: list[Draft],
) -> None:
    """Promise 12; expiry to the second, as K has it."""
    wanted = [
        draft._replace(expires_at=draft.expires_at and draft.expires_at.replace(microsecond=0)) for draft in fleet
    ]
    written = "".join(documents.key_rows(map(document, fleet)))
    for row in csv.reader(io.StringIO(written, newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)
    assert [draft for _, draft in parsed(written)] == wanted
    lines = "".join(documents.json_lines(documents.key_texts(map(document, fleet))))
    assert [draft for _, draft in parsed(lines)] == wanted


def test_every_field_of_a_listed_key_is_known_and_those_a_new_key_cannot_have_are_left() -> None:
    row = dict.fromkeys(Key._fields, "x") | {"name": "a", "labels": "env=prod", "expires_at": "2027-01-31T00:00:00Z"}
    row["allow_from"] = "10.0.0.0/8 ::1"
    limits = {"scopes": ("x",), "allow_from": ("10.0.0.0/8", "::1")}
    assert parsed(json.dumps(row)) == [
        (1, Draft("a", "x", "x", {"env": "prod"}, datetime(2027, 1, 31, tzinfo=UTC), **limits)),  # type: ignore[arg-type]  # by field
    ]  # fmt: skip
