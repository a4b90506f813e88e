"""The root's params change under load: proxies move to new contracts, and every coin of the old ones goes where it belongs."""

import contextlib
import time

import pytest
from hand import TON, Hand, contract_of
from net import wait_until


def move_and_settle(net, kill, say):
    """One change of params under load; everything of the old contract is settled to the token."""
    old_price, new_price, new_fee = 20, 50, 40
    before = contract_of(net.proxy)
    client_old = net.client.stats()["proxies"][0]["sc_address"]
    worker_old = net.worker.stats()["proxies"][0]["sc_address"]
    net.run_callers(6)
    old_price = wait_until("answers under load", lambda: next((p for p, t in net.tokens.items() if len(t) > 20), None), timeout=60)
    net.change_params(new_price, new_fee)

    if kill:
        # In the middle: the new contract is in use, the old one is being paid out.
        wait_until("the proxy has moved", lambda: net.old_contracts(), timeout=90, every=0.05)
        net.proxy.kill()
        time.sleep(0.5)
        net.proxy.start()
    wait_until("answers at the new price", lambda: net.answers(new_price) >= 20, timeout=150, every=0.5)
    after = contract_of(net.proxy)
    assert after != before
    net.end_callers()
    broken = [b for b in net.broken if not kill]
    assert not broken, f"running answers were broken: {broken[:5]}"

    # Nothing is left in the old contract but its stake, before it is closed and the delay begins.
    waiting = wait_until(
        "the old contract waits for its delay",
        lambda: next((o for o in net.old_contracts() if o["address"] == before and o["stage"] == "waiting"), None),
        timeout=120,
        every=0.5,
    )
    assert (waiting["clients_to_refund"], waiting["workers_to_pay"]) == (0, 0)
    state = net.proxy_state(before)
    # Revenue that is worth less than a message comes with the stake.
    assert state["state"] == 1 and state["balance"] < TON // 100
    used = waiting["used_tokens"]
    reader = net.reader
    _, _, _, status, balance, _, charged, *_ = reader.run(client_old, "get_cocoon_client_data")
    assert (status, balance, charged) == (2, 0, used), "the client was charged for what was booked, and refunded"
    _, _, _, status, paid = reader.run(worker_old, "get_cocoon_worker_data")
    assert (status, paid) == (2, used), "the worker was paid for what was booked"
    assert waiting["earned_tokens"] == used
    delivered = sum(net.tokens[old_price])
    if not kill:
        # The first answer of all was asked for by hand.
        assert used == delivered + 3, f"booked {used}, delivered {delivered} at {old_price}"
    assert used >= delivered
    left = reader.balance(before) - state["stake"]
    assert 0 <= left < TON, f"{left} nanoTON of others are left in the contract"

    # The stake comes out after the delay, and the proxy forgets the contract.
    proxy_owner = net.owners["proxy"]
    had = reader.balance(proxy_owner)
    net.advance(601)
    wait_until("the old contract is over", lambda: not net.old_contracts(), timeout=90, every=0.5)
    assert net.proxy_state(before)["state"] == 2
    assert reader.balance(proxy_owner) >= had + state["stake"]
    # Client and worker took their contracts' own coins home and forgot them.
    wait_until("the client has forgotten it", lambda: len(net.client.stats()["proxies"]) == 1, timeout=90, every=0.5)
    wait_until("the worker has forgotten it", lambda: len(net.worker.stats()["proxies"]) == 1, timeout=90, every=0.5)
    assert reader.balance(client_old) <= TON // 50 and reader.balance(worker_old) <= TON // 50

    # The new contract settles at the new price.
    [client], [worker] = net.client.stats()["proxies"], net.worker.stats()["proxies"]
    assert net.ask(5, 5).status == 200

    def settled():
        [ours] = net.proxy.stats()["clients"]
        total = ours["used_tokens"]
        charged = reader.run(client["sc_address"], "get_cocoon_client_data")[6]
        paid = 0
        with contextlib.suppress(AssertionError):
            paid = reader.run(worker["sc_address"], "get_cocoon_worker_data")[4]
        return total if charged == paid == total > 0 else 0

    total = wait_until("the new contract is settled", settled, timeout=120, every=0.5)
    new_tokens = sum(net.tokens[new_price]) + 10
    if not kill:
        assert total == new_tokens
    assert total >= new_tokens
    reader.check_supply()
    say(
        f"{'kill -9, ' if kill else ''}{delivered} tokens at {old_price}, {new_tokens} at {new_price}; "
        f"{net.refused} requests refused meanwhile, {len(net.broken)} broken"
    )


@pytest.mark.parametrize("kill", [False, True], ids=["smoothly", "killed"])
def test_new_params_under_load(tmp_path, backend, say, kill):
    net = Hand(tmp_path, backend)
    try:
        net.start()
        move_and_settle(net, kill, say)
    finally:
        net.end()
