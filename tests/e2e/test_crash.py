"""kill -9 under load, again and again: nothing is lost that was paid, and nobody pays for what he did not get."""

import json
import threading
import time

import openai
import pytest
from billing import adjusted, check_costs, settled
from chain import Chain
from net import wait_until

ROUNDS = 3
CALLERS = 8


class Load:
    """Callers who ask without a pause and note every answer they got to the end."""

    def __init__(self, network, label):
        self.network, self.label = network, label
        self.usages, self.broken = {}, 0
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.call, args=(n,), daemon=True) for n in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def call(self, caller):
        client = openai.OpenAI(base_url=self.network.base_url, api_key="unused", max_retries=0, timeout=20)
        number = 0
        while not self.stopped.is_set():
            number += 1
            name = f"{self.label}-{caller}-{number}"
            usage = {"prompt_tokens": 20 + caller, "completion_tokens": 10 + number % 7}
            usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
            order = {"id": name, "chunks": 5, "delay": 0.01, "usage": usage}
            try:
                stream = client.chat.completions.create(
                    model=self.network.model,
                    messages=[{"role": "user", "content": json.dumps(order)}],
                    max_tokens=50,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                usages = [chunk.usage for chunk in stream if chunk.usage]
                self.usages[name] = usages[-1].model_dump()
            except (openai.APIError, IndexError):
                self.broken += 1
                time.sleep(0.05)

    def end(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)


def books(network):
    wait_until("nothing runs", lambda: network.stats("proxy")["status"]["running_queries"] == 0, timeout=10)
    return sum(c["used_tokens"] for c in network.stats("proxy")["clients"])


def test_kill_9_under_load(new_network, backend, say):
    # Settlement is due as soon as possible, so that kills hit it too.
    network = new_network("crash", "--upstream", backend.url, "--price", 100_000, "--worker-fee", 70_000).start()
    addresses = {role: network.info[role]["contract"] for role in ("client", "proxy", "worker")}
    genesis = Chain(network).check_supply()["genesis"]
    delivered, computed = 0, 0
    for round_number in range(ROUNDS):
        load = Load(network, f"r{round_number}")
        # Longer than a save of the books, at a different moment each time.
        time.sleep(2.0 + 0.7 * round_number)
        network.kill()
        load.end()
        assert len(load.usages) > 2 * CALLERS, "hardly any load"
        # A caller who was between two requests at that moment is not interrupted.
        assert load.broken >= 1, "the kill interrupted nobody"

        network.start()
        assert {role: network.info[role]["contract"] for role in addresses} == addresses
        prices, coefficient = network.info["prices"], network.info["worker"]["coefficient"]
        total = lambda usage: sum(adjusted(usage, prices, coefficient))
        delivered += sum(total(usage) for usage in load.usages.values())
        # Complete at the engine, but the end did not reach the caller: at most what was under way at the kill.
        own = {k: v for k, v in backend.completed.items() if k and k.startswith(f"r{round_number}-")}
        lost_on_the_way = [k for k in own if k not in load.usages]
        assert len(lost_on_the_way) <= CALLERS
        computed += sum(total(usage) for usage in own.values())

        booked = books(network)
        charged = settled(Chain(network), booked)["client used"]
        say(
            f"round {round_number}: ready again after {network.ready_s:.1f} s; delivered {delivered}, computed {computed},"
            f" charged {charged} tokens; {len(lost_on_the_way)} answers complete at the engine but not at the caller"
        )
        # Nobody pays for more than answers that were complete, and of those only the kill's own moment is in doubt:
        # an answer can be booked in the instant before its last bytes reach the caller.
        assert charged <= computed, "charged for what was never complete"

        # It works again, and what is asked now is settled to the token.
        client = openai.OpenAI(base_url=network.base_url, api_key="unused", max_retries=0, timeout=20)
        answers = [
            client.chat.completions.create(
                model=network.model, messages=[{"role": "user", "content": "again"}], max_tokens=5
            )
            for _ in range(4)
        ]
        after = sum(check_costs(answer.usage.model_dump(), network.info) for answer in answers)
        delivered, computed = delivered + after, computed + after
        settled(Chain(network), booked + after)
        assert Chain(network).check_supply()["genesis"] == genesis
    assert network.stop() == 0


@pytest.mark.parametrize("moment", [0.3, 0.8, 1.5, 2.5])
def test_kill_9_while_the_network_is_founded(new_network, backend, moment):
    """A first start that was cut short is completed by the next one; no coin is given out twice."""
    import subprocess

    network = new_network(f"cut-{moment}", "--upstream", backend.url)
    process = subprocess.Popen(network.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(moment)
    process.kill()
    process.wait()
    network.start()
    chain = Chain(network)
    chain.check_supply()
    answer = network.post("/v1/completions", {"model": network.model, "prompt": "x", "max_tokens": 5})
    assert answer.status == 200, answer.body
    settled(chain, check_costs(answer.json()["usage"], network.info))
    network.kill()
