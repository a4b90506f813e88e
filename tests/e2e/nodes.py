"""Nodes as programs of their own: `cocoon proxy`, `cocoon worker`, `cocoon client`, each with a file and a directory."""

import json
import random
import socket
import subprocess
import threading

from net import BINARY, LOGS, START_TIMEOUT_S, Started, http, wait_until

OWNER = "0:83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8"
ROOT = "0:0000000000000000000000000000000000000000000000000000000000000001"
# The image of every node with fake evidence: SHA-256 over 448 zero bytes, in base64.
FAKE_IMAGE = "XFXI9NtAELqSA9g1NtBgmFavjIR6wDnjfn3ej71XS2E="


# Below the range that the system takes for outgoing connections, so that a port stays free until it is used.
PORT_RANGE = range(20_000, 32_000)
GIVEN = set()


def free_ports(count):
    """Ports that are free now and were not given before."""
    ports = []
    for port in random.sample(PORT_RANGE, len(PORT_RANGE)):
        if port in GIVEN:
            continue
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        GIVEN.add(port)
        ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError("no free ports")


class Node(Started):
    """One process of one role."""

    def __init__(self, role, folder, config, *flags):
        self.role, self.name, self.folder = role, role, folder
        self.data_dir = folder / role
        self.config_path = folder / f"{role}-config.json"
        self.config_path.write_text(json.dumps(config))
        self.config_path.chmod(0o600)
        self.flags = [str(f) for f in flags]
        self.process = None
        self.starts = 0

    def command(self):
        return [str(BINARY), self.role, "--config", str(self.config_path), "--data-dir", str(self.data_dir), "--json", *self.flags]

    def start(self):
        assert self.process is None
        self.starts += 1
        LOGS.mkdir(parents=True, exist_ok=True)
        self.stderr_path = LOGS / f"{self.folder.name}-{self.role}-{self.starts}.stderr"
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL)
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(START_TIMEOUT_S)
        if not lines or not lines[0].strip():
            self.kill()
            raise AssertionError(f"{self.role} is not ready:\n{self.stderr_path.read_text()[-3000:]}")
        self.info = json.loads(lines[0])
        assert self.info["role"] == self.role and self.info["pid"] == self.process.pid
        return self

    def page(self, path, data=None, **options):
        return http(f"http://127.0.0.1:{self.info['http_port']}{path}", data, **options)

    def stats(self):
        return self.page("/jsonstats").json()


class Program(Node):
    """`cocoon chain`: the same life, with flags instead of a file."""

    def __init__(self, role, folder, *flags):
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(role, folder, {}, *flags)

    def command(self):
        return [str(BINARY), self.role, "--data-dir", str(self.data_dir), "--json", *self.flags]


class StaticNetwork:
    """A proxy, a worker and a client on a static root configuration, direct or through routers."""

    def __init__(self, folder, model, worker=None, proxy=None, client=None, flags=(), worker_flags=()):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.model = folder, model
        ports = free_ports(5)
        self.worker_port, self.client_port, proxy_http, worker_http, client_http = ports
        self.root_path = folder / "root.json"
        self.root = {
            "proxy_hashes": [FAKE_IMAGE],
            "worker_hashes": [FAKE_IMAGE],
            "model_types": [model],
            "model_hashes": [],
            "registered_proxies": [{"seqno": 1, "address": f"127.0.0.1:{self.worker_port} 127.0.0.1:{self.client_port}"}],
            "price_per_token": 20,
            "worker_fee_per_token": 19,
            "last_proxy_seqno": 1,
            "version": 1,
            "params_version": 1,
            "root_owner_address": OWNER,
        }
        self.write_root()
        common = {"is_test": True, "is_testnet": True, "owner_address": OWNER, "root_contract_address": ROOT}
        chain = ["--chain", f"static:{self.root_path}", "--settle", "fast", *flags]
        proxy_config = {
            **common,
            "workers_rpc_port": self.worker_port,
            "client_rpc_port": self.client_port,
            "http_port": proxy_http,
            "check_worker_hashes": True,
            "direct": True,
            "pow_difficulty": 8,
            **(proxy or {}),
        }
        leaf = {**common, "proxy_connections": 1, "check_proxy_hashes": True}
        self.proxy = Node("proxy", folder, proxy_config, *chain)
        worker_config = {**leaf, "http_port": worker_http, "model_name": model, "coefficient": 1000, **(worker or {})}
        self.worker = Node("worker", folder, worker_config, *chain, *worker_flags)
        self.client = Node("client", folder, {**leaf, "http_port": client_http, **(client or {})}, *chain)

    def write_root(self):
        self.root_path.write_text(json.dumps(self.root))

    def start(self):
        for node in (self.proxy, self.worker, self.client):
            node.start()
        self.wait_served()
        return self

    def wait_served(self):
        def served():
            listed = http(self.client.info["url"] + "/v1/models")
            if listed.status != 200:
                return False
            models = {m["id"]: m["workers"] for m in listed.json()["data"]}
            return bool(models.get(self.model))

        wait_until("the client sees a worker for the model", served)

    def chat(self, **options):
        body = {"model": self.model, "messages": [{"role": "user", "content": "What is 7 + 8?"}], "max_tokens": 20, **options}
        return http(self.client.info["url"] + "/v1/chat/completions", body)

    def end(self):
        for node in (self.client, self.worker, self.proxy):
            if node.process is not None:
                node.kill()
