//! What the cores hold in memory has bounds that no peer can move.

use super::node::Role;
use super::{Sim, setup};

/// Questions that one link may have open: the status, asked again before a silent proxy's time is up, and lists.
const QUESTIONS_PER_LINK: usize = 40;

impl Sim {
    /// Every collection of every core against what may be in it now.
    pub fn check_bounds_now(&mut self) {
        let shape = self.plan.shape;
        let mut ends = vec![0; self.nodes.len()];
        for c in &self.net.conns {
            for e in &c.ends {
                ends[e.node] += usize::from(!e.downed && self.nodes[e.node].inc == e.inc);
            }
        }
        for (node, open) in ends.into_iter().enumerate() {
            let Some(core) = &self.nodes[node].core else {
                continue;
            };
            let (role, f) = (self.nodes[node].role, core.footprint());
            let parties = shape.clients + shape.workers;
            let (requests, questions, waiting, accounts) = match role {
                // Twelve requests of a client at a time (setup); two messages for each that ended since the last save.
                Role::Proxy => (12 * shape.clients, 0, 24 * parties + 16, parties + open),
                Role::Client => {
                    let calls = self.calls.iter().filter(|c| c.node == node && !c.done);
                    let calls = calls.count();
                    (
                        calls,
                        QUESTIONS_PER_LINK * open,
                        self.lists.len(),
                        shape.proxies,
                    )
                }
                // Handshakes that wait for the disk, of links that may be gone.
                Role::Worker => (6, open, open + 8, shape.proxies),
            };
            let names = setup::OFFERS.len();
            let bounds = [
                ("links", f.links, open),
                ("requests", f.requests, requests),
                ("questions", f.questions, questions),
                ("waiting", f.waiting, waiting),
                ("measured requests", f.measured, f.requests),
                ("accounts", f.accounts, accounts),
                ("names", f.names, names),
            ];
            if let Some((what, found, most)) = bounds.into_iter().find(|(_, n, most)| n > most) {
                return self.fail(format!(
                    "{role:?} {} holds {found} {what}, {most} may be there",
                    self.nodes[node].n
                ));
            }
        }
    }
}
