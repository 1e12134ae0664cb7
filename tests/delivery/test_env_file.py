"""`--env-file`: one variable among lines that are somebody else's."""

import re
import subprocess
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl import keyformat
from alphalens_keyctl.delivery.files import Variable
from alphalens_keyctl.errors import KeyctlError
from tests.support.commands import Keyctl

NAME = "ALPHALENS_API_KEY"
OLD = "alk_000000000000_" + "0" * 49

# Lines that `sh` can take in and that set no NAME. Quoted ones may run over lines, one of which looks like NAME's.
PLAIN = [
    "", "# it's a comment", "  # NAME=x", "\t", "A=1", "export B='two words'", 'C="a \\" quote"', "D='multi\nline'",
    f'E="more\n{NAME}=no\nlines"', f"F='\n{NAME}=no\n#'", f"MY_{NAME}=1", f"{NAME}_OLD=2", f"X{NAME}=3 # why",
    f"#{NAME}=off", f"# {NAME}={OLD}", "G=$HOME/x", "H=", "export I", "J=it\\'s", "K=a#b", "L=1 # don't",
    f'M="{NAME}=5"', "N='#'", 'O="${A:-x}"', "P=é", "Q='日本'", "R='a\rb'",  f"T=one; U={NAME}",
]  # fmt: skip
# Lines that only one of the two takes, or that they take to end elsewhere.
DOTENV = ["not a line", "V = spaced", "W=it's", 'X="open', "=", "Y=a\\", "'Z'=1", "AA: 1", "S='\\'"]
# Every way to set the variable that both take in, and what comes of it.
OURS = {
    f"{NAME}=old": f"{NAME}=KEY",
    f"export {NAME}=old": f"export {NAME}=KEY",
    f"export\t{NAME}={OLD}  ": f"export\t{NAME}=KEY  ",
    f"export {NAME}": f"export {NAME}=KEY",
    f"  {NAME}='old'": f"  {NAME}=KEY",
    f'{NAME}="old"': f"{NAME}=KEY",
    f"{NAME}=": f"{NAME}=KEY",
    f"{NAME}=old # why": f"{NAME}=KEY # why",
    f"{NAME}= # why": f"{NAME}=KEY # why",
    f"{NAME}=old#x": f"{NAME}=KEY",
    f"{NAME}='a # b'": f"{NAME}=KEY",
    f"{NAME}='two\nlines'": f"{NAME}=KEY",
    f'{NAME}="a \\" b" # c': f"{NAME}=KEY # c",
}


def raw_key() -> keyformat.RawKey:
    return keyformat.generate()


def by_dotenv(content: bytes, name: str = NAME) -> str | None:
    text = content.decode("utf-8", "surrogateescape")
    return dotenv_values(stream=StringIO(text), interpolate=False).get(name)


def by_sh(path: Path, name: str = NAME) -> bytes:
    command = f'. "$1"; printf %s "${name}"'
    done = subprocess.run(["sh", "-c", command, "sh", str(path)], capture_output=True, check=True, env={"HOME": "/h"})
    return done.stdout


def lines_of(*kinds: Iterable[str]) -> "st.SearchStrategy[tuple[list[str], str]]":
    """Lines of these kinds in any order, and what stands at the end of the last."""
    return st.tuples(
        st.lists(st.one_of(*map(st.sampled_from, map(list, kinds))), max_size=7), st.sampled_from(["\n", ""])
    )


@pytest.fixture(scope="session")
def sourced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("env") / "file with spaces"


@given(file=lines_of(OURS, PLAIN))
def test_sh_and_dotenv_readers_both_get_the_key_and_every_other_line_stays(
    file: tuple[list[str], str], sourced: Path
) -> None:
    lines, end = file
    before = "\n".join(lines) + (end if lines else "")
    expected = "\n".join(OURS.get(line, line) for line in lines) + (end if lines else "")
    if not any(line in OURS for line in lines):
        expected += ("\n" if expected and not expected.endswith("\n") else "") + f"{NAME}=KEY\n"
    raw = raw_key()
    after = Variable(NAME).write(before.encode(), raw)
    assert after.decode() == expected.replace("=KEY", f"={raw.reveal()}")
    assert by_dotenv(after) == raw.reveal()
    sourced.write_bytes(after)
    assert by_sh(sourced) == raw.reveal().encode()
    assert_twice_changes_the_value_alone(after, raw)


