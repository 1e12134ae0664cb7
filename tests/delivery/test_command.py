"""`--pipe-to`: a command that stores the key, whatever it is and however it ends."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.commands import Keyctl, Result
from tests.support.databases import on_sqlite
from tests.support.destinations import FIND_PROGRAM
from tests.support.raw_keys import RAW_KEY, shows
from tests.support.terminal import CTRL_C, Session
from tests.support.waiting import wait_for

TAKE = "cat >taken"


def script(keyctl: Keyctl, *lines: str, name: str = "store") -> str:
    """A command in the current folder that does this."""
    path = keyctl.home / name
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return f"./{name}"


def taken(keyctl: Keyctl) -> str:
    """The raw key that the command was given."""
    content = (keyctl.home / "taken").read_text()
    assert content.startswith("alk_")
    assert content.endswith("\n")
    return content[:-1]


def assert_nothing_shows(raw: str, *texts: str) -> None:
    """Promise 1: no eight characters of the secret in a row, encoded or not."""
    for text in texts:
        assert not shows(raw, text)


def assert_undone(keyctl: Keyctl, result: Result) -> None:
    assert (result.status, result.stdout) == (7, ""), result
    found = keyctl.keys()
    assert {key["status"] for key in found} == {"revoked"}
    assert {key["revoke_reason"] for key in found} == {"delivery_failed"}


def is_over(pid: int) -> bool:
    """Whether a process has ended; what init has yet to take note of counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.one_database
def test_no_shell_reads_the_line(keyctl: Keyctl) -> None:
    command = script(keyctl, TAKE, 'for word; do echo "$word"; done >words')
    line = "'$(touch a)' $(touch b) `touch c` ; | > d * ~ $HOME && || & \"e  f\" g\\ h # i"
    keyctl.ok("create", "ci", "--pipe-to", f"{command} {line}", "--no-print")
    assert (keyctl.home / "words").read_text().splitlines() == [
        "$(touch a)", "$(touch", "b)", "`touch", "c`", ";", "|", ">", "d", "*", "~", "$HOME", "&&", "||", "&", "e  f",
        "g h", "#", "i",
    ]  # fmt: skip
    assert not {"a", "b", "c", "d"} & {entry.name for entry in keyctl.home.iterdir()}


@pytest.mark.one_database
def test_the_key_is_on_stdin_alone_and_the_rest_in_the_environment(keyctl: Keyctl) -> None:
    """Promise 1: seen from inside the command, of itself and of what started it."""
    command = script(
        keyctl,
        FIND_PROGRAM,
        "for it in $$ $PPID $program; do tr '\\0' '\\n' <$(printf /proc/%s/cmdline $it); done >arguments",
        "for it in $$ $PPID $program; do tr '\\0' '\\n' <$(printf /proc/%s/environ $it); done >environments",
        "env >environment",
        TAKE,
    )
    document = keyctl.ok("create", "Été ci", "--owner", "Ops & Co", "--pipe-to", command, "--json").json
    raw = taken(keyctl)
    assert raw == document["raw_key"]
    assert document["delivered_to"] == ["pipe-to store", "stdout"]
    told = dict(line.split("=", 1) for line in (keyctl.home / "environment").read_text().splitlines())
    assert told["ALPHALENS_KEY_NAME"] == "Été ci"
    assert told["ALPHALENS_KEY_ID"] == document["key"]["id"]
    assert told["ALPHALENS_KEY_OWNER"] == "Ops & Co"
    everything = [(keyctl.home / name).read_text() for name in ("arguments", "environments", "environment")]
    assert all(everything)
    assert_nothing_shows(raw, *everything)


@pytest.mark.one_database
def test_a_name_that_the_locale_cannot_spell_reaches_the_command(keyctl: Keyctl) -> None:
    _, key_id = keyctl.create("日本", "--owner", "é")
    command = script(keyctl, TAKE, 'printf "%s %s" "$ALPHALENS_KEY_NAME" "$ALPHALENS_KEY_OWNER" >told')
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = keyctl.spawn("rotate", key_id, "--pipe-to", command, "--no-print", environment=plain)
    assert result.status == 0, result
    assert (keyctl.home / "told").read_bytes().decode() == "日本 é"


