"""`create --from FILE`: a fleet moves in, all of it or none. Promises 1 and 6, on real processes."""

import json
import os
from pathlib import Path

import pytest

from alphalens_keyctl.keys import bulk_file
from tests.support.commands import Keyctl
from tests.support.databases import one_database
from tests.support.fleets import NAMES, THREE, Store, nothing, raws_of, write
from tests.support.judge import judge

# What is made.


def test_each_line_is_a_key_and_its_raw_key_a_line_of_stdout(keyctl: Keyctl, fleet: str) -> None:
    done = keyctl.ok("--actor", "jo", "create", "--from", fleet)
    assert done.stderr == "Created 3 keys.\n"
    assert done.stdout.isascii()
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(document) for document in documents] == [["key", "raw_key", "delivered_to"]] * 3
    assert [document["key"]["name"] for document in documents] == NAMES
    assert all(document["delivered_to"] == ["stdout"] for document in documents)
    every = {key["id"]: key for key in keyctl.keys()}
    assert {document["key"]["id"]: document["key"] for document in documents} == every
    billing = documents[0]["key"]
    assert (billing["owner"], billing["labels"], billing["status"]) == ("ops", {"env": "prod"}, "active")
    assert billing["expires_at"] is not None
    assert billing["created_by"] == "jo"
    assert all(keyctl.opens(raw) for raw in raws_of(done).values())
    assert keyctl("audit", "verify").status == 0
    log = keyctl.ok("audit", "--json").json
    assert [event["action"] for event in log] == ["key.create"] * 3 + ["key.activate"] * 3
    assert not any(raw in json.dumps(log) for raw in raws_of(done).values())


@pytest.mark.one_database
def test_json_lines_make_the_same_keys(keyctl: Keyctl, tmp_path: Path) -> None:
    content = '{"name": "billing", "labels": {"env": "prod"}}\n{"name": "search", "expires": "7d"}\n'
    done = keyctl.ok("create", "--from", write(tmp_path, content))
    assert list(raws_of(done)) == ["billing", "search"]
    assert all(keyctl.opens(raw) for raw in raws_of(done).values())


@pytest.mark.parametrize("form", ["--csv", one_database("--jsonl")])
def test_a_fleet_moves_from_one_database_to_another_with_its_metadata(
    keyctl: Keyctl, tmp_path: Path, form: str
) -> None:
    names = ["=1+1", "'tis", "a,b", 'é "q"', "-dash", "+plus", "@at", "plain"]
    for name in names:
        keyctl.ok("create", f"--owner={name}", f"--purpose={name}", f"--label=env={name}", "--expires=30d", "--", name)
    written = write(tmp_path, keyctl.ok("list", form).stdout)
    other = str(tmp_path / "other.db")
    done = keyctl.ok("--database", other, "create", "--from", written)
    assert sorted(raws_of(done)) == sorted(names)
    kept = ("name", "owner", "purpose", "labels", "expires_at")
    old = sorted([key[name] for name in kept] for key in keyctl.keys())
    new = keyctl.ok("--database", other, "list", "--json").json
    assert sorted([key[name] for name in kept] for key in new) == old


@pytest.mark.one_database
def test_a_dry_run_checks_file_and_names_and_writes_nothing(keyctl: Keyctl, fleet: str, store: Store) -> None:
    done = keyctl.ok("create", "--from", fleet, "--dry-run")
    assert (done.stdout, done.stderr) == ("", "Would create 3 keys.\n")
    piped = ("--no-print", "--pipe-to", str(store.command))
    keyctl.ok("create", "--from", fleet, "--dry-run", *piped, environment=store.environment())
    assert store.raws == {}
    assert nothing(keyctl)
    keyctl.create("CI")
    taken = keyctl("create", "--from", fleet, "--dry-run")
    assert taken.status == 6
    assert "line 4: the name 'CI' belongs to key" in taken.stderr


def test_more_keys_than_are_written_at_once_are_one_piece(keyctl: Keyctl, tmp_path: Path) -> None:
    content = "name,owner\n" + "".join(f"service {number},team {number % 7}\n" for number in range(1200))
    done = keyctl.ok("create", "--from", write(tmp_path, content))
    raws = raws_of(done)
    assert len(set(raws.values())) == 1200
    every = keyctl.keys()
    assert len(every) == 1200
    assert {key["status"] for key in every} == {"active"}
    assert {raw.split("_")[1] for raw in raws.values()} == {key["id"] for key in every}
    with judge(keyctl.database_url) as judging:
        assert all(judging.opens(raw) for raw in list(raws.values())[::400])
    again = keyctl("create", "--from", write(tmp_path, content.replace("service 0,", "other,").replace(" 1,", " x,")))
    assert again.status == 6
    assert "line 4: " in again.stderr
    assert len(keyctl.keys()) == 1200


