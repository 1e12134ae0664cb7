"""Servers with `--metrics`, and their scrapes, read as Prometheus reads them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.commands import Keyctl
from tests.support.waiting import wait_for
from tests.support.web import Address, Answer, Served, ask, serving

ON: Final = ("--metrics", "0")
OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"
PREFIX: Final = "alphalens_keyctl_"


class Series(NamedTuple):
    """What a value is of: a name, without the prefix that all have, and labels by name."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


def address_of(served: Served) -> Address:
    """Where a server was told to serve metrics, as it logged."""
    (line,) = [line for line in served.log() if line["event"] == "metrics"]
    return Address(int(line["address"].rpartition(":")[2]))


def fetch(served: Served, accept: str = OPENMETRICS) -> Answer:
    return ask(address_of(served), "/metrics", [("Accept", accept)])


def scrape(served: Served) -> Mapping[Series, float]:
    """Every value of a scrape, which must be valid OpenMetrics."""
    answer = fetch(served)
    assert answer.status == 200
    return read(answer.body.decode())


def read(page: str) -> Mapping[Series, float]:
    """Every value of a page of OpenMetrics."""
    found = {}
    for family in text_string_to_metric_families(page):  # type: ignore[no-untyped-call]  # has no types
        for sample in family.samples:
            assert sample.name.startswith(PREFIX)
            series = Series(sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items())))
            assert series not in found
            found[series] = float(sample.value)
    return found


def by(found: Mapping[Series, float], name: str, label: str) -> dict[str, float]:
    """The values of one name, by one label, without those that are 0."""
    return {dict(series.labels)[label]: value for series, value in found.items() if series.name == name and value}


@contextmanager
def counting(keyctl: Keyctl, *options: str, processes: int = 1, command: str = "serve") -> Iterator[Served]:
    """`serve --metrics`, or another server, once each process counts."""
    with serving(keyctl, *ON, "--workers", str(processes), *options, command=command) as served:
        wait_for(lambda: len(workers(served)) == processes)
        wait_for(lambda: Series("uses_waiting") in scrape(served))
        yield served


def folders(served: Served) -> list[Path]:
    """Where the processes of a server count, as the files say that they have mapped."""
    found = set()
    for process in (served.process.pid, *workers(served)):
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            if "/alphalens-keyctl-metrics-" in line:
                found.add(Path(line.split()[-1]).parent)
    return sorted(found)


def workers(served: Served) -> list[int]:
    """The processes that serve, whole: those that count."""
    leader = served.process.pid
    found = []
    for child in Path(f"/proc/{leader}/task/{leader}/children").read_text().split():
        try:
            if "/alphalens-keyctl-metrics-" in Path(f"/proc/{child}/maps").read_text():
                found.append(int(child))
        except OSError:  # it has ended meanwhile
            continue
    return found
