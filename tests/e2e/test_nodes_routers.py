"""Nodes behind `cocoon router`, as reference nodes are set up: one router on each machine, plain streams behind it."""

import json
import subprocess

import pytest
from net import BINARY, http, wait_until
from nodes import StaticNetwork, free_ports


def has_router():
    return subprocess.run([str(BINARY), "router", "--help"], capture_output=True, timeout=30).returncode == 0


pytestmark = pytest.mark.skipif(not has_router(), reason="this build has no 'cocoon router'")


class Router:
    def __init__(self, *flags):
        self.command = [str(BINARY), "router", "--serialize-info", "--pow-difficulty", "8", "--json", *flags]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        ready = json.loads(self.process.stdout.readline())
        assert ready["ready"] is True
        return self

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def routed(tmp_path, backend):
    """Routers of a proxy's, a worker's and a client's machine, and the three nodes."""
    external_workers, external_clients, of_worker, of_client = free_ports(4)
    worker = {"connect_to_proxy_via": f"127.0.0.1:{of_worker}", "forward_requests_to": backend.url.removeprefix("http://")}
    client = {"connect_to_proxy_via": f"127.0.0.1:{of_client}"}
    network = StaticNetwork(tmp_path, "test-backend", proxy={"direct": False}, worker=worker, client=client)
    network.root["registered_proxies"][0]["address"] = f"127.0.0.1:{external_workers} 127.0.0.1:{external_clients}"
    network.write_root()
    reverse = ["-R", f"{external_workers}:127.0.0.1:{network.worker_port}@fake_tdx", "-R", f"{external_clients}:127.0.0.1:{network.client_port}@any"]
    network.routers = {
        "proxy": Router("--cert-mode", "fake_tdx", "--listen", "127.0.0.1", *reverse),
        "worker": Router("--cert-mode", "fake_tdx", "-S", f"{of_worker}@fake_tdx"),
        "client": Router("--cert-mode", "none", "-S", f"{of_client}@fake_tdx"),
    }
    yield network
    network.end()
    for router in network.routers.values():
        router.kill()


def test_three_machines(routed):
    for router in routed.routers.values():
        router.start()
    routed.start()
    answer = routed.chat(messages=[{"role": "user", "content": json.dumps({"chunks": 4})}], stream=True)
    assert answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n")
    seen = routed.proxy.stats()["worker_connections"][0]
    assert seen["fake_attestation"] is True and seen["worker_hash"].startswith("5C55C8F4")
    # Any of the three may be started again.
    for name in ("proxy", "worker", "client"):
        routed.routers[name].kill()
        routed.routers[name].start()
        wait_until(f"an answer after the {name}'s router came back", lambda: routed.chat().status == 200)


def test_a_worker_without_evidence_is_refused_by_the_router(routed):
    routed.routers["worker"] = Router("--cert-mode", "none", *routed.routers["worker"].command[-2:])
    for router in routed.routers.values():
        router.start()
    for node in (routed.proxy, routed.worker, routed.client):
        node.start()
    wait_until("the client is ready", lambda: http(routed.client.info["url"] + "/health").status == 200)
    assert routed.proxy.stats()["worker_connections"] == []
    assert routed.chat().status in (404, 503)
    said = (routed.worker.data_dir / "logs" / "cocoon.log").read_text()
    assert "closed" in said
