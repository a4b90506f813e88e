//! How attempts to set up a trusted connection ended.

use std::sync::atomic::{AtomicU64, Ordering};

use super::page::Page;

/// Who began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A peer came to a port of ours.
    Inbound,
    /// We dialled.
    Outbound,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Genuine evidence, or none where the policy asks for none.
    Accepted,
    /// Fake evidence, on a test network.
    AcceptedFake,
    /// Certificate or evidence was refused by this node.
    Refused,
    /// The peer refused this node.
    RefusedByPeer,
    /// Proof of work was wrong or too hard.
    ProofOfWork,
    /// The router on this machine said no, or sent a frame that cannot be read.
    Router,
    /// No connection, or it broke off.
    Unreachable,
}

const VERDICTS: [(Verdict, &str); 7] = [
    (Verdict::Accepted, "accepted"),
    (Verdict::AcceptedFake, "accepted_fake"),
    (Verdict::Refused, "refused"),
    (Verdict::RefusedByPeer, "refused_by_peer"),
    (Verdict::ProofOfWork, "proof_of_work"),
    (Verdict::Router, "router"),
    (Verdict::Unreachable, "unreachable"),
];

/// Counts of both directions.
#[derive(Debug, Default)]
pub struct DoorCounts {
    counts: [[AtomicU64; VERDICTS.len()]; 2],
}

impl DoorCounts {
    /// Counts one attempt.
    pub fn count(&self, direction: Direction, verdict: Verdict) {
        self.counts[direction as usize][verdict as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the counts to a page.
    pub fn expose(&self, page: &mut Page) {
        for (direction, label) in [
            (Direction::Inbound, "inbound"),
            (Direction::Outbound, "outbound"),
        ] {
            for (verdict, name) in VERDICTS {
                page.counter(
                    "cocoon_attestation_total",
                    "Attempts to set up a trusted connection, by direction and verdict.",
                    &[("direction", label), ("verdict", name)],
                    self.counts[direction as usize][verdict as usize].load(Ordering::Relaxed),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_its_place() {
        for (at, (verdict, _)) in VERDICTS.iter().enumerate() {
            assert_eq!(*verdict as usize, at);
        }
        let counts = DoorCounts::default();
        counts.count(Direction::Outbound, Verdict::Refused);
        let mut page = Page::new("worker");
        counts.expose(&mut page);
        let text = page.text();
        assert!(text.contains(
            "cocoon_attestation_total{role=\"worker\",direction=\"outbound\",verdict=\"refused\"} 1\n"
        ));
        assert!(text.contains(
            "cocoon_attestation_total{role=\"worker\",direction=\"inbound\",verdict=\"refused\"} 0\n"
        ));
    }
}
