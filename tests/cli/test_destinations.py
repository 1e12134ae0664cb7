"""`create` and `rotate` with destinations: what each is given, what is said of it, and what nothing to do
leaves alone. Promises 1, 2 and 10. The destinations themselves have tests of their own."""

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.answers import assert_failed, events, statuses
from tests.support.commands import Keyctl
from tests.support.databases import one_database
from tests.support.destinations import Destinations
from tests.support.faults import fault, limit_file_size
from tests.support.fork_server import CLOSED
from tests.support.raw_keys import RAW_KEY
from tests.support.terminal import on_terminal


@pytest.fixture
def destinations(tmp_path: Path) -> Destinations:
    return Destinations(tmp_path / "destinations")


def options_of(destinations: Destinations, kind: str) -> tuple[list[str], list[str], Path]:
    """One destination: its options, its name, and the file that then holds the key."""
    return {
        "key-file": (["--key-file", str(destinations.key_file)], [destinations.names[1]], destinations.key_file),
        "env-file": (["--env-file", str(destinations.env_file)], [destinations.names[2]], destinations.env_file),
        "pipe-to": (["--pipe-to", destinations.command], [destinations.names[0]], destinations.piped),
    }[kind]


@pytest.mark.one_database
@pytest.mark.parametrize("kind", ["key-file", "env-file", "pipe-to"])
def test_one_destination_gets_the_key_that_is_printed_too(
    keyctl: Keyctl, destinations: Destinations, kind: str
) -> None:
    options, names, file = options_of(destinations, kind)
    created = keyctl.ok("create", "ci", *options)
    raw = created.stdout.removesuffix("\n")
    assert RAW_KEY.fullmatch(raw)
    assert raw in file.read_text()
    assert f"Delivered to: {names[0]}." in created.stderr
    rotated = keyctl.ok("rotate", "ci", *options, "--json").json
    assert rotated["delivered_to"] == [*names, "stdout"]
    assert rotated["raw_key"] in file.read_text()
    assert raw not in file.read_text()
    assert keyctl.opens(rotated["raw_key"])


