"""The same command line over a server: the same bytes on both streams, and the same exit status. Promise 13: within the
rights of the key that the command goes with."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from alphalens_keyctl.keyformat import generate
from tests.services.secret_service import secret_service
from tests.support.commands import Keyctl, Result
from tests.support.databases import by_hand
from tests.support.raw_keys import key_id, shows
from tests.support.tab import offered
from tests.support.terminal import Session, on_terminal
from tests.support.uses import use
from tests.support.web import serving

# What no two runs have in common.
_VARIES: Final = (
    (re.compile(r"alk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}"), "RAW"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"key:\w{12} admin|\broot\b"), "ACTOR"),
)


class Remote(NamedTuple):
    """The program on a database, and over a server in front of the same database."""

    keyctl: Keyctl
    server: str
    key: Path

    def here(self, *arguments: str, stdin: bytes = b"") -> Result:
        return self.keyctl(*arguments, stdin=stdin)

    def there(self, *arguments: str, stdin: bytes = b"", key: Path | None = None) -> Result:
        before = ("--server", self.server, "--api-key-file", str(key or self.key))
        return self.keyctl(*before, *arguments, stdin=stdin)

    def of(self, name: str, *options: str) -> Path:
        """A file with the raw key of a new key."""
        path = self.keyctl.home / f"{name}.key"
        path.write_text(self.keyctl.create(name, *options)[0])
        return path


@pytest.fixture
def remote(keyctl: Keyctl) -> Iterator[Remote]:
    with serving(keyctl, command="serve-api") as served:
        remote = Remote(keyctl, f"http://127.0.0.1:{served.address.port}", keyctl.home / "admin.key")
        remote.key.write_text(keyctl.create("admin", "--scope", "keyctl:admin")[0])
        yield remote


def keep_heads(remote: Remote) -> None:
    """Files of heads in the folder of the commands: good ones, and some that no log extends."""
    head = remote.here("audit", "head", "--json").json
    bare = {name: head[name] for name in ("seq", "hash", "at")}
    wrong = "ab" * 32
    files = {
        "head": head, "bare": bare, "forged": bare | {"hash": wrong}, "later": bare | {"seq": 999, "hash": wrong},
        "other-root": bare | {"tree_size": head["seq"], "root_hash": wrong},
    }  # fmt: skip
    for name, document in files.items():
        (remote.keyctl.home / f"{name}.json").write_text(json.dumps(document))
    (remote.keyctl.home / "checkpoint").write_text(head["checkpoint"])


def same(text: str, ids: Iterable[str]) -> str:
    for pattern, word in _VARIES:
        text = pattern.sub(word, text)
    for each in ids:
        text = text.replace(each, "ID")
    return re.sub(r"\b(here|other)-", "NAME-", text)


# What only looks: asked twice of the same keys, to the byte.
LOOKS: Final = (
    "list --owner team-b", "list broken --no-owner --never-expires --json", "list --owner taem-a",
    "audit check orders nobody", "audit check orders --json", "list broken", "list broken --json", "show broken",
    "show broken --json", "list broken --csv", "list orders", "list orders --json", "list orders --jsonl",
    "list orders --csv", "list --owner team-a --json", "list --label team=a --sort name --limit 1 --json",
    "list --label !team orders --json", "list --scope prices:read orders", "list --never-used orders",
    "list --unused-for 90d", "list --expires-within 200d --columns name,id", "list --older-than 1h",
    "list orders --all --status revoked --json", "list --suspended-for 1h", "list --sort wrong",
    "list --status wrong", "show orders", "show orders --json", "show old-orders --json", "show nobody",
    "show orders --json -q", "audit --key orders", "audit --key orders --json", "audit --key orders --jsonl",
    "audit --key orders --csv", "audit --key nobody", "audit --action key.revoke --json",
    "audit --since 1h --limit 2 --key orders --json", "audit --after 1 --limit 2", "audit --reverse --limit 3 --jsonl",
    "audit show 2", "audit show 3 --json", "audit show 9999", "audit usage --key orders",
    "audit usage --key orders --json", "audit usage --key orders --csv", "audit usage --key orders --after 1 --json",
    "audit usage --key orders --outcome revoked --jsonl",
    "audit check", "audit check --json", "audit check --sarif", "audit check --junit",
    "audit report --csv", "audit report --period 2126",
    "audit check --rule no-expiry", "audit check --rule wrong", "policy show", "policy show --json",
    "revoke --owner team-a --dry-run", "revoke --owner team-a --dry-run --json", "revoke --owner team-a",
    "revoke orders --dry-run --json", "suspend orders --dry-run", "resume old-orders --dry-run",
    "update orders --set-owner b --dry-run", "update orders --set-scope x:y --dry-run --json",
    "update nobody --set-owner x", "update orders --set-allow-from seen:30d --dry-run", "rotate orders --dry-run",
    "rotate --owner team-a --dry-run --json", "rotate orders --if-older-than 30d", "rotate old-orders",
    "rotate nobody", "create orders", "create orders --if-missing", "create orders --if-missing --json",
    "create bad --expires yesterday", "revoke", "list --json --bogus",
)  # fmt: skip


# What asks about raw keys and about the log as evidence. The saved heads are those of the test.
READS: Final = {
    **dict.fromkeys(
        (
            "audit head --json", "audit head", "audit head --checkpoint", "audit head --checkpoint --origin x.example",
            "audit verify", "audit verify --json", "audit verify --log-only", "audit verify --head head.json",
            "audit verify --head head.json --json", "audit verify --head checkpoint", "audit verify --head bare.json",
            "audit verify --head forged.json", "audit verify --head forged.json --json",
            "audit verify --head other-root.json", "audit verify --head later.json", "audit prove 1",
            "audit prove 2 --head head.json", "audit prove 2 --head forged.json", "audit prove 2 --head later.json",
            "audit prove 99", "audit prune --usage --older-than 90d --dry-run", "audit prune --usage --older-than 90d",
            "audit prune --usage --older-than 1d --json --dry-run",
        ),
        "",
    ),
    "verify": "{raw}", "verify --json": "{raw}\n", "verify --address 10.1.2.3": "{raw}",
    "verify --address 10.1.2.3 --scope prices:read --json": "{raw}",
    "verify --address 10.1.2.3 --scope other:scope": "{raw}", "verify --address 192.0.2.1": "{raw}",
    "verify -q": "alk_000000000000_0000000000000000000000000000000000000000000000000",
    "verify --json -q": "\u00e9", "verify --scope Wrong": "{raw}",
}  # fmt: skip


def answers(remote: Remote, *arguments: str, **options: Any) -> list[Result]:
    """What each way says; asked again where they differ, as some say the second of the question."""
    for _ in range(2):
        said = [way(*arguments, **options) for way in (remote.here, remote.there)]
        if said[0] == said[1]:
            break
    return said


# What either way asks of a database is tested on both in tests/manager and tests/api.
@pytest.mark.one_database
def test_what_looks_says_the_same_over_a_server_to_the_byte(remote: Remote) -> None:
    keyctl = remote.keyctl
    raw, _ = keyctl.create(
        "orders", "--owner", "team-a", "--label", "team=a", "--expires", "90d",
        "--purpose", "caf\u00e9, \u201cprices\u201d",
        "--scope", "prices:read",
    )  # fmt: skip
    use(keyctl, raw, times=3, client_ip="10.1.2.3")
    keyctl.ok("update", "orders", "--set-allow-from", "10.0.0.0/8")
    keyctl.ok("rotate", "orders", "--until-used", "--grace", "1h", "--no-print", "--pipe-to", "cat")
    keep_heads(remote)
    keyctl.create("old-orders")
    keyctl.ok("revoke", "old-orders", "--reason", "gone")
    for line, stdin in READS.items():
        here, there = answers(remote, *line.split(" "), stdin=stdin.format(raw=raw).encode())
        assert there == here, line
        assert not shows(raw, there.stdout + there.stderr), line
    keyctl.create("broken")
    by_hand(keyctl.database_url, "UPDATE api_key SET labels = '{\"a\": 7}' WHERE name = 'broken'")
    for line in LOOKS:
        arguments = line.split(" ")
        here, there = answers(remote, *arguments)
        if arguments[:2] == ["audit", "check"]:
            here, there = (
                Result(*each[:1], *(re.sub(r"admin.*?\n\n", "", each[1], flags=re.S), each[2]))
                for each in (here, there)
            )
        if line == "audit usage --key orders":  # the span ends in the second of the question
            here, there = (Result(each[0], each[1].partition("\n")[2], each[2]) for each in (here, there))
        assert there == here, line
    pages = [each("audit", "report").stdout for each in (remote.here, remote.there)]
    here_page, there_page = (
        re.sub(r"Made [^<]+<|At [0-9: Z-]+ there|As of [^;]+;", "", page) for page in pages
    )  # when, and from where
    assert here_page == there_page


# What changes keys, with a name of its own on each side.
CHANGES: Final = (
    "create {}-a --json --owner team-b --label x=y --expires 2031-01-01 --scope prices:read --allow-from 192.0.2.0/24",
    "create {}-b --key-file {}-b.key", "create {}-b", "create {}-g --key-file {}-b.key",
    "create {}-c --no-print --pipe-to cat",
    "create {}-d --no-print",
    "update {}-a --set-owner team-c --set-label z=1 --unset label:x --set-expires never --json",
    "update {}-a --unset scopes --set-allow-from 10.0.0.0/8", "update {}-a --set-name {}-e",
    "update {}-e --set-owner team-c", "rotate {}-e --json --grace 7d", "rotate {}-e --until-used --grace 1h",
    "rotate --abort {}-e", "rotate {}-b --key-file {}-b.key --no-print --if-older-than 30d",
    "rotate {}-b --grace 0 --check true", "rotate {}-b --check false", "suspend {}-b --reason why", "suspend {}-b",
    "resume {}-b --json", "rotate {}-b {}-c --jsonl", "revoke {}-b --json", "revoke {}-b",
    "revoke --name {}-* --yes --max 1", "revoke --name {}-* --yes", "create {}-f --pipe-to false --no-print",
    "create --from {}-fleet --dry-run", "create --from {}-fleet", "create --from {}-fleet --dry-run",
    "create --from {}-fleet", "create --from {}-more --no-print --pipe-to cat",
    "create --from {}-none --no-print --pipe-to false", "create --from {}-none --key-file x",
    "revoke {}-nobody", "rotate {}-b",
)  # fmt: skip


@pytest.mark.one_database
def test_what_changes_keys_does_and_says_the_same_over_a_server(remote: Remote) -> None:
    for word in ("here", "other"):
        for name in ("fleet", "more", "none"):
            lines = "".join(f"{word}-{name}-{number},team-a,90d\n" for number in range(3))
            (remote.keyctl.home / f"{word}-{name}").write_text(f"name,owner,expires\n{lines}")
    for line in CHANGES:
        ended = []
        for word, run in (("here", remote.here), ("other", remote.there)):
            said = run(*line.replace("{}", word).split(" "))
            ids = re.findall(r'"id": "(\w{12})"', remote.here("list", "--all", "--json").stdout)
            # Filters select in the order of ids, which are random.
            ended.append((said.status, sorted(same(said.stdout, ids).splitlines()), same(said.stderr, ids)))
        assert ended[1] == ended[0], line
    ids = [key["id"] for key in remote.keyctl.keys()]
    kept = [
        [
            {name: same(str(value), ids) for name, value in key.items()}
            for key in remote.here("list", f"{word}-", "--all", "--json").json
        ]
        for word in ("here", "other")
    ]
    here, other = (sorted(each, key=str) for each in kept)  # keys of a fleet are made at one instant
    assert here == other
    assert remote.here("audit", "verify").status == 0


ONLY_DATABASE: Final = (
    ("db", "status"), ("db", "upgrade"), ("db", "grant", "--verifier", "x"), ("serve", "--port", "0"),
    ("serve-api", "--port", "0"),
)  # fmt: skip


@pytest.mark.one_database
def test_a_command_that_takes_the_database_says_so(remote: Remote) -> None:
    """Exit 2 with a hint, and nothing was done."""
    for arguments in ONLY_DATABASE:
        said = remote.there(*arguments, stdin=b"name\nx\n")
        assert (said.status, said.stdout) == (2, ""), (arguments, said)
        assert "works on the database itself" in said.stderr, arguments


@pytest.mark.one_database
def test_each_caller_stays_within_the_rights_of_its_key(remote: Remote) -> None:
    """Promise 13, over the command line: a member makes and rotates keys of the team, an auditor reads, a service
    rotates itself; each is refused the rest with exit 8, and what it may not see is not there."""
    member = remote.of("member", "--owner", "team-a", "--scope", "keyctl:team", "--scope", "prices:read")
    auditor, plain = remote.of("auditor", "--scope", "keyctl:audit"), remote.of("ci", "--scope", "prices:read")
    remote.keyctl.create("foreign", "--owner", "team-b")
    assert (
        remote.there(
            "create", "team-key", "--scope", "prices:read", "--no-print", "--pipe-to", "cat", key=member
        ).status
        == 0
    )
    assert remote.there("rotate", "team-key", "--no-print", "--pipe-to", "cat", key=member).status == 0
    told: list[tuple[Path, int, Sequence[str]]] = [
        (member, 8, ("revoke", "foreign")), (member, 8, ("show", "foreign")),
        (member, 8, ("create", "x", "--scope", "other:scope")),
        (member, 8, ("audit", "head")), (auditor, 0, ("audit", "head")), (auditor, 0, ("show", "foreign")),
        (auditor, 8, ("revoke", "foreign")), (auditor, 8, ("create", "x")), (plain, 8, ("create", "x")),
        (plain, 8, ("show", "team-key")), (plain, 0, ("show", "ci")),
        (plain, 0, ("rotate", "--self", "--key-file", str(plain))),
        (plain, 8, ("revoke", "ci")),
    ]  # fmt: skip
    for key, status, arguments in told:
        assert remote.there(*arguments, key=key).status == status, (key.stem, arguments)
    own = plain.read_text().strip()
    assert remote.there("revoke", key_id(own), key=plain).status == 0
    for arguments in (("show", "ci"), ("rotate", "--self", "--key-file", str(plain))):
        ended = remote.there(*arguments, key=plain)
        assert (ended.status, plain.read_text().strip()) == (7, own), ended
    names = {each["name"] for each in remote.there("list", "--all", "--json", key=member).json}
    assert names == {"member", "team-key"}
    assert {key["name"] for key in remote.keyctl.keys() if key["status"] == "active"} >= {
        "foreign",
        "member",
        "team-key",
    }


@pytest.mark.one_database
def test_the_key_for_a_server_is_found_and_never_shown(remote: Remote) -> None:
    """Promise 1: an option's file, the environment, the file of config.toml, in this order; no message repeats it."""
    raw = remote.key.read_text()
    other = remote.of("other", "--scope", "keyctl:audit")
    config = remote.keyctl.home / ".config" / "alphalens-keyctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[profile.far]\nserver = "{remote.server}"\napi_key_file = "{remote.key}"\n')
    ask = ("--profile", "far", "show", "admin", "--json", "--debug")
    keyctl = remote.keyctl
    assert keyctl("create", "made", "--profile", "far").status == 0
    assert (
        keyctl("create", "no", "--profile", "far", environment={"ALPHALENS_KEYCTL_API_KEY": other.read_text()}).status
        == 8
    )
    assert keyctl("create", "no", "--profile", "far", "--api-key-file", str(other)).status == 8
    wrong = [
        keyctl(*ask, "--api-key-file", str(keyctl.home)),
        keyctl(*ask, environment={"ALPHALENS_KEYCTL_API_KEY": raw[:-1]}),
        keyctl(*ask, environment={"ALPHALENS_KEYCTL_API_KEY": ""}),
        keyctl("--server", f"https://{raw}@example.com", "list"),
        keyctl("--server", "http://example.com", "list", "--api-key-file", str(remote.key)),
        keyctl("--server", remote.server, "--database", "x.db", "list"),
        keyctl(*ask, "--actor", "somebody"),
    ]
    assert [each.status for each in wrong] == [7, 7, 7, 2, 7, 2, 2]
    said = [*wrong, keyctl("config", "--profile", "far", "--json"), keyctl("doctor", "--profile", "far"), keyctl(*ask)]
    assert not any(raw[17:] in each.stdout + each.stderr for each in said)
    assert said[-3].status == 0
    assert all(remote.server in each.stdout for each in said[-3:-1])
    assert "admin" in said[-2].stdout


