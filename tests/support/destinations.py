"""Destinations as the tests see them: where a raw key goes, the options that say so, and what is found there.

A destination that is a process of its own (the stand-in command, the keyring's backend) is told what to do wrong by a
file `fault` in its folder, which it takes away as it obeys: the next run is unharmed. What happens inside the program
is done by `tests.support.strikes`, in the forked child.
"""

import os
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from tests.support.commands import Keyctl
from tests.support.raw_keys import RAW_KEY

# A line of shell by which a command that the program runs finds the program: the grandparent, which started the
# command's parent, the warden.
FIND_PROGRAM = "read -r _ _ _ program _ </proc/$PPID/stat"
STAND_IN = f"""#!/bin/sh
here=${{0%/*}}
read -r key
{FIND_PROGRAM}
fault=
if [ -f "$here/fault" ]; then read -r fault < "$here/fault"; rm "$here/fault"; fi
strike() {{
    case $fault in
        "kill $1") kill -9 $program ;;
        "fail $1") echo "no room for $key"; exit 3 ;;
        "hang $1") exec sleep 30 ;;
        "linger $1") kill -9 $program; until [ -f "$here/go" ]; do sleep 0.05; done ;;
    esac
}}
cat /proc/$$/cmdline /proc/$$/environ > "$here/seen"
strike before
printf '%s\\n' "$key" > "$here/key.new" && mv "$here/key.new" "$here/key" || exit 4
strike after
"""

BACKEND = """
import os, signal, time
from pathlib import Path
from keyring.backend import KeyringBackend

FOLDER = Path(os.environ["KEYCTL_TEST_KEYRING"])

class Stored(KeyringBackend):
    priority = 1

    def get_password(self, service, user):
        strike(user, "read")
        path = FOLDER / user / "key"
        return path.read_text() if path.exists() else None

    def set_password(self, service, user, secret):
        strike(user, "before")
        aside = FOLDER / user / "key.new"
        aside.write_text(secret)
        aside.rename(FOLDER / user / "key")
        strike(user, "after")

    def delete_password(self, service, user):
        (FOLDER / user / "key").unlink()

def strike(user, step):
    path = FOLDER / user / "fault"
    what, _, when = path.read_text().partition(" ") if path.exists() else ("", "", "")
    if when != step:
        return
    path.unlink()
    if what == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
    elif what == "fail":
        raise OSError("the keyring is out of order")
    else:
        time.sleep(30)
"""
VARIABLE = "ALPHALENS_API_KEY"
OTHER_LINES = "# kept\nOTHER='one # two'\n"
ASIDE = ".*.alphalens-keyctl"


class Destination(Protocol):
    """A destination of one key: the options that name it, and what it holds."""

    kind: str

    def options(self) -> list[str]: ...

    def held(self) -> str | None: ...


class File:
    """`--key-file` or `--env-file`, in a folder of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.kind = kind
        self.folder = folder
        self.path = folder / "key"
        if kind == "env-file":
            self.path.write_text(OTHER_LINES)
            self.path.chmod(0o600)

    def options(self) -> list[str]:
        return [f"--{self.kind}", str(self.path)]

    def held(self) -> str | None:
        if not self.path.is_file():
            return None
        content = self.path.read_text()
        if self.kind == "env-file":
            assert content.startswith(OTHER_LINES), content
            content = content.removeprefix(OTHER_LINES).removeprefix(f"{VARIABLE}=")
        assert not content or RAW_KEY.fullmatch(content.removesuffix("\n")), "half a file"
        return content.strip() or None


class Stored:
    """What the stand-in command stores, or the keyring's backend: a file `key` in a folder of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.kind = kind
        self.folder = folder
        if kind == "pipe-to":
            (folder / "store").write_text(STAND_IN)
            (folder / "store").chmod(0o700)

    def options(self) -> list[str]:
        return ["--keyring"] if self.kind == "keyring" else ["--pipe-to", str(self.folder / "store")]

    def held(self) -> str | None:
        with suppress(FileNotFoundError):
            seen = (self.folder / "seen").read_bytes()
            assert not re.search(RAW_KEY.pattern.encode(), seen), "a raw key on the command line or in its environment"
        with suppress(FileNotFoundError):
            return (self.folder / "key").read_text().strip()
        return None


def destination_of(kind: str, folder: Path, name: str, number: int) -> File | Stored:
    """The `number`-th destination of the key called `name`."""
    if kind == "keyring":
        return Stored(kind, folder / "keyring" / name)
    return (Stored if kind == "pipe-to" else File)(kind, folder / name / str(number))


def use_keyring(keyctl: Keyctl, folder: Path) -> None:
    """Give the program's home a keyring, kept in files."""
    (folder / "backend").mkdir()
    (folder / "backend" / "keyctl_test_backend.py").write_text(BACKEND)
    keyctl.environment |= {
        "PYTHON_KEYRING_BACKEND": "keyctl_test_backend.Stored",
        "KEYCTL_TEST_KEYRING": str(folder / "keyring"),
        "PYTHONPATH": os.pathsep.join([keyctl.environment["PYTHONPATH"], str(folder / "backend")]),
    }


def asides(destinations: Sequence[Destination]) -> frozenset[Path]:
    """What was staged beside the files and is still there."""
    return frozenset(
        path for destination in destinations if isinstance(destination, File) for path in destination.folder.glob(ASIDE)
    )


class Destinations:
    """A key file, a file of variables and a command that keeps what it is given, all in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.key_file = folder / "key"
        self.env_file = folder / "service.env"
        self.piped = folder / "piped"
        self.command = shlex.join(["sh", "-c", 'cat >"$0"', str(self.piped)])

    @property
    def options(self) -> tuple[str, ...]:
        return (
            "--key-file", str(self.key_file), "--env-file", str(self.env_file), "--env-var", "TOKEN",
            "--pipe-to", self.command,
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        """In the order in which they are given the key: what can least be undone first."""
        return ["pipe-to sh", f"key-file {self.key_file}", f"env-file {self.env_file}"]

    def held(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in (self.key_file, self.env_file, self.piped) if path.exists()}

    def assert_hold(self, raw: str) -> None:
        assert self.held() == {"key": f"{raw}\n", "service.env": f"TOKEN={raw}\n", "piped": f"{raw}\n"}
