"""Ctrl-C and a second start: the same chain, balances and keys; running requests are finished first."""

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from billing import check_costs, settled
from chain import Chain
from net import BINARY, Network, wait_until


def contents(directory):
    """Every file of a data directory but its lock and logs."""
    skipped = ("lock", "logs")
    files = (p for p in Path(directory).rglob("*") if p.is_file())
    relative = ((p, p.relative_to(directory)) for p in files)
    return {str(r): p.read_bytes() for p, r in relative if r.parts[0] not in skipped}


@pytest.fixture(scope="module")
def network(new_network):
    return new_network("restart").start()


def ask(network, **options):
    body = {"model": network.model, "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 8}
    answer = network.post("/v1/chat/completions", {**body, **options})
    assert answer.status == 200, answer.body
    return answer


def test_ctrl_c_and_second_start(network, say):
    tokens = check_costs(ask(network).json()["usage"], network.info)
    before = settled(Chain(network), tokens)
    genesis = Chain(network).supply()["genesis"]
    old = network.info
    assert network.stop() == 0
    assert not (network.data_dir / "network.json").exists()

    network.start()
    say(f"warm start: {network.ready_s:.2f} s, of which the program says {network.info['startup_ms']} ms")
    same = [("client", "wallet"), ("client", "contract"), ("proxy", "contract"), ("proxy", "public_key"), ("proxy", "owner")]
    same += [("worker", "contract"), ("worker", "owner"), ("worker", "wallet"), ("chain", "root"), ("chain", "faucet")]
    for role, field in same:
        assert network.info[role][field] == old[role][field], f"{role}.{field} changed"
    chain = Chain(network)
    assert settled(chain, tokens) == before
    assert chain.supply()["genesis"] == genesis
    tokens += check_costs(ask(network).json()["usage"], network.info)
    settled(chain, tokens)


def test_ctrl_c_finishes_what_runs(new_network, backend):
    network = new_network("drain", "--upstream", backend.url).start()
    answers = []
    order = json.dumps({"chunks": 15, "delay": 0.1})
    body = {"model": network.model, "messages": [{"role": "user", "content": order}], "max_tokens": 50, "stream": True}
    caller = threading.Thread(target=lambda: answers.append(network.post("/v1/chat/completions", body)))
    caller.start()
    wait_until("it runs", lambda: network.stats("worker")["running"] == 1, timeout=5, every=0.05)
    assert network.stop() == 0
    caller.join(10)
    assert answers and answers[0].body.endswith(b"data: [DONE]\n\n"), "a running stream was broken off"


def test_a_second_process_is_refused(network):
    second = subprocess.run(network.command(), capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert second.returncode == 1
    assert str(network.info["pid"]) in second.stderr or "running" in second.stderr, second.stderr
    assert ask(network)


def test_a_port_in_use_is_named(network, tmp_path):
    port = network.info["client"]["port"]
    command = Network(tmp_path / "data").command()
    command[command.index("--client-port") + 1] = str(port)
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert run.returncode == 1, run.stderr
    assert str(port) in run.stderr and "expected" in run.stderr, run.stderr


def refused(data_dir, *flags, timeout=60):
    """Starts on a directory and expects a refusal with a helpful text; returns that text."""
    run = subprocess.run(
        Network(data_dir, *flags).command(), capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
    )
    assert run.returncode in (1, 2), (run.returncode, run.stdout, run.stderr)
    assert "error:" in run.stderr and "found:" in run.stderr, run.stderr
    assert "expected:" in run.stderr or "hint:" in run.stderr, run.stderr
    assert "panicked" not in run.stderr
    assert not run.stdout.strip()
    return run.stderr


def test_damaged_and_foreign_data_directories(network, tmp_path):
    """Each is refused with a reason, nothing is changed, and with the damage undone the network goes on."""
    assert network.stop() == 0
    original = contents(network.data_dir)
    stores = [name for name in original if name.endswith(".redb")]
    assert len(stores) >= 3, stores

    def damaged(name, change):
        directory = tmp_path / str(time.monotonic_ns())
        shutil.copytree(network.data_dir, directory)
        path = directory / name
        change(path)
        before = contents(directory)
        text = refused(directory)
        after = contents(directory)
        # Other parts may have been opened before this one was looked at; what is damaged stays as it was found.
        # (An empty file may become an empty store; there is nothing in it to lose.)
        if before.get(name):
            assert after.get(name) == before[name], f"{name}: a refused start has changed it"
        assert {k: v for k, v in after.items() if k.startswith("keys")} == {
            k: v for k, v in before.items() if k.startswith("keys")
        }
        return text

    def scribble(path):
        data = bytearray(path.read_bytes())
        data[: len(data) // 2] = b"\x55" * (len(data) // 2)
        path.write_bytes(data)

    def of_another_format(path):
        value = json.loads(path.read_text())
        path.write_text(json.dumps({**value, "format": 99, "created_by": "9.9.9"}))

    text = damaged("data.json", of_another_format)
    assert "99" in text and "9.9.9" in text, text
    damaged("data.json", lambda path: path.write_text("{"))
    for store in stores:
        damaged(store, scribble)
    for store in (name for name in stores if "chain" in name or "proxy" in name):
        damaged(store, lambda path: path.unlink())
    damaged(next(name for name in stores if "proxy" in name), lambda path: path.write_bytes(b""))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letters.txt").write_text("not a network")
    refused(foreign)
    assert (foreign / "letters.txt").read_text() == "not a network"

    # Worker and client can lose theirs: what was paid stands on the chain, what was earned at the proxy.
    for store in (name for name in stores if "worker" in name or "client" in name):
        (network.data_dir / store).unlink()
    network.start()
    assert check_costs(ask(network).json()["usage"], network.info)


def test_an_emptied_chain_store(network, tmp_path):
    assert network.stop() == 0
    directory = tmp_path / "copy"
    shutil.copytree(network.data_dir, directory)
    network.start()
    (directory / "chain" / "chain.redb").write_bytes(b"")
    refused(directory, timeout=10)


@pytest.mark.parametrize(
    ("config", "flags", "says"),
    [
        ("clientport = 1\n", [], "clientport"),
        ("client_port = true\n", [], "line 1"),
        ("= broken", [], "cocoon.toml"),
        ("", ["--model", "/no/such/model"], "/no/such/model"),
        ("", ["--upstream", "http://127.0.0.1:1"], "127.0.0.1:1"),
        ("", ["--worker-owner", "EQBYLTm4nsvoqJRvs_L-IGNKwWs5RKe19HBK_lFadf19FUfX"], "checksum"),
        ("", ["--price", "5", "--worker-fee", "6"], "worker"),
    ],
)
def test_wrong_settings(tmp_path, config, flags, says):
    directory = tmp_path / "data"
    directory.mkdir()
    if config:
        (directory / "cocoon.toml").write_text(config)
    assert says in refused(directory, *flags)


def cocoon(*arguments, **options):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **options)


def test_unknown_flags_and_typos(tmp_path):
    run = cocoon("up", "--no-such-flag")
    assert run.returncode == 2 and "--no-such-flag" in run.stderr
    words = tmp_path / "my.words"
    made = cocoon("wallet", "new", "--mnemonic-file", str(words))
    assert made.returncode == 0, made.stderr
    assert words.stat().st_mode & 0o777 == 0o600
    good = words.read_text().split()
    assert len(good) == 24 and not set(good[:3]) <= set((made.stdout + made.stderr).split()), "words on the screen"
    assert cocoon("wallet", "address", "--mnemonic-file", str(words)).returncode == 0
    typo = tmp_path / "typo.words"
    typo.write_text(" ".join(["abandom", *good[1:]]))
    run = cocoon("wallet", "address", "--mnemonic-file", str(typo))
    assert run.returncode in (1, 2) and "abandom" in run.stderr and "abandon" in run.stderr, run.stderr
    assert not any(word in run.stderr.split() for word in good[1:] if len(word) > 5), "an error shows other words"


def test_commands_against_the_running_network(network):
    if not network.alive():
        network.start()
    at = ["--data-dir", str(network.data_dir)]
    status = cocoon("status", "--json", *at)
    assert status.returncode == 0, status.stderr
    json.loads(status.stdout)
    chat = cocoon("chat", "Who are you?", "--max-tokens", "10", *at)
    assert chat.returncode == 0 and chat.stdout.strip(), chat.stderr
    for role in ("client", "proxy", "worker"):
        account = cocoon("account", network.info[role]["contract"], "--json", *at)
        assert account.returncode == 0, account.stderr
        json.loads(account.stdout)
    assert cocoon("account", "EQ" + "A" * 46, *at).returncode in (1, 2)
    models = cocoon("model", "list", *at)
    assert models.returncode == 0 and network.model in models.stdout, models.stderr
    assert cocoon("doctor", *at).returncode in (0, 1)
