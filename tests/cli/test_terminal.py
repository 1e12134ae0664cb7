"""The terminal as a whole: what of a run can be seen there, on any width, with any of the streams elsewhere."""

import pytest
from rich.cells import cell_len

from tests.support.commands import Keyctl
from tests.support.raw_keys import RAW_KEY
from tests.support.terminal import CTRL_C, Session, on_terminal, plain

pytestmark = pytest.mark.one_database


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_command_writes_a_line_wider_than_the_terminal(keyctl: Keyctl, width: int) -> None:
    keyctl.create("billing production", "--owner", "platform team", "--label", "team=billing")
    keyctl.ok("rotate", "billing production")
    for command in (
        ("list",), ("list", "--all"), ("show", "billing production"), ("audit",),
        ("--help",), ("create", "--help"), ("list", "--help"),
    ):  # fmt: skip
        shown = on_terminal(keyctl, *command, width=width)
        assert shown.status == 0
        assert max(map(cell_len, shown.lines)) <= width, command


def test_sentences_settings_and_looks_break_between_words_alone(keyctl: Keyctl) -> None:
    """A path or a URL is copied whole, at any width."""
    keyctl.ok("policy", "set", "--require", "owner,purpose,expires", "--max-lifetime", "365d")
    for name in ("billing  production", "other"):
        keyctl.create(name, "--override", "before the policy")
    for command in (("config",), ("doctor",), ("policy", "show"), ("suspend", "--name", "b*", "--dry-run")):
        piped = set(keyctl.ok(*command).stdout.split())
        for width in (24, 40, 80):
            shown = plain(on_terminal(keyctl, *command, width=width).text)
            assert piped - {"default"} <= set(shown.replace("(", " ").replace(")", " ").split()) | set(shown.split()), (
                width
            )
    assert "'billing  production'" in shown


def test_a_long_name_ends_its_lines_behind_a_hyphen_and_a_near_expiry_is_coloured_in_show_too(keyctl: Keyctl) -> None:
    name = "billing-reconciliation-worker-for-the-european-subsidiaries-and-their-quarterly-reports"
    keyctl.create(name, "--owner", "team-of-the-subsidiaries@example.com", "--expires", "20h")
    shown = on_terminal(keyctl, "show", name, width=40)
    lines = [line.strip() for line in plain(shown.text).splitlines()]
    at = lines.index("name       billing-reconciliation-")
    assert lines[at + 1 : at + 4] == ["worker-for-the-european-", "subsidiaries-and-their-", "quarterly-reports"]
    assert "example.com" in lines
    assert b"\x1b[31min " in shown.raw
    for command in (("list",), ("audit", "check")):
        lines = plain(on_terminal(keyctl, *command, width=40).text).splitlines()
        assert any(line.endswith("billing-reconciliation-worker-for-the-") for line in lines), command


def test_the_real_program_shows_the_key_once_and_whole(keyctl: Keyctl) -> None:
    """Promise 1, without the fork server between."""
    shown = Session(keyctl, "create", "ci", width=40, real=True).end()
    assert shown.status == 0
    (raw,) = RAW_KEY.findall(shown.text)
    assert raw in shown.lines
    assert keyctl.opens(raw)


def test_a_key_is_bare_whenever_stdout_is_no_terminal_and_in_a_panel_whenever_it_is(keyctl: Keyctl) -> None:
    """`KEY=$(alphalens-keyctl create ci)` typed at a prompt: stdin and stderr are the terminal, stdout is not."""
    captured = on_terminal(keyctl, "create", "one", elsewhere=("stdout",))
    assert RAW_KEY.fullmatch(captured.stdout.removesuffix("\n"))
    assert "Created key 'one'" in captured.text
    assert not RAW_KEY.search(captured.text)
    shown = on_terminal(keyctl, "create", "two", elsewhere=("stdin", "stderr"))
    assert "Key created" in shown.text
    assert len(RAW_KEY.findall(shown.text)) == 1
    assert shown.stderr == ""  # the panel says it all


def test_machine_formats_are_the_same_on_a_terminal(keyctl: Keyctl) -> None:
    """Promise 10."""
    keyctl.create("ci")
    for command in (("list", "--json"), ("list", "--jsonl"), ("list", "--csv"), ("show", "ci", "--json"),
                    ("audit", "--jsonl"), ("audit", "head", "--json")):  # fmt: skip
        shown = on_terminal(keyctl, *command, width=40, elsewhere=("stderr",), environment={"FORCE_COLOR": "1"})
        piped = keyctl.ok(*command).stdout
        # The terminal's driver makes \r\n of \n, and CSV has \r\n of its own.
        assert shown.raw.decode().replace("\r", "") == piped.replace("\r", "")


def test_a_very_narrow_terminal_makes_no_traceback(keyctl: Keyctl) -> None:
    raw, _ = keyctl.create("billing production", "--owner", "platform team")
    for command in (("list",), ("show", "billing production"), ("audit",), ("rotate", "billing production")):
        for width in (1, 10):
            shown = on_terminal(keyctl, *command, width=width)
            assert shown.status == 0, shown.text
            assert "Traceback" not in shown.text
    assert keyctl.opens(raw)


def test_ctrl_c_while_a_raw_key_is_awaited_interrupts(keyctl: Keyctl) -> None:
    """Promise 11."""
    for command in ("verify", "show"):
        session = Session(keyctl, command, *(["-"] if command == "show" else []), real=True)
        session.wait_for("Raw key: ")
        session.type(CTRL_C)
        shown = session.end()
        assert shown.status == 130
        assert "interrupted" in shown.text
        assert "Traceback" not in shown.text


def test_plain_takes_every_kind_of_escape_out() -> None:
    """The tests' own eye: a sequence it overlooked would pass for text."""
    assert plain("\x1b[1;31ma\x1b[0m\x1b]8;;http://x\x1b\\b\x1b]0;t\x07c\x1bMd") == "abcd"
