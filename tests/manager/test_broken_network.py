"""A network that breaks at any byte, a client or a server that dies between any two steps. Promises 2 and 3."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from alphalens_keyctl.cli import rotate_self
from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.rotate import Asked
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.database import Database
from alphalens_keyctl.delivery.files import Alone, KeyFile
from alphalens_keyctl.delivery.handover import Handover
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey, generate, parse
from alphalens_keyctl.keys import issuance
from alphalens_keyctl.keys.bulk_file import Line
from alphalens_keyctl.keys.bulk_issuance import Handout
from alphalens_keyctl.keys.issuance import Created, RotationPlan
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.keys.selection import Selection, Sort
from alphalens_keyctl.manager import http_bulk_steps, http_exchange
from alphalens_keyctl.manager.http_exchange import Server, Waits
from alphalens_keyctl.manager.over_http import OverHttp
from alphalens_keyctl.models import Key
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.provenance import act_of_this_process
from alphalens_keyctl.server_address import parse_server
from alphalens_keyctl.settings import Settings
from tests.services.cutting_proxy import REQUEST, RESPONSE, CuttingProxy, Strike, cutting
from tests.support.callers import House
from tests.support.commands import Keyctl, Process
from tests.support.databases import dialect, on_sqlite, one_database
from tests.support.key_rows import change, put
from tests.support.web import serving

DAY: Final = timedelta(days=1)
# Bytes between two cuts. Two primes, so that the databases are not cut at the same ones.
STRIDES: Final = {"sqlite": 331, "postgresql": 691}
FLEET_STRIDE: Final = 1009
# No two runs have the same number of bytes: names and numbers have their lengths.
SLACK: Final = 60


class Ground(NamedTuple):
    """A server behind a proxy, the database behind both, and a file that a service reads its key from."""

    proxy: CuttingProxy
    database: Database
    admin: RawKey
    file: Path
    keyctl: Keyctl
    process: Process

    def way(self, key: RawKey) -> OverHttp:
        address = parse_server(f"http://127.0.0.1:{self.proxy.port}")
        return OverHttp(Server(address, key, Waits(5, 10)))

    def held(self) -> str | None:
        return self.file.read_text().strip() if self.file.exists() else None

    def keys(self, name: str) -> list[Key]:
        root = House(self.database).root
        with root.keys(Selection(name_glob=name, final=True), sort=Sort.CREATED, limit=None) as found:
            return list(found)

    def opens(self, raw: str | None) -> bool:
        return raw is not None and House(self.database).root.find(parse(raw)).opens

    def let_leases_end(self) -> None:
        for key in self.keys("*"):
            if key.is_unfinished:
                change(self.database, key.id, lease_until=datetime.now(UTC) - DAY)


@pytest.fixture
def ground(keyctl: Keyctl, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    monkeypatch.setattr(http_exchange, "_PAUSES", (0.01, 0.02, 0.05, 0.1))
    admin = generate()
    put(database, "admin", raw=admin, scopes=("keyctl:admin",))
    with serving(keyctl, command="serve-api") as served, cutting(served.address.port) as proxy:
        yield Ground(proxy, database, admin, tmp_path / "service.key", keyctl, served.process)


def create(ground: Ground, name: str) -> None:
    way = ground.way(ground.admin)
    try:
        to = Handover([KeyFile(ground.file, Alone(), option="key-file")])
        issuance.create(way.steps, Draft(name), to, lambda _made, _raw: (), if_missing=False)
    finally:
        way.close()


def rotate(ground: Ground, name: str) -> None:
    way = ground.way(ground.admin)
    try:
        to = Handover([KeyFile(ground.file, Alone(), option="key-file")])
        plan = RotationPlan(utc_now(), Retirement(timedelta(0)))
        issuance.rotate(way.steps, way.find(name).id, plan, to, lambda _made, _raw: ())
    finally:
        way.close()


def rotate_itself(ground: Ground, _name: str) -> None:
    settings = Settings("unused", server=f"http://127.0.0.1:{ground.proxy.port}")
    run = Run(utc_now(), settings, act_of_this_process("ci", utc_now()), quiet=True, color=False, machine=True)
    given = Destinations(key_file=[ground.file])
    rotate_self.rotate_self(
        run, Asked([], Filters(), given, None, None, None, True, None, None, None, None, False, False, False)
    )


def first(ground: Ground, name: str) -> None:
    """A key of that name, which the file holds."""
    raw = generate()
    put(ground.database, name, raw=raw)
    ground.file.write_text(raw.reveal() + "\n")
    ground.file.chmod(0o600)


def assert_kept(ground: Ground, name: str, *, was_there: bool) -> None:
    """Promise 2: no key that opens is held by nobody. Promise 3: the file, which held one that opened, holds one."""
    held = ground.held()
    found = ground.keys(name)
    about = [(key.id, key.status, key.delivering_to, key.revoke_reason) for key in found], held and held[4:16]
    if was_there or held is not None:
        assert ground.opens(held), about
    for key in found:
        # One that is delivering says where it was going, and is the next attempt's.
        if key.opens and not key.is_unfinished and key.status != "retiring":
            assert was_there or (held is not None and key.id == parse(held).id), about
    assert sum(key.is_current and key.opens for key in found) <= 1, about


WORK: Final = {"create": (create, False), "rotate --self": (rotate_itself, True)}


@pytest.mark.parametrize("word", ["create", one_database("rotate --self")])
def test_a_network_that_breaks_once_at_any_byte_stops_nothing(ground: Ground, word: str) -> None:
    """Promises 2 and 3: the request is sent again, and carried out once."""
    work, was_there = WORK[word]
    number = 0
    for direction, at in strikes(ground, work, was_there=was_there):
        name = f"k{number}"
        prepared(ground, name, was_there=was_there)
        ground.proxy.arm(Strike(direction, at))
        work(ground, name)
        assert ground.proxy.struck
        found = ground.keys(name)
        current = [key.id for key in found if key.is_current and key.opens]
        assert current == [parse(str(ground.held())).id], (direction, at, found)
        # What an answer that was lost had begun opens nothing, and is nobody's any more.
        assert all(key.status in ("active", "retiring", "retired", "revoked") for key in found), (direction, at, found)
        number += 1
    assert number >= 5
    print(f"{word}: {number} cuts, each carried out once")


@pytest.mark.parametrize("word", [one_database("create"), "rotate --self"])
def test_a_network_that_breaks_for_good_at_any_byte_leaves_a_key_that_opens(ground: Ground, word: str) -> None:
    """Promises 2 and 3, and the next attempt finishes the job or starts it over."""
    work, was_there = WORK[word]
    number = 0
    for direction, at in strikes(ground, work, was_there=was_there):
        name = f"k{number}"
        prepared(ground, name, was_there=was_there)
        ground.proxy.arm(Strike(direction, at, for_good=True))
        with pytest.raises(KeyctlError) as caught:
            work(ground, name)
        assert caught.value.code is Code.SERVER_UNREACHABLE, (direction, at)
        assert_kept(ground, name, was_there=was_there)
        ground.proxy.arm(None)
        ground.let_leases_end()
        again = work
        if word == "create" and any(
            key.is_current and key.opens and not key.is_unfinished for key in ground.keys(name)
        ):
            again = rotate
        again(ground, name)
        found = ground.keys(name)
        assert [key.id for key in found if key.is_current] == [parse(str(ground.held())).id], (direction, at, found)
        assert not any(key.is_unfinished for key in found), (direction, at, found)
        number += 1
    print(f"{word}: {number} cuts for good")


FLEET: Final = 3


def take_in(ground: Ground, name: str) -> None:
    """Create a fleet of which the file gets every raw key, a line each."""
    way = ground.way(ground.admin)
    lines = [Line(number, Draft(f"{name}-{number}")) for number in range(FLEET)]

    def show(made: Sequence[Created]) -> list[str]:
        ground.file.write_text("".join(f"{each.raw.reveal()}\n" for each in made if each.raw is not None))
        return ["stdout"]

    try:
        way.create_each(lines, Handout(show=show))
    finally:
        way.close()


@on_sqlite
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_a_network_that_breaks_at_any_byte_takes_a_whole_fleet_in_or_none(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, for_good: bool
) -> None:
    """Promise 2: in two requests' worth of keys; and the next attempt takes in what this one did not."""
    monkeypatch.setattr(http_bulk_steps, "_MOST", 2)
    for number, (direction, at) in enumerate(strikes(ground, take_in, was_there=False, stride=FLEET_STRIDE)):
        name = f"k{number}"
        prepared(ground, name, was_there=False)
        ground.proxy.arm(Strike(direction, at, for_good=for_good))
        with suppress(KeyctlError) if for_good else nullcontext():
            take_in(ground, name)
        assert ground.proxy.struck
        assert_whole_or_none(ground, name)
        if for_good:
            ground.proxy.arm(None)
            ground.let_leases_end()
            if not opening(ground, name):
                take_in(ground, name)
        assert len(opening(ground, name)) == FLEET, (direction, at)
        assert_whole_or_none(ground, name)
        assert not any(key.is_unfinished for key in ground.keys(f"{name}-*")), (direction, at)


