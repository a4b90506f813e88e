"""Separate nodes that are killed at random moments under load, and networks of two proxies of which one dies."""

import json
import os
import random
import threading
import time

import pytest
from net import http, wait_until
from nodes import Node, StaticNetwork, free_ports

# More of them: COCOON_KILLS=200 pytest test_nodes_crash.py
KILLS = int(os.environ.get("COCOON_KILLS", "9"))
SEED = int(os.environ.get("COCOON_KILL_SEED", "20261122"))


def order(prompt, chunks):
    usage = {"prompt_tokens": prompt, "completion_tokens": chunks, "total_tokens": prompt + chunks}
    return [{"role": "user", "content": json.dumps({"chunks": chunks, "delay": 0.01, "usage": usage})}]


class Callers:
    """Callers that ask without a pause, and what became of their requests in tokens."""

    def __init__(self, network, count):
        self.network = network
        self.lock = threading.Lock()
        self.delivered = self.failed = self.answers = 0
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        rng = random.Random(SEED + number)
        url = f"http://127.0.0.1:{self.network.client_http}/v1/chat/completions"
        while not self.ended.is_set():
            prompt, chunks = rng.randint(1, 500), rng.randint(1, 8)
            stream = rng.random() < 0.5
            body = {"model": self.network.model, "messages": order(prompt, chunks), "max_tokens": 50, "stream": stream}
            try:
                answer = http(url, body, timeout=30)
                if stream:
                    whole = answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n")
                else:
                    whole = answer.status == 200 and answer.json()["usage"]["total_tokens"] == prompt + chunks
            except (OSError, ValueError, KeyError):
                whole = False
            except Exception as error:  # http.client has errors of its own for broken bodies
                assert type(error).__module__ == "http.client", error
                whole = False
            with self.lock:
                if whole:
                    self.delivered += prompt + chunks
                    self.answers += 1
                else:
                    self.failed += prompt + chunks
            if not whole:
                time.sleep(0.05)

    def progress(self):
        with self.lock:
            return self.answers

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a caller hangs"


def test_kill_9_at_random_moments(tmp_path, backend, say):
    worker = {"forward_requests_to": backend.url.removeprefix("http://"), "max_active_requests": 8}
    network = StaticNetwork(tmp_path, "test-backend", worker=worker)
    rng = random.Random(SEED)
    callers = None
    try:
        network.start()
        network.client_http = network.client.info["http_port"]
        callers = Callers(network, 4)
        for kill in range(KILLS):
            node = [network.proxy, network.worker, network.client][kill % 3]
            time.sleep(rng.uniform(0.05, 0.6))
            node.kill()
            node.start()
            before = callers.progress()
            wait_until(f"answers after kill {kill + 1}, of the {node.role}", lambda b=before: callers.progress() > b, timeout=30)
        callers.end()

        def books():
            seen = network.proxy.stats()
            [client], [worker] = seen["clients"], seen["workers"]
            still = client["running_queries"] == 0 and client["used_tokens"] == client["saved_tokens"] == client["signed_tokens"]
            return (client["used_tokens"], worker["earned_tokens"]) if still else None

        used, earned = wait_until("the books are closed, saved and signed", books)
        say(f"{KILLS} kills, {callers.answers} answers, {callers.delivered} tokens delivered, {used} booked, {callers.failed} in failed requests")
        assert used == earned, "client and worker are booked the same"
        assert callers.delivered <= used, "an answer was delivered whole and never booked"
        assert used <= callers.delivered + callers.failed, "somebody was charged for what he did not ask for"
    finally:
        if callers:
            callers.ended.set()
        network.end()


@pytest.fixture
def twins(tmp_path, backend):
    """Two proxies; worker and client use both."""
    leaf = {"proxy_connections": 2}
    worker = {**leaf, "forward_requests_to": backend.url.removeprefix("http://"), "max_active_requests": 8}
    network = StaticNetwork(tmp_path, "test-backend", worker=worker, client=leaf)
    workers_port, clients_port, http_port = free_ports(3)
    network.root["registered_proxies"].append({"seqno": 2, "address": f"127.0.0.1:{workers_port} 127.0.0.1:{clients_port}"})
    network.write_root()
    config = json.loads(network.proxy.config_path.read_text())
    config |= {"workers_rpc_port": workers_port, "client_rpc_port": clients_port, "http_port": http_port}
    (tmp_path / "second").mkdir()
    network.second = Node("proxy", tmp_path / "second", config, *network.proxy.flags)
    yield network
    network.end()
    if network.second.process is not None:
        network.second.kill()


def test_one_of_two_proxies_dies(twins):
    twins.second.start()
    twins.start()
    both = (twins.proxy, twins.second)
    for proxy in both:
        wait_until("the worker serves both", lambda p=proxy: p.stats()["worker_connections"])
    wait_until("the client uses both", lambda: sum(c["is_ready"] for c in twins.client.stats()["proxy_connections"]) == 2)
    for dead in both:
        dead.kill()
        # The other one takes over: no request fails for long, and none hangs.
        wait_until("an answer", lambda: twins.chat(messages=order(3, 2)).status == 200, timeout=20)
        for _ in range(5):
            assert twins.chat(messages=order(3, 2)).status == 200
        dead.start()
        wait_until("both are used again", lambda: sum(c["is_ready"] for c in twins.client.stats()["proxy_connections"]) == 2, timeout=40)
        wait_until("the worker serves it again", lambda d=dead: d.stats()["worker_connections"], timeout=40)