@pytest.mark.one_database
def test_tab_asks_no_server(remote: Remote) -> None:
    assert offered(remote.keyctl, "show", "adm").texts
    assert not offered(remote.keyctl, "--server", remote.server, "show", "adm").texts


@pytest.mark.one_database
def test_login_keeps_a_key_that_the_server_lets_in_and_logout_forgets_it(remote: Remote, tmp_path: Path) -> None:
    """Promise 1: from stdin into the keyring, for one server alone; a key that is refused is not kept."""
    raw = remote.key.read_text()
    with secret_service(tmp_path / "service") as service:

        def run(*arguments: str, stdin: bytes = b"", server: str = remote.server) -> Result:
            return remote.keyctl("--server", server, *arguments, stdin=stdin, environment=service.environment)

        assert run("login", stdin=raw.encode()[:-3]).status == 2
        assert run("login", stdin=generate().reveal().encode()).status == 7
        assert run("list").status == 7
        said = run("login", stdin=raw.encode() + b"\n")
        assert (said.status, said.stdout) == (0, ""), said
        assert "'admin'" in said.stderr
        assert run("create", "made", "--keyring", "--no-print").status == 0
        assert run("rotate", "made", "--self", "--keyring").status == 0
        held = service.read("made")
        assert held is not None
        assert key_id(held) == remote.keyctl.ok("show", "made", "--json").json["id"]
        said = run("show", "made", "--keyring", "--json")
        assert said.json["keyring"] == {"present": True, "key_id": key_id(held), "status": "active"}, said.stdout
        assert not shows(held, said.stdout)
        assert run("revoke", "made", "--keyring").status == 0
        assert service.read("made") is None
        elsewhere = run("list", server=remote.server.replace("127.0.0.1", "localhost"))
        assert (elsewhere.status, "no key for the server" in elsewhere.stderr) == (7, True)
        assert run("doctor", "--json").json["checks"][2]["state"] == "ok"
        assert run("logout").status == 0
        assert run("logout").status == 0
        assert run("list").status == 7
        assert not shows(raw, said.stdout + said.stderr)


