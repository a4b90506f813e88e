"""The ways out of a deposit: shown without touching anything, refused before money goes in, and really taken."""

import contextlib
import json
import subprocess
import threading
from http.client import HTTPException

import pytest
from chain import Chain
from net import BINARY, http, wait_until

TON = 10**9


def cocoon(network, *args):
    """Runs a command beside the network."""
    command = [str(BINARY), "--data-dir", str(network.data_dir), *args]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)


def dry_run(network, *args):
    shown = cocoon(network, "account", "exit", "--dry-run", "--json", *args)
    assert shown.returncode == 0, shown.stderr
    report = json.loads(shown.stdout)
    return report, {way["way"]: way for way in report["ways"]}


def lts(chain, network):
    """What the owner has done so far."""
    return [t.lt for role in ("wallet", "contract") for t in chain.transactions(network.info["client"][role])]


def test_dry_run_shows_every_way_and_changes_nothing(tiny):
    chain = Chain(tiny)
    wait_until("the deposit is there", lambda: chain.client()["balance"] > 0)
    report, ways = dry_run(tiny)
    assert set(ways) == {"ask_proxy", "forced", "forced_after_all_others", "forced_without_stake", "withdraw"}
    assert report["client"]["contract"] == tiny.info["client"]["contract"]
    assert report["client"]["owner"] == tiny.info["client"]["wallet"]
    deposit = int(report["client"]["ledger"]["balance"])
    stake = int(report["client"]["ledger"]["stake"])
    # The proxy's node commits every second here, so it is asked; its stake covers this client even behind all others.
    assert report["recommended"] == "ask_proxy"
    assert report["proxy"]["last_commit"] is not None
    assert int(report["proxy"]["stake"]) == 2 * stake
    for name in ("forced", "forced_after_all_others"):
        outcome = ways[name]["outcome"]
        assert int(outcome["returned"]) == deposit and int(outcome["lost"]) == 0
        assert outcome["wait_seconds"] == 301 and 0 < int(outcome["fees"]) < TON // 10
        assert outcome["ledger_after"]["state"] == "closed"
    assert int(ways["forced_without_stake"]["outcome"]["lost"]) == min(deposit, stake)
    steps = ways["forced"]["outcome"]["steps"]
    assert [step["action"] for step in steps[:2]] == ["request refund", "force refund"]
    assert {t["account"] for t in steps[1]["transactions"]} == {"owner", "client", "proxy"}
    # What exceeds the stake can be withdrawn; if nothing does, the contract's own exit code says so.
    withdraw = ways["withdraw"]
    assert withdraw["possible"] == (deposit > stake)
    assert withdraw["possible"] or "1001" in withdraw["blocked"]

    before = lts(chain, tiny)
    text = cocoon(tiny, "account", "exit", "--dry-run")
    assert text.returncode == 0, text.stderr
    for part in ("way out", "waiting", "lost", "* is the best way", "301 s"):
        assert part in text.stdout, text.stdout
    planned = dry_run(tiny, "--deposit", "20")[0]["planned"]
    assert planned["safe"] is True and int(planned["deposit_after"]) >= 20 * TON
    # A stake that is not above the old one is refused by the contract itself.
    same = dry_run(tiny, "--stake", "20")[0]["planned"]
    assert same["safe"] is False and "1003" in same["objection"]
    assert dry_run(tiny, "--stake", "25")[0]["planned"]["safe"] is True
    assert lts(chain, tiny) == before, "showing the ways out has sent something"
    # What cannot be used is named before anything is looked at or sent.
    rubbish = tiny.data_dir.parent / "rubbish.boc"
    rubbish.write_bytes(b"not a bag of cells")
    wrong = cocoon(tiny, "account", "exit", "--grant", str(rubbish), "--yes")
    assert wrong.returncode == 2 and "no granted refund" in wrong.stderr
    elsewhere = cocoon(tiny, "account", "exit", "--dry-run", "--contract", "0:" + "5" * 64)
    assert elsewhere.returncode == 1 and "nothing was ever deposited" in elsewhere.stderr
    assert cocoon(tiny, "account", "exit", "--contract", "0:" + "5" * 64, "--yes").returncode == 2
    # Without a terminal nothing goes without --yes.
    asked = cocoon(tiny, "account", "exit")
    assert asked.returncode == 2 and "nothing was sent" in asked.stderr
    assert lts(chain, tiny) == before


def test_contracts_are_recognised(tiny):
    for role, kind in (("client", "client"), ("proxy", "proxy")):
        shown = cocoon(tiny, "contracts", "verify", tiny.info[role]["contract"], "--json")
        assert shown.returncode == 0, shown.stderr
        found = json.loads(shown.stdout)
        assert (found["contract"], found["build"], found["official"]) == (kind, "cocoon-rust", False)
    assert "root contract" in cocoon(tiny, "contracts", "verify", tiny.info["chain"]["root"]).stdout
    assert "wallet contract" in cocoon(tiny, "contracts", "verify", tiny.info["client"]["wallet"]).stdout
    nobody = cocoon(tiny, "contracts", "verify", "0:" + "5" * 64)
    assert nobody.returncode == 1 and "never used" in nobody.stderr
    listed = json.loads(cocoon(tiny, "contracts", "list", "--json").stdout)
    assert len(listed) == 16 and sum(code["official"] for code in listed) == 11


