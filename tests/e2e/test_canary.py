"""Prompts, answers and secrets stay out of logs, pages, metrics and data directories, whatever happens to a request."""

import json
import socket
import time

import pytest
from net import LOGS, http, wait_until
from nodes import StaticNetwork

PROMPT = "canary-prompt-7d1f"
ANSWER = "canary-answer-93ab"
KEY = "canary-api-key-5c20"
TOKEN = "canary-operator-token-e417"
SECRET = "canary-client-secret-b8c6"


@pytest.fixture(scope="module")
def net(tmp_path_factory, backend):
    folder = tmp_path_factory.mktemp("canary")
    keys = folder / "api-keys"
    folder.mkdir(exist_ok=True)
    keys.write_text(KEY + "\n")
    keys.chmod(0o600)
    network = StaticNetwork(
        folder / "canary-net",
        "test-backend",
        worker={"forward_requests_to": backend.url.removeprefix("http://"), "http_access_hash": TOKEN, "max_active_requests": 2},
        proxy={"http_access_hash": TOKEN},
        client={"http_access_hash": TOKEN, "secret_string": SECRET},
        flags=("--log", "trace", "--log-format", "json"),
    )
    network.client.flags += ["--api-keys-file", str(keys)]
    for node in (network.proxy, network.worker, network.client):
        node.start()
    yield network
    network.end()


def ask(net, order=None, key=KEY, path="/v1/chat/completions", raw=None, **options):
    content = json.dumps({"canary": PROMPT, "text": ANSWER, **(order or {})})
    body = {"model": "test-backend", "messages": [{"role": "user", "content": content}], "max_tokens": 20, "user": PROMPT, **options}
    return http(net.client.info["url"] + path, raw or body, headers={"Authorization": f"Bearer {key}"})


def pages(net):
    for node in (net.proxy, net.worker, net.client):
        for path in ("/stats", "/jsonstats", "/metrics", "/perf", "/health"):
            answer = node.page(path, headers={"X-Cocoon-Token": TOKEN})
            assert answer.status == 200, (node.role, path, answer.body)
            yield f"{node.role}{path}", answer.body


def files(net):
    for node in (net.proxy, net.worker, net.client):
        for path in LOGS.glob(f"canary-net-{node.role}-*.stderr"):
            yield str(path), path.read_bytes()
        for path in node.data_dir.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes()


def test_no_canary_leaves_the_requests(net, backend):
    wait_until("it serves", lambda: ask(net).status == 200)
    whole = ask(net)
    assert ANSWER in whole.body.decode(), "the answer reaches its caller"
    assert ANSWER in ask(net, stream=True).body.decode()
    before = len(backend.requests)
    # Every way a request can fail.
    assert ask(net, key="wrong-" + PROMPT).status == 401
    assert ask(net, raw=b'{"model": "' + PROMPT.encode()).status == 400
    assert ask(net, raw=json.dumps({"model": PROMPT, "messages": [{"role": "user", "content": PROMPT}]}).encode()).status == 404
    assert ask(net, timeout=PROMPT).status == 400
    assert ask(net, path="/v1/" + PROMPT).status == 404
    assert ask(net, nonsense=PROMPT).status in (200, 400)
    assert ask(net, {"status": 500}).status == 500
    assert ask(net, {"status": 400}).status == 400
    assert ask(net, {"break_after": 1}).status == 502
    assert b"error" in ask(net, {"break_after": 1, "chunks": 4}, stream=True).body
    assert ask(net, {"chunks": 100, "delay": 0.2}, timeout=0.5).status == 504
    # The caller leaves in the middle.
    body = json.dumps({"model": "test-backend", "stream": True, "max_tokens": 20, "messages": [{"role": "user", "content": json.dumps({"chunks": 50, "delay": 0.1, "text": ANSWER, "canary": PROMPT})}]})
    with socket.create_connection(("127.0.0.1", net.client.info["http_port"]), timeout=10) as stream:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        stream.sendall((head + body).encode())
        assert stream.recv(10)
    wait_until("the engine was told to stop", lambda: backend.running == 0)
    assert ask(net, max_coefficient=1).status == 402
    # The worker dies, the proxy dies.
    net.worker.kill()
    wait_until("refused without a worker", lambda: ask(net).status == 503)
    net.proxy.kill()
    wait_until("refused without a proxy", lambda: ask(net).status in (502, 503))
    # Operators make mistakes, too.
    assert net.client.page("/request/charge?proxy=" + PROMPT, b"", headers={"X-Cocoon-Token": "wrong-" + TOKEN}).status == 401
    assert net.client.page("/request/charge?proxy=" + PROMPT, b"", headers={"X-Cocoon-Token": TOKEN}).status == 400
    net.proxy.start()
    net.worker.start()
    wait_until("it serves again", lambda: ask(net).status == 200)
    assert len(backend.requests) > before
    time.sleep(0.2)
    canaries = [c.encode() for c in (PROMPT, ANSWER, KEY, TOKEN, SECRET)]
    keys = [p.read_text().strip().encode() for n in (net.proxy, net.worker, net.client) for p in (n.data_dir / "keys").iterdir()]
    looked = 0
    for place, data in [*pages(net), *files(net)]:
        looked += 1
        for canary in [*canaries, *keys]:
            held = place.rsplit("/", 1)[-1].endswith(".key")
            assert held or canary not in data, f"{canary.decode()} is in {place}"
    assert looked > 20
    # The logs are what they claim to be: one object a line, with a level and a target.
    for node in (net.proxy, net.worker, net.client):
        # That of this start and the one before; a restarted node may have had nothing to say yet.
        logs = (node.data_dir / "logs").iterdir()
        lines = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
        assert lines and all({"timestamp", "level", "target", "message"} <= line.keys() for line in lines), lines[:2]
    texts = [path.read_text() for path in LOGS.glob("canary-net-*.stderr")]
    said = [json.loads(line) for text in texts for line in text.splitlines() if line.startswith("{")]
    assert "TRACE" in {line["level"] for line in said} and any(line["target"].startswith("cocoon_node") for line in said)
