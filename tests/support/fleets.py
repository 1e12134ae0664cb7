"""A fleet in a file, a command that keeps its keys, and what is asked of a run of `create --from`."""

import json
from pathlib import Path
from typing import Any, Final

from tests.support.commands import Keyctl, Result
from tests.support.judge import Judge
from tests.support.waiting import wait_for

THREE: Final = "name,owner,labels,expires\nbilling,ops,env=prod,30d\nsearch,,,\nci,ops,,never\n"
NAMES: Final = ["billing", "search", "ci"]
# Keeps each raw key under its name, and does what the test says at the one that $AT names.
STORE: Final = """#!/bin/sh
raw=$(cat)
printf '%s' "$raw" > "$STORE/$ALPHALENS_KEY_NAME"
printf '%s %s %s\\n' "$ALPHALENS_KEY_NAME" "$ALPHALENS_KEY_ID" "$ALPHALENS_KEY_OWNER" >> "$STORE/.told"
if [ "$ALPHALENS_KEY_NAME" = "$AT" ]; then eval "$THEN"; fi
"""


class Store:
    """A command for `--pipe-to`, and what it was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "store"
        self.folder.mkdir()
        self.command = folder / "store-key"
        self.command.write_text(STORE)
        self.command.chmod(0o700)

    def environment(self, then: str = "", *, at: str = "ci") -> dict[str, str]:
        return {"STORE": str(self.folder), "AT": at, "THEN": then}

    @property
    def raws(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.folder.iterdir() if not path.name.startswith(".")}

    @property
    def told(self) -> list[list[str]]:
        return [line.split(" ") for line in (self.folder / ".told").read_text().splitlines()]

    def wait_for(self, name: str) -> None:
        wait_for((self.folder / name).exists, f"{name} never came")


def write(folder: Path, content: str | bytes, name: str = "fleet.csv") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def nothing(keyctl: Keyctl) -> bool:
    """Whether neither a key nor an event was ever written."""
    return keyctl.keys() == [] and keyctl.ok("audit", "--json").json == []


def raws_of(result: Result) -> dict[str, str]:
    """The raw keys on stdout by name; it must hold nothing but JSON Lines."""
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    return {document["key"]["name"]: document["raw_key"] for document in documents}


def end_the_lease(judging: Judge) -> None:
    """As if the time had passed after which an attempt counts as dead."""
    past = "'2020-01-01 00:00:00.000000'" if judging.kind == "sqlite" else "'2020-01-01 00:00:00Z'"
    judging.execute(f"UPDATE api_key SET lease_until = {past} WHERE lease_until IS NOT NULL")


def piped(keyctl: Keyctl, fleet: str, store: Store, *more: str, **options: Any) -> Result:
    return keyctl("create", "--from", fleet, "--no-print", "--pipe-to", str(store.command), *more, **options)