@pytest.mark.one_database
def test_the_command_inherits_three_streams_and_no_more(keyctl: Keyctl) -> None:
    """Neither the database nor its lock: a daemon that it leaves behind would hold them."""
    said = keyctl.ok("create", "ci", "--pipe-to", "ls -l /proc/self/fd", "--no-print").stderr
    links = [line.split(" -> ")[1] for line in said.splitlines() if " -> " in line]
    assert len(links) == 4
    assert sorted(link.partition(":")[0] for link in links if link.startswith("pipe:")) == ["pipe"] * 3
    assert next(link for link in links if not link.startswith("pipe:")).startswith("/proc/")


@pytest.mark.one_database
@pytest.mark.parametrize("status", [0, 1])
def test_a_command_that_echoes_the_key_does_not_show_it(keyctl: Keyctl, status: int) -> None:
    """Promise 1: whole, in pieces, on both streams, beside other text, with no newline at its end."""
    command = script(
        keyctl,
        TAKE,
        "read key <taken",
        'echo "storing $key"; echo "x${key}y" >&2; printf "%s%s" "$key" "$key"; echo',
        'printf %.30s "$key" >&2; sleep 0.1; printf "%s" "${key#??????????????????????????????}"',
        f"exit {status}",
    )
    result = keyctl("create", "ci", "--pipe-to", command, "--no-print")
    assert result.status == (7 if status else 0)
    assert_nothing_shows(taken(keyctl), result.stderr)
    assert "storing [redacted" in result.stderr
    assert_nothing_shows(taken(keyctl), keyctl.ok("audit", "--json").stdout)


@on_sqlite
def test_no_newline_follows_the_key_where_none_is_wanted(keyctl: Keyctl) -> None:
    """By every way a key is made: many a store keeps each byte, and a key with a newline is no key."""
    command = script(keyctl, "cat >>taken")
    (keyctl.home / "fleet.csv").write_text("name\nfirst\nsecond\n")
    for way in (("create", "ci"), ("rotate", "ci"), ("create", "--from", "fleet.csv"), ("rotate", "first", "second")):
        keyctl.ok(*way, "--no-pipe-newline", "--no-print", "--pipe-to", command)
        content = (keyctl.home / "taken").read_text()
        raws = RAW_KEY.findall(content)
        assert (len(raws), content) == (1 if "ci" in way else 2, "".join(raws))
        (keyctl.home / "taken").unlink()


@on_sqlite
@pytest.mark.parametrize("status", [0, 1])
def test_a_command_that_prints_the_key_encoded_does_not_show_it(keyctl: Keyctl, status: int) -> None:
    """Promise 1: what a store sends over the wire, in its log or in its error; for `--check`, too."""
    prints = script(
        keyctl,
        TAKE,
        'printf \'{"data": {"key": "%s"}}\\n\' "$(base64 -w 0 <taken)"; (printf "token: "; cat taken) | base64 -w 64',
        "tail -c 51 taken; od -An -tx1 taken; od -An -c taken >&2",
        f"exit {status}",
    )
    keyctl.create("old")
    for arguments in (("create", "ci", "--pipe-to", prints), ("rotate", "old", "--check", prints, "--key-file", "kf")):
        result = keyctl(*arguments, "--no-print")
        assert result.status == (7 if status else 0)
        assert '{"data": {"key": "' in result.stderr
        assert "[redacted]" in result.stderr
        assert_nothing_shows(taken(keyctl), result.stderr)


