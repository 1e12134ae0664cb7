"""`/metrics`, on a listener of its own, in the process that supervises the others: a scrape delays no request.

Adds up what the processes counted, and asks the database how many keys there are.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.web import asgi, headers, listening
from alphalens_keyctl.web.listening import Place
from alphalens_keyctl.web.metrics import HEARD_AT, NAMESPACE, Desk
from alphalens_keyctl.web.waiting import NoThreadFreeError, Threads

if TYPE_CHECKING:
    import socket

    from alphalens_keyctl.web.server import Asking, KeyCounts

PATH: Final = "/metrics"
# Seconds that a scrape waits for the database; Prometheus waits 10 for the scrape.
_PATIENCE: Final = 2.0
# Seconds for which the same is said of the database. Counting takes long where there are millions of keys: there it is
# said for so many times as long as it took, so that scrapes take a twentieth of the database's time at most.
_HOLDS: Final = 5.0
_HOLDS_TIMES: Final = 20.0
_PLAIN: Final = (b"content-type", b"text/plain; charset=utf-8")

_log = logging.getLogger(__name__)


@contextmanager
def serving(place: Place, processes: int, ask: "Asking") -> Iterator[list[Desk]]:
    """Serve `/metrics` while the block lasts, and give each process the desk at which it counts.

    The folder of the counts has mode 0700 and is removed at the end. Raises `KeyctlError` (configuration_invalid)
    where `place` cannot be listened on, or no temporary folder be made.
    """
    with listening.on(place, option="--metrics") as listener, _folder() as folder:
        desks = [Desk(folder, number) for number in range(processes)]
        try:
            for desk in desks:
                desk.furnish()
        except OSError as error:
            raise _no_room(error) from error
        with _answering(listener, Endpoint(folder, ask)):
            _log.info("metrics", extra={"address": listening.address_of(listener)})
            yield desks


class Endpoint:
    """An ASGI application that answers GET /metrics, in the format that the client accepts."""

    def __init__(self, folder: Path, ask: "Asking") -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(folder, _Keys(ask)))
        self._threads = Threads()

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request."""
        if scope["path"] != PATH:
            await _say(send, 404)
        elif scope["method"] not in ("GET", "HEAD"):
            await _say(send, 405, (b"allow", b"GET, HEAD"))
        else:
            accept = headers.text_of(headers.single(scope["headers"]).get(b"accept"))
            try:
                content_type, body = await self._threads.run(partial(self._page, accept or ""))
            except NoThreadFreeError:
                await _say(send, 503)
                return
            await _say(send, 200, (b"content-type", content_type.encode("latin-1")), body=body)

    def _page(self, accept: str) -> tuple[str, bytes]:
        try:
            encode, content_type = exposition.choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = exposition.choose_encoder("")
        return content_type, encode(self._registry)


class _Collector:
    """What a scrape shows."""

    def __init__(self, folder: Path, keys: "_Keys") -> None:
        self._counted = MultiProcessCollector(None, path=str(folder))  # type: ignore[no-untyped-call]  # has no types
        self._keys = keys

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names of what is counted are known once a process has counted it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        for metric in self._counted.collect():  # type: ignore[no-untyped-call]  # has no types
            if metric.name == HEARD_AT:
                yield from _staleness(metric)
            else:
                yield whole(metric)
        yield from self._keys.collect()


def whole(metric: Metric) -> Metric:
    """Return a metric, of a histogram those routes alone of which every bucket is there, route by route: a process that
    starts writes the buckets one after another, the one without a limit last, and no reader takes a histogram without
    that one, or with its routes mixed, as older versions of the library have them."""
    if metric.type == "histogram":
        ready = {sample.labels["route"] for sample in metric.samples if sample.labels.get("le") == "+Inf"}
        whole_ones = (sample for sample in metric.samples if sample.labels["route"] in ready)
        metric.samples = sorted(whole_ones, key=lambda sample: sample.labels["route"])
    return metric


