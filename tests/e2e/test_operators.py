"""What operators see and do: /metrics, /jsonstats, /perf, actions, and the commands status, doctor and account."""

import json
import subprocess

import pytest
from net import BINARY, http, wait_until
from nodes import OWNER, Node, Program, StaticNetwork, free_ports
from operators import metrics, missing, total
from test_nodes import order, settled, start_funded

ROLES = ["client", "proxy", "worker"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("operators")


@pytest.fixture(scope="module")
def net(folder, backend):
    worker = {"forward_requests_to": backend.url.removeprefix("http://"), "max_active_requests": 7}
    network = StaticNetwork(folder / "static", "test-backend", worker=worker).start()
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    answer = network.chat(messages=order(chunks=5, usage=usage), stream=True)
    assert answer.status == 200, answer.body
    assert network.chat(messages=order(status=429)).status == 429
    assert network.chat(model="no-such-model").status == 404
    assert network.chat(max_tokens=-1).status == 400
    yield network
    network.end()


def nodes_of(net):
    return {role: getattr(net, role) for role in ROLES}


def cocoon(*args, code=0):
    done = subprocess.run([str(BINARY), *map(str, args)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
    return done


def token(node):
    return (node.data_dir / "keys" / "http-token.key").read_text().strip()


def post(node, action, **options):
    return node.page(f"/request/{action}", b"", headers={"X-Cocoon-Token": token(node)}, **options)


def test_metrics_of_every_role(net):
    def booked():
        page = metrics(net.proxy.page("/metrics").body.decode())
        return total(page, "cocoon_account_tokens", party="client", stage="signed") == 150 and page

    proxy = wait_until("the request is booked, saved and signed", booked)
    client = metrics(net.client.page("/metrics").body.decode())
    worker = metrics(net.worker.page("/metrics").body.decode())
    assert net.proxy.page("/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4")
    requests = "cocoon_requests_total"
    # The proxy passes answers on without looking at their status.
    assert [total(p, requests, outcome="success") for p in (client, proxy, worker)] == [1, 2, 1]
    assert total(client, requests, outcome="error_answer") == 1
    assert total(worker, requests, outcome="error_answer") >= 1, "a busy engine is asked again before its answer is passed on"
    assert total(proxy, requests, outcome="invalid") == 1, "the model that nobody serves"
    assert total(client, requests, outcome="invalid") == 2, "that model, and a body that is wrong"
    for page in (client, proxy, worker):
        assert total(page, "cocoon_billed_tokens_total") == 150
        assert total(page, "cocoon_tokens_total", **{"class": "prompt"}) == 100
        assert total(page, "cocoon_tokens_total", **{"class": "completion"}) == 50
        assert total(page, "cocoon_time_to_first_token_seconds_count") >= 1
        assert total(page, "cocoon_request_duration_seconds_count") >= 2
        assert total(page, "cocoon_save_duration_seconds_count") >= 1
        assert total(page, "cocoon_links", state="ready", version="3") >= 1
        assert total(page, "cocoon_running_requests") == 0
        assert total(page, "cocoon_attestation_total", verdict="accepted_fake") + total(page, "cocoon_attestation_total", verdict="accepted") >= 1
        assert total(page, "cocoon_resident_memory_bytes") > 1 << 20
        assert total(page, "cocoon_enabled") == 1
    assert total(proxy, "cocoon_request_slots") == 7
    assert total(proxy, "cocoon_queued_requests") == 0
    assert total(proxy, "cocoon_reserved_tokens") == 0

    def earned():
        return total(metrics(net.worker.page("/metrics").body.decode()), "cocoon_earned_nanotons") == 150 * 19

    wait_until("the worker knows what it earned", earned)


def test_metrics_say_nothing_of_who_and_what(net):
    for role, node in nodes_of(net).items():
        text = node.page("/metrics").body.decode()
        for secret in (net.model, OWNER[2:], net.proxy.info["contract"], "127.0.0.1", token(node)):
            assert secret not in text, f"{role}: {secret}"


def test_the_chain_and_a_whole_network_have_metrics(tiny):
    chain = metrics(http(tiny.info["chain"]["url"] + "/metrics").body.decode())
    assert total(chain, "cocoon_chain_coins_conserved") == 1
    assert total(chain, "cocoon_chain_block") > 0
    for role in ROLES:
        page = metrics(http(tiny.info[role]["url"] + "/metrics").body.decode())
        assert total(page, "cocoon_wallet_balance_nanotons") > 10**9
        assert total(page, "cocoon_wallet_ready") == 1
        wait_until(
            f"the {role} has seen the chain",
            lambda r=role: total(metrics(http(tiny.info[r]["url"] + "/metrics").body.decode()), "cocoon_chain_reachable") == 1,
        )


def test_jsonstats_has_every_member_of_the_reference(net):
    for role, node in nodes_of(net).items():
        stats = node.stats()
        assert missing(stats, role) == []
        for name, counter in stats["stats"].items():
            assert len(counter) == 7, name
        assert stats["stats"]["queries"][0] >= 2
    assert net.client.stats()["stats"]["bytes_sent"][0] > 100


def test_pages_for_people(net):
    for role, node in nodes_of(net).items():
        html = node.page("/stats").body.decode()
        assert f"cocoon {role}" in html and "/request/" in html
        perf = node.page("/perf")
        assert perf.status == 200 and b"tasks alive" in perf.body and perf.headers["Content-Type"].startswith("text/plain")
        # No page of another site may read these in a browser.
        assert node.page("/jsonstats").headers["Access-Control-Allow-Origin"] is None
    assert net.client.page("/nothing").json()["error"]["code"] == "unknown_url"
    assert net.proxy.page("/nothing").json()["error"]["code"] == "unknown_url"


def test_actions_ask_for_the_token_and_explain_themselves(net):
    proxy = net.proxy.info["contract"]
    for node, action in ((net.client, f"topup?proxy={proxy}"), (net.proxy, "withdraw"), (net.worker, f"payout?proxy={proxy}")):
        refused = node.page(f"/request/{action}", b"")
        assert (refused.status, refused.json()["error"]["code"]) == (401, "token_required")
        by_get = node.page(f"/request/{action}", headers={"X-Cocoon-Token": token(node)})
        assert (by_get.status, by_get.json()["error"]["code"]) == (405, "method_not_allowed")
        answer = post(node, action)
        assert (answer.status, answer.json()["error"]["code"]) == (409, "not_possible_now"), answer.body
        assert "no chain" in answer.json()["error"]["message"]
        unknown = post(node, "explode")
        assert unknown.status == 404 and "there are: " in unknown.json()["error"]["message"]
    wrong = post(net.client, "charge?proxy=nonsense")
    assert (wrong.status, wrong.json()["error"]["param"]) == (400, "proxy")
    nobody = post(net.client, "charge?proxy=0:" + "11" * 32)
    assert nobody.status == 404 and "no proxy" in nobody.json()["error"]["message"]


def test_status_of_single_nodes(net):
    for role, node in nodes_of(net).items():
        shown = json.loads(cocoon("status", "--data-dir", node.data_dir, "--json").stdout)["single_nodes"]
        assert [n["role"] for n in shown] == [role] and shown[0]["problems"] == []
        text = cocoon("status", "--url", f"http://127.0.0.1:{node.info['http_port']}").stdout
        assert role in text and "none" in text
    text = cocoon("status", "--data-dir", net.proxy.data_dir).stdout
    assert "image 5C55C8F4" in text and "FAKE" in text and "test-backend" in text
    assert post(net.worker, "disable").status == 200
    try:
        closed = cocoon("status", "--data-dir", net.worker.data_dir, code=1).stdout
        assert "the operator has closed this worker" in closed and "/request/enable" in closed
        wait_until("the proxy knows", lambda: not net.proxy.stats()["worker_connections"][0]["enabled"])
        assert "no worker is connected and open" in cocoon("status", "--data-dir", net.proxy.data_dir, code=1).stdout
    finally:
        assert post(net.worker, "enable").status == 200
    assert "PROBLEM" in cocoon("status", "--url", "http://127.0.0.1:1", code=1).stdout
    wait_until("it serves again", lambda: net.chat(messages=order()).status == 200)


def findings(done):
    report = json.loads(done.stdout)
    return report["problems"], {(f["check"], f["verdict"]): f["text"] for f in report["findings"]}


def test_doctor_of_single_nodes(net, folder):
    chain = ["--chain", f"static:{net.root_path}", "--json"]
    for role, node in nodes_of(net).items():
        done = cocoon("doctor", "--role", role, "--config", node.config_path, "--data-dir", node.data_dir, *chain)
        problems, found = findings(done)
        assert problems == 0, found
        assert str(node.info["pid"]) in found["process", "ok"]
    # Nothing runs there, the engine is gone, the name is not listed, a key is open to others.
    config = json.loads(net.worker.config_path.read_text())
    config |= {"forward_requests_to": "127.0.0.1:1", "model_name": "other", "image_hash": "B" * 42 + "E="}
    config |= {"http_port": net.worker.info["http_port"], "node_wallet_key": "C" * 42 + "E="}
    path = folder / "sick.json"
    path.write_text(json.dumps(config))
    path.chmod(0o644)
    done = cocoon("doctor", "--role", "worker", "--config", path, "--data-dir", folder / "sick", *chain, code=1)
    problems, found = findings(done)
    assert problems == 4, found
    assert "does not answer" in found["engine", "PROBLEM"]
    assert "not on the root's list" in found["model name", "PROBLEM"]
    assert "not on the root's list" in found["image hash", "PROBLEM"]
    assert "ss -ltnp" in found["port", "PROBLEM"]
    assert "chmod 600" in found["permissions", "warning"]
    assert not (folder / "sick").exists(), "nothing was made"
    path.write_text("{")
    done = cocoon("doctor", "--role", "worker", "--config", path, *chain, code=1)
    assert findings(done)[0] == 1
    done = cocoon("doctor", "--role", "proxy", "--config", net.proxy.config_path, "--chain", "toncenter:http://127.0.0.1:1", code=1)
    assert "does not answer" in done.stdout


@pytest.fixture(scope="module")
def chained(folder, backend):
    """Chain, proxy, worker and client, each a program, with the thresholds of production: nothing settles by itself."""
    home = folder / "chained"
    workers_port, clients_port, *http_ports = free_ports(5)
    flags = ["--chain-port", 0, "--workers-rpc-port", workers_port, "--client-rpc-port", clients_port, "--model-full-name", "test-backend@x:1"]
    chain = Program("chain", home, *flags)
    nodes = []
    try:
        chain.start()
        common = {"is_test": True, "is_testnet": True, "root_contract_address": chain.info["root"], "owner_address": OWNER}
        source = ["--chain", f"toncenter:{chain.info['url']}"]
        ports = {"workers_rpc_port": workers_port, "client_rpc_port": clients_port, "direct": True, "pow_difficulty": 8}
        proxy = Node("proxy", home, {**common, **ports, "http_port": http_ports[0], "check_worker_hashes": True}, *source, "--stake", 100)
        model = {"model_name": "test-backend@x:1", "forward_requests_to": backend.url.removeprefix("http://")}
        worker = Node("worker", home, {**common, **model, "http_port": http_ports[1], "check_proxy_hashes": True}, *source)
        client = Node("client", home, {**common, "http_port": http_ports[2], "check_proxy_hashes": True}, *source)
        nodes = [client, worker, proxy]
        start_funded(chain.data_dir, {proxy: 250, worker: 10, client: 200})
        yield chain, proxy, worker, client
    finally:
        for node in (*nodes, chain):
            if node.process is not None:
                node.kill()


def test_the_operator_moves_the_money(chained):
    chain, proxy, worker, client = chained
    url = client.info["url"] + "/v1/chat/completions"
    usage = {"prompt_tokens": 3000, "completion_tokens": 2000, "total_tokens": 5000}
    ask = {"model": "test-backend", "messages": order(chunks=3, usage=usage), "max_tokens": 5000}
    wait_until("an answer", lambda: http(url, ask).status == 200, timeout=120)

    def signed():
        theirs = proxy.stats()["clients"][0]
        mine = worker.stats()["proxies"]
        return theirs["signed_tokens"] == theirs["used_tokens"] > 0 and mine and mine[0]["signed_tokens"] == theirs["used_tokens"]

    wait_until("all that was used is committed and signed", signed, timeout=120)
    used = client.stats()["proxies"][0]["tokens_used_proxy_max"]
    assert client.stats()["proxies"][0]["tokens_charged"] == 0, "nothing settles by itself"
    assert worker.stats()["proxies"][0]["cached_out_tokens"] == 0

    # The proxy charges, the worker fetches its pay; asked again, both say that there is nothing left.
    done = cocoon("account", "charge", "--data-dir", proxy.data_dir).stdout
    assert f"charged for {used} tokens" in done
    wait_until("the client sees the charge", lambda: client.stats()["proxies"][0]["tokens_charged"] == used, timeout=60)
    wait_until("so does the proxy", lambda: proxy.stats()["clients"][0]["charged_tokens"] == used, timeout=60)
    assert "nothing to charge" in cocoon("account", "charge", "--data-dir", proxy.data_dir, code=1).stderr
    wait_until("the worker's contract is there", lambda: worker.stats()["proxies"][0]["sc_inited"], timeout=90)
    assert f"{used} tokens" in cocoon("account", "payout", "--data-dir", worker.data_dir).stdout
    wait_until("the worker is paid", lambda: worker.stats()["proxies"][0]["cached_out_tokens"] == used, timeout=60)
    assert settled(client, worker)
    wait_until("no message is under way", lambda: not worker.stats()["proxies"][0]["running_request"], timeout=60)
    assert "paid already" in cocoon("account", "payout", "--data-dir", worker.data_dir, code=1).stderr

    # What the worker earned is shown, and what a day would bring.
    earned = worker.stats()["earnings"]
    page = metrics(worker.page("/metrics").body.decode())
    assert total(page, "cocoon_unpaid_nanotons") == 0
    assert int(earned["last_24_hours_nanotons"]) == used * int(worker.stats()["root_contract_config"]["worker_fee_per_token"])

    # The client raises its deposit and takes out again what exceeds the stake.
    def account():
        return client.stats()["proxies"][0]

    wait_until("the client's messages have arrived", lambda: not account()["message_pending"], timeout=60)
    before = int(account()["balance"])
    assert "nothing" not in cocoon("account", "topup", "--data-dir", client.data_dir).stdout
    wait_until("the deposit grew", lambda: int(account()["balance"]) > before, timeout=90)
    wait_until("the message has arrived", lambda: not account()["message_pending"], timeout=60)
    cocoon("account", "withdraw", "--data-dir", client.data_dir)
    wait_until("the stake is left", lambda: int(account()["balance"]) == int(account()["stake"]), timeout=60)

    # Closing needs a word, and ends the account.
    assert "confirmation" in cocoon("account", "close", "--data-dir", client.data_dir, code=2).stderr
    cocoon("account", "close", "--data-dir", client.data_dir, "--yes")
    wait_until("the proxy grants the refund", lambda: not client.stats()["proxies"] or account()["state"] == 2, timeout=120)
    assert chain.process is not None