@pytest.mark.one_database
def test_a_key_that_the_limit_cuts_in_two_does_not_show(keyctl: Keyctl) -> None:
    """Promise 1: only the end of a long output is kept, and may begin in the middle of a key."""
    command = script(
        keyctl,
        TAKE,
        "read key <taken",
        'for i in 1 2 3 4 5 6 7 8; do key="$key $key"; done',  # 256 keys
        'for i in 1 2 3 4 5 6 7 8 9 10; do printf "%s-" "$key"; done',
    )
    for extra in ("", "printf 0123456789012345678901234567890"):
        with (keyctl.home / "store").open("a") as file:
            file.write(extra + "\n")
        result = keyctl.ok("create", f"ci{len(extra)}", "--pipe-to", command, "--no-print")
        assert len(result.stderr) > 10_000
        assert_nothing_shows(taken(keyctl), result.stderr)


@pytest.mark.one_database
def test_a_hundred_megabytes_of_output_need_no_memory_and_the_last_line_is_the_reason(keyctl: Keyctl) -> None:
    command = script(
        keyctl,
        TAKE,
        FIND_PROGRAM,
        "grep VmHWM /proc/$program/status >before",
        "yes 'one more line of progress' | head -c 100000000",
        "echo; echo 'denied: no such vault'",
        "grep VmHWM /proc/$program/status >after",
        "exit 4",
    )
    result = keyctl("create", "ci", "--pipe-to", command)
    assert_undone(keyctl, result)
    assert "error: pipe-to store: ended with 4: denied: no such vault" in result.stderr.splitlines()
    assert len(result.stderr) < 1 << 17
    before, after = (int((keyctl.home / name).read_text().split()[1]) for name in ("before", "after"))
    assert after - before < 20_000  # kilobytes


@pytest.mark.one_database
def test_what_a_command_says_is_inert(keyctl: Keyctl) -> None:
    """Promise 12."""
    command = script(keyctl, TAKE, r"printf 'ok\n\033[2J\033]0;title\007\302\233\r\b\342\200\256evil'", "exit 1")
    result = keyctl("create", "ci", "--pipe-to", command)
    assert_undone(keyctl, result)
    assert "\\x1b[2J\\x1b]0;title\\x07\\x9b\\x0d\\x08\\u202eevil" in result.stderr
    assert result.stderr.replace("\n", "").isprintable()
    document = keyctl("create", "ci", "--pipe-to", command, "--json")
    assert document.stderr.isascii()
    assert document.error["message"].endswith("evil")


ENDINGS: dict[str, tuple[str, str]] = {
    "says no": ("exit 3", "ended with 3"),
    "dies": ("kill -9 $$", "was ended by signal 9"),
    "says why": ("echo well; echo why >&2; exit 255", "ended with 255: why"),
    "never ends": ("sleep 100", "did not end within 0.5 seconds"),
    "never ends and says so": ("trap '' TERM INT HUP; while :; do echo busy; sleep 1; done", "did not end within 0.5"),
    "kills who watches it": ("kill -9 $PPID; sleep 100", "was killed together with the process that watched it"),
}


@pytest.mark.one_database
@pytest.mark.parametrize("how", ENDINGS)
def test_a_command_that_does_not_end_well_has_failed(keyctl: Keyctl, how: str) -> None:
    """Promises 2 and 11; nothing that it started goes on."""
    does, why = ENDINGS[how]
    command = script(keyctl, TAKE, does)
    result = keyctl("create", "ci", "--pipe-to", command, "--pipe-timeout", "0.5", to_the_last=True)
    assert_undone(keyctl, result)
    assert f"error: pipe-to store: {why}" in result.stderr
    assert_nothing_shows(taken(keyctl), result.stderr)


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("name", "content", "mode", "why"),
    [
        ("no-such-command", None, 0, "there is no command 'no-such-command'"),
        ("./store", None, 0, "there is no command './store'"),
        ("./store", b"#!/bin/sh\n", 0o644, "there is no command './store'"),
        ("''", None, 0, "there is no command ''"),
        (".", None, 0, "there is no command '.'"),
        ("./store", b"\x7fnothing\x00", 0o755, "cannot be started: Exec format error"),
        ("./store", b"#!/no/such/interpreter\n", 0o755, "cannot be started: No such file or directory"),
    ],
)
def test_a_command_that_cannot_be_started_has_failed(
    keyctl: Keyctl, name: str, content: bytes | None, mode: int, why: str
) -> None:
    """Promises 2 and 3."""
    old, _ = keyctl.create("ci")
    if content is not None:
        (keyctl.home / "store").write_bytes(content)
        (keyctl.home / "store").chmod(mode)
    result = keyctl("rotate", "ci", "--pipe-to", name, "--no-print", "--json")
    assert (result.status, result.stdout) == (7, "")
    assert why in result.error["message"]
    assert keyctl.opens(old)
    found = keyctl.keys()
    assert sorted(key["status"] for key in found) == ["active", "revoked"]


