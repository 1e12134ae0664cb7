"""A delivery that waits half-way, until the test lets it go on or kills it."""

import shlex
from pathlib import Path

from tests.support.commands import Keyctl, Process, Result
from tests.support.judge import Judge
from tests.support.raw_keys import key_id
from tests.support.waiting import WAIT, wait_for


class HeldDelivery:
    """A command that is in the middle of its delivery: its `--pipe-to` has the raw key and waits."""

    def __init__(self, keyctl: Keyctl, folder: Path, *arguments: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._url = keyctl.database_url or ""
        waiting = (
            'cd "$0" && cat >got && mv got raw && i=0 && '
            f"while [ ! -e go ] && [ $i -lt {int(WAIT * 50)} ]; do sleep 0.02; i=$((i+1)); done"
        )
        command = shlex.join(["sh", "-c", waiting, str(folder)])
        self.process: Process = keyctl.start(*arguments, "--no-print", "--pipe-to", command)
        wait_for((folder / "raw").exists, "the command was never given the key")
        self.raw = (folder / "raw").read_text().removesuffix("\n")
        self.id = key_id(self.raw)

    def die(self) -> "HeldDelivery":
        """SIGKILL, and wait until the database has noticed."""
        self.process.kill()
        self.process.wait()
        self.go_on()
        judge = Judge(self._url)
        try:
            judge.wait_until_unlocked()
        finally:
            judge.close()
        return self

    def go_on(self) -> None:
        (self._folder / "go").touch()

    def finish(self) -> Result:
        """Let the command end; returns how it ended."""
        self.go_on()
        return self.process.wait()
