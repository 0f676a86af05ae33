"""OpenTelemetry, where it is asked for: spans of requests (FastAPI's own) and of what workers do
(`search.tracing`), sent to the collector that the usual variables name.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 paretoformer serve

Without OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT nothing is imported and nothing is
sent. The other variables of the SDK (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, headers, time limits) mean what
they mean everywhere.

Source: OpenTelemetry specification 1.x, environment variables and OTLP exporter.
"""

import os
from typing import TYPE_CHECKING

from space.errors import UnsupportedError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def start_telemetry() -> "TracerProvider | None":
    """Sends spans from now on; None where no collector is named. Whoever ends shuts the provider down.

    Raises:
        UnsupportedError: a collector is named and the extra is not installed.
    """
    named = [name for name in ENDPOINTS if os.environ.get(name)]
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UnsupportedError(
            f"{named[0]} is set and OpenTelemetry's SDK is not installed; "
            "pip install 'paretoformer[otel]', or unset it"
        ) from error
    from opentelemetry import trace

    own_name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "paretoformer"}
    provider = TracerProvider(resource=Resource.create(own_name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider
