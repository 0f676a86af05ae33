"""Prometheus metrics of one application: requests by route, jobs by state."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Scope

from search.storage import jobs
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
        self._registry.register(_Jobs(database))

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """One answered request. Labels name the route's pattern, so that their number is bounded."""
        route = getattr(scope.get("route"), "path", "other")
        self._requests.labels(scope["method"] if route != "other" else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Jobs(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = self._family()
        with self._database.read() as session:
            for state, count in jobs.counts(session).items():
                family.add_metric([state], count)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily("paretoformer_jobs", "Jobs by state", labels=["state"])
