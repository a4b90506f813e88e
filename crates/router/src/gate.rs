//! Who may come in: how many connections and set-ups there are, in all and from one address.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::limits::Limits;

/// Shared by all ports of a router.
pub(crate) struct Gate {
    limits: Limits,
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
pub(crate) enum Full {
    #[error("{0} connections are open already, which is the limit")]
    Connections(usize),
    #[error("{0} connections from this address are open already, which is the limit")]
    OfAddress(usize),
    #[error("{0} connections from this address are being set up already, which is the limit")]
    SetupsOfAddress(usize),
}

/// A connection that is being set up. Dropping it makes room.
pub(crate) struct Setup {
    gate: Arc<Gate>,
    id: u64,
    address: Option<IpAddr>,
    evicted: Arc<Notify>,
}

/// A connection. Dropping it makes room.
pub(crate) struct Permit {
    gate: Arc<Gate>,
    address: Option<IpAddr>,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Gate {
            limits,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection begin. `address` is the stranger's, or `None` for applications of this machine. With too many
    /// set-ups at once, the oldest one is told to go.
    pub(crate) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Setup, Full> {
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
    fn has_room(&self, address: Option<IpAddr>, limits: &Limits) -> Result<(), Full> {
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
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// The set-up is complete: it counts as a connection from now on.
    pub(crate) fn establish(self) -> Result<Permit, Full> {
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

    fn gate(edit: impl FnOnce(&mut Limits)) -> Arc<Gate> {
        let mut limits = Limits::default();
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
