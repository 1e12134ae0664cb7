"""Scrapes of `serve --metrics`, read as Prometheus reads them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.web import Address, Answer, Served, ask

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
