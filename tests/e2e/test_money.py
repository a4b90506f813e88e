"""Who paid whom, read from the chain, against the formula of spec/protocol.md 6 applied to the usage returned."""

import json

import pytest
from billing import adjust, check_costs, settled
from chain import SIGNED_CHARGE, SIGNED_PAYOUT
from net import wait_until

# Usage as an engine may report it; 170 at coefficient 4100 is the specification's example where doubles give 696.
USAGES = [
    {"prompt_tokens": 170, "completion_tokens": 1, "total_tokens": 171},
    {"prompt_tokens": 0, "completion_tokens": 170, "total_tokens": 170},
    {
        "prompt_tokens": 1000,
        "prompt_tokens_details": {"cached_tokens": 640},
        "completion_tokens": 333,
        "completion_tokens_details": {"reasoning_tokens": 170},
        "total_tokens": 1333,
    },
    {"prompt_tokens": 7, "completion_tokens": 13, "total_tokens": 20},
]


# Proxy and owner may present the same signed total; the contract refuses the second (exit code 1000), and nothing moves.
TWICE = [(1000, SIGNED_CHARGE), (1000, SIGNED_PAYOUT)]


def test_the_formula_itself():
    assert adjust(170, 4100, 10000) == 696
    assert adjust(1000, 1000, 10000) == 1000


def test_embedded_engine_settles_on_chain(tiny, client_of, chain_of):
    """Real answers of the real model; all that was ever asked on this network has to be settled."""
    chain = chain_of(tiny)
    before = chain.check_supply()
    # At rest: what an earlier test left half read is booked when its worker has stopped, not when its caller left.
    booked = books_at_rest(tiny)
    base = settled(chain, booked)
    tokens, client = booked, client_of(tiny)
    for at in range(6):
        stream = at % 2 == 1
        answer = client.chat.completions.create(
            model=tiny.model,
            messages=[{"role": "user", "content": f"What is {at} + 3?"}],
            max_tokens=16,
            stream=stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        )
        usage = [c.usage for c in answer if c.usage][-1] if stream else answer.usage
        tokens += check_costs(usage.model_dump(), tiny.info)
    seen = settled(chain, tokens)
    after = chain.check_supply()
    assert after["genesis"] == before["genesis"]
    assert after["burned_fees"] > before["burned_fees"], "settling costs fees"
    assert seen["worker owner's payout"] > base["worker owner's payout"]


def test_odd_prices_cached_and_reasoning_tokens(priced, client_of, chain_of):
    chain = chain_of(priced)
    tokens = books_at_rest(priced)
    settled(chain, tokens)
    before = chain.check_supply()
    for usage in USAGES:
        for stream in (False, True):
            order = json.dumps({"usage": usage})
            answer = client_of(priced).chat.completions.create(
                model=priced.model,
                messages=[{"role": "user", "content": order}],
                max_tokens=2000,
                stream=stream,
                extra_body={"max_coefficient": 4100},
                **({"stream_options": {"include_usage": True}} if stream else {}),
            )
            reported = ([c.usage for c in answer if c.usage][-1] if stream else answer.usage).model_dump()
            assert reported["completion_tokens"] == usage["completion_tokens"]
            tokens += check_costs(reported, priced.info)
    settled(chain, tokens)
    after = chain.check_supply()
    assert after["genesis"] == before["genesis"]


def test_every_transaction_of_the_contracts_went_well(tiny, priced, chain_of):
    """Settling is not a matter of trying: nothing the nodes sent was refused by a contract."""
    for network in (tiny, priced):
        chain = chain_of(network)
        for role in ("client", "worker", "proxy"):
            failed = [
                (t.lt, t.exit_code, hex(t.in_msg.op() or 0))
                for t in chain.transactions(network.info[role]["contract"])
                # No exit code: the contract was not run, as with a notice of one nanoTON, which pays for no gas.
                if t.aborted and t.exit_code is not None and (t.exit_code, t.in_msg.op()) not in TWICE
            ]
            assert not failed, f"{network.name}: {role} contract refused: {failed}"


@pytest.mark.parametrize("what", ["stream without usage", "disconnect"])
def test_what_nobody_counted_is_still_settled(priced, client_of, chain_of, what):
    """The proxy's books and the chain agree also where the caller never saw a usage."""
    client = client_of(priced)
    order = json.dumps({"chunks": 20, "delay": 0.02, "usage": {"prompt_tokens": 11, "completion_tokens": 5}})
    stream = client.chat.completions.create(
        model=priced.model,
        messages=[{"role": "user", "content": order}],
        max_tokens=100,
        stream=True,
        extra_body={"max_coefficient": 5000},
    )
    if what == "disconnect":
        next(iter(stream))
        stream.close()
    else:
        assert all(chunk.choices for chunk in stream)
    settled(chain_of(priced), books_at_rest(priced))


def test_leaving_after_the_usage_costs_what_was_shown(priced, client_of, chain_of):
    """The engine counts one token in six pieces; the caller sees that, and leaves before the engine has ended."""
    chain, before = chain_of(priced), books_at_rest(priced)
    settled(chain, before)
    order = {"chunks": 6, "linger": 30, "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}
    stream = client_of(priced).chat.completions.create(
        model=priced.model,
        messages=[{"role": "user", "content": json.dumps(order)}],
        max_tokens=100,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"max_coefficient": 5000},
    )
    usage = next(chunk.usage for chunk in stream if chunk.usage)
    stream.close()
    tokens = before + check_costs(usage.model_dump(), priced.info)
    assert books_at_rest(priced) == tokens
    settled(chain, tokens)


def books_at_rest(network):
    wait_until("nothing runs", lambda: network.stats("proxy")["status"]["running_queries"] == 0, timeout=10)
    return sum(c["used_tokens"] for c in network.stats("proxy")["clients"])
