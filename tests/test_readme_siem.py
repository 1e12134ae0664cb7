"""The jobs that hand the audit log to a SIEM, run as they stand in the topic. Promise 8: none is lost."""

import json
import tomllib
from typing import Any, Final

import pytest
import yaml

from tests.support.commands import Keyctl
from tests.support.ocsf import faults
from tests.support.readme import adapted, block
from tests.support.shell import Shell
from tests.support.tools import require_tool

# Takes what Splunk's collector would, unless the file `down` is there.
_CURL: Final = """#!/bin/sh
test ! -e down || exit 22
echo "$@" > called
cat batch.jsonl >> keys.ocsf.jsonl
"""


@pytest.mark.one_database
@pytest.mark.parametrize("marker", ["feed file", "feed splunk"])
def test_each_event_reaches_the_siem_once(keyctl: Keyctl, marker: str) -> None:
    require_tool("jq")
    shell = Shell(keyctl, keyctl.home, {"curl": _CURL})
    job = adapted(block(marker, "sh"), {"--limit 10000": "--limit 3"})
    for name in ("one", "two", "", "three", "", ""):
        if name:
            keyctl.create(name)
        done = shell.run(job)
        assert done.status == 0, done
    lines = (keyctl.home / "keys.ocsf.jsonl").read_text().splitlines()
    sent = [json.loads(line) for line in lines]
    assert [event["metadata"]["sequence"] for event in sent] == list(range(1, 7))
    assert [fault for event in sent for fault in faults(event)] == []


@pytest.mark.one_database
def test_what_splunk_did_not_take_is_sent_again(keyctl: Keyctl) -> None:
    require_tool("jq")
    shell = Shell(keyctl, keyctl.home, {"curl": _CURL})
    job = block("feed splunk", "sh")
    keyctl.create("one")
    (keyctl.home / "down").touch()
    assert shell.run(job).status == 22
    (keyctl.home / "down").unlink()
    assert shell.run(job).status == 0
    assert len((keyctl.home / "keys.ocsf.jsonl").read_text().splitlines()) == 2
    assert "services/collector/raw" in (keyctl.home / "called").read_text()


def test_the_configurations_of_vector_and_fluent_bit_are_ones() -> None:
    vector = tomllib.loads(block("vector", "toml"))
    assert vector["transforms"]["keys_ocsf"]["inputs"] == list(vector["sources"])
    fluent_bit: dict[str, Any] = yaml.safe_load(block("fluent bit", "yaml"))
    (source,) = fluent_bit["pipeline"]["inputs"]
    assert source["parser"] == fluent_bit["parsers"][0]["name"]
    assert [source["path"]] == vector["sources"]["keys"]["include"]
