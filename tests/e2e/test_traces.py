"""Spans of requests, delivered to a small collector (OTLP over HTTP, JSON)."""

import http.server
import json
import threading

import pytest
from net import wait_until
from nodes import StaticNetwork
from test_nodes import order


class Collector:
    def __init__(self):
        self.bodies = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        """All spans with the name of their service."""
        for body in list(self.bodies):
            for resource in json.loads(body)["resourceSpans"]:
                names = {a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]}
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        yield names["service.name"], span


@pytest.fixture(scope="module")
def collector():
    collector = Collector()
    yield collector
    collector.server.shutdown()


@pytest.fixture(scope="module")
def net(tmp_path_factory, backend, collector):
    worker = {"forward_requests_to": backend.url.removeprefix("http://")}
    network = StaticNetwork(tmp_path_factory.mktemp("traces") / "net", "test-backend", worker=worker, flags=("--otlp", collector.url)).start()
    yield network
    network.end()


def attributes(span):
    return {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}


def test_one_request_is_one_picture(net, collector):
    # The first question of an exporter begins the collection, so requests until then are not seen.
    def first():
        assert net.chat(messages=order(chunks=2)).status == 200
        return {name for name, _ in collector.spans()} == {"cocoon-client", "cocoon-proxy", "cocoon-worker"}

    wait_until("spans of all three arrive", first, every=0.5)
    answer = net.chat(messages=order(chunks=4, delay=0.05, text="canary-in-the-answer"), stream=True)
    assert answer.status == 200
    request_id = answer.headers["x-request-id"]

    def of_request():
        found = {s["name"]: s for _, s in collector.spans() if s["traceId"] == request_id[:32]}
        return found if len(found) == 2 else None

    found = wait_until("client and proxy have told of it", of_request)
    client, proxy = found["client request"], found["proxy request"]
    assert proxy["parentSpanId"] == client["spanId"] and "parentSpanId" not in client
    (link,) = proxy["links"]

    def of_worker():
        return {s["name"]: s for _, s in collector.spans() if s["traceId"] == link["traceId"]}

    behind = wait_until("so has the worker", lambda: "worker request" in of_worker() and of_worker())
    forward, worker = behind["proxy forward"], behind["worker request"]
    assert worker["parentSpanId"] == forward["spanId"] == link["spanId"]
    assert forward["links"][0]["traceId"] == client["traceId"]
    assert link["traceId"] != client["traceId"], "a worker does not learn the caller's id"
    for span in (client, proxy, worker):
        start, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        first_byte = int(span["events"][0]["timeUnixNano"])
        assert start <= first_byte <= end and end - start >= 100_000_000
        assert attributes(span)["cocoon.outcome"] == "success" and attributes(span)["cocoon.billed_tokens"] == "5"
        assert span["status"]["code"] == 1
    assert int(client["startTimeUnixNano"]) <= int(worker["startTimeUnixNano"]) + 5_000_000
    assert b"canary" not in b"".join(collector.bodies) and b"test-backend" not in b"".join(collector.bodies)


def test_failures_are_seen_too(net, collector):
    assert net.chat(messages=order(chunks=50, delay=0.2), timeout=0.5).status == 504

    def timed_out():
        return {name for name, s in collector.spans() if attributes(s)["cocoon.outcome"] == "timeout" and s["status"]["code"] == 2}

    wait_until("the client says that it timed out", lambda: "cocoon-client" in timed_out())
