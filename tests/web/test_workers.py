"""The processes of `serve --workers`: what ends is replaced, what cannot start ends them all. Promises 8 and 14."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.commands import ROOT
from tests.support.waiting import wait_for
from tests.support.web import LIMIT

# Each worker leaves a file of its number, and ends with the status that a file named `end` holds. Two signs of life
# that are missing count as hung.
SUPERVISOR = """
import os, signal, sys, time
from pathlib import Path

from alphalens_keyctl.web import workers

def work():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    Path(str(os.getpid())).touch()
    while not Path("end").exists():
        time.sleep(0.02)
    return int(Path("end").read_text())

if __name__ == "__main__":
    workers._LOOK, workers._SILENCE = 0.05, 2.5
    print(sorted(workers.supervise([work, work], fatal=3)))
"""


class Supervisor:
    """Two workers and their supervisor, each a process."""

    def __init__(self, folder: Path) -> None:
        (folder / "supervisor.py").write_text(SUPERVISOR)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "supervisor.py"], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def started(self) -> set[int]:
        """Every worker so far."""
        return {int(path.name) for path in self.folder.iterdir() if path.name.isdigit()}

    def beyond(self, before: set[int], number: int = 1) -> set[int]:
        """The workers that were started after these, once there are so many."""
        wait_for(lambda: len(self.started - before) >= number)
        return self.started - before

    def end(self) -> str:
        said, _ = self.process.communicate(timeout=LIMIT)
        return said.strip()


@contextmanager
def supervising(folder: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(folder)
    try:
        wait_for(lambda: len(supervisor.started) == 2)
        yield supervisor
    finally:
        supervisor.process.kill()
        for worker in supervisor.started:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        supervisor.process.communicate()


def test_a_worker_that_ends_or_hangs_is_replaced_and_the_other_is_left_alone(tmp_path: Path) -> None:
    """Promise 14."""
    with supervising(tmp_path) as supervisor:
        victim, other = supervisor.started
        for strike in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
            before = supervisor.started
            os.kill(victim, strike)
            (successor,) = supervisor.beyond(before)
            assert not _runs(victim)
            assert _runs(other)
            victim = successor
        supervisor.process.terminate()
        assert supervisor.end() == "[5]"


def test_at_sighup_every_worker_is_replaced_and_at_sigint_every_worker_ends(tmp_path: Path) -> None:
    with supervising(tmp_path) as supervisor:
        first = supervisor.started
        supervisor.process.send_signal(signal.SIGHUP)
        assert len(supervisor.beyond(first, 2)) == 2
        assert not any(map(_runs, first))
        supervisor.process.send_signal(signal.SIGINT)
        assert supervisor.end() == "[5]"
        assert not any(map(_runs, supervisor.started))


def test_a_worker_that_cannot_start_ends_them_all_instead_of_failing_for_ever(tmp_path: Path) -> None:
    """Promise 11."""
    with supervising(tmp_path) as supervisor:
        (tmp_path / "end").write_text("3")
        assert "3" in supervisor.end()
        assert len(supervisor.started) == 2


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
