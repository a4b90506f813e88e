//! The one screen that a ready network shows.

use std::fmt::Write;

use cocoon_ton::amount::format_ton;
use cocoon_ton::{Address, Chain};

use crate::network::Network;

/// Balances worth a line, with a name for people.
pub fn wallets(network: &Network) -> Vec<(&'static str, Address)> {
    let mut all = vec![
        ("client wallet", network.client.wallet),
        ("proxy wallet", network.proxy.wallet),
        ("worker wallet", network.worker.wallet),
        ("proxy owner (revenue)", network.proxy.owner),
    ];
    if network.worker.owner != network.proxy.owner {
        all.push(("worker owner (pay)", network.worker.owner));
    }
    all.push(("faucet", network.chain.faucet));
    all
}

/// The screen.
pub async fn render(network: &Network, chain: &dyn Chain, fresh: bool) -> String {
    let mut out = String::new();
    let seconds = network.startup_ms as f64 / 1000.0;
    let what = if fresh {
        "A new network"
    } else {
        "The network"
    };
    let _ = writeln!(out, "\n{what} is ready after {seconds:.1} s.\n");
    let _ = writeln!(
        out,
        "  Endpoint   {}   (OpenAI-compatible; any API key)",
        network.client.openai_base_url
    );
    let _ = writeln!(out, "  Model      {}", network.model);
    let _ = writeln!(out, "\n  Try it:\n");
    let _ = writeln!(
        out,
        "    cocoon chat{} \"What is 7 + 8?\"\n",
        directory_flag(network)
    );
    let _ = writeln!(
        out,
        "    curl {}/chat/completions -H 'content-type: application/json' \\\n      -d '{{\"model\": \"{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"What is 7 + 8?\"}}]}}'\n",
        network.client.openai_base_url, network.model
    );
    let _ = writeln!(out, "  Balances");
    for (name, address) in wallets(network) {
        let balance = match chain.account(&address).await {
            Ok(account) => format_ton(account.balance),
            Err(e) => format!("unknown: {e}"),
        };
        let _ = writeln!(
            out,
            "    {name:<22} {:<22} {}",
            balance,
            address.to_text(false, true)
        );
    }
    let _ = writeln!(
        out,
        "\n  Data       {}   (addresses and ports: network.json)",
        network.data_dir
    );
    let _ = writeln!(
        out,
        "  Pages      client {}/jsonstats   proxy {}   worker {}   chain {}/api/v2",
        network.client.url, network.proxy.url, network.worker.url, network.chain.url
    );
    let _ = writeln!(
        out,
        "\n  !! {}: attestation is a dummy here. This network is NOT confidential and its coins are play money.",
        network.attestation
    );
    let _ = writeln!(
        out,
        "\n  Ctrl-C stops it; the next start goes on with the same chain, balances and keys."
    );
    out
}

/// The flag that the other commands need to find this network.
fn directory_flag(network: &Network) -> String {
    let default = crate::datadir::Layout::locate(None).ok();
    if default.is_some_and(|layout| layout.path().to_string_lossy() == network.data_dir) {
        String::new()
    } else {
        format!(" --data-dir {}", network.data_dir)
    }
}