@given(file=lines_of(OURS, PLAIN, DOTENV))
def test_a_file_is_refused_or_right_whatever_else_stands_in_it(file: tuple[list[str], str]) -> None:
    """Where a quote is left open or a line goes on, a shell would take the assignment for a part of it."""
    lines, end = file
    raw, said = raw_key(), ""
    try:
        after = Variable(NAME).write(("\n".join(lines) + end).encode(), raw)
    except ValueError as error:
        said, after = str(error), b""
    if not after:
        assert "quote" in said
        # The last is whole to a shell and goes on to a dotenv reader.
        assert {"S='\\'", "W=it's", 'X="open', "Y=a\\"} & set(lines)
        return
    assert by_dotenv(after) == raw.reveal()
    assert_twice_changes_the_value_alone(after, raw)


def assert_twice_changes_the_value_alone(content: bytes, raw: keyformat.RawKey) -> None:
    again = raw_key()
    assert Variable(NAME).write(content, again) == content.replace(raw.reveal().encode(), again.reveal().encode())


PIECES = [NAME, "=", "'", '"', "\\", "\n", "\r", "#", " ", "\xa0", "\v", "export ", "\ufeff", "A", "é"]


@given(
    before=st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=16).map(lambda p: "".join(p).encode())
)
def test_any_bytes_are_refused_or_leave_what_is_not_the_variable(before: bytes) -> None:
    raw = raw_key()
    try:
        after = Variable(NAME).write(before, raw)
    except ValueError:
        return
    assert by_dotenv(after) == raw.reveal()
    while before.startswith("\ufeff".encode()):
        before = before[3:]
    assignment = f"{NAME}={raw.reveal()}".encode()
    if NAME.encode() not in before:
        # Appended, after a newline where there was none.
        assert re.fullmatch(re.escape(before) + rb"\n?" + assignment + rb"\n", after), after
    else:
        first, _, _ = after.partition(assignment)
        assert before.startswith(first.removesuffix(b"\n"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # CRLF: a shell would take the CR for a part of the value; the ends of other lines stay.
        (b"A=1\r\nNAME=old\r\nB=2\r\n", b"A=1\r\nNAME=KEY\nB=2\r\n"),
        (b"export NAME='old'  # why\r\n", b"export NAME=KEY  # why\n"),
        (b"A=1\r\n", b"A=1\r\nNAME=KEY\n"),
        (b"A=1\r\nB=2", b"A=1\r\nB=2\nNAME=KEY\n"),
        (b"A='x\r\ny'\nB=2\n", b"A='x\r\ny'\nB=2\nNAME=KEY\n"),
        # A byte order mark is dropped, to a shell it would be a part of the first line. Bytes that are no UTF-8 stay.
        (b"\xef\xbb\xbfNAME=old\nA=1\n", b"NAME=KEY\nA=1\n"),
        (b"\xef\xbb\xbf", b"NAME=KEY\n"),
        (3 * b"\xef\xbb\xbf" + b"export NAME=old\r\n", b"export NAME=KEY\n"),
        (b"\xff\xfe=\xe9\nNAME=old\n#\xe9", b"\xff\xfe=\xe9\nNAME=KEY\n#\xe9"),
        (b"", b"NAME=KEY\n"),
        (b"\n\n", b"\n\nNAME=KEY\n"),
        (b"\n \nexport NAME = 'a b'  # c\n", b"\n \nexport NAME=KEY  # c\n"),
        (b"NAME", b"NAME=KEY"),
        (b"NAME=a\nNAME=b\nexport NAME=c\n", b"NAME=KEY\nNAME=KEY\nexport NAME=KEY\n"),
        # What looks white to a dotenv reader and not to a shell is never left beside the value.
        (b"NAME=old\xc2\xa0# c\n", b"NAME=KEY\n"),
        (b"NAME=old\x0b# c\n", b"NAME=KEY\n"),
        (b"\xc2\xa0NAME=old\n", b"\xc2\xa0NAME=old\nNAME=KEY\n"),
        (b"export\xc2\xa0NAME=old\n", b"export\xc2\xa0NAME=old\nNAME=KEY\n"),
        (b"NAME=old\rB=2\n", b"NAME=old\rB=2\nNAME=KEY\n"),
        # A backslash escapes nothing between single quotes: here a shell and dotenv readers part.
        (b"A='C:\\'\nNAME=old\nB='x'\n", b"A='C:\\'\nNAME=old\nB='x'\nNAME=KEY\n"),
        (b"x" * 200_000 + b"=1\nNAME=old\n", b"x" * 200_000 + b"=1\nNAME=KEY\n"),
    ],
)
def test_what_comes_of_a_file(before: bytes, after: bytes, sourced: Path) -> None:
    raw = raw_key()
    written = Variable("NAME").write(before, raw)
    assert written == after.replace(b"KEY", raw.reveal().encode())
    assert by_dotenv(written, "NAME") == raw.reveal()
    sourced.write_bytes(written)
    assert by_sh(sourced, "NAME") == raw.reveal().encode()


