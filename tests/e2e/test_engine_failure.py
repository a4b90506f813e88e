"""The engine behind the worker fails: before, during and instead of an answer."""

import json
import time

import openai
import pytest
from billing import adjust
from net import wait_until


def chat(client, network, order, **options):
    return client.chat.completions.create(
        model=network.model,
        messages=[{"role": "user", "content": json.dumps(order)}],
        max_tokens=50,
        extra_body={"max_coefficient": 5000},
        **options,
    )


def used(network):
    """Adjusted tokens the proxy has booked on the client."""
    return sum(c["used_tokens"] for c in network.stats("proxy")["clients"])


def test_failure_in_the_middle_of_a_stream(priced, client_of):
    before = used(priced)
    stream = chat(client_of(priced), priced, {"chunks": 5, "delay": 0.02, "break_after": 2}, stream=True)
    seen = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            seen.append(chunk.choices[0].delta.content)
    assert seen == ["word ", "word "], "what came before the failure is delivered"
    assert caught.value.message and caught.value.type == "server_error", caught.value.body
    # What was delivered may cost (two tokens here), what was not may not; the chain has to agree in test_money.py.
    delivered = adjust(2, priced.info["worker"]["coefficient"], 10000)
    assert before <= used(priced) <= before + delivered


def test_failure_in_the_middle_without_a_stream(priced, client_of):
    before = used(priced)
    with pytest.raises(openai.InternalServerError) as caught:
        chat(client_of(priced), priced, {"break_after": 1})
    assert caught.value.status_code == 502
    assert used(priced) == before, "a broken answer is free"


@pytest.mark.parametrize("status", [400, 429, 500])
def test_the_engines_own_errors_arrive(priced, client_of, status):
    with pytest.raises(openai.APIStatusError) as caught:
        chat(client_of(priced), priced, {"status": status})
    assert caught.value.status_code == status
    assert "as ordered" in str(caught.value)


@pytest.mark.parametrize("seconds", [0.001, 1.5])
def test_timeout(priced, backend, client_of, seconds):
    client = client_of(priced)
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model=priced.model,
            messages=[{"role": "user", "content": json.dumps({"chunks": 100, "delay": 0.2})}],
            max_tokens=50,
            extra_body={"max_coefficient": 5000, "timeout": seconds},
        )
    assert (caught.value.status_code, caught.value.code) == (504, "timeout")
    assert time.monotonic() - began < 5
    wait_until("the engine was told to stop", lambda: backend.running == 0, timeout=5)


def test_price_above_the_default_limit(priced, client_of):
    """A worker dearer than 4.0 is not taken unless the caller allows it."""
    with pytest.raises(openai.APIStatusError) as caught:
        client_of(priced).chat.completions.create(model=priced.model, messages=[{"role": "user", "content": "x"}])
    assert (caught.value.status_code, caught.value.code) == (402, "price_above_limit")
    assert "4100" in caught.value.message


def test_no_worker(priced, backend, client_of):
    """The engine is out of order, so the worker closes; when it is back, so is the worker."""
    backend.healthy = False
    try:
        wait_until("the worker has closed", lambda: not priced.stats("worker")["healthy"], timeout=60)
        time.sleep(0.5)
        with pytest.raises(openai.InternalServerError) as caught:
            chat(client_of(priced), priced, {})
        assert (caught.value.status_code, caught.value.code) == (503, "no_workers")
    finally:
        backend.healthy = True

    def works():
        try:
            return chat(client_of(priced), priced, {}).choices
        except openai.InternalServerError:
            return None

    wait_until("the worker is back", works, timeout=60, every=0.5)
