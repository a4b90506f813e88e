"""What the tests of the operators' surface share: exact checks of /metrics and the field lists of protocol.md 8.5."""

import math
import re

from prometheus_client.parser import text_string_to_metric_families

LABELS = {
    "role": {"client", "proxy", "worker", "chain"},
    "outcome": {"success", "error_answer", "invalid", "refused", "timeout", "cancelled", "lost", "failed"},
    "class": {"prompt", "cached", "completion", "reasoning"},
    "peer": {"client", "proxy", "worker"},
    "state": {"handshake", "ready", "disabled", "stale", "queued", "in_flight"},
    "version": None,
    "party": {"client", "proxy", "worker"},
    "stage": {"booked", "saved", "signed", "settled"},
    "direction": {"inbound", "outbound"},
    "verdict": {"accepted", "accepted_fake", "refused", "refused_by_peer", "proof_of_work", "router", "unreachable"},
    "place": {"accounts", "messages", "burned"},
    "le": None,
}
# However many peers, callers and requests there are.
MAX_SERIES = 250
UNITS = ("_total", "_seconds", "_bytes", "_nanotons", "_tokens", "_per_token", "_info")


def metrics(text):
    """Parses a page with the official parser and checks what it leaves open; gives samples by name and labels."""
    assert text.endswith("\n")
    samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
        name = family.name + ("_total" if family.type == "counter" else "")
        assert re.fullmatch(r"cocoon_[a-z_]+", name), name
        assert family.samples, f"{name} has no sample"
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"{key} twice"
            for label, value in sample.labels.items():
                known = LABELS[label]
                assert known is None or value in known, f"{name}: unknown {label} {value}"
            assert not math.isnan(sample.value), key
            if family.type != "gauge":
                assert sample.value >= 0, key
            samples[key] = sample.value
        if family.type == "histogram":
            buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
            assert buckets == sorted(buckets) and buckets[-1][0] == math.inf, name
            counts = [count for _, count in buckets]
            assert counts == sorted(counts), name
            (total,) = [s.value for s in family.samples if s.name.endswith("_count")]
            assert counts[-1] == total, name
    for line in text.splitlines():
        assert line.startswith(("# HELP cocoon_", "# TYPE cocoon_", "cocoon_")), line
    assert len(samples) <= MAX_SERIES, len(samples)
    assert {k for k, _ in samples} <= set(re.findall(r"^(\w+)[{ ]", text, re.M))
    return samples


def total(samples, name, **labels):
    """The sum over all samples with these labels."""
    found = [v for (n, pairs), v in samples.items() if n == name and labels.items() <= dict(pairs).items()]
    assert found, f"no {name} with {labels}"
    return sum(found)


# protocol.md 8.5. A dot goes down; [] means every entry of a list that is not empty here.
STATUS = "wallet_balance ton_last_synced_at enabled git_commit git_commit_data".split()
COUNTERS = "queries success failed bytes_received bytes_sent time".split()
TOKENS = [f"{kind}_adjusted_tokens_used" for kind in ("total", "prompt", "cached", "completion", "reasoning")]
WALLET = "address balance seqno pending_transactions_cnt active_transactions_cnt".split()
ROOT = """owner_address proxy_hashes registered_proxies last_proxy_seqno worker_hashes model_hashes version struct_version
    params_version unique_id is_test price_per_token worker_fee_per_token prompt_tokens_price_multiplier
    cached_tokens_price_multiplier completion_tokens_price_multiplier reasoning_tokens_price_multiplier
    proxy_delay_before_close client_delay_before_close proxy_min_stake client_min_stake proxy_sc_code_hash
    worker_sc_code_hash client_sc_code_hash""".split()
COMMON = {
    "status": STATUS,
    "stats": COUNTERS,
    "wallet": WALLET,
    "root_contract_config": ROOT,
    "root_contract_config.registered_proxies[]": "seqno address_for_clients address_for_workers".split(),
}
FIELDS = {
    "client": {
        **COMMON,
        "localconf": "root_address owner_address check_proxy_hash".split(),
        "proxy_connections[]": "address is_ready proxy_sc_address".split(),
        "proxies[]": """proxy_sc_address proxy_public_key sc_address state tokens_used_proxy_committed_to_blockchain
            tokens_used_proxy_committed_to_db tokens_used_proxy_max tokens_charged tokens_payed""".split(),
    },
    "proxy": {
        **COMMON,
        "status": [*STATUS, "actual_image_hash"],
        "stats": [*COUNTERS, "rejected", *TOKENS],
        "localconfig": "root_address owner_address check_worker_hashes".split(),
        "smartcontract": "address params_version balance ready_for_withdraw".split(),
        "": ["old_instances"],
        "workers[]": "owner_address sc_address earned_tokens unpayed_tokens paying_now running_queries".split(),
        "worker_connections[]": """owner_address model worker_hash coefficient running_queries queries_10m queries_time_10m
            worker_queries_time_10m queries_success_10m enabled""".split(),
        "clients[]": """owner_address sc_address used_tokens tokens_to_charge available_tokens reserved_tokens
            running_queries closing closed""".split(),
    },
    "worker": {
        **COMMON,
        "status": [*STATUS, "actual_image_hash", "actual_model"],
        "stats": [*COUNTERS, *TOKENS],
        "localconfig": "root_address owner_address check_proxy_hash model coefficient".split(),
        "proxies[]": """sc_inited proxy_sc_address proxy_public_key sc_address earned_tokens_committed_to_blockchain
            earned_tokens_committed_to_proxy_db earned_tokens_max_known cached_out_tokens expected_cached_out_tokens
            running_request params_version""".split(),
    },
}


def missing(stats, role):
    """Members of the reference that are not there."""
    out = []
    for place, names in FIELDS[role].items():
        found = [stats]
        for step in place.split(".") if place else []:
            found = [entry.get(step.removesuffix("[]")) for entry in found]
            if step.endswith("[]"):
                found = [entry for entries in found for entry in entries or []]
        if not found:
            out.append(f"{place} is empty")
        out += [f"{place}.{name}" for entry in found for name in names if name not in (entry or {})]
    return out