@pytest.mark.one_database
@pytest.mark.parametrize("does", ["exit 0", "exec <&-; sleep 0.2", "head -c 1 >/dev/null", "exec <&- >&- 2>&-"])
def test_whether_a_command_reads_is_its_own_affair(keyctl: Keyctl, does: str) -> None:
    """It said that all is well. Nothing waits for a reader."""
    keyctl.ok("create", "ci", "--pipe-to", script(keyctl, does), "--no-print")
    found = keyctl.keys()
    assert [key["status"] for key in found] == ["active"]


@pytest.mark.one_database
def test_what_a_command_leaves_running_keeps_nobody_waiting(keyctl: Keyctl) -> None:
    """Promise 11: it has the output open, and may go on, as an agent does."""
    command = script(keyctl, TAKE, "sleep 300 &", "echo $! >left", "echo started")
    try:
        result = keyctl.ok("create", "ci", "--pipe-to", command, "--no-print")
        left = int((keyctl.home / "left").read_text())
        assert "started" in result.stderr
        assert not is_over(left)
    finally:
        with suppress(FileNotFoundError):
            os.kill(int((keyctl.home / "left").read_text()), signal.SIGKILL)


@pytest.mark.one_database
def test_out_of_time_what_it_started_is_ended_too(keyctl: Keyctl) -> None:
    """Promise 11."""
    command = script(keyctl, TAKE, "sleep 300 &", "echo $! >left", "wait")
    result = keyctl("create", "ci", "--pipe-to", command, "--pipe-timeout", "1")
    assert_undone(keyctl, result)
    wait_for(lambda: is_over(int((keyctl.home / "left").read_text())))


@pytest.mark.one_database
@pytest.mark.parametrize("command", ["create", "rotate"])
def test_ctrl_c_ends_the_command_and_what_it_started(keyctl: Keyctl, command: str) -> None:
    """Promises 2 and 3: interrupted is not done."""
    old = keyctl.create("ci")[0] if command == "rotate" else None
    store = script(keyctl, "trap '' INT", TAKE, "sleep 300 &", "echo $$ $! >both", "mv both left", "wait")
    session = Session(keyctl, command, "ci", "--pipe-to", store, real=True)
    wait_for((keyctl.home / "left").exists)
    session.type(CTRL_C)
    shown = session.end()
    assert shown.status == 130, shown
    assert "interrupted" in shown.text
    assert_nothing_shows(taken(keyctl), shown.text)
    for pid in (keyctl.home / "left").read_text().split():
        wait_for(lambda pid=pid: is_over(int(pid)))  # type: ignore[misc]  # mypy has no type for the default
    found = keyctl.keys()
    if old is None:
        assert [key["status"] for key in found] == ["revoked"]
    else:
        # The command may have stored the new key, so that one is not thrown away.
        assert sorted(key["status"] for key in found) == ["active", "delivering"]
        assert keyctl.opens(old)
        assert keyctl.opens(taken(keyctl))