@pytest.mark.one_database
@pytest.mark.parametrize(
    "before",
    [
        b"A='open\nNAME=old\n",
        b'A="open\n',
        b"A=it's\nNAME=old\nB=that's\n",
        b"A=1\\\nNAME=old\n",
        b"A=1\\",
        b"A=1\rNAME=old\n",
    ],
)
def test_a_file_with_an_open_quote_is_refused_untouched(keyctl: Keyctl, before: bytes) -> None:
    """Promise 2."""
    path = keyctl.home / ".env"
    path.write_bytes(before)
    result = keyctl("create", "ci", "--env-file", ".env", "--env-var", "NAME")
    assert (result.status, result.stdout) == (7, "")
    assert "a quote is never closed, or a line goes on" in result.stderr
    assert path.read_bytes() == before
    assert [entry.name for entry in keyctl.home.iterdir() if entry.name.startswith(".env")] == [".env"]
    found = keyctl.keys()
    assert {key["status"] for key in found} == {"revoked"}


@pytest.mark.one_database
def test_lines_that_dotenv_readers_cannot_parse_are_passed_over_in_silence(keyctl: Keyctl) -> None:
    """Promise 10: under --json stderr is an error's alone."""
    (keyctl.home / ".env").write_text("not a line\n= 1\n'a\nB='x'y\n'\n")
    for command in ("create", "rotate"):
        result = keyctl.ok(command, "ci", "--env-file", ".env", "--json")
        assert result.stderr == ""
        assert by_dotenv((keyctl.home / ".env").read_bytes()) == result.json["raw_key"]


@pytest.mark.one_database
def test_create_and_rotate_change_the_variable_alone(keyctl: Keyctl) -> None:
    path = keyctl.home / "app.env"
    path.write_bytes(b"# ours\nexport A='1'\n")
    created = keyctl.ok("create", "ci", "--env-file", "app.env", "--json").json
    assert created["delivered_to"] == [f"env-file {path}", "stdout"]
    assert path.read_text() == f"# ours\nexport A='1'\n{NAME}={created['raw_key']}\n"
    keyctl.ok("rotate", "ci", "--env-file", "app.env", "--no-print")
    new = by_dotenv(path.read_bytes())
    assert new is not None
    assert by_sh(path) == new.encode()
    assert keyctl.opens(new)
    assert path.read_text() == f"# ours\nexport A='1'\n{NAME}={new}\n"
    keyctl.ok("rotate", "ci", "--env-file", "new.env", "--env-var", "_x1", "--no-print")
    assert (keyctl.home / "new.env").read_text().startswith("_x1=alk_")


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "É", "A\n", "A;ls", "$A", "٣", "A٣"])
def test_a_name_that_no_shell_takes_is_bad_input(name: str, fresh_keyctl: Keyctl) -> None:
    with pytest.raises(KeyctlError):
        Variable(name)
    result = fresh_keyctl("create", "ci", "--env-file", ".env", "--env-var", name)
    assert (result.status, result.stdout) == (2, "")
    assert not (fresh_keyctl.home / ".env").exists()
    assert not list(fresh_keyctl.home.rglob("*.db"))


@pytest.mark.one_database
def test_a_file_that_holds_no_lines_of_text_is_refused(keyctl: Keyctl) -> None:
    path = keyctl.home / "binary"
    for content in (b"\x7fELF\0\0", b"A=1\n".ljust((1 << 20) + 1, b"#")):
        path.write_bytes(content)
        assert keyctl("create", "ci", "--env-file", "binary").status == 7
        assert path.read_bytes() == content
