"""Optional OpenTelemetry traces of requests, for a collector that the operator runs."""

from __future__ import annotations

from fastapi import FastAPI

from nas.service.settings import ServiceSettings
from supernet.errors import NasError


def trace_requests(app: FastAPI, settings: ServiceSettings) -> None:
    """Send a span for each request to ``settings.otlp_endpoint``, if it is set.

    Raises:
        NasError: the packages for it are not installed.
    """
    if settings.otlp_endpoint is None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise NasError("otlp_endpoint needs packages: pip install 'tailorbert[otel]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": "tailorbert"}))
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=provider, excluded_urls="healthz,readyz,metrics"
    )
    app.state.tracer_provider = provider