@pytest.mark.one_database
@pytest.mark.parametrize(
    "arguments",
    [
        ("--quiet", "create", "ci", "--no-print"),
        ("create", "ci", "--json"),
        ("create", "ci", "--json", "--no-print"),
    ],
)
def test_quiet_and_json_keep_stderr_clean(keyctl: Keyctl, arguments: tuple[str, ...]) -> None:
    """Promise 10."""
    command = script(keyctl, TAKE, "echo noise; echo more >&2")
    result = keyctl.ok(*arguments, "--pipe-to", command)
    assert result.stderr == ""
    if "--json" in arguments:
        assert result.json["key"]["status"] == "active"
        assert (result.json["raw_key"] is None) == ("--no-print" in arguments)
    else:
        assert result.stdout == ""


@pytest.mark.one_database
def test_what_a_command_says_is_passed_on_beside_the_result(keyctl: Keyctl) -> None:
    """Promise 10: to stderr, also what it wrote to its stdout."""
    command = script(keyctl, TAKE, "echo stored; echo really >&2")
    result = keyctl.ok("create", "ci", "--pipe-to", command)
    assert result.stdout == taken(keyctl) + "\n"
    assert result.stderr.splitlines()[:2] == ["stored", "really"]


@pytest.mark.one_database
def test_the_rest_of_the_line_is_in_no_log(keyctl: Keyctl) -> None:
    """It may hold a password."""
    command = script(keyctl, TAKE, "exit 0")
    good = keyctl.ok("create", "ci", "--pipe-to", f"{command} --token hunter2", "--json")
    bad = keyctl("create", "ci2", "--pipe-to", "false --token hunter2")
    torn = keyctl("create", "ci2", "--pipe-to", "false --token 'hunter2")
    assert (bad.status, torn.status) == (7, 2)
    log = keyctl.ok("audit", "--json").stdout
    assert "pipe-to store" in log
    for text in (good.stdout, good.stderr, bad.stderr, torn.stderr, log):
        assert "hunter2" not in text


@pytest.mark.parametrize("line", ["", "   ", "'open", "tail\\"])
def test_a_line_that_is_no_command_is_bad_input(fresh_keyctl: Keyctl, line: str) -> None:
    result = fresh_keyctl("create", "ci", "--pipe-to", line)
    assert (result.status, result.stdout) == (2, "")
    assert "--pipe-to" in result.stderr
    assert not list(fresh_keyctl.home.rglob("*.db"))


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "x", "3601"])
def test_a_limit_that_is_none_is_bad_input(fresh_keyctl: Keyctl, limit: str) -> None:
    """Promise 11."""
    result = fresh_keyctl("create", "ci", "--pipe-to", "true", "--pipe-timeout", limit)
    assert (result.status, result.stdout) == (2, "")


@pytest.mark.one_database
def test_a_command_outside_of_the_path_is_not_taken_from_the_current_folder(keyctl: Keyctl) -> None:
    script(keyctl, TAKE, name="planted")
    assert shutil.which("planted") is None
    assert_undone(keyctl, keyctl("create", "ci", "--pipe-to", "planted"))
    assert not (keyctl.home / "taken").exists()


@pytest.mark.one_database
def test_several_commands_are_run_and_one_that_took_the_key_gets_the_old_one_back(keyctl: Keyctl) -> None:
    """Promise 3: where a file still had the old raw key."""
    note = script(keyctl, 'echo "$ALPHALENS_KEY_ID $(cat)" >>noted', name="note")
    full = script(keyctl, TAKE, name="full")
    options = ("--pipe-to", note, "--pipe-to", full, "--key-file", "key", "--no-print")
    keyctl.ok("create", "ci", *options)
    old = (keyctl.home / "key").read_text()
    script(keyctl, "exit 1", name="full")
    assert keyctl("rotate", "ci", *options).status == 7
    first, second, third = (keyctl.home / "noted").read_text().splitlines(keepends=True)
    assert first.split()[1] + "\n" == old
    assert second != first
    assert third == first
    assert (keyctl.home / "key").read_text() == old
    found = keyctl.keys()
    assert sorted(key["status"] for key in found) == ["active", "revoked"]
