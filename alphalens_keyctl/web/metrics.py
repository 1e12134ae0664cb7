"""What one process of a server counts, in files that `metrics_listener` adds up over all processes.

Names and labels are closed lists: nothing that a client chooses becomes a label, so no client decides how many series
there are. Only a server that was asked for metrics imports prometheus_client, and this file.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from alphalens_keyctl.vocabulary import Reason
from alphalens_keyctl.web import challenge

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier

NAMESPACE: Final = "alphalens_keyctl"
# When a verifier last heard from its database, in monotonic seconds, which are the same in every process of a machine.
# The listener makes the staleness of it, so that a process that hangs grows stale.
HEARD_AT: Final = f"{NAMESPACE}_heard_at"
# prometheus_client makes a sparse file, and makes it longer when it is full. Where the disk is full, a write into it
# would kill the process: here are the files, and bytes in which the series of every route have room.
_FILES: Final = {"counter": 256 * 1024, "histogram": 512 * 1024, "gauge_min": 64 * 1024, "gauge_sum": 64 * 1024}
# Seconds between two looks at the verifier.
_LOOK: Final = 0.5
# Upper bounds of the histogram, in seconds: from an answer out of memory to one that waited for the database.
_BUCKETS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)


class Desk(NamedTuple):
    """Where a process counts: the folder of all processes, and the process's number in it. A successor has the number
    of the process that it replaces, and counts on where that process ended."""

    folder: Path
    number: int

    def furnish(self) -> None:
        """Make the files, whole, before a process writes into them. Raises OSError."""
        for kind, size in _FILES.items():
            (self.folder / f"{kind}_{self.number}.db").write_bytes(bytes(size))


class Metrics:
    """The counts of this process; make one a process. `answers` are the routes and statuses that the server answers
    with: they are counted from 0, so that the first is seen to be one more. `unread` is the status of the answer to a
    request that cannot be read."""

    def __init__(self, desk: Desk, answers: Iterable[tuple[str, int]], unread: int = challenge.STATUS) -> None:
        # prometheus_client takes the folder from the environment alone, each time that a value is made.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(desk.folder)
        # By default the folder would have files of every process that ever was, by its id.
        values.ValueClass = values.MultiProcessValue(lambda: desk.number)  # type: ignore[no-untyped-call]  # has no types
        self._registry = CollectorRegistry()
        verified = self._counter("answers", "Answers to keys, by reason.", "reason")
        self._requests = self._counter("requests", "Requests, by route and status.", "route", "status")
        self._durations = Histogram(
            "request_duration_seconds",
            "Seconds from a request to its answer, by route.",
            ("route",),
            namespace=NAMESPACE,
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._dropped = self._counter("uses_dropped", "Uses and refused attempts that were not recorded.")
        self._waiting = self._gauge("uses_waiting", "Uses and refused attempts that are not written yet.", "sum")
        self._heard_at = self._gauge("heard_at", "Seconds since a verifier last heard from its database.", "min")
        self._heard_at.set(time.monotonic())
        self._listens: Gauge | None = None
        self._dropped_before = 0
        self._watching: threading.Thread | None = None
        self._watched_enough = threading.Event()
        # Looked up once: `labels` costs more than counting does.
        self._count_verified = {reason: verified.labels(reason.value).inc for reason in Reason}
        self.unread = self._requests.labels("unread", str(unread)).inc
        """To be called when a request was refused that could not be read."""
        self._count = {answer: self._counted(*answer) for answer in answers}

    def verified(self, reason: Reason) -> None:
        """Count an answer to a key."""
        self._count_verified[reason]()

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is a name from the server's own list, never what a client sent."""
        counted = self._count.get((route, status))
        if counted is None:
            counted = self._count[route, status] = self._counted(route, status)
        count, observe = counted
        count()
        observe(seconds)

    def look(self, verifier: "KeyVerifier") -> None:
        """Take the state of a verifier. May wait for the database, within the verifier's time limit."""
        pulse = verifier.pulse()
        self._waiting.set(pulse.waiting)
        self._dropped.inc(pulse.dropped - self._dropped_before)
        self._dropped_before = pulse.dropped
        if pulse.heard_at is not None:
            self._heard_at.set(pulse.heard_at)
        if pulse.listens is not None:
            if self._listens is None:  # SQLite announces nothing, and has no such series
                self._listens = self._gauge("listener_up", "Whether every process is told of changes to keys.", "min")
            self._listens.set(pulse.listens)

    def watch(self, verifier: "KeyVerifier") -> None:
        """Look at a verifier twice a second, in a thread, until `watch_no_more`."""

        def look_on() -> None:
            while not self._watched_enough.is_set():
                self.look(verifier)
                self._watched_enough.wait(_LOOK)

        self._watching = threading.Thread(target=look_on, daemon=True, name="alphalens-keyctl metrics")
        self._watching.start()

    def watch_no_more(self) -> None:
        """Stop looking. Waits for a look that is under way."""
        self._watched_enough.set()
        if self._watching is not None:
            self._watching.join()

    def _counted(self, route: str, status: int) -> tuple[Callable[[], None], Callable[[float], None]]:
        return self._requests.labels(route, str(status)).inc, self._durations.labels(route).observe

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(name, what, labels, namespace=NAMESPACE, registry=self._registry)

    def _gauge(self, name: str, what: str, over_processes: Literal["min", "sum"]) -> Gauge:
        return Gauge(name, what, namespace=NAMESPACE, registry=self._registry, multiprocess_mode=over_processes)
