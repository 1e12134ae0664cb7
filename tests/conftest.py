"""Fixtures: both databases, real processes. Each test gets a database and a home of its own."""

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.support", "tests.services")

from hypothesis import HealthCheck, settings

from alphalens_keyctl.database import Database, Limits, parse_address
from tests.services.postgresql import URL_VARIABLE, Databases, Server
from tests.support import compiled_statements, fleets
from tests.support.commands import ForkServer, Keyctl
from tests.support.memory_disk import memory_disk

# On two busy cores a deadline would measure the neighbours.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("default")


def pytest_configure() -> None:
    """Let `tmp_path` be quick, unless somebody says where it has to be, and statements be compiled once."""
    compiled_statements.share()
    if (folder := memory_disk()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))


def pytest_sessionstart() -> None:
    """Import a share of the test files in each worker first, so that in a fresh clone the workers rewrite and compile
    each file once together and not once each."""
    if (worker := os.environ.get("PYTEST_XDIST_WORKER")) is None:
        return
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    for file in files[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
        with suppress(Exception):  # collecting the file raises it again
            importlib.import_module(".".join(file.relative_to(Path(__file__).parents[1]).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a test that says `one_database` on SQLite alone."""
    items[:] = [item for item in items if not (item.get_closest_marker("one_database") and _on_postgresql(item))]


def _on_postgresql(item: pytest.Item) -> bool:
    called_with = getattr(item, "callspec", None)  # a test without parameters has none
    return called_with is not None and called_with.params.get("database_url") == "postgresql"


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    fork_server = ForkServer()
    yield fork_server
    fork_server.close()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The administrator's URL of a server that every test of this worker shares."""
    if URL_VARIABLE in os.environ:
        yield os.environ[URL_VARIABLE]
        return
    server = Server()
    yield server.url
    server.close()


@pytest.fixture(scope="session")
def databases(postgresql_url: str) -> Iterator[Databases]:
    databases = Databases(postgresql_url)
    yield databases
    if URL_VARIABLE in os.environ:  # our own server goes as a whole, which takes a minute less
        databases.close()


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that a module's tests may stop, freeze and kill."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def own_url(own_server: Server) -> str:
    """A database of its own there, empty and up to date."""
    url = Databases(own_server.url).create()
    _upgrade(url)
    return url


@pytest.fixture(scope="session")
def postgresql_template(databases: Databases) -> str:
    """The name of a database with an up-to-date, empty schema."""
    url = databases.create()
    _upgrade(url)
    return url.rpartition("/")[2]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "keys.db"
    _upgrade(str(path))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of its own, empty and up to date: every test that takes it runs on both kinds."""
    if request.param == "sqlite":
        path = tmp_path / "keys.db"
        shutil.copy2(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    databases: Databases = request.getfixturevalue("databases")
    return databases.create(request.getfixturevalue("postgresql_template"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The same, open."""
    database = Database.open(parse_address(database_url), Limits())
    yield database
    database.close()


@pytest.fixture
def keyctl(fork_server: ForkServer, tmp_path: Path, database_url: str) -> Keyctl:
    """The program on that database."""
    return Keyctl(fork_server, _home(tmp_path), database_url)


@pytest.fixture
def own_keyctl(fork_server: ForkServer, tmp_path: Path, own_url: str) -> Keyctl:
    """The program on a database whose server may be stopped."""
    return Keyctl(fork_server, _home(tmp_path), own_url)


@pytest.fixture
def fresh_keyctl(fork_server: ForkServer, tmp_path: Path) -> Keyctl:
    """The program in an empty home, with nothing configured: SQLite in the user's data folder."""
    return Keyctl(fork_server, _home(tmp_path), None)


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    """A file of three keys to take in."""
    return fleets.write(tmp_path, fleets.THREE)


@pytest.fixture
def store(tmp_path: Path) -> fleets.Store:
    """A command that keeps the keys that it is given."""
    return fleets.Store(tmp_path)


def _home(folder: Path) -> Path:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return home


def _upgrade(url: str) -> None:
    database = Database.connect(parse_address(url), Limits())
    database.upgrade()
    database.close()
