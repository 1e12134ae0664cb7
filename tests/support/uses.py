"""Uses of a key that are told apart, and a connection on which a commit can fail."""

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import psycopg

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.models import Reason
from tests.support.commands import Keyctl
from tests.support.databases import listeners
from tests.support.waiting import wait_for

# What becomes of a COMMIT: called with the server's end of the connection and the client's message.
Fault = Callable[[socket.socket, bytes], object]


class Client:
    """Presents a key, each time with another path, and keeps which of these uses were accepted."""

    def __init__(self, verifier: KeyVerifier, raw: str) -> None:
        self.verifier = verifier
        self.raw = raw
        self.accepted: list[str] = []
        self.refused: list[Reason] = []

    def ask(self, times: int = 1) -> bool:
        """Whether the last time it was accepted."""
        for _ in range(times):
            path = f"/{len(self.accepted) + len(self.refused)}"
            answer = self.verifier.verify(self.raw, path=path)
            if answer:
                self.accepted.append(path)
            else:
                self.refused.append(answer.reason)
        return answer.allowed

    def warm_up(self, url: str) -> None:
        """Until the key is remembered and what was accepted is written, so that the next transaction records."""
        self.ask()
        wait_for(lambda: listeners(url), "nobody listens")
        time.sleep(0.2)  # what was read before it listened is forgotten once
        assert self.ask()
        self.verifier.flush()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Go on asking in a thread while the block lasts."""
        over = threading.Event()

        def run() -> None:
            while not over.wait(0.001):
                self.ask()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class Proxy:
    """Stands between a client and the server. Once `at_commit` is set it is called, once, instead of passing
    the next COMMIT on; the client then finds its connection gone."""

    def __init__(self, server_url: str) -> None:
        self._server = urlsplit(server_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.at_commit: Fault | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        user = self._server.netloc.rpartition("@")[0]
        port = self._listener.getsockname()[1]
        return f"postgresql://{user}@127.0.0.1:{port}{self._server.path}?sslmode=disable"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        address = (self._server.hostname, self._server.port or 5432)
        with suppress(OSError), client, socket.create_connection(address) as server:
            while True:
                for end in select.select([client, server], [], [])[0]:
                    message = end.recv(1 << 16)
                    # A simple query, and its length (PostgreSQL, "Message Formats").
                    if end is client and self.at_commit is not None and b"Q\0\0\0\x0bCOMMIT\0" in message:
                        fault, self.at_commit = self.at_commit, None
                        fault(server, message)
                        return
                    if not message:
                        return
                    (server if end is client else client).sendall(message)


def lose_the_answer(server: socket.socket, commit: bytes) -> None:
    server.sendall(commit)
    server.recv(1 << 16)


def do_not_wait(server: socket.socket, commit: bytes) -> None:
    server.sendall(commit)


def forget_it(_server: socket.socket, _commit: bytes) -> None:
    pass


def assert_each_counted_once(url: str, *clients: Client) -> None:
    """Rows, counts and what was accepted are the same, use by use."""
    with psycopg.connect(url) as session:
        found = Counter(
            session.execute("SELECT key_id, path FROM usage_event WHERE outcome = 'ok' ORDER BY id").fetchall()
        )
        counted: dict[str, int] = dict(session.execute("SELECT id, use_count FROM api_key").fetchall())
    expected = Counter((client.raw.split("_")[1], path) for client in clients for path in client.accepted)
    assert found - expected == Counter(), "written twice, or never accepted"
    assert expected - found == Counter(), "lost"
    assert counted == {client.raw.split("_")[1]: len(client.accepted) for client in clients}


def rows(url: str, raw: str) -> int:
    """How many uses of a key are written."""
    with psycopg.connect(url) as session:
        query = "SELECT count(*) FROM usage_event WHERE outcome = 'ok' AND key_id = %s"
        (number,) = session.execute(query, (raw.split("_")[1],)).fetchone() or (0,)
    return int(number)


def use(keyctl: Keyctl, raw: str, *, times: int = 1, client_ip: str | None = None) -> None:
    """Uses by a service, on record when this returns."""
    with KeyVerifier(keyctl.database_url) as service:
        for _ in range(times):
            assert service.verify(raw, client_ip=client_ip)
        service.flush()
