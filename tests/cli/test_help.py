"""Help that teaches: it is drawn whole at every width, its examples run, and a word that people guess is answered."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest
from rich.cells import cell_len

from alphalens_keyctl.cli import guessed_words, help_page
from alphalens_keyctl.cli.options.groups import OWN, Panel
from alphalens_keyctl.cli.topics import TOPICS
from alphalens_keyctl.output import markdown
from alphalens_keyctl.output.pages import Paper
from tests.support.command_tree import COMMANDS
from tests.support.commands import ROOT, Keyctl
from tests.support.raw_keys import RAW_KEY
from tests.support.shell import Shell
from tests.support.terminal import CTRL_D, Session, on_terminal

DOCS: Final = ROOT / "alphalens_keyctl" / "docs"
# Commands that alone would not end, or need a server: their words are parsed by `--help` behind them.
PARSED_ONLY: Final = {("serve",), ("serve-api",), ("db", "grant")}


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_help_keeps_within_every_terminal_and_leaks_no_type(keyctl: Keyctl, width: int) -> None:
    for path in ((), ("create",), ("rotate",), ("audit",), ("serve",), ("revoke",), ("db", "grant")):
        shown = on_terminal(keyctl, *path, "--help", width=width)
        assert shown.status == 0
        assert max(map(cell_len, shown.lines)) <= min(width, 100), path
        assert not re.search(r"<(?!none>)[a-z]+|list\[|<=x|\bTrue\b|\bNone\b|\.\.\.\]\.\.\.", shown.text), path


def test_every_option_has_a_heading_a_word_for_its_value_and_a_sentence() -> None:
    for path, command in COMMANDS.items():
        for parameter in command.params:
            assert parameter.rich_help_panel in (None, OWN, *Panel), (path, parameter.name)
            assert parameter.help, (path, parameter.name)
            if not getattr(parameter, "is_flag", False):
                assert parameter.metavar, (path, parameter.name)


def test_every_command_of_the_program_stands_under_a_heading() -> None:
    named = [name for names in help_page.COMMAND_PANELS.values() for name in names]
    assert sorted(named) == sorted({path[0] for path in COMMANDS if path})


def test_options_stand_under_the_heading_of_their_group(fresh_keyctl: Keyctl) -> None:
    said = fresh_keyctl.ok("rotate", "--help").stdout
    parts = dict(re.findall(r"^(\S.*)\n((?:  .*\n)+)", said, re.MULTILINE))
    for title, option in (("Which keys", "--owner OWNER"), ("Delivery", "--pipe-to CMD"), ("Safety", "--dry-run"),
                          ("Output", "--json"), ("Options", "--grace DUR"), ("New values", "--expires WHEN"),
                          ("Examples", "alphalens-keyctl rotate billing")):  # fmt: skip
        assert re.search(rf"^  {re.escape(option)}( |$)", parts[title], re.MULTILINE), title


@pytest.mark.one_database
def test_the_examples_of_every_command_run(keyctl: Keyctl) -> None:
    stores = {"gh": "#!/bin/sh\ncat > stored\n", "jq": "#!/bin/sh\ncat\n", "less": "#!/bin/sh\ncat\n"}
    shell = Shell(keyctl, keyctl.home, stores)
    (keyctl.home / "keys.csv").write_text("name\nfrom-file\n")
    for path, command in COMMANDS.items():
        if not path or (hasattr(command, "commands") and not command.invoke_without_command):
            continue  # does nothing without a command of its own
        lines = [line for line in help_page.examples(command) if not line.startswith("#")]
        assert 1 <= len(lines) <= 3, path
        if path != ("create",):
            keyctl("create", "billing", "--owner", "team-a", "--expires", "90d")
            keyctl("create", "ci", "--key-file", "ci-key", "--no-print")
        for line in lines:
            elsewhere = any(each in line for each in ("db.example", "keys.example", "--profile", "--follow"))
            parsed_only = path in PARSED_ONLY or elsewhere
            words = shlex.split(line)
            done = keyctl(*words[1:], "--help") if parsed_only else shell.run(line)
            # A check that finds something exits 5.
            assert done.status in ((0, 5) if path == ("audit", "check") else (0,)), (line, done)
            assert not parsed_only or "Usage: " in done.stdout, line


@pytest.mark.one_database
def test_a_long_example_is_broken_as_the_shell_breaks_a_line(fresh_keyctl: Keyctl) -> None:
    shown = on_terminal(fresh_keyctl, "rotate", "--help", width=40).text
    pasted = shown[shown.index("  alphalens-keyctl rotate ci") :].partition("\n  alphalens")[0].replace("\\\n", " ")
    assert shlex.split(pasted)[-1] == "gh secret set ALPHALENS_API_KEY"


def test_help_prints_the_help_of_a_command_and_every_topic(fresh_keyctl: Keyctl) -> None:
    assert fresh_keyctl.ok("help", "rotate").stdout == fresh_keyctl.ok("rotate", "--help").stdout
    assert fresh_keyctl.ok("help", "audit", "check").stdout == fresh_keyctl.ok("audit", "check", "--help").stdout
    alone = fresh_keyctl.ok("help").stdout
    assert {path.stem for path in DOCS.glob("*.md")} == set(TOPICS)
    for topic in TOPICS:
        said = fresh_keyctl.ok("help", topic).stdout
        assert said.split("\n")[0] == (DOCS / f"{topic}.md").read_text().split("\n")[0].removeprefix("# ")
        assert re.search(rf"^  {topic} ", alone, re.MULTILINE)
    assert list(fresh_keyctl.home.iterdir()) == []


@pytest.mark.parametrize("words", [("nonsense",), ("json", "more"), ("rm",), ("\x1b[2Jx",), ("audit", "nonsense")])
def test_help_about_nothing_names_what_there_is(fresh_keyctl: Keyctl, words: tuple[str, ...]) -> None:
    refused = fresh_keyctl("help", *words)
    assert (refused.status, refused.stdout) == (2, "")
    assert "exit-codes" in refused.stderr
    assert "\x1b" not in refused.stderr
    assert words != ("rm",) or "help revoke" in refused.stderr


def test_a_topic_becomes_plain_text_and_keeps_its_code() -> None:
    """Promise 12: a topic cannot act on the terminal either."""
    text = (
        "# A title\n\nSome **bold** words, a [link](json.md) and `--code **x**`\nover two lines.\n\n- one\n- two\n"
        "  more\n\n<!-- mark -->\n```sh\na  long | line that stays as it is, whatever the paper, at all times\n\n"
        "# remark\n```\n\n| a | b |\n|---|---|\n| `x | y` | \x1b[2J |\n"
    )
    assert markdown.plain(text, Paper(40, bold=False)) == (
        "A title\n\nSome bold words, a link and `--code\n**x**` over two lines.\n\n- one\n\n- two more\n\n"
        "    a  long | line that stays as it is, whatever the paper, at all times\n\n"
        "    # remark\n\na        b\n`x | y`  \\x1b[2J\n"
    )


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_readable_at_every_width(topic: str) -> None:
    text = (DOCS / f"{topic}.md").read_text()
    for width in (40, 80, 100):
        lines = markdown.plain(text, Paper(width, bold=False)).splitlines()
        prose = [line for line in lines if not line.startswith("    ") and " " in line.strip()]
        assert max(map(cell_len, prose)) <= width, topic


def test_version_is_the_option(fresh_keyctl: Keyctl) -> None:
    assert fresh_keyctl.ok("version") == fresh_keyctl.ok("--version")


def test_a_guessed_word_is_answered_with_a_command_that_exists(fresh_keyctl: Keyctl) -> None:
    known = {path[0] for path in COMMANDS if path}
    for word, instead in guessed_words.GUESSED.items():
        assert word not in known
        path = tuple(part for part in instead.split()[:2] if part.islower() and not part.startswith("-"))
        assert path in COMMANDS, word
    for word, named in (("delete", "revoke KEY"), ("rm", "revoke KEY"), ("edit", "update KEY"), ("new", "create NAME"),
                        ("add", "create NAME"), ("get", "show KEY"), ("ls", "list"), ("lsit", "list"),
                        ("rename", "update KEY --set-name"), ("rotat", "rotate")):  # fmt: skip
        told = fresh_keyctl(word, "billing", "--json")
        assert (told.status, told.stdout, told.error["code"]) == (2, "", "usage")
        assert f"Write 'alphalens-keyctl {named}" in told.error["hint"]
    assert "There are: create," in fresh_keyctl("nonsense").stderr
    assert "verify" in fresh_keyctl("audit", "nonsense").stderr


@pytest.mark.one_database
def test_the_programs_options_work_behind_the_command_too(fresh_keyctl: Keyctl, tmp_path: Path) -> None:
    database = str(tmp_path / "keys.db")
    fresh_keyctl.ok("create", "ci", "--database", database, "--actor", "me", "--json")
    (key,) = fresh_keyctl.ok("list", "--json", f"--database={database}").json
    assert (key["name"], key["created_by"]) == ("ci", "me")
    # The one behind the command counts.
    assert fresh_keyctl.ok("--database", "/nowhere", "audit", "verify", "--database", database).stdout
    # A command's own option of the same name is the command's.
    assert fresh_keyctl.ok("--database", database, "audit", "--actor", "nobody", "--json").json == []
    assert len(fresh_keyctl.ok("--database", database, "audit", "--actor", "me", "--json").json) == 2
    # A value is a value, whatever it looks like, and so is what stands behind `--`.
    odd = fresh_keyctl.ok("create", "odd", "--owner", "--quiet", "--database", database, "--json").json["key"]
    assert odd["owner"] == "--quiet"
    assert fresh_keyctl.ok("create", "--json", "--database", database, "--", "--quiet").json["key"]["name"] == "--quiet"
    loud, quiet = (
        fresh_keyctl.ok("create", name, "--database", database, *option) for name, option in (("b", ()), ("c", ("-q",)))
    )
    assert "Created key 'b'" in loud.stderr
    assert quiet.stderr == ""
    assert fresh_keyctl("list", "--config", "/nothing/here").status == 7
    assert "Traceback" in fresh_keyctl("show", "nothing", "--database", database, "--debug").stderr
    assert not list((fresh_keyctl.home).rglob("*.db"))


def test_an_error_repeats_what_is_wrong_and_says_what_would_be_right(fresh_keyctl: Keyctl) -> None:
    for arguments, message, hint in (
        (("create", "x", "--expires", "2027-01-31T09:00:00"), "'2027-01-31T09:00:00'", "Add Z or +01:00"),
        (("create", "x", "--expires", "90"), "'90'", "90d"),
        (("create", "x", "--label", "prod"), "'prod'", "key=value"),
        (("create", "a\x07b"), "'a\\x07b'", "Leave the character out"),
        (("list", "--limit", "many"), "'many'", "list --help"),
        (("list", "--limit=-7"), "'-7'", "list --help"),
        (("serve", "--max-staleness", "x"), "'x'", "serve --help"),
        (("list", "--sort", "colour"), "'colour'", "created"),
        (("show",), "KEY", "alphalens-keyctl show billing"),
        (("create",), "NAME", "alphalens-keyctl create billing"),
        (("create", "x", "--expires", "x" * 200), f"'{'x' * 40}...", "Write a duration"),
        (("create", "x", "--expires", "postgresql://u:hunter2@h/d"), "the expiry '...'", "Write a duration"),
    ):  # fmt: skip
        told = fresh_keyctl(*arguments)
        assert told.status == 2
        error, advice = told.stderr.splitlines()
        assert message in error, arguments
        assert hint in advice, arguments
        assert not re.search("range|hunter2|x{60}", error), arguments
    assert list(fresh_keyctl.home.iterdir()) == []


@pytest.mark.one_database
def test_an_error_is_red_and_its_hint_dim_and_broken_between_words_on_a_terminal_alone(fresh_keyctl: Keyctl) -> None:
    """Promise 10."""
    shown = on_terminal(fresh_keyctl, "nonsense", width=40)
    assert shown.raw.startswith(b"\x1b[1;31merror:\x1b[0m there is no command")
    assert b"\x1b[2mhint: There are: create" in shown.raw
    assert max(map(len, shown.lines)) <= 40
    assert shown.lines[2].startswith("      ")
    for environment, option in (({"NO_COLOR": "1"}, ()), ({"TERM": "dumb"}, ()), ({}, ("--no-color",))):
        assert b"\x1b" not in on_terminal(fresh_keyctl, *option, "nonsense", environment=environment).raw
    piped = fresh_keyctl("nonsense", environment={"FORCE_COLOR": "1"})
    assert "\x1b" not in piped.stderr
    assert piped.stderr.count("\n") == 2


def test_create_asks_for_the_name_on_a_terminal_until_it_is_one(keyctl: Keyctl) -> None:
    session = Session(keyctl, "create", "--expires", "7d", real=True)
    session.wait_for("Name of the new key: ")
    session.type(b" \n")
    session.wait_for("the name begins or ends with a space")
    session.type(b"billing\n")
    shown = session.end()
    assert shown.status == 0
    assert len(RAW_KEY.findall(shown.text)) == 1
    assert [key["name"] for key in keyctl.keys()] == ["billing"]


@pytest.mark.one_database
def test_create_asks_nobody_where_nobody_can_answer_and_gives_up_at_the_end_of_input(fresh_keyctl: Keyctl) -> None:
    """Promises 10 and 11."""
    for shown in (
        on_terminal(fresh_keyctl, "create", "--json"),
        on_terminal(fresh_keyctl, "create", elsewhere=("stdin",)),
    ):
        assert shown.status == 2
        assert "Name of the new key" not in shown.text
    session = Session(fresh_keyctl, "create", real=True)
    session.wait_for("Name of the new key: ")
    session.type(CTRL_D)
    shown = session.end()
    assert shown.status == 1
    assert "Nothing was changed" in shown.text


def test_the_program_alone_shows_its_help_in_bold_and_no_escape_sequence_spelled_out(fresh_keyctl: Keyctl) -> None:
    shown = on_terminal(fresh_keyctl, width=80)
    assert shown.status == 2
    assert b"\x1b[1mOptions\x1b[0m" in shown.raw
    assert "\\x1b" not in shown.text
    assert "\x1b" not in fresh_keyctl().stderr


def test_an_unknown_option_is_told_where_it_stands_and_no_other_is_guessed(fresh_keyctl: Keyctl) -> None:
    assert fresh_keyctl("--owner", "ann", "list").stderr == (
        "error: no such option: --owner\nhint: --owner stands after the command.\n"
    )
    assert fresh_keyctl("list", "--no-expiry").stderr == (
        "error: no such option: --no-expiry\nhint: Try 'alphalens-keyctl list --help'.\n"
    )
    assert fresh_keyctl("policy", "--max-lifetime", "90d").stderr == (
        "error: no such option: --max-lifetime\nhint: --max-lifetime stands after 'alphalens-keyctl policy set'.\n"
    )


def test_a_slip_in_an_option_is_answered_with_the_option_that_it_can_only_mean(fresh_keyctl: Keyctl) -> None:
    for arguments, meant in {
        ("create", "ci", "--expire", "90d"): "--expires",
        ("list", "--jsn"): "--json",
        # Not --expired, which is spelled almost so and selects keys.
        ("update", "ci", "--expires", "90d"): "--set-expires",
    }.items():
        said = fresh_keyctl(*arguments).stderr
        assert f"\nhint: Write {meant}; 'alphalens-keyctl {arguments[0]} --help' tells more.\n" in said
    # It may be --expires, and it may be --expired.
    assert "Write" not in fresh_keyctl("rotate", "ci", "--expire", "90d").stderr


def test_a_word_too_many_is_answered_with_quotes_and_an_example(fresh_keyctl: Keyctl) -> None:
    assert "hint: A value with spaces stands in quotes. For example: alphalens-keyctl create billing" in (
        fresh_keyctl("create", "my", "key").stderr
    )
    said = fresh_keyctl("verify", "billing.key").stderr
    assert "hint: For example: alphalens-keyctl verify < ci-key; 'alphalens-keyctl verify --help' tells more." in said
