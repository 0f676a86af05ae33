"""Prometheus metrics of one application: requests by route, jobs, trials and leases by state."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Scope

from search.storage import gauges
from search.storage.database import Database

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """A registry of its own, so that several applications can live in one process."""

    def __init__(self, database: Database) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter(
            "paretoformer_requests", "Requests answered", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "paretoformer_request_seconds",
            "Time to answer, streams included",
            ("route",),
            registry=self._registry,
        )
        self._registry.register(_Stored(database))

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """One answered request. Labels name the route's pattern, so that their number is bounded."""
        route = getattr(scope.get("route"), "path", "other")
        self._requests.labels(scope["method"] if route != "other" else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Stored(Collector):
    """Gauges of the database, read when they are asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        now = self._database.now()
        with self._database.read() as session:
            found = gauges.read(session, now)
        yield _by("state", "paretoformer_jobs", "Jobs by state", found.jobs)
        words = "Jobs that have not ended, by what keeps them from going on"
        yield _by("reason", "paretoformer_jobs_waiting", words, found.reasons)
        yield _by("state", "paretoformer_trials", "Trials of jobs that have not ended", found.trials)
        yield _by("state", "paretoformer_leases", "Jobs with a coordinator, alive or gone", found.leases)
        yield GaugeMetricFamily(
            "paretoformer_refused_writes",
            "Writes of coordinators that had lost their lease",
            value=found.refused_writes,
        )


def _by(label: str, name: str, words: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
