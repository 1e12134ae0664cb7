"""The file of a witness: the last good head stays until a later one has replaced it whole. Promise 7."""

from pathlib import Path

import pytest

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.evidence.head_file import HeadFile

HEAD = '{"seq": 1, "hash": "' + "ab" * 32 + '", "at": null}\n'


def test_a_head_is_written_whole_and_the_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    first = HeadFile(path)
    assert first.last() is None
    first.replace(HEAD)
    path.chmod(0o644)
    second = HeadFile(path)
    found = second.last()
    assert found is not None
    assert found.head.seq == 1
    second.replace(HEAD.replace("1", "2", 1))
    assert path.read_text() == HEAD.replace("1", "2", 1)
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["head.json"]


def test_of_two_witnesses_of_one_file_the_later_to_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    one, other = HeadFile(path), HeadFile(path)
    other.replace(HEAD)
    with pytest.raises(KeyctlError) as refused:
        one.replace(HEAD.replace("1", "0", 1))
    assert refused.value.code is Code.LOST_RACE
    assert [each.read_text() for each in tmp_path.iterdir()] == [HEAD]


@pytest.mark.parametrize("content", ["", "{}", "a\n1\nb\n"])
def test_a_file_that_holds_no_head_is_no_first_head(tmp_path: Path, content: str) -> None:
    """Promise 7: else who empties the file has it start anew."""
    path = tmp_path / "head.json"
    path.write_text(content)
    with pytest.raises(KeyctlError) as refused:
        HeadFile(path).last()
    assert refused.value.code is Code.INVALID_INPUT


def test_a_file_that_another_user_could_change_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(KeyctlError) as refused:
        HeadFile(folder / "head.json")
    assert refused.value.code is Code.DELIVERY_FAILED
