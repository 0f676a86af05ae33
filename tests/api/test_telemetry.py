"""Spans of requests and of work, as the SDK's own exporter in memory sees them; and none unasked."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.telemetry import start_telemetry
from search.tracing import WorkSpans
from search.workers.work import Outcome, Work
from space.errors import UnsupportedError

from ..search.conftest import Bench


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is sent. The provider of a process can be set once, so it is lent here."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def test_a_request_is_a_span_by_its_route(spans: InMemorySpanExporter, client: TestClient) -> None:
    assert client.get("/v1/jobs?limit=3", headers={"Authorization": "Bearer secret"}).status_code == 200
    (span,) = spans.get_finished_spans()
    assert span.name == "GET /v1/jobs"
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 200
    assert "secret" not in span.to_json()


@pytest.mark.slow
def test_every_piece_of_work_is_a_span_with_job_trial_and_reason(
    spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    plan = bench.plan(
        training={"steps": 8, "rungs": 1}, screen={"candidates": 1}, finalists={"count": 0},
        strategy={"kind": "random"}, budget={"trials": 2},
    )  # fmt: skip
    job_id = bench.create(plan)
    bench.work(job_id, plan)
    found = spans.get_finished_spans()
    assert {"trial screen", "trial train", "trial measure"} <= {span.name for span in found}
    for span in found:
        assert span.attributes is not None
        assert span.attributes["paretoformer.job"] == job_id
        assert span.end_time is not None
    trained = [dict(span.attributes or {}) for span in found if span.name == "trial train"]
    assert {0, 1} <= {one["paretoformer.trial"] for one in trained}


def test_a_failure_is_an_error_with_its_reason_and_what_is_cancelled_ends(
    spans: InMemorySpanExporter,
) -> None:
    work = WorkSpans("0" * 32)
    for key in ("a", "b", "c"):
        work.begin(Work(key, "train", {}, 1.0), 1)
    work.end(Outcome("a", reason="diverged", message="step 3"))
    work.end(Outcome("b", reason="worker_lost"))
    work.end(Outcome("unknown"))
    work.end_all()
    reasons = [(span.attributes or {})["paretoformer.reason"] for span in spans.get_finished_spans()]
    assert reasons == ["diverged", "worker_lost", "cancelled"]


def test_nothing_is_sent_unless_a_collector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert start_telemetry() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert start_telemetry() is None
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)  # as where it is not installed
    with pytest.raises(UnsupportedError, match=r"paretoformer\[otel\]"):
        start_telemetry()