def opening(ground: Ground, name: str) -> list[str]:
    return sorted(key.id for key in ground.keys(f"{name}-*") if key.opens)


def assert_whole_or_none(ground: Ground, name: str) -> None:
    opens = opening(ground, name)
    held = sorted(parse(line).id for line in str(ground.held() or "").split())
    assert opens in ([], held), (name, opens, held)


def prepared(ground: Ground, name: str, *, was_there: bool) -> None:
    ground.proxy.arm(None)
    ground.file.unlink(missing_ok=True)
    if was_there:
        first(ground, name)


def strikes(
    ground: Ground, work: Callable[[Ground, str], None], *, was_there: bool, stride: int | None = None
) -> list[tuple[str, int]]:
    """Where to cut: the bytes of an undisturbed run, at strides."""
    prepared(ground, "kn", was_there=was_there)
    work(ground, "kn")
    stride = stride or STRIDES[dialect(ground.database)]
    return [
        (direction, at)
        for direction in (REQUEST, RESPONSE)
        for at in range(0, ground.proxy.passed[direction] - SLACK, stride)
    ]


def boundaries(ground: Ground) -> list[tuple[str, int]]:
    """Where each request and each answer of `rotate --self` ends, but for a few bytes: no two runs have the same
    number."""
    first(ground, "kn")
    ground.proxy.arm(None)
    rotate_itself(ground, "kn")
    turns = ground.proxy.turns
    turns[RESPONSE].append(ground.proxy.passed[RESPONSE])
    return [(direction, at - SLACK) for direction in (REQUEST, RESPONSE) for at in turns[direction] if at]


