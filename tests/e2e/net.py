"""A network of one `cocoon up` process, and plain HTTP to its pages."""

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
BINARY = Path(os.environ.get("COCOON_BIN", TARGET / "debug" / "cocoon"))
LOGS = Path(os.environ.get("COCOON_E2E_LOGS", TARGET / "e2e-logs"))

# A first start founds the network on chain; on a busy machine with two cores that has its time.
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30


class Answer:
    """Status, headers and body of an HTTP answer, whatever the status."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


def http(url, data=None, timeout=30, headers=None):
    """GET, or POST if there is data: bytes as they are, anything else as JSON."""
    if data is not None and not isinstance(data, bytes):
        data = json.dumps(data).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def wait_until(what, check, timeout=30, every=0.1):
    """Waits until `check` gives something true, and returns that."""
    end = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}; last seen: {value!r}")
        time.sleep(every)


class Started:
    """A program that was started: `process` and `name`, and the two ways it ends."""

    def kill(self):
        """kill -9: nothing is drained, nothing is saved."""
        process, self.process = self.process, None
        process.kill()
        process.wait(10)
        process.stdout.close()

    def stop(self):
        """Ctrl-C; returns the exit code."""
        process, self.process = self.process, None
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name}: Ctrl-C did not stop it within {STOP_TIMEOUT_S} s") from None
        finally:
            process.stdout.close()


class Network(Started):
    """`cocoon up` in a data directory of its own, on free ports. Its output goes to a log beside the directory."""

    def __init__(self, data_dir, *flags, name="network"):
        self.data_dir = Path(data_dir)
        self.flags = [str(flag) for flag in flags]
        self.name = name
        self.process = None
        self.starts = 0
        self.info = None
        self.ready_s = None

    def command(self):
        ports = ["client", "proxy", "worker-rpc", "client-rpc", "worker", "chain"]
        free = [part for port in ports for part in (f"--{port}-port", "0")]
        return [
            *(str(BINARY), "up", "--data-dir", str(self.data_dir), "--json", "--pow-difficulty", "8"),
            *free,
            *self.flags,
        ]

    def start(self):
        assert self.process is None
        self.starts += 1
        LOGS.mkdir(parents=True, exist_ok=True)
        self.stderr_path = LOGS / f"{self.name}-{self.starts}.stderr"
        began = time.monotonic()
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(
                self.command(), stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL
            )
        # A thread reads, so that a silent process cannot hold up the tests.
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(START_TIMEOUT_S)
        if not lines or not lines[0].strip():
            code = self.process.poll()
            self.kill()
            raise AssertionError(
                f"{self.name}: not ready within {START_TIMEOUT_S} s (exit code {code}):\n{self.stderr_text()[-3000:]}"
            )
        self.ready_s = time.monotonic() - began
        self.info = json.loads(lines[0])
        written = json.loads((self.data_dir / "network.json").read_text())
        assert written == self.info, "network.json differs from what --json printed"
        assert self.info["pid"] == self.process.pid
        return self

    def stderr_text(self):
        return self.stderr_path.read_text(errors="replace")

    @property
    def base_url(self):
        return self.info["client"]["openai_base_url"]

    @property
    def model(self):
        return self.info["model"]

    def post(self, path, body, **options):
        return http(self.info["client"]["url"] + path, body, **options)

    def stats(self, role):
        return http(self.info[role]["url"] + "/jsonstats").json()

    def alive(self):
        return self.process is not None and self.process.poll() is None