@pytest.fixture(scope="module")
def risky(new_network):
    """A proxy with a stake of 1 TON: the client refuses its deposit, and takes the risk only when it is told to."""
    network = new_network("risky", "--proxy-stake", "1")
    with pytest.raises(AssertionError):
        network.start()
    for part in ("makes no deposit", "stake is 1 TON", "a forced refund would return", "of 20 TON", "--accept-exit-risk"):
        assert part in network.stderr_text(), network.stderr_text()
    network.flags.append("--accept-exit-risk")
    return network.start()


def test_a_refused_deposit(risky):
    chain = Chain(risky)
    # One deposit, after the risk was accepted; the refused start has left none.
    assert chain.deposits() == 20 * TON
    report, ways = dry_run(risky, "--deposit", "20")
    assert int(ways["forced"]["outcome"]["returned"]) == 1 * TON
    assert int(ways["forced"]["outcome"]["lost"]) == 19 * TON
    assert report["recommended"] == "ask_proxy"
    planned = report["planned"]
    assert planned["safe"] is False and "stake is 1 TON" in planned["objection"]


def test_the_best_way_taken(risky):
    chain = Chain(risky)
    wallet = chain.balance(risky.info["client"]["wallet"])
    before = chain.client()
    taken = cocoon(risky, "account", "exit", "--yes", "--json")
    assert taken.returncode == 0, taken.stderr
    assert "closed for good" in taken.stderr
    result = json.loads(taken.stdout)
    assert (result["way"], result["final"], result["state"], result["deposit"]) == ("ask_proxy", True, "closed", "0")
    assert int(result["returned"]) == before["balance"] == chain.payouts(risky.info["client"]["wallet"])
    assert result["lost"] == "0"
    # The contract's own coins came home as well; all it cost are fees.
    gained = chain.balance(risky.info["client"]["wallet"]) - wallet
    assert before["balance"] + TON // 2 < gained < before["balance"] + TON
    assert [step["action"] for step in result["steps"]] == ["request refund", "take the contract's own coins"]
    assert chain.proxy()["stake"] == 1 * TON, "the proxy's stake was not touched"
    chain.check_supply()
    again = cocoon(risky, "account", "exit", "--yes")
    assert again.returncode == 1 and "nothing to take out" in again.stderr
    forced = cocoon(risky, "account", "exit", "--forced", "--yes")
    assert forced.returncode == 1 and "closed" in forced.stderr


def test_force_is_never_taken_unasked(new_network, backend):
    """A proxy that lives but does not grant, because a request is running: nothing is lost until somebody insists."""
    flags = ["--upstream", backend.url, "--proxy-stake", "1", "--accept-exit-risk"]
    network = new_network("forced", *flags).start()
    chain = Chain(network)
    order = json.dumps({"chunks": 400, "delay": 0.1})
    body = {"model": network.model, "messages": [{"role": "user", "content": order}], "max_tokens": 500, "stream": True}

    def ask():
        # It is broken off when the network ends.
        with contextlib.suppress(OSError, HTTPException):
            network.post("/v1/chat/completions", body, timeout=60)

    threading.Thread(target=ask, daemon=True).start()
    wait_until("it runs", lambda: network.stats("worker")["running"] == 1, timeout=10, every=0.05)

    asked = cocoon(network, "account", "exit", "--yes", "--json", "--wait", "1")
    assert asked.returncode == 0, asked.stderr
    result = json.loads(asked.stdout)
    assert (result["way"], result["final"], result["state"]) == ("ask_proxy", False, "closing")
    assert "has not granted" in result["remark"] and result["lost"] == result["returned"] == "0"
    waiting = dry_run(network)[1]["forced"]["outcome"]["wait_seconds"]
    assert 200 < waiting <= 301
    early = json.loads(cocoon(network, "account", "exit", "--forced", "--yes", "--json", "--wait", "0").stdout)
    assert early["final"] is False and "delay ends" in early["remark"]

    assert http(f"{chain.url}/admin/advance", {"seconds": 302}).status == 200
    # It could be forced now. The proxy committed lately, so it is asked again; the node does not force either.
    report, ways = dry_run(network)
    assert report["recommended"] == "ask_proxy"
    assert ways["forced"]["outcome"]["wait_seconds"] == 0 and int(ways["forced"]["outcome"]["lost"]) == 19 * TON
    assert chain.client()["state"] == 1 and chain.client()["balance"] == 20 * TON

    predicted = ways["forced"]["outcome"]
    forced = cocoon(network, "account", "exit", "--forced", "--yes", "--json")
    assert forced.returncode == 0, forced.stderr
    for warning in ("19 TON is lost for good", "there is a better way"):
        assert warning in forced.stderr
    result = json.loads(forced.stdout)
    assert (result["way"], result["final"], result["state"]) == ("forced", True, "closed")
    assert (result["returned"], result["lost"]) == (predicted["returned"], predicted["lost"]) == (str(TON), str(19 * TON))
    assert chain.proxy()["stake"] == 0
    chain.check_supply()
    network.kill()