# Bad input: told by line, nothing written.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xef\xbb\xbfname\r\na\r\n\r\nA\r\n", "line 4 'A' stands in line 2 already"),
        ('name,purpose\na,"x,\ny"\n', "line 2 is refused: the purpose holds the character U+000A"),
        ("owner\nops\n", "line 1 is the header and has no column 'name'"),
        ("name,color\na,b\n", "unknown column 'color'"),
        ("name,name\na,b\n", "line 1 is the header"),
        ("name,owner\na,b\nc\n", "line 3 has 1 cells, and the header 2"),
        ("name\n" + "".join(f"k{n}\n" for n in range(2, 4000)) + "K2\n", "line 4000 'K2' stands in line 2 already"),
        ("name,owner\na,b\nb,=1+1\n", "line 3 has a formula in column owner"),
        ("name,labels\na,env=x\nb,env\n", "line 3 is refused: the label has no '='"),
        ("name,expires\na,30d\nb,2020-01-01\n", "line 3 is refused: the expiry lies in the past"),
        (b"name\na\n\xfc\n", "line 3 is not UTF-8"),
        ("name\na\nb\0\n", "line 3 is refused: the name holds the character U+0000"),
        ("", "the file holds no key"),
        ("name,owner\n", "the file holds no key"),
        ('{"name": "a"}\n{"name": \n', "line 2 is not a JSON object"),
        ('{"name": "a"}\n{"name": "b", "color": 1}\n', "line 2 has an unknown field 'color'"),
        ('{"name": "a"}\n{"name": 7}\n', "line 2 is refused"),
    ],
    ids=lambda value: repr(value)[:40],
)
@pytest.mark.parametrize("how", [(), ("--dry-run",)], ids=["for real", "dry run"])
def test_a_fault_in_the_file_is_a_2_told_by_its_line_and_nothing_is_written(
    fresh_keyctl: Keyctl, tmp_path: Path, content: str | bytes, said: str, how: tuple[str, ...]
) -> None:
    done = fresh_keyctl("create", "--from", write(tmp_path, content), *how)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "\nhint: " in done.stderr
    assert not (fresh_keyctl.home / ".local").exists(), "the file is read before any database is opened"