@pytest.mark.one_database
def test_a_terminal_shows_the_same_and_a_question_names_the_server(remote: Remote) -> None:
    keyctl = remote.keyctl
    raw, _ = keyctl.create("orders", "--owner", "team-a", "--label", "team=a", "--expires", "90d")
    use(keyctl, raw, times=3, client_ip="10.1.2.3")
    keyctl.ok("rotate", "orders", "--until-used", "--grace", "1h", "--no-print", "--pipe-to", "cat")
    over = ("--server", remote.server, "--api-key-file", str(remote.key))
    for arguments in (
        ("list", "orders"),
        ("show", "orders"),
        ("audit", "--key", "orders"),
        ("audit", "usage", "--key", "orders"),
    ):
        here, there = (on_terminal(keyctl, *before, *arguments, width=100).text for before in ((), over))
        assert re.sub(r"\d{4}-\d\d-\d\dT\S+ to \S+", "", there) == re.sub(r"\d{4}-\d\d-\d\dT\S+ to \S+", "", here), (
            arguments
        )
    session = Session(keyctl, *over, "revoke", "orders")
    session.wait_for("[y/N]")
    session.type(b"n\n")
    ended = session.end()
    assert ended.status == 1
    assert f"Server {remote.server}" in ended.text
    assert "3 times in 7 days from 1 address" in " ".join(ended.text.split())
