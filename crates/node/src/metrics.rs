//! What operators see of a node: counters and histograms for Prometheus, finished requests for a collector of traces.
//! Names, units and labels are in docs/metrics.md.

mod doors;
pub mod histogram;
pub mod meter;
pub mod page;
mod saves;
pub mod trace;

use std::collections::BTreeMap;

pub use doors::{Direction, DoorCounts, Verdict};
pub use histogram::Histogram;
pub use meter::{Meter, Outcome};
pub use page::Page;
pub use saves::SaveTimer;

use crate::root::RootView;

/// Versions with a label of their own; higher ones do not exist.
const VERSIONS: [&str; 4] = ["0", "1", "2", "3"];

/// Links by kind of peer, state and protocol version.
pub(crate) fn expose_links(page: &mut Page, links: &BTreeMap<(&str, &str, i32), u32>) {
    for ((peer, state, version), count) in links {
        let version = usize::try_from(*version)
            .ok()
            .and_then(|v| VERSIONS.get(v))
            .unwrap_or(&"other");
        page.gauge(
            "cocoon_links",
            "Connections to peers, by kind of peer, state and protocol version.",
            &[("peer", peer), ("state", state), ("version", version)],
            *count,
        );
    }
}

/// Token totals of a party: used or earned, saved, signed, settled on chain.
pub(crate) fn expose_stages(page: &mut Page, party: &str, totals: [u64; 4]) {
    for (stage, total) in ["booked", "saved", "signed", "settled"].iter().zip(totals) {
        page.gauge(
            "cocoon_account_tokens",
            "Adjusted tokens over all accounts of a party: booked, saved durably, signed after a commit, settled on chain.",
            &[("party", party), ("stage", stage)],
            total,
        );
    }
}

/// The root configuration in force.
pub(crate) fn expose_root(page: &mut Page, root: &RootView) {
    page.gauge(
        "cocoon_root_version",
        "Version of the root configuration in force.",
        &[],
        root.version,
    );
    page.gauge(
        "cocoon_root_params_version",
        "Version of its prices and contract codes.",
        &[],
        root.params.params_version,
    );
    page.gauge(
        "cocoon_price_nanotons_per_token",
        "NanoTON a client pays for an adjusted token.",
        &[],
        root.params.price_per_token,
    );
    page.gauge(
        "cocoon_worker_fee_nanotons_per_token",
        "NanoTON a worker gets for an adjusted token.",
        &[],
        root.params.worker_fee_per_token,
    );
    page.gauge(
        "cocoon_registered_proxies",
        "Proxies in the registry.",
        &[],
        root.proxies.len(),
    );
}