@pytest.mark.one_database
def test_a_fault_leaves_a_database_that_is_there_as_it_was(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 6."""
    assert keyctl("create", "--from", write(tmp_path, THREE + "CI,,,\n")).status == 2
    assert nothing(keyctl)


def test_a_file_of_65_mb_is_refused_by_its_size(fresh_keyctl: Keyctl, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.write(b"name\n")
        file.truncate(bulk_file.LARGEST + 1)
    done = fresh_keyctl("create", "--from", str(path))
    assert done.status == 2
    assert "is larger than 64 MiB" in done.stderr
    assert fresh_keyctl("create", "--from", "/dev/zero").status == 2


def test_a_file_that_cannot_be_read_is_a_7(fresh_keyctl: Keyctl, tmp_path: Path) -> None:
    for path, said in ((tmp_path / "absent.csv", "No such file"), (tmp_path, "Is a directory")):
        done = fresh_keyctl("create", "--from", str(path))
        assert (done.status, done.stdout) == (7, "")
        assert said in done.stderr


@pytest.mark.parametrize(
    "more",
    [
        ("name",), ("--owner", "ops"), ("--purpose", "x"), ("--label", "a=b"), ("--expires", "7d"), ("--if-missing",),
        ("--keyring",), ("--key-file", "x"), ("--env-file", "x"), ("--json",), ("--no-print",),
        ("--pipe-to", "cat", "--pipe-to", "cat"), ("--pipe-to", ""), ("--pipe-to", "'"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_options_that_say_something_else_of_the_keys_are_a_2(
    fresh_keyctl: Keyctl, fleet: str, more: tuple[str, ...]
) -> None:
    done = fresh_keyctl("create", "--from", fleet, *more)
    assert (done.status, done.stdout) == (2, "")
    assert "error" in done.stderr
    assert not (fresh_keyctl.home / ".local").exists()


@pytest.mark.one_database
def test_a_dry_run_without_a_file_and_a_command_that_is_not_there_are_refused(keyctl: Keyctl, fleet: str) -> None:
    assert keyctl("create", "name", "--dry-run").status == 2
    assert keyctl("create").status == 2
    done = keyctl("create", "--from", fleet, "--pipe-to", "no-such-command")
    assert done.status == 7
    assert nothing(keyctl)


# Names that are held.


def test_a_name_that_is_taken_is_a_6_with_its_line_and_nothing_is_written(keyctl: Keyctl, fleet: str) -> None:
    keyctl.create("Search")
    keyctl.create("CI")
    before = keyctl.keys(), keyctl.ok("audit", "--jsonl").stdout
    done = keyctl("create", "--from", fleet)
    assert (done.status, done.stdout) == (6, "")
    assert "line 3: the name 'Search' belongs to key" in done.stderr
    assert "Nothing was written." in done.stderr
    assert (keyctl.keys(), keyctl.ok("audit", "--jsonl").stdout) == before


def test_a_name_that_an_id_begins_with_is_a_6_with_its_line(keyctl: Keyctl, tmp_path: Path) -> None:
    key_id = keyctl.create("billing")[1]
    done = keyctl("create", "--from", write(tmp_path, f"name\nsearch\n{key_id[:8]}\n"))
    assert done.status == 6
    assert f"line 3: '{key_id[:8]}' means key {key_id}" in done.stderr
    assert len(keyctl.keys()) == 1


def test_names_of_revoked_and_rotated_keys_are_free(keyctl: Keyctl, fleet: str) -> None:
    for name in NAMES:
        keyctl.create(name)
    keyctl.ok("rotate", "ci")
    keyctl.ok("revoke", *NAMES)
    assert list(raws_of(keyctl.ok("create", "--from", fleet))) == NAMES


def test_of_two_processes_with_the_same_file_one_wins_whole(keyctl: Keyctl, tmp_path: Path) -> None:
    fleet = write(tmp_path, "name\n" + "".join(f"service {number}\n" for number in range(50)))
    running = [keyctl.start("create", "--from", fleet) for _ in range(3)]
    ended = [process.wait() for process in running]
    assert sorted(result.status for result in ended) == [0, 6, 6]
    won = next(result for result in ended if result.status == 0)
    assert [result.stdout for result in ended if result.status] == ["", ""]
    every = keyctl.keys()
    assert {key["id"] for key in every} == {raw.split("_")[1] for raw in raws_of(won).values()}
    assert {key["status"] for key in every} == {"active"}
    assert keyctl("audit", "verify").status == 0


@pytest.mark.one_database
@pytest.mark.parametrize("stdin", ["/dev/stdin", "-"])
def test_the_file_may_be_a_pipe(keyctl: Keyctl, stdin: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, THREE.encode())
    os.close(writer)
    done = keyctl.ok("create", "--from", stdin, stdin=reader)
    os.close(reader)
    assert list(raws_of(done)) == NAMES


@pytest.mark.one_database
def test_the_file_may_be_a_fifo_whose_writer_comes_later(keyctl: Keyctl, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    waiting = keyctl.start("create", "--from", str(fifo))
    with fifo.open("wb") as writer:  # returns when the command has opened it
        writer.write(THREE.encode())
    done = waiting.wait()
    assert done.status == 0, done
    assert list(raws_of(done)) == NAMES


SILENCE = {
    "a FIFO without a writer": ("fifo", False, "a writer or its first byte did not come"),
    "stdin that says nothing": ("-", False, "a writer or its first byte did not come"),
    "stdin that never ends": ("-", True, "its end did not come"),
    "a pipe by its path that never ends": ("/dev/stdin", True, "its end did not come"),
}


@pytest.mark.parametrize("what", SILENCE)
def test_input_that_does_not_come_whole_is_given_up_with_what_is_missing(fresh_keyctl: Keyctl, what: str) -> None:
    """Promise 11: a job that forgot its writer would else hang for ever."""
    source, speaks, missing = SILENCE[what]
    os.mkfifo(fresh_keyctl.home / "fifo")
    reader, writer = os.pipe()
    if speaks:
        os.write(writer, THREE.encode())
    done = fresh_keyctl("create", "--from", source, stdin=reader, before=[("tests.support.streams", "hurry", [])])
    os.close(reader)
    os.close(writer)
    assert (done.status, done.stdout) == (7, "")
    assert f"error: {'stdin' if source == '-' else source}: {missing} within" in done.stderr
    assert "\nhint: " in done.stderr
    assert not (fresh_keyctl.home / ".local").exists()


def test_a_dry_run_makes_no_database(fresh_keyctl: Keyctl, fleet: str) -> None:
    url = f"sqlite:///{fresh_keyctl.home / 'new.db'}"
    done = fresh_keyctl.ok("--database", url, "create", "--from", fleet, "--dry-run")
    assert (done.stdout, done.stderr) == ("", "Would create 3 keys.\n")
    assert not (fresh_keyctl.home / "new.db").exists()
