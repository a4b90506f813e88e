//! How a run goes, drawn from its seed: the size of the network, and which kinds of trouble there are.
//!
//! Every seed switches each kind on or off (swarm testing): a fault that hides another one does so in some runs only.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::node::Role;
use super::sabotage::Sabotage;

/// How many of each role there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub proxies: usize,
    pub clients: usize,
    pub workers: usize,
}

impl Shape {
    pub const USUAL: Shape = Shape {
        proxies: 2,
        clients: 2,
        workers: 3,
    };

    /// Index of a node in the sim's list.
    pub fn index(&self, role: Role, n: usize) -> usize {
        match role {
            Role::Proxy => n,
            Role::Client => self.proxies + n,
            Role::Worker => self.proxies + self.clients + n,
        }
    }

    pub fn count(&self, role: Role) -> usize {
        match role {
            Role::Proxy => self.proxies,
            Role::Client => self.clients,
            Role::Worker => self.workers,
        }
    }
}

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shape: Shape,
    /// Simulated time with faults and requests.
    pub busy_ms: u64,
    /// When the first fault may come; until then disks and chain are fast, so that short runs come to something.
    pub chaos_ms: u64,
    /// Longest pause between two faults.
    pub pause_ms: u64,
    /// Nodes crash, with writes lost or torn.
    pub crashes: bool,
    /// Connections break, backends fail, callers leave.
    pub faults: bool,
    /// Groups of nodes cannot reach each other, nodes lose sight of the chain.
    pub partitions: bool,
    /// Clocks are wrong and drift.
    pub skew: bool,
    /// Peers speak protocol versions 0 to 3, some like the reference.
    pub mixed_versions: bool,
    /// The last node of this role means harm.
    pub hostile: Option<Role>,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

impl Plan {
    /// Nothing but requests, for `busy_ms`.
    pub fn quiet(seed: u64, busy_ms: u64) -> Self {
        Plan {
            seed,
            shape: Shape::USUAL,
            busy_ms,
            chaos_ms: 15_000,
            pause_ms: 2500,
            crashes: false,
            faults: false,
            partitions: false,
            skew: false,
            mixed_versions: false,
            hostile: None,
            sabotage: None,
        }
    }

    /// The plan of a seed: most are small and short, one in a hundred is long.
    pub fn of(seed: u64) -> Self {
        // A stream of its own: the run's draws do not depend on how the plan was made.
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x706c_616e);
        let long = seed.is_multiple_of(100);
        let mut shape = if long {
            Shape::USUAL
        } else {
            Shape {
                proxies: [1, 1, 2, 2, 3][rng.random_range(0..5)],
                clients: [1, 1, 2][rng.random_range(0..3)],
                workers: [1, 2, 2, 3][rng.random_range(0..4)],
            }
        };
        let hostile = match rng.random_range(0..8) {
            0 | 1 => Some(Role::Client),
            2 | 3 => Some(Role::Worker),
            4 => Some(Role::Proxy),
            _ => None,
        };
        // Beside the honest ones.
        match hostile {
            Some(Role::Client) => shape.clients += 1,
            Some(Role::Worker) => shape.workers += 1,
            Some(Role::Proxy) => shape.proxies += 1,
            None => {}
        }
        Plan {
            shape,
            busy_ms: if long {
                150_000
            } else {
                rng.random_range(14_000..32_000)
            },
            chaos_ms: if long { 15_000 } else { 6_000 },
            pause_ms: if long { 2500 } else { 1200 },
            crashes: rng.random_bool(0.7),
            faults: rng.random_bool(0.9),
            partitions: rng.random_bool(0.4),
            skew: rng.random_bool(0.5),
            mixed_versions: rng.random_bool(0.5),
            hostile,
            ..Plan::quiet(seed, 0)
        }
    }

    /// Whether this node means harm.
    pub fn is_hostile(&self, role: Role, n: usize) -> bool {
        self.hostile == Some(role) && n + 1 == self.shape.count(role)
    }
}
