"""A network put together by hand: chain, proxy, worker and client as programs of their own, with callers that never pause."""

import json
import random
import subprocess
import threading
import time

from chain import Chain
from net import BINARY, http, wait_until
from nodes import Node, Program, free_ports
from test_nodes import start_funded

TON = 10**9
# Operation of the root contract (spec/contracts.md section 3).
CHANGE_PARAMS = 0x022FA189
MODEL = "test-backend@x:1"


class Cell:
    """Writes the bits of one cell without references."""

    def __init__(self):
        self.bits = ""

    def uint(self, value, bits):
        self.bits += f"{value:0{bits}b}"
        return self

    def coins(self, value):
        size = (value.bit_length() + 7) // 8
        return self.uint(size, 4).uint(value, 8 * size) if size else self.uint(0, 4)

    def boc(self):
        """A bag with this cell alone, in hex."""
        length = len(self.bits)
        padded = self.bits if length % 8 == 0 else self.bits + "1" + "0" * (7 - length % 8)
        data = int(padded, 2).to_bytes(len(padded) // 8, "big")
        cell = bytes([0, length // 8 + (length + 7) // 8]) + data
        return (bytes.fromhex("b5ee9c72") + bytes([1, 1, 1, 1, 0, len(cell), 0]) + cell).hex()


class Hand:
    """Chain, proxy, worker and client as programs of their own, and callers that never pause."""

    def __init__(self, folder, backend):
        workers_port, clients_port, *http_ports = free_ports(5)
        flags = ["--chain-port", 0, "--workers-rpc-port", workers_port, "--client-rpc-port", clients_port]
        self.chain = Program("chain", folder, *flags, "--model-full-name", MODEL).start()
        self.info = {"chain": {"url": self.chain.info["url"], "root": self.chain.info["root"]}}
        owner = "0:" + "83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8"
        self.owners = {role: owner[:-1] + str(n) for n, role in enumerate(("proxy", "worker", "client"))}
        common = {"is_test": True, "is_testnet": True, "root_contract_address": self.chain.info["root"]}
        source = ["--chain", f"toncenter:{self.chain.info['url']}", "--settle", "fast"]
        ports = {"workers_rpc_port": workers_port, "client_rpc_port": clients_port, "direct": True, "pow_difficulty": 8}
        self.proxy = self._node("proxy", folder, {**common, **ports, "http_port": http_ports[0], "check_worker_hashes": True}, source)
        model = {"model_name": MODEL, "forward_requests_to": backend.url.removeprefix("http://"), "max_active_requests": 8}
        self.worker = self._node("worker", folder, {**common, **model, "http_port": http_ports[1], "check_proxy_hashes": True}, source)
        self.client = self._node("client", folder, {**common, "http_port": http_ports[2], "check_proxy_hashes": True}, source)
        self.nodes = [self.client, self.worker, self.proxy]
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.threads = []
        # Adjusted tokens of whole answers, by the price they were answered at; and what became of the rest.
        self.tokens = {}
        self.broken = []
        self.refused = 0
        # Tokens of requests that did not end whole.
        self.lost = 0

    def _node(self, role, folder, config, source):
        return Node(role, folder, {**config, "owner_address": self.owners[role]}, *source)

    def start(self):
        start_funded(self.chain.data_dir, {self.proxy: 200, self.worker: 20, self.client: 150})
        wait_until("an answer", lambda: self.ask(1, 2).status == 200, timeout=120, every=0.5)
        return self

    @property
    def reader(self):
        return Chain(self)

    def url(self):
        return f"http://127.0.0.1:{self.client.info['http_port']}/v1/chat/completions"

    def ask(self, prompt, chunks, stream=False, delay=0.0, timeout=60):
        usage = {"prompt_tokens": prompt, "completion_tokens": chunks, "total_tokens": prompt + chunks}
        order = json.dumps({"chunks": chunks, "delay": delay, "usage": usage})
        body = {"model": "test-backend", "messages": [{"role": "user", "content": order}], "max_tokens": 200, "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        return http(self.url(), body, timeout=timeout)

    def run_callers(self, count):
        self.threads += [threading.Thread(target=self._call, args=(n,), daemon=True) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def _call(self, number):
        rng = random.Random(number)
        while not self.ended.is_set():
            prompt, chunks, stream = rng.randint(1, 400), rng.randint(1, 30), rng.random() < 0.5
            began, status = time.monotonic(), None
            try:
                answer = self.ask(prompt, chunks, stream, delay=0.02)
                status = answer.status
                usage = usage_of(answer, stream) if status == 200 else None
            except Exception as error:
                usage, status = None, status or repr(error)
            with self.lock:
                if usage:
                    tokens = prompt + chunks
                    price = usage["total_cost"] // tokens
                    assert usage["total_cost"] == tokens * price
                    self.tokens.setdefault(price, []).append(tokens)
                else:
                    self.lost += prompt + chunks
                    if status == 503:
                        self.refused += 1
                    else:
                        self.broken.append((status, round(time.monotonic() - began, 1)))
            if not usage:
                time.sleep(0.1)

    def answers(self, price):
        with self.lock:
            return len(self.tokens.get(price, []))

    def progress(self):
        """Whole answers so far."""
        with self.lock:
            return sum(map(len, self.tokens.values()))

    def delivered(self):
        """Adjusted tokens of whole answers."""
        with self.lock:
            return sum(map(sum, self.tokens.values()))

    def end_callers(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(90)
            assert not thread.is_alive(), "a caller hangs"

    def change_params(self, price, fee, proxy_delay=600, client_delay=300):
        """As the root's owner, who is the faucet in such a network."""
        cell = Cell().uint(CHANGE_PARAMS, 32).uint(1, 64).coins(price).coins(fee)
        cell.uint(proxy_delay, 32).uint(client_delay, 32).coins(TON).coins(20 * TON)
        send = ["wallet", "send", "--data-dir", self.chain.data_dir, "--faucet", "--to", self.info["chain"]["root"]]
        send += ["--amount", "0.5", "--body", cell.boc()]
        done = subprocess.run([str(BINARY), *map(str, send)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr

    def proxy_state(self, contract):
        names = ["owner", "public_key", "root", "state", "balance", "stake", "unlock", "price", "fee", "min_proxy_stake"]
        names += ["min_client_stake", "params_version"]
        return dict(zip(names, self.reader.run(contract, "get_cocoon_proxy_data"), strict=True))

    def old_contracts(self):
        return self.proxy.stats()["old_contracts"]

    def advance(self, seconds):
        assert http(f"{self.info['chain']['url']}/admin/advance", {"seconds": seconds}).status == 200

    def end(self):
        self.ended.set()
        for node in (*self.nodes, self.chain):
            if node.process is not None:
                node.kill()


def usage_of(answer, stream):
    """The usage of a whole answer, nothing of a cut one."""
    if not stream:
        return answer.json()["usage"]
    if not answer.body.endswith(b"data: [DONE]\n\n"):
        return None
    events = [json.loads(e[6:]) for e in answer.body.decode().split("\n\n") if e.startswith("data: {")]
    return [e["usage"] for e in events if e.get("usage")][-1]


def contract_of(node):
    return node.stats()["smartcontract"]["address"]