def _staleness(heard_at: Metric) -> Iterator[Metric]:
    # 0 stands in the file before a process has written into it.
    for sample in heard_at.samples:
        if sample.value:
            stale = max(0.0, time.monotonic() - sample.value)
            yield GaugeMetricFamily(f"{NAMESPACE}_staleness_seconds", heard_at.documentation, value=stale)


class _Keys:
    """What the database says of the keys. The database is asked once in some seconds, whoever scrapes."""

    def __init__(self, ask: "Asking") -> None:
        self._ask = ask
        self._choosing = threading.Lock()
        self._latest: _Question | None = None

    def collect(self) -> Iterator[Metric]:
        question = self._current()
        question.wait(_PATIENCE)
        # Before the counts: the database may answer at this moment.
        counts, reached = question.counts, question.reached
        yield GaugeMetricFamily(
            f"{NAMESPACE}_database_reachable", "Whether the database answers.", value=float(reached)
        )
        if counts is None:
            return
        by_status = GaugeMetricFamily(f"{NAMESPACE}_keys", "Keys, by status.", labels=["status"])
        for status, number in counts.by_status.items():
            by_status.add_metric([status], number)
        yield by_status
        yield GaugeMetricFamily(
            f"{NAMESPACE}_keys_expiring", "Keys that expire within 14 days.", value=float(counts.expiring)
        )

    def _current(self) -> "_Question":
        with self._choosing:
            if self._latest is None or self._latest.is_over:
                self._latest = _Question(self._ask)
            return self._latest


class _Question:
    """One question to the database, in a thread of its own: a scrape that waits no longer leaves it to the next."""

    def __init__(self, ask: "Asking") -> None:
        self.reached = False
        self.counts: KeyCounts | None = None
        self._ask = ask
        self._holds_until = float("inf")
        self._done = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="alphalens-keyctl keys").start()

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._holds_until

    def wait(self, seconds: float) -> None:
        self._done.wait(seconds)

    def _run(self) -> None:
        began = time.monotonic()
        try:
            with self._ask() as count:
                self.reached = True
                self.counts = count()
        except KeyctlError as error:
            self.reached = False
            _log.warning("keys could not be counted", extra={"problem": error.message})
        except Exception:  # noqa: BLE001  # a scrape is to answer, whatever becomes of the question
            self.reached = False
            _log.exception("keys could not be counted")
        finally:
            ended = time.monotonic()
            slow = 0.0 if self.counts is None else _HOLDS_TIMES * (ended - began)
            self._holds_until = ended + max(_HOLDS, slow)
            self._done.set()


@contextmanager
def _answering(listener: "socket.socket", app: Endpoint) -> Iterator[None]:
    """Answer in a thread while the block lasts."""
    import uvicorn

    server = uvicorn.Server(_config(app))
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="alphalens-keyctl scrapes"
    )
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(_PATIENCE + 1)


def _config(app: Endpoint) -> Any:
    import uvicorn

    from alphalens_keyctl.web.connection import Connection

    return uvicorn.Config(
        app,
        interface="asgi3",
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=1,
    )


@contextmanager
def _folder() -> Iterator[Path]:
    try:
        made = TemporaryDirectory(prefix="alphalens-keyctl-metrics-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _no_room(error) from error
    with made as name:
        yield Path(name)


def _no_room(error: OSError) -> KeyctlError:
    return KeyctlError(
        Code.CONFIGURATION,
        f"--metrics has no room for what it counts: {error.strerror or error}",
        "Set TMPDIR to a folder that can be written to.",
    )


async def _say(send: asgi.Send, status: int, *more: tuple[bytes, bytes], body: bytes = b"") -> None:
    about = [*more, (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    if not any(name == b"content-type" for name, _ in more):
        about.append(_PLAIN)
    await send({"type": "http.response.start", "status": status, "headers": about})
    await send({"type": "http.response.body", "body": body})
