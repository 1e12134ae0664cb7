"""`create` and `rotate` over a server: the client or the server is killed at each of their requests and answers.

Each kill is judged as those of `tests.support.strikes` are, then the same command is run again, unharmed.

    python -m tests.support.http_kills [--stride N] [--only create|rotate] [--who client|server] [--database-url URL]
"""

import argparse
import itertools
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from alphalens_keyctl.models import Key
from tests.services.cutting_proxy import REQUEST, RESPONSE, CuttingProxy, Strike, cutting
from tests.support.commands import Keyctl, Process, Result
from tests.support.deliveries import DeliveryJudge
from tests.support.fleets import end_the_lease
from tests.support.raw_keys import key_id, raw_key_in
from tests.support.strikes import Row, surroundings
from tests.support.web import serving

COMMANDS: Final = ("create", "rotate")
WHO: Final = ("client", "server")
# None: stdout alone.
KINDS: Final[tuple[tuple[str, ...], ...]] = ((), ("key-file",), ("pipe-to",), ("keyring",))
# Seconds that a server has for a whole request before it is killed: it takes about as long for one.
_AT_WORK: Final = (0.002, 0.008, 0.02)
# Bytes by which two runs differ: ids, instants and digests have their lengths, names of keys have not.
_SLACK: Final = 40


class Ground:
    """Two servers on one database, of which one answers, behind a proxy that strikes; and an administrator's key."""

    def __init__(self, keyctl: Keyctl, judge: DeliveryJudge, folder: Path, servers: ExitStack) -> None:
        self.keyctl = keyctl
        self.judge = judge
        self.folder = folder
        self._servers = servers
        self._rows: dict[tuple[str, tuple[str, ...]], Row] = {}
        self._key = folder / "admin.key"
        self._key.write_text(keyctl.create("admin", "--scope", "keyctl:admin")[0])
        self._process, port = self._serve()
        self._next = self._serve()
        self.proxy: CuttingProxy = servers.enter_context(cutting(port))

    def row(self, command: str, kinds: tuple[str, ...]) -> Row:
        """The key, or for `create` the next one, with its destinations."""
        if (command, kinds) not in self._rows:
            self._rows[command, kinds] = Row(command, kinds, [], self.folder)
        elif command == "create":
            self._rows[command, kinds].move_on()
        return self._rows[command, kinds]

    def start(self, row: Row, command: str) -> Process:
        """Start a command over the proxy."""
        way = ("--server", f"http://127.0.0.1:{self.proxy.port}", "--api-key-file", str(self._key))
        return self.keyctl.start(*way, *row.arguments(command, printed=not row.kinds), to_the_last=True)

    def kill_server(self) -> None:
        """Kill the server that answers; the other one takes its place."""
        self._process.kill()
        self._killed = self._process
        self._process, port = self._next
        self.proxy.arm(None, port)

    def replace_server(self) -> None:
        """Start a server for the one that was killed."""
        self._killed.wait()
        self._next = self._serve()

    def _serve(self) -> tuple[Process, int]:
        served = self._servers.enter_context(serving(self.keyctl, command="serve-api"))
        assert served.address.port is not None
        return served.process, served.address.port


@contextmanager
def ground(keyctl: Keyctl, folder: Path) -> Iterator[Ground]:
    """Ground to kill on, for the block."""
    assert keyctl.database_url is not None
    judge = DeliveryJudge(keyctl.database_url)
    try:
        with ExitStack() as servers:
            yield Ground(keyctl, judge, folder, servers)
    finally:
        judge.close()


def kill(
    ground: Ground, who: str, command: str, kinds: tuple[str, ...], *, stride: int = 1, offset: int = 0
) -> Counter[str]:
    """Kill `who` at every `stride`-th end of a request or an answer of the command, judge, and run the command again;
    how many kills ended in what."""
    row = ground.row(command, kinds)
    strikes = _strikes(ground, row, who, command)
    came: Counter[str] = Counter()
    for strike in itertools.islice(strikes, offset, None, stride):
        if command == "create":
            row.move_on()
        came[_survive(ground, row, who, command, strike)] += 1
    return came