def test_all_destinations_at_once(keyctl: Keyctl, destinations: Destinations) -> None:
    created = keyctl.ok("create", "ci", *destinations.options, "--json").json
    destinations.assert_hold(created["raw_key"])
    assert created["delivered_to"] == [*destinations.names, "stdout"]
    rotated = keyctl.ok("rotate", "ci", *destinations.options, "--json").json
    destinations.assert_hold(rotated["raw_key"])
    assert rotated["delivered_to"] == [*destinations.names, "stdout"]
    assert (rotated["previous"]["id"], rotated["rotated"]) == (created["key"]["id"], True)
    logged = {
        event["action"]: event["detail"] for event in keyctl.ok("audit", "--key", rotated["key"]["id"], "--json").json
    }
    assert logged["key.deliver"]["to"] == destinations.names
    assert logged["key.activate"]["delivered_to"] == [*destinations.names, "stdout"]
    assert [path.name for path in destinations.key_file.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.one_database
def test_no_print_keeps_the_raw_key_from_stdout_and_from_json(keyctl: Keyctl, destinations: Destinations) -> None:
    """Promise 1."""
    created = keyctl.ok("create", "ci", *destinations.options, "--no-print")
    assert created.stdout == ""
    key_id = keyctl.keys()[0]["id"]
    assert created.stderr.splitlines() == [
        f"Created key 'ci' with id {key_id}.",
        f"Delivered to: {', '.join(destinations.names)}.",
    ]
    old = destinations.held()["key"].strip()
    rotated = keyctl.ok("rotate", "ci", *destinations.options, "--no-print", "--json")
    assert rotated.stderr == ""
    document = rotated.json
    raw = destinations.held()["key"].strip()
    destinations.assert_hold(raw)
    assert raw not in rotated.stdout
    assert (document["raw_key"], document["delivered_to"], document["rotated"]) == (None, destinations.names, True)
    assert document["key"]["id"] == raw.split("_")[1]
    assert (document["previous"]["id"], document["previous"]["status"]) == (key_id, "retiring")
    assert keyctl.keys() == [document["key"], document["previous"]]
    assert keyctl.opens(old)
    other = keyctl.ok("create", "other", *options_of(destinations, "pipe-to")[0], "--no-print", "--json").json
    assert (other["raw_key"], other["delivered_to"]) == (None, [destinations.names[0]])


@pytest.mark.one_database
@pytest.mark.parametrize("command", ["create", "rotate"])
def test_options_that_leave_no_destination_or_name_one_twice_are_refused_before_anything_happens(
    keyctl: Keyctl, destinations: Destinations, command: str
) -> None:
    keyctl.create("ci")
    name = "new" if command == "create" else "ci"
    before = keyctl.keys()
    key_file = str(destinations.key_file)
    link = destinations.key_file.parent.with_name("link")
    link.symlink_to(destinations.key_file.parent)
    for options in (
        ["--no-print"],
        ["--key-file", key_file, "--key-file", key_file],
        ["--key-file", key_file, "--env-file", key_file],
        ["--key-file", key_file, "--key-file", f"{destinations.key_file.parent}/../destinations/key"],
        ["--key-file", key_file, "--key-file", str(link / "key")],
        ["--key-file", key_file, "--key-file", os.path.relpath(destinations.key_file, keyctl.home)],
        ["--env-file", str(destinations.env_file), "--env-var", "not a name"],
        ["--pipe-to", ""],
        ["--pipe-to", "sh -c 'unclosed"],
    ):
        assert_failed(keyctl(command, name, "--json", *options), 2, "usage")
    assert keyctl.keys() == before
    assert destinations.held() == {}


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_panel_says_at_any_width_where_the_key_is_kept(
    keyctl: Keyctl, destinations: Destinations, width: int
) -> None:
    bare = on_terminal(keyctl, "create", "bare", width=width)
    assert "it is shown this once and kept nowhere." in " ".join(bare.text.split())
    for command in ("create", "rotate"):
        shown = on_terminal(keyctl, command, "ci", *destinations.options, width=width)
        assert shown.status == 0, shown
        raw = destinations.held()["key"].strip()
        assert raw in shown.lines
        said = "".join(shown.text.split())
        assert "".join(f"shown this once and kept in {', '.join(destinations.names)}.".split()) in said
        assert all(len(line) <= width for line in shown.lines if raw not in line)
    quiet = on_terminal(keyctl, "rotate", "ci", *destinations.options, "--no-print", width=width)
    assert not RAW_KEY.search(quiet.text)
    assert f"Delivered to: {', '.join(destinations.names)}." in " ".join(quiet.lines)


@pytest.mark.one_database
@pytest.mark.parametrize("command", ["create", "rotate"])
@pytest.mark.parametrize(
    "stdout",
    [
        "closed",
        "full",
        "broken pipe",
        "too small a file",
    ],
)
def test_a_stdout_that_fails_puts_every_destination_back(
    keyctl: Keyctl, destinations: Destinations, tmp_path: Path, command: str, stdout: str
) -> None:
    """Promises 2 and 3."""
    old = None
    if command == "rotate":
        old = keyctl.ok("create", "ci", *destinations.options).stdout.strip()
    held, before = destinations.held(), keyctl.keys()
    options: dict[str, Any] = {}
    closing: list[int] = []
    if stdout == "closed":
        options["stdout"] = CLOSED
    elif stdout == "full":
        closing.append(os.open("/dev/full", os.O_WRONLY))
        options["stdout"] = closing[0]
    elif stdout == "broken pipe":
        reader, writer = os.pipe()
        os.close(reader)
        closing.append(writer)
        options["stdout"] = writer
    else:
        # Files are written before: what fits them must not fit what already fills stdout's file.
        (tmp_path / "out").write_bytes(b"x" * (8 << 20))
        closing.append(os.open(tmp_path / "out", os.O_WRONLY | os.O_APPEND))
        options |= {"stdout": closing[0], "before": fault(limit_file_size, 8 << 20)}
    result = keyctl(command, "ci", *destinations.options, **options)
    for descriptor in closing:
        os.close(descriptor)
    assert result.status == 7, result
    assert "the key could not be shown" in result.stderr
    assert not RAW_KEY.search(result.stderr)
    if old is None:
        # A command cannot forget, but what it was given opens nothing.
        assert destinations.held().keys() == {"piped"}
        assert not keyctl.opens(destinations.held()["piped"])
        assert list(statuses(keyctl).values()) == ["revoked"]
        keyctl.create("ci")
    else:
        # The command was run once more, with the old key, which the files still had.
        assert destinations.held() == held
        destinations.assert_hold(old)
        assert keyctl.opens(old)
        assert [key for key in keyctl.keys() if key["status"] != "revoked"] == before
    discarded = next(key for key in keyctl.keys() if key["status"] == "revoked")
    assert discarded["revoke_reason"] == "delivery_failed"
    assert events(keyctl, discarded["id"]) == ["create", "deliver", "discard"]


@pytest.mark.parametrize("command", [one_database("create"), "rotate"])
def test_a_command_that_fails_leaves_one_error_document_and_everything_as_it_was(
    keyctl: Keyctl, destinations: Destinations, command: str
) -> None:
    """Promises 2, 3 and 10."""
    if command == "rotate":
        keyctl.ok("create", "ci", *destinations.options)
    held, before = destinations.held(), keyctl.keys()
    noisy = shlex.join(["sh", "-c", "cat; echo more; echo the store is shut >&2; exit 3"])
    files = [*options_of(destinations, "key-file")[0], *options_of(destinations, "env-file")[0]]
    said = assert_failed(keyctl(command, "ci", *files, "--pipe-to", noisy, "--json"), 7, "delivery_failed")
    assert said["message"] == "pipe-to sh: ended with 3: the store is shut"
    assert destinations.held() == held
    assert [key for key in keyctl.keys() if key["status"] != "revoked"] == before
    people = keyctl(command, "ci", *files, "--pipe-to", noisy)
    assert (people.status, people.stdout) == (7, "")
    assert "[redacted" in people.stderr
    assert not RAW_KEY.search(people.stderr)
    assert {key["revoke_reason"] for key in keyctl.keys() if key["status"] == "revoked"} == {"delivery_failed"}
    keyctl.ok(command, "ci", *files)


@pytest.mark.one_database
@pytest.mark.parametrize("command", ["create", "rotate"])
def test_what_cannot_be_staged_leaves_everything_as_it_was(
    keyctl: Keyctl, destinations: Destinations, command: str
) -> None:
    """The first of several that is impossible is found before a command is run or a file is touched."""
    if command == "rotate":
        keyctl.ok("create", "ci", *destinations.options)
    held, before = destinations.held(), keyctl.keys()
    for impossible in (
        ("--key-file", str(destinations.key_file.parent / "nowhere" / "key")),
        ("--pipe-to", "no-such-command-anywhere"),
        ("--env-file", str(destinations.key_file.parent)),
    ):
        said = assert_failed(keyctl(command, "ci", *destinations.options, *impossible, "--json"), 7, "delivery_failed")
        assert impossible[0].removeprefix("--") in said["message"]
        assert destinations.held() == held
        assert [key for key in keyctl.keys() if key["status"] != "revoked"] == before
    discarded = [key["id"] for key in keyctl.keys() if key["status"] == "revoked"]
    assert [events(keyctl, key_id) for key_id in discarded] == [["create", "discard"]] * 3


@pytest.mark.one_database
def test_nothing_to_do_touches_no_destination_and_is_no_failure(
    keyctl: Keyctl, destinations: Destinations, tmp_path: Path
) -> None:
    key_id = keyctl.ok("create", "ci", *destinations.options, "--expires", "30d", "--json").json["key"]["id"]
    held = destinations.held()
    inodes = [path.stat().st_ino for path in (destinations.key_file, destinations.env_file, destinations.piped)]
    log = keyctl.ok("audit", "--jsonl").stdout
    elsewhere = Destinations(tmp_path / "elsewhere")
    for options in (destinations.options, elsewhere.options):
        for arguments in (
            ("rotate", "ci", "--if-older-than", "30d"),
            ("rotate", "ci", "--if-expiring-within", "7d"),
            ("rotate", "ci", "--if-older-than", "30d", "--if-expiring-within", "7d", "--until-used"),
            ("rotate", "ci", "--if-older-than", "30d", "--check", "false"),
            ("create", "ci", "--if-missing"),
        ):
            for no_print in ((), ("--no-print",)):
                done = keyctl.ok(*arguments, *options, *no_print, "--json")
                assert done.stderr == ""
                document = done.json
                assert (document["raw_key"], document["delivered_to"]) == (None, [])
                assert document["key"]["id"] == key_id
                if arguments[0] == "rotate":
                    assert (document["rotated"], document["previous"]) == (False, None)
    people = keyctl.ok("rotate", "ci", "--if-older-than", "30d", *elsewhere.options, "--no-print")
    assert people.stderr == f"Nothing to do: key 'ci' ({key_id}) needs no rotation yet.\n"
    people = keyctl.ok("create", "ci", "--if-missing", *elsewhere.options)
    assert people.stderr == f"Nothing to do: there is a key 'ci' with id {key_id}.\n"
    assert destinations.held() == held
    assert [path.stat().st_ino for path in (destinations.key_file, destinations.env_file, destinations.piped)] == inodes
    assert list(elsewhere.key_file.parent.iterdir()) == []
    assert keyctl.ok("audit", "--jsonl").stdout == log
