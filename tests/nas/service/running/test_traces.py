"""Traces of requests, as a collector receives them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("fastapi", reason="needs tailorbert[service]")
pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="needs tailorbert[otel]")

from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nas.service.api.app import create_app


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        self.server.received.append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    server = HTTPServer(("127.0.0.1", 0), Collector)
    server.received = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_is_a_span_and_its_token_is_in_none(make_service, collector):
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
    app = create_app(make_service(otlp_endpoint=endpoint))
    client = TestClient(app)
    token = "tb_" + "x" * 40
    client.get("/v1/whoami", headers={"Authorization": f"Bearer {token}"})
    client.get("/healthz")
    app.state.tracer_provider.shutdown()
    received = b"".join(collector.received)
    spans = [
        span
        for resource in ExportTraceServiceRequest.FromString(received).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert "GET /v1/whoami" in {span.name for span in spans}
    assert not [span.name for span in spans if "healthz" in span.name]
    assert token.encode() not in received


def test_without_a_collector_there_are_no_traces(make_service):
    assert not hasattr(create_app(make_service()).state, "tracer_provider")
