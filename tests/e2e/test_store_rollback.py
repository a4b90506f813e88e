"""Stores that are put back or cut: found out or made good again, and nobody is overcharged."""

import random
import shutil

import pytest
from hand import Hand
from net import wait_until

SEED = 20261122


@pytest.fixture
def net(tmp_path, backend):
    net = Hand(tmp_path, backend)
    yield net
    net.end()


def store_of(node):
    return node.data_dir / "nodes" / f"{node.role}.redb"


def refused(node):
    """Starts a node that must not start; returns what it says."""
    with pytest.raises(AssertionError) as failed:
        node.start()
    assert node.process is None
    return str(failed.value)


def served(net, count=5, timeout=90):
    before = net.progress()
    wait_until("answers again", lambda: net.progress() >= before + count, timeout=timeout, every=0.2)


def test_older_and_cut_stores(net, tmp_path, say):
    net.start()
    rng = random.Random(SEED)
    net.run_callers(4)
    served(net)
    for node in (net.client, net.worker, net.proxy):
        store, older, newest = store_of(node), tmp_path / f"{node.role}.older", tmp_path / f"{node.role}.newest"
        node.kill()
        shutil.copy(store, older)
        node.start()
        served(net, 10)
        if node is net.proxy:
            # Something was signed since: a commit that the older store does not know.
            signed = lambda: net.proxy.stats()["clients"][0]["signed_tokens"]
            was = signed()
            wait_until("a newer commit", lambda: signed() > was, timeout=60, every=0.2)
        node.kill()
        shutil.copy(store, newest)

        # The older one.
        shutil.copy(older, store)
        if node is net.proxy:
            said = refused(node)
            assert "restore the newest copy" in said or "find the newest store" in said, said
            shutil.copy(newest, store)
        node.start()
        served(net)

        # A cut one, which is refused and left as it is.
        node.kill()
        shutil.copy(store, newest)
        size = store.stat().st_size
        cut = store.read_bytes()[: rng.randrange(1, size - 1)]
        store.write_bytes(cut)
        said = refused(node)
        assert "restore" in said or "--data-dir" in said, said
        shutil.copy(newest, store)
        node.start()
        served(net)
    net.end_callers()

    def books():
        seen = net.proxy.stats()
        [client], [worker] = seen["clients"], seen["workers"]
        still = client["running_queries"] == 0 and client["used_tokens"] == client["saved_tokens"] == client["signed_tokens"]
        settled = client["charged_tokens"] == client["used_tokens"] and worker["paid_tokens"] == worker["earned_tokens"]
        return (client["used_tokens"], worker["earned_tokens"]) if still and settled else None

    used, earned = wait_until("the books are closed, saved, signed and settled", books, timeout=120, every=0.5)
    delivered = net.delivered()
    say(f"{net.progress()} answers, {delivered} tokens delivered, {used} booked, {net.lost} in failed requests")
    assert used == earned
    # The first answer was asked for by hand.
    assert delivered + 3 <= used <= delivered + 3 + net.lost
    [client], [worker] = net.client.stats()["proxies"], net.worker.stats()["proxies"]
    assert net.reader.run(client["sc_address"], "get_cocoon_client_data")[6] == used
    assert net.reader.run(worker["sc_address"], "get_cocoon_worker_data")[4] == used
    net.reader.check_supply()


def test_lost_stores(net):
    """A client and a worker without any store learn from chain and proxy; a proxy without one signs nothing."""
    net.start()
    net.run_callers(3)
    for node in (net.client, net.worker):
        served(net)
        node.kill()
        store_of(node).unlink()
        node.start()
    served(net)
    net.proxy.kill()
    store = store_of(net.proxy)
    kept = store.read_bytes()
    store.unlink()
    said = refused(net.proxy)
    assert "find the newest store" in said or "restore the newest copy" in said, said
    store.write_bytes(kept)
    net.proxy.start()
    served(net)
    net.end_callers()