@on_sqlite
def test_a_client_that_is_killed_at_any_step_leaves_a_key_that_opens(ground: Ground) -> None:
    """Promise 3: also where `kill -9` hits `rotate --self`, the file holds a key that opens, and the next one works."""
    server = f"http://127.0.0.1:{ground.proxy.port}"
    command = ("--server", server, "rotate", "--self", "--key-file", str(ground.file))
    for number, (direction, at) in enumerate(boundaries(ground)):
        name = f"k{number}"
        prepared(ground, name, was_there=True)
        running: list[Process] = []
        ground.proxy.arm(Strike(direction, at, for_good=True, then=partial(_kill, running)))
        running.append(ground.keyctl.start(*command))
        assert running[0].wait().status == -9, (direction, at)
        assert_kept(ground, name, was_there=True)
        ground.proxy.arm(None)
        ground.let_leases_end()
        rotate_itself(ground, name)
        assert [key.id for key in ground.keys(name) if key.is_current] == [parse(str(ground.held())).id]


def _kill(running: list[Process]) -> None:
    running[0].kill()


@on_sqlite
def test_a_server_that_is_killed_at_any_step_leaves_a_key_that_opens(ground: Ground) -> None:
    """Promise 3: and over the server that comes after, the next attempt finishes the job or starts it over."""
    with ExitStack() as servers:
        process = ground.process
        for number, (direction, at) in enumerate(boundaries(ground)):
            name = f"k{number}"
            prepared(ground, name, was_there=True)
            ground.proxy.arm(Strike(direction, at, then=process.kill))
            with suppress(KeyctlError):
                rotate_itself(ground, name)
            assert ground.proxy.struck
            process.wait()
            assert_kept(ground, name, was_there=True)
            served = servers.enter_context(serving(ground.keyctl, command="serve-api"))
            process = served.process
            ground.proxy.arm(None, served.address.port)
            ground.let_leases_end()
            rotate_itself(ground, name)
            assert [key.id for key in ground.keys(name) if key.is_current] == [parse(str(ground.held())).id]
