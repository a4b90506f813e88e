//! Who may come in: how many connections and set-ups there are, in all and from one address.
//!
//! Of routers and of nodes that are linked directly. A set-up that is not complete costs a stranger nothing, so it must
//! not keep others out: with too many at once the oldest is told to go.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLimits {
    /// Connections at once.
    pub connections: usize,
    /// Set-ups (proof of work, TLS, claims) at once. When there are more, the oldest is dropped: an honest one takes
    /// seconds, so whoever fills the table with idle ones pushes out his own.
    pub setups: usize,
    /// Connections at once from one site.
    pub connections_per_address: usize,
    /// Set-ups at once from one site.
    pub setups_per_address: usize,
}

/// Shared by all ports of a process.
pub struct Gate {
    limits: GateLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: usize,
    /// The key grows with the time, so the first is the oldest.
    setups: BTreeMap<u64, Waiting>,
    next: u64,
    addresses: HashMap<IpAddr, Counts>,
}

struct Waiting {
    address: Option<IpAddr>,
    evicted: Arc<Notify>,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    connections: usize,
    setups: usize,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// In all.
    #[error("{0} connections are open already, which is the limit")]
    Connections(usize),
    /// Of this address.
    #[error("{0} connections from this address are open already, which is the limit")]
    OfAddress(usize),
    /// Of this address, not yet complete.
    #[error("{0} connections from this address are being set up already, which is the limit")]
    SetupsOfAddress(usize),
}

/// A connection that is being set up. Dropping it makes room.
pub struct Setup {
    gate: Arc<Gate>,
    id: u64,
    address: Option<IpAddr>,
    evicted: Arc<Notify>,
}

/// A connection. Dropping it makes room.
pub struct Permit {
    gate: Arc<Gate>,
    address: Option<IpAddr>,
}

/// Whom an address is counted for: a site of IPv6 has a whole /64 of them, and an IPv4 address in IPv6 form is itself.
#[must_use]
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new(limits: GateLimits) -> Arc<Self> {
        Arc::new(Gate {
            limits,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection begin. `address` is the stranger's [`site`], or `None` for applications of this machine. With too many
    /// set-ups at once, the oldest one is told to go.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Setup, Full> {
        let mut state = self.state();
        state.has_room(address, &self.limits)?;
        if let Some(address) = address {
            let counts = state.addresses.entry(address).or_default();
            if counts.setups >= self.limits.setups_per_address {
                return Err(Full::SetupsOfAddress(self.limits.setups_per_address));
            }
            counts.setups += 1;
        }
        if state.setups.len() >= self.limits.setups.max(1)
            && let Some(id) = state.setups.keys().next().copied()
        {
            state
                .forget_setup(id)
                .inspect(|waiting| waiting.evicted.notify_one());
        }
        let id = state.next;
        state.next += 1;
        let evicted = Arc::new(Notify::new());
        let waiting = Waiting {
            address,
            evicted: evicted.clone(),
        };
        state.setups.insert(id, waiting);
        Ok(Setup {
            gate: self.clone(),
            id,
            address,
            evicted,
        })
    }
}

impl State {
    fn has_room(&self, address: Option<IpAddr>, limits: &GateLimits) -> Result<(), Full> {
        if self.connections >= limits.connections {
            return Err(Full::Connections(limits.connections));
        }
        let counts = address.and_then(|address| self.addresses.get(&address));
        match counts {
            Some(counts) if counts.connections >= limits.connections_per_address => {
                Err(Full::OfAddress(limits.connections_per_address))
            }
            _ => Ok(()),
        }
    }

    /// Takes a set-up off the books; nothing if it was evicted before.
    fn forget_setup(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.setups.remove(&id)?;
        self.lower(waiting.address, |counts| &mut counts.setups);
        Some(waiting)
    }

    fn lower(&mut self, address: Option<IpAddr>, which: fn(&mut Counts) -> &mut usize) {
        let Some(address) = address else { return };
        if let Some(counts) = self.addresses.get_mut(&address) {
            let count = which(counts);
            *count = count.saturating_sub(1);
            if counts.connections == 0 && counts.setups == 0 {
                self.addresses.remove(&address);
            }
        }
    }
}

impl Setup {
    /// Resolves when younger set-ups need the room.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// The set-up is complete: it counts as a connection from now on.
    pub fn establish(self) -> Result<Permit, Full> {
        let gate = self.gate.clone();
        let mut state = gate.state();
        state.has_room(self.address, &gate.limits)?;
        state.connections += 1;
        if let Some(address) = self.address {
            state.addresses.entry(address).or_default().connections += 1;
        }
        drop(state);
        Ok(Permit {
            gate,
            address: self.address,
        })
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.gate.state().forget_setup(self.id);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.connections = state.connections.saturating_sub(1);
        state.lower(self.address, |counts| &mut counts.connections);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(edit: impl FnOnce(&mut GateLimits)) -> Arc<Gate> {
        let mut limits = GateLimits {
            connections: 8_192,
            setups: 1_024,
            connections_per_address: 1_024,
            setups_per_address: 128,
        };
        edit(&mut limits);
        Gate::new(limits)
    }

    fn ip(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    fn refused<T>(result: Result<T, Full>) -> Full {
        result.err().unwrap()
    }

    #[test]
    fn a_site_has_one_count() {
        let site = |text: &str| site(text.parse().unwrap());
        assert_eq!(site("2001:db8::1"), site("2001:db8::ffff:1:2:3"));
        assert_ne!(site("2001:db8::1"), site("2001:db8:0:1::1"));
        assert_ne!(site("192.0.2.1"), site("192.0.2.2"));
        assert_eq!(site("::ffff:192.0.2.1"), site("192.0.2.1"));
    }

    #[test]
    fn room_comes_back() {
        let gate = gate(|l| {
            (l.connections, l.connections_per_address) = (2, 1);
            l.setups_per_address = 1;
        });
        let first = gate.admit(ip(1)).unwrap();
        assert_eq!(refused(gate.admit(ip(1))), Full::SetupsOfAddress(1));
        let first = first.establish().unwrap();
        assert_eq!(refused(gate.admit(ip(1))), Full::OfAddress(1));
        let local = gate.admit(None).unwrap();
        let second = gate.admit(ip(2)).unwrap();
        let _local = local.establish().unwrap();
        assert_eq!(refused(second.establish()), Full::Connections(2));
        assert_eq!(refused(gate.admit(None)), Full::Connections(2));
        drop(first);
        gate.admit(ip(1)).unwrap();
        assert!(gate.state().setups.is_empty());
        assert!(gate.state().addresses.is_empty(), "addresses leak");
    }

    #[tokio::test]
    async fn the_oldest_setup_makes_room_for_the_youngest() {
        let gate = gate(|l| l.setups = 2);
        let oldest = gate.admit(ip(1)).unwrap();
        let older = gate.admit(ip(1)).unwrap();
        let young = gate.admit(ip(2)).unwrap();
        oldest.evicted().await;
        assert_eq!(gate.state().setups.len(), 2);
        // An evicted one that completes at that very moment may stay.
        let permit = oldest.establish().unwrap();
        drop((older, young, permit));
        assert!(gate.state().addresses.is_empty(), "addresses leak");
    }
}
