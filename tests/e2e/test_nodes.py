"""The three roles as processes of their own on a static root configuration (spec/protocol.md 9.4)."""

import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from net import BINARY, http, wait_until
from nodes import OWNER, ROOT, Node, Program, StaticNetwork, free_ports
from router_stub import RouterStub


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def net(folder, backend):
    """Attested directly, with the tests' own inference server behind the worker."""
    worker = {"forward_requests_to": backend.url.removeprefix("http://"), "max_active_requests": 4, "rpc_port": 1}
    network = StaticNetwork(folder / "direct", "test-backend", worker=worker).start()
    yield network
    network.end()


def order(**what):
    return [{"role": "user", "content": json.dumps(what)}]


def test_the_embedded_model_answers_over_three_processes(folder):
    network = StaticNetwork(folder / "tiny", "cocoon-tiny")
    try:
        network.start()
        answer = network.chat(temperature=0)
        assert answer.status == 200, answer.body
        assert "15" in answer.json()["choices"][0]["message"]["content"]
        assert {n.stop() for n in (network.client, network.worker, network.proxy)} == {0}
    finally:
        network.end()


def test_streams_and_books_without_a_chain(net):
    answer = net.chat(messages=order(chunks=5, usage={"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}), stream=True)
    assert answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n")

    def booked():
        clients, workers = net.proxy.stats()["clients"], net.proxy.stats()["workers"]
        done = clients and clients[0]["used_tokens"] == 150 and clients[0]["signed_tokens"] == 150
        return done and workers[0]["earned_tokens"] == 150 and workers[0]["paid_tokens"] == 0

    wait_until("the request is booked, saved and signed for both", booked)
    assert net.proxy.stats()["smartcontract"]["address"] == net.proxy.info["contract"]


def test_a_killed_worker_comes_back(net):
    net.worker.kill()

    def gone():
        return net.chat(messages=order()).status == 503

    wait_until("requests are refused, not hanging", gone)
    net.worker.start()
    net.wait_served()
    answer = net.chat(messages=order())
    assert answer.status == 200, answer.body


def test_a_killed_proxy_comes_back_with_its_books(net):
    before = net.proxy.stats()["clients"][0]["used_tokens"]
    assert before > 0
    net.proxy.kill()
    net.proxy.start()
    net.wait_served()
    assert net.chat(messages=order()).status == 200
    wait_until("the books go on", lambda: net.proxy.stats()["clients"][0]["used_tokens"] == before + 5)


def test_the_operator_changes_things_by_post_with_his_token(net):
    page = net.worker.page
    token = (net.worker.data_dir / "keys" / "http-token.key").read_text().strip()
    assert (net.worker.data_dir / "keys" / "http-token.key").stat().st_mode & 0o077 == 0
    assert page("/request/disable", b"").status == 401
    assert page("/request/disable?access_hash=" + token, b"").status == 401
    assert page("/request/disable", headers={"X-Cocoon-Token": token}).status == 405, "not by GET"
    assert page("/request/disable", b"", headers={"X-Cocoon-Token": token}).status == 200
    wait_until("the proxy knows", lambda: net.proxy.stats()["worker_connections"][0]["enabled"] is False)
    assert net.chat(messages=order()).status == 503
    assert page("/request/enable", b"", headers={"Authorization": f"Bearer {token}"}).status == 200
    assert page("/request/change_coefficient?coefficient=1.5", b"", headers={"X-Cocoon-Token": token}).status == 200
    assert page("/request/change_coefficient?coefficient=-1", b"", headers={"X-Cocoon-Token": token}).status == 400
    wait_until("the price is known", lambda: net.proxy.stats()["worker_connections"][0]["coefficient"] == 1500)
    wait_until("it serves again", lambda: net.chat(messages=order()).status == 200)
    html = page("/stats")
    assert html.status == 200 and b"<pre>" in html.body


def test_a_changed_root_file_is_followed(net):
    net.root["version"] = 2
    net.write_root()
    for node in (net.proxy, net.client):
        wait_until(f"the {node.role} has version 2", lambda n=node: n.stats()["root_contract_config"]["version"] == 2)
    assert net.chat(messages=order()).status == 200


def test_ctrl_c_drains_every_role(net):
    assert [n.stop() for n in (net.client, net.worker, net.proxy)] == [0, 0, 0]
    net.proxy.start()
    net.worker.start()
    net.client.start()
    net.wait_served()


def fails(role, folder, text, *flags):
    """Starts a node with a wrong file; returns what it says."""
    path = folder / f"wrong-{role}.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    command = [str(BINARY), role, "--config", str(path), "--data-dir", str(folder / f"wrong-{role}"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode != 0 and "panic" not in done.stderr, done.stderr
    return done.stderr


def test_wrong_files_are_explained(folder):
    good = {"is_test": True, "owner_address": OWNER, "root_contract_address": ROOT, "http_port": free_ports(1)[0]}
    root = folder / "wrong-root.json"
    root.write_text('{"registered_proxies": [{"seqno": 1, "address": "example.org:1"}]}')
    static = ("--chain", f"static:{root}")
    cases = [
        ("client", "{", (), ["line 1", "JSON object"]),
        ("client", {}, (), ["owner_address", "nothing"]),
        ("worker", {**good, "coefficient": -1}, (), ["coefficient", "from 0 to"]),
        ("worker", {**good, "node_wallet_key": "AAAA"}, (), ["node_wallet_key", "32 bytes in base64"]),
        ("proxy", {**good, "client_rpc_port": "x"}, (), ["client_rpc_port", "whole number"]),
        ("proxy", {**good, "listen": "0.0.0.0"}, (), ["behind a router", "127.0.0.1"]),
        ("client", {**good, "http_port": 0}, (), ["http_port"]),
        ("client", good, (), ["static:FILE"]),
        ("client", good, ("--chain", "liteserver:x"), ["static:FILE", "--chain"]),
        ("worker", good, ("--chain", "static:/nowhere.json"), ["/nowhere.json"]),
        ("worker", good, static, ["wrong-root.json", "registered_proxies[0].address", "example.org:1"]),
        ("client", {**good, "is_test": False}, static, ["registered_proxies[0].address"]),
        ("worker", good, (*static, "--router", "nonsense"), ["--router", "HOST:PORT"]),
    ]
    for role, text, flags, parts in cases:
        said = fails(role, folder, text, *flags)
        for part in parts:
            assert part in said, f"{role} {text} {flags}: {part!r} is not in:\n{said}"
    root.write_text("{}")
    assert "is_test" in fails("client", folder, {**good, "is_test": False, "is_testnet": True}, *static)


def test_a_directory_of_another_node_is_refused(net, folder):
    taken = subprocess.run([*net.worker.command()], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert taken.returncode == 1 and "in use" in taken.stderr, taken.stderr
    other = Node("client", folder, {"is_test": True, "owner_address": OWNER, "root_contract_address": ROOT, "http_port": 1})
    # That of a worker that has stopped, or never ran: the role stands in the directory.
    other.data_dir = folder / "foreign"
    other.data_dir.mkdir()
    shutil.copy(net.worker.data_dir / "data.json", other.data_dir)
    command = [*other.command(), "--chain", f"static:{net.root_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "a worker alone" in done.stderr, done.stderr


def test_secrets_stay_in_files_of_their_owner(net):
    for node in (net.proxy, net.worker, net.client):
        for path in (node.data_dir / "keys").iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
        secrets = [p.read_text().strip() for p in (node.data_dir / "keys").iterdir()]
        logged = Path(node.stderr_path).read_text() + (node.data_dir / "logs" / "cocoon.log").read_text()
        # The program's own figures must not hold them either.
        told = json.dumps(node.info) + json.dumps(node.stats())
        for secret in secrets:
            assert secret not in logged and secret not in told
        assert all(secret not in arg for arg in Path(f"/proc/{node.process.pid}/cmdline").read_text().split("\0") for secret in secrets)
    assert os.path.exists(net.proxy.data_dir / "keys" / "payment.key")


def test_through_routers(folder, backend):
    """As reference nodes are set up: SOCKS5 on the way out, a frame in front of what comes in."""
    stub = RouterStub()
    leaf = {"connect_to_proxy_via": stub.address}
    worker = {**leaf, "forward_requests_to": backend.url.removeprefix("http://")}
    network = StaticNetwork(folder / "routed", "test-backend", proxy={"direct": False}, worker=worker, client=leaf)
    try:
        network.start()
        assert stub.connections >= 2
        assert network.chat(messages=order()).status == 200
        served = network.proxy.stats()["worker_connections"][0]
        assert served["fake_attestation"] is True and served["worker_hash"].startswith("5C55C8F4")
        # A restarted router costs a bounded delay.
        stub.cut()
        wait_until("the nodes came back through it", lambda: network.chat(messages=order()).status == 200)
        assert stub.connections >= 4
    finally:
        network.end()


def test_evidence_in_a_frame_counts(folder, backend):
    """A proxy whose router vouches for nothing is not used: its image is not on the list."""
    stub = RouterStub(attestation=bytes(4))
    leaf = {"connect_to_proxy_via": stub.address}
    network = StaticNetwork(folder / "unattested", "test-backend", proxy={"direct": False}, client=leaf)
    try:
        network.proxy.start()
        network.client.start()
        wait_until("the client tried twice", lambda: stub.connections >= 2)
        assert network.client.page("/health").status == 503
        log = (network.client.data_dir / "logs" / "cocoon.log").read_text()
        assert "image hash 0000" in log
    finally:
        network.end()


def fund(chain_dir, node, coins):
    """Waits until a starting node names its wallet, and sends it coins of the faucet."""

    def wallet():
        path = getattr(node, "stderr_path", None)
        found = path and re.search(r"the wallet (\S+) has 0 TON", path.read_text())
        return found and found[1]

    address = wait_until(f"the {node.role} asks for coins", wallet)
    send = [str(BINARY), "wallet", "send", "--data-dir", str(chain_dir), "--faucet", "--to", address, "--amount", str(coins)]
    done = subprocess.run(send, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def start_funded(chain_dir, coins):
    """Starts nodes that wait for coins, all at the same time."""
    starting = [threading.Thread(target=node.start, daemon=True) for node in coins]
    for thread in starting:
        thread.start()
    for node, amount in coins.items():
        fund(chain_dir, node, amount)
    for thread in starting:
        thread.join(120)
    assert all(node.process and node.info for node in coins)


def settled(client, worker):
    """Whether all that was used is charged and paid on chain."""
    theirs, ours = client.stats()["proxies"][0], worker.stats()["proxies"][0]
    charged = theirs["tokens_charged"] == theirs["tokens_used_proxy_max"] > 0
    return charged and ours["chain"] == f"Some(Open {{ paid: AdjustedTokens({ours['tokens']}) }})" and ours["tokens"] > 0


def test_a_worker_and_a_client_join_a_running_network(folder, new_network, backend):
    """Over the chain's HTTP interface: they deploy their contracts, pay and are paid, and survive kill -9."""
    # Its stake has to cover two clients.
    home = new_network("joined", "--proxy-stake", "100").start()
    info = home.info
    http_ports = free_ports(2)
    common = {"is_test": True, "is_testnet": True, "root_contract_address": info["chain"]["root"], "check_proxy_hashes": True}
    flags = ["--chain", f"toncenter:{info['chain']['url']}", "--settle", "fast"]
    worker_config = {**common, "owner_address": info["worker"]["owner"], "http_port": http_ports[0], "model_name": info["model_full_name"]}
    # Cheaper than the network's own worker, so that requests come here.
    worker_config |= {"forward_requests_to": backend.url.removeprefix("http://"), "coefficient": 500}
    client_config = {**common, "owner_address": info["client"]["owner"], "http_port": http_ports[1]}
    worker, client = Node("worker", folder, worker_config, *flags), Node("client", folder, client_config, *flags)
    for node in (worker, client):
        node.data_dir = folder / f"joined-{node.role}"
    try:
        start_funded(home.data_dir, {worker: 10, client: 60})
        # By price alone: otherwise the dearer one gets its share.
        ask = {"model": info["model"], "messages": order(chunks=3), "max_tokens": 10, "provider": {"sort": "price"}}

        def answers():
            return http(client.info["url"] + "/v1/chat/completions", ask).status == 200

        wait_until("the client has its contract and a deposit", answers, timeout=60)
        wait_until("the cheaper worker takes it", lambda: answers() and worker.stats()["requests"]["completed"] >= 1, timeout=60, every=0.5)
        assert int(worker.stats()["wallet"]["balance"]) > 0
        worker.kill()
        client.kill()
        worker.start()
        client.start()
        wait_until("both came back", answers, timeout=60)
        wait_until("all is charged and paid", lambda: settled(client, worker), timeout=60)
        assert (worker.stop(), client.stop()) == (0, 0)
        assert home.alive()
    finally:
        for node in (worker, client):
            if node.process is not None:
                node.kill()


def test_a_network_by_hand(folder, backend):
    """Chain, proxy, worker and client, each a program: the proxy deploys its contract with its stake, all settle."""
    workers_port, clients_port, *http_ports = free_ports(5)
    flags = ["--chain-port", 0, "--workers-rpc-port", workers_port, "--client-rpc-port", clients_port, "--model-full-name", "test-backend@x:1"]
    chain = Program("chain", folder / "hand", *flags)
    nodes = []
    try:
        chain.start()
        common = {"is_test": True, "is_testnet": True, "root_contract_address": chain.info["root"], "owner_address": OWNER}
        source = ["--chain", f"toncenter:{chain.info['url']}", "--settle", "fast"]
        ports = {"workers_rpc_port": workers_port, "client_rpc_port": clients_port, "direct": True, "pow_difficulty": 8}
        proxy = Node("proxy", folder / "hand", {**common, **ports, "http_port": http_ports[0], "check_worker_hashes": True}, *source)
        model = {"model_name": "test-backend@x:1", "forward_requests_to": backend.url.removeprefix("http://")}
        worker = Node("worker", folder / "hand", {**common, **model, "http_port": http_ports[1], "check_proxy_hashes": True}, *source)
        client = Node("client", folder / "hand", {**common, "http_port": http_ports[2], "check_proxy_hashes": True}, *source)
        nodes = [client, worker, proxy]
        start_funded(chain.data_dir, {proxy: 100, worker: 10, client: 60})
        ask = {"model": "test-backend", "messages": order(chunks=3), "max_tokens": 10}
        url = client.info["url"] + "/v1/chat/completions"
        wait_until("an answer", lambda: http(url, ask).status == 200, timeout=90)
        wait_until("all is charged and paid", lambda: settled(client, worker), timeout=60)
        # Chain and proxy die together; everything goes on from what is on disk.
        proxy.kill()
        chain.kill()
        chain.flags[1] = str(chain.info["port"])
        chain.start()
        proxy.start()
        wait_until("an answer after the restart", lambda: http(url, ask).status == 200, timeout=90)
        wait_until("all is settled again", lambda: settled(client, worker), timeout=60)
        assert [node.stop() for node in (*nodes, chain)] == [0, 0, 0, 0]
    finally:
        for node in (*nodes, chain):
            if node.process is not None:
                node.kill()
