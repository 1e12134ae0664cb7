"""Texts that must fit a width: nothing is wider than it may be, whatever the script of the text."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from alphalens_keyctl.output.fitting import GAP, Column, Cut, fits, fitted, folded
from alphalens_keyctl.text import is_inert

# Letters of one and of two cells, signs that combine, emoji; what `inert` leaves as it is.
TEXTS = st.text(
    st.one_of(st.sampled_from("ab é\u0308日本語한🔑-"), st.characters(codec="utf-8").filter(is_inert)), max_size=40
)


@given(TEXTS, st.integers(4, 50), st.sampled_from(Cut), st.sampled_from(["…", "..."]))
def test_a_cell_has_exactly_the_width_of_its_column(text: str, width: int, how: Cut, mark: str) -> None:
    shown, blank = fitted(text, width, how, mark=mark)
    assert cell_len(shown + blank) == width
    assert (shown == text) is (cell_len(text) <= width)
    if shown != text and mark[0] not in text:  # else nobody can tell where the mark begins
        start, end = shown.split(mark, 1)
        assert text.startswith(start)
        assert text.endswith(end)
        assert (end == "") or how is Cut.MIDDLE


def test_the_middle_of_a_name_is_cut_and_a_letter_keeps_its_signs() -> None:
    def cut(text: str, width: int) -> str:
        return fitted(text, width, Cut.MIDDLE, mark="…")[0]

    assert cut("billing-eu-central-prod", 11) == "billi…-prod"
    assert cut("日本語の鍵です", 8) == "日本…す"
    assert cut("abcdefge\u0308", 5) == "ab…ge\u0308"
    assert cut("abcdefe\u0308", 3) == "a…e\u0308"


@given(TEXTS, st.integers(2, 30))
def test_a_folded_text_loses_no_character_and_breaks_between_words_where_it_can(text: str, width: int) -> None:
    lines = list(folded(text, width))
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(cell_len(line) <= width for line in lines)
    if all(cell_len(word) <= width for word in text.split(" ")):
        assert " ".join(lines) == text


def test_a_word_wider_than_the_line_is_broken_behind_a_hyphen_where_it_has_one() -> None:
    assert list(folded("owner team-with-a-long-name@example.com", 20)) == [
        "owner team-with-a-",
        "long-name@",
        "example.com",
    ]
    assert list(folded("billing-reconciliation-of-europe", 16)) == ["billing-", "reconciliation-", "of-europe"]
    assert list(folded("ab reconciliation_of/europe", 8)) == ["ab", "reconcil", "iation_", "of/", "europe"]


@given(
    st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(["never", "2 days ago", "59 minutes ago"]), TEXTS), max_size=12),
    st.integers(24, 120),
    st.booleans(),
)
def test_columns_never_take_more_than_the_page_has(rows: list[tuple[str, ...]], room: int, more: bool) -> None:
    columns = [
        Column("Name", Cut.MIDDLE, least=20),
        Column("Owner", Cut.END, least=10, dropped=1),
        Column("Used", shortened=lambda words: words.removesuffix(" ago"), longest=(14, 10)),
        Column("Purpose", Cut.END, least=16, dropped=0),
    ]
    found = fits(columns, rows, room=room, more=more)
    assert found is not None
    assert sum(fit.width for fit in found.values()) + GAP * (len(found) - 1) <= room
    assert {0, 2} <= found.keys()
    assert 3 not in found or 1 in found
    if 2 in found and not found[2].short:
        assert all(cell_len(row[2]) <= found[2].width for row in rows)


def test_one_long_text_among_others_does_not_set_its_column_and_alone_it_does() -> None:
    columns = [Column("Name", Cut.MIDDLE, least=20), Column("Id")]
    short = [(f"service-{number}", "x") for number in range(9)]

    def width(rows: list[tuple[str, str]], room: int = 200) -> int:
        found = fits(columns, rows, room=room)
        assert found is not None
        return found[0].width

    assert width(short) == 9
    assert width([*short, ("n" * 100, "x")]) == 20
    assert width([*short, ("n" * 30, "x")]) == 30
    assert width([("n" * 100, "x")]) == 100
    assert width([("n" * 100, "x")] * 5) == 100
    assert width([("n" * 100, "x")] * 5, room=40) == 36


def test_where_nothing_more_can_be_left_out_or_cut_there_is_no_table() -> None:
    columns = [Column("Id"), Column("Name", Cut.MIDDLE, least=20)]
    assert fits(columns, [("x" * 12, "name")], room=22) is not None
    assert fits(columns, [("x" * 12, "n" * 30)], room=20) is not None
    assert fits(columns, [("x" * 12, "n" * 30)], room=19) is None
