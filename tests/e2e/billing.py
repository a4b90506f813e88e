"""The price of an answer, computed here once more (spec/protocol.md section 6) and compared with what nodes and chain say."""

import time


def adjust(tokens, coefficient, multiplier):
    """In doubles and in this order: that is the rule (6.1)."""
    return int(((float(tokens) * (float(coefficient) * 0.001)) * float(multiplier)) * 0.0001)


def details(usage, field, name):
    return ((usage.get(field) or {}).get(name)) or 0


def adjusted(usage, prices, coefficient):
    """Prompt part (with cached), completion part (with reasoning) of a usage object, in adjusted tokens (6.2)."""
    cached = details(usage, "prompt_tokens_details", "cached_tokens")
    reasoning = details(usage, "completion_tokens_details", "reasoning_tokens")
    prompt = adjust(usage["prompt_tokens"] - cached, coefficient, prices["prompt_multiplier"])
    prompt += adjust(cached, coefficient, prices["cached_multiplier"])
    completion = adjust(usage["completion_tokens"] - reasoning, coefficient, prices["completion_multiplier"])
    completion += adjust(reasoning, coefficient, prices["reasoning_multiplier"])
    return prompt, completion


def check_costs(usage, info):
    """The cost members of a usage object are right; returns its adjusted tokens."""
    price = int(info["prices"]["price_per_token"])
    prompt, completion = adjusted(usage, info["prices"], info["worker"]["coefficient"])
    assert usage["prompt_total_cost"] == prompt * price, usage
    assert usage["completion_total_cost"] == completion * price, usage
    assert usage["total_cost"] == (prompt + completion) * price, usage
    return prompt + completion


def settled(chain, tokens, timeout=60):
    """Waits until client, worker and proxy have settled exactly this many tokens on chain, and checks every amount.

    Returns what the chain shows. A total above the expected one fails at once: nobody is ever charged too much.
    """
    info = chain.info
    price, fee = int(info["prices"]["price_per_token"]), int(info["prices"]["worker_fee_per_token"])
    end = time.monotonic() + timeout
    while True:
        seen = {
            "client used": chain.client()["used"],
            "worker paid": chain.worker()["paid"],
            "worker owner's payout": chain.payouts(info["worker"]["owner"]),
            "proxy revenue": chain.revenue(),
        }
        wanted = {
            "client used": tokens,
            "worker paid": tokens,
            "worker owner's payout": tokens * fee,
            "proxy revenue": tokens * (price - fee),
        }
        assert all(seen[key] <= wanted[key] for key in wanted), f"more than was used: {seen}, expected {wanted}"
        if seen == wanted:
            break
        assert time.monotonic() < end, f"not settled within {timeout} s: {seen}, expected {wanted}"
        time.sleep(0.3)
    client = chain.client()
    deposits = chain.deposits()
    assert client["balance"] == deposits - tokens * price, f"{client}, deposits {deposits}"
    # The contracts belong together: what the chain says of one names the others.
    assert client["proxy"] == info["proxy"]["contract"]
    assert client["owner"] == info["client"]["wallet"]
    if tokens:
        worker = chain.worker()
        assert (worker["proxy"], worker["owner"]) == (info["proxy"]["contract"], info["worker"]["owner"])
    assert (chain.proxy()["price"], chain.proxy()["fee"]) == (price, fee)
    chain.check_supply()
    return seen
