"""README and topics: every command in them runs, in order, and answers what stands there; every link leads on."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from alphalens_keyctl.cli.topics import TOPICS
from tests.support import console
from tests.support.commands import ROOT, Keyctl
from tests.support.databases import mostly_on_sqlite
from tests.support.readme import DOCUMENTS, PATHS, block, blocks, links
from tests.support.shell import Shell, lines_of

README: Final = ROOT / "README.md"
# Blocks that other tests run, or parse, by their markers; installing needs a network.
ELSEWHERE: Final = {
    "install", "main job", "tests", "roles", "backup sqlite", "restore sqlite", "replace sqlite",
    "backup postgresql", "restore postgresql", "github-actions", "gitlab-ci", "crontab", "systemd", "verifier",
    "manager", "standby", "asgi", "wsgi", "chain", "serve", "nginx", "caddy", "traefik", "traefik service", "envoy",
    "haproxy", "serve-api", "api", "haproxy lua", "finding of a check", "finding", "profiles", "scopes",
    "serve metrics", "prometheus", "prometheus rules", "self github", "self gitlab", "self crontab", "self systemd",
    "self kubernetes",
    "signed head", "witness git", "witness bucket", "witness reader", "witness ssh", "proof",
    "feed file", "feed splunk", "vector", "fluent bit",
}  # fmt: skip
# Stand-ins for what a document's commands call.
_TAKES: Final = "#!/bin/sh\ncat > /dev/null\n"
PROGRAMS: Final = dict.fromkeys(("gh", "glab", "vault", "kubectl"), _TAKES)


@pytest.mark.parametrize("document", mostly_on_sqlite(DOCUMENTS, on_both=("README", "fleet", "postgresql")))
def test_every_command_in_a_document_runs_in_order(keyctl: Keyctl, document: str) -> None:
    shell = Shell(keyctl, keyctl.home, PROGRAMS)
    commands = [
        line for each in blocks(document) if each.language == "sh" and each.marker not in ELSEWHERE
        for line in lines_of(each.text)
    ]  # fmt: skip
    for name in ("store-key", "try-the-key"):
        (keyctl.home / name).write_text(_TAKES)
        (keyctl.home / name).chmod(0o700)
    (keyctl.home / "keys.csv").write_text("name\n")
    for number, line in enumerate(commands):
        if not any("create billing" in each for each in commands):
            keyctl("create", "billing", "--owner", "team-a")  # unless there is one
        if "create --from" in line:
            (keyctl.home / "keys.csv").write_text(f"name,owner,purpose,expires\nmoved-in-{number},team-a,export,90d\n")
        done = shell.run(line.replace("/etc/billing", str(keyctl.home)))
        assert done.status in ((0, 5) if "audit check" in line else (0,)), (line, done)
        assert "error" not in done.stderr, line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_no_test_here_runs_has_a_marker_by_which_another_does(document: str) -> None:
    for each in blocks(document):
        if each.language not in ("sh", "console") and each.marker is None:
            # The second file of a pair: what stands above it has the marker of both.
            assert each.language == "ini", each
        assert each.marker is None or each.marker in ELSEWHERE, each.marker


@pytest.mark.one_database
def test_the_sessions_in_the_readme_answer_what_stands_there(fresh_keyctl: Keyctl) -> None:
    """`python -m tests.support.console` writes the answers anew."""
    prompt = console.Prompt(fresh_keyctl)
    typed = list(console.exchanges(README.read_text()))
    assert len(typed) >= 8
    for exchange in typed:
        answer = prompt.type(exchange.command)
        assert console.same(answer, exchange.answer), f"$ {exchange.command}\n{answer}\ninstead of\n{exchange.answer}"


@pytest.mark.parametrize(("names", "number"), [(("serve", "serve metrics"), 6), (("serve-api",), 2)], ids=str)
def test_the_examples_of_serve_are_parsed(fresh_keyctl: Keyctl, names: tuple[str, ...], number: int) -> None:
    lines = [line for name in names for line in lines_of(block(name, "sh"))]
    assert len(lines) == number
    for line in lines:
        assert "Usage: " in fresh_keyctl.ok(*shlex.split(line)[1:], "--help").stdout


def test_the_readme_is_short_and_has_every_topic_and_every_heading_at_hand() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 250
    for topic in TOPICS:
        assert f"(alphalens_keyctl/docs/{topic}.md)" in text, topic
    contents = text.partition("## ")[0]
    for title in re.findall(r"^## (.*)$", text, re.MULTILINE):
        assert title == "License" or f"[{title}](#{_anchor(title)})" in contents, title


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in map(_anchor, titles), link


@pytest.mark.one_database
def test_the_picture_shows_a_session_and_no_raw_key() -> None:
    """Promise 1: a key that was shown once is in no picture either."""
    picture = (ROOT / ".github" / "picture.svg").read_text()
    said = re.sub(r"<[^>]+>|&#160;", " ", picture)
    for command in ("create", "list", "rotate"):
        assert f"alphalens-keyctl {command}" in " ".join(said.split())
    assert "http" not in picture.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"alk_[0-9A-Za-z]", said)


def _anchor(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