def _strikes(ground: Ground, row: Row, who: str, command: str) -> list[Strike]:
    """Where each request and each answer of the command ends, but for some bytes; for a server also with the request
    whole, so that the server dies at its work."""
    if command == "rotate":
        _finish(ground, row, "create")
    ground.proxy.arm(None)
    _finish(ground, row, command)
    turns = {direction: [*ground.proxy.turns[direction]] for direction in (REQUEST, RESPONSE)}
    turns[RESPONSE].append(ground.proxy.passed[RESPONSE])
    struck = [Strike(direction, at - _SLACK) for direction in turns for at in turns[direction] if at > _SLACK]
    if who == "server":
        for at, delay in itertools.product(turns[REQUEST], _AT_WORK):
            struck += [Strike(REQUEST, at - _SLACK, whole=True, then=partial(time.sleep, delay))] if at > _SLACK else []
    return struck


def _survive(ground: Ground, row: Row, who: str, command: str, strike: Strike) -> str:
    judge, before = ground.judge, ground.judge.look(row.name, row.destinations)
    running: list[Process] = []
    if who == "client":
        strike.for_good, strike.then = True, lambda: running[0].kill()
    else:
        strike.then = partial(_kill_server, ground, strike.then)
    ground.proxy.arm(strike)
    running.append(ground.start(row, command))
    ended = running[0].wait()
    # What the killed server had in hand nobody was told of: judged as if the client had been killed.
    outcome = judge.assert_unharmed(
        row.name, row.destinations, before, ended._replace(status=-signal.SIGKILL), printed=not row.kinds
    )
    if who == "client":
        assert ended.status == -signal.SIGKILL, ended
    else:
        assert (ended.status == 0) == (outcome == "done"), (outcome, ended)
        ground.replace_server()
    if outcome == "done" and not row.kinds:
        _assert_shown(judge.current(row.name), ended)
    ground.proxy.arm(None)
    end_the_lease(judge)
    again = _finish(ground, row, command)
    if not row.kinds and outcome != "done":
        _assert_shown(judge.current(row.name), again)
    return outcome


def _kill_server(ground: Ground, wait: Callable[[], object]) -> None:
    wait()
    ground.kill_server()


def _finish(ground: Ground, row: Row, command: str) -> Result:
    ended = ground.start(row, command).wait()
    ground.judge.assert_finished(row.name, row.destinations, ended, printed=not row.kinds)
    return ended


def _assert_shown(key: Key | None, ended: Result) -> None:
    """Promise 2: a key that opens was shown."""
    raw = raw_key_in(ended)
    assert key is not None, ended
    assert raw is not None, ended
    assert key_id(raw) == key.id, ended


def run(
    ground: Ground, *, who: Sequence[str] = WHO, commands: Sequence[str] = COMMANDS, stride: int = 1
) -> Counter[tuple[str, str, str, str]]:
    """The kills, by whom, command, destination and what came of them."""
    came: Counter[tuple[str, str, str, str]] = Counter()
    for victim, command, kinds in itertools.product(who, commands, KINDS):
        where = "".join(kinds) or "stdout"
        for outcome, number in kill(ground, victim, command, kinds, stride=stride).items():
            came[victim, command, where, outcome] += number
            print(f"{victim} killed, {command} to {where}: {number} ended in {outcome}", flush=True)
    return came


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.http_kills", description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="take every so many-th request or answer")
    parser.add_argument("--only", choices=COMMANDS, help="this command alone")
    parser.add_argument("--who", choices=WHO, help="kill this one alone")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; by default a SQLite file of its own")
    options = parser.parse_args()
    with surroundings(options.database_url) as (keyctl, folder), ground(keyctl, folder) as standing:
        came = run(
            standing,
            who=[options.who] if options.who else WHO,
            commands=[options.only] if options.only else COMMANDS,
            stride=options.stride,
        )
    print(f"{came.total()} kills, no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
