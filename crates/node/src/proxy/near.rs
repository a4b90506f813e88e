//! Which worker holds the beginning of a prompt in its cache (docs/market.md).
//!
//! The proxy remembers salted hashes of beginnings, never text, in memory only. The salt is different for every client
//! and every process, so nobody learns from its own placement what others have asked.

use std::collections::{BTreeMap, VecDeque};

use cocoon_ton::Address;
use sha2::{Digest, Sha256};

use crate::link::LinkId;

/// Beginnings remembered at once, over all clients.
const MAX_KNOWN: usize = 16_384;
/// An engine's cache does not hold for ever.
const MAX_AGE_MS: u64 = 600_000;
/// Lengths of beginnings, bytes: each is hashed by itself, and the longest one known decides.
const LENGTHS: [usize; 4] = [512, 2_048, 8_192, 32_768];
/// What the conversation starts after, in the compact JSON that clients send.
const STARTS: [&[u8]; 2] = [b"\"messages\":", b"\"prompt\":"];

/// Hashes of the beginnings of one prompt, shortest first; not salted, never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beginning(Vec<[u8; 32]>);

impl Beginning {
    /// Reads the beginnings out of an HTTP request; `None` where it is too short to matter.
    pub fn of(request: &[u8]) -> Option<Self> {
        let start = STARTS.iter().find_map(|s| find(request, s))?;
        let text = &request[start..];
        let hashes: Vec<_> = LENGTHS
            .iter()
            .take_while(|n| text.len() >= **n)
            .map(|n| Sha256::digest(&text[..*n]).into())
            .collect();
        (!hashes.is_empty()).then_some(Beginning(hashes))
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let at = text.windows(what.len()).position(|w| w == what)?;
    Some(at + what.len())
}

/// What is remembered.
#[derive(Default)]
pub(super) struct Near {
    salt: [u8; 32],
    known: BTreeMap<[u8; 16], (LinkId, u64)>,
    order: VecDeque<[u8; 16]>,
}

impl Near {
    /// Remembers nothing yet.
    pub fn new(salt: [u8; 32]) -> Self {
        Near {
            salt,
            ..Near::default()
        }
    }

    fn key(&self, client: Address, hash: &[u8; 32]) -> [u8; 16] {
        let mut h = Sha256::new();
        h.update(b"cocoon-beginning");
        h.update(self.salt);
        h.update(client.hash);
        h.update(hash);
        let digest: [u8; 32] = h.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        key
    }

    /// The worker that served the longest known beginning of this client.
    pub fn owner_of(&self, client: Address, b: Option<&Beginning>, now: u64) -> Option<LinkId> {
        b?.0.iter().rev().find_map(|hash| {
            let (link, at) = self.known.get(&self.key(client, hash))?;
            (now.saturating_sub(*at) <= MAX_AGE_MS).then_some(*link)
        })
    }

    /// A worker has answered a request with this beginning.
    pub fn served(&mut self, client: Address, b: Option<&Beginning>, link: LinkId, now: u64) {
        for hash in b.map(|b| b.0.as_slice()).unwrap_or_default() {
            let key = self.key(client, hash);
            if self.known.insert(key, (link, now)).is_none() {
                self.order.push_back(key);
            }
            // Oldest first; one that is still in use comes back with its next request.
            if self.order.len() > MAX_KNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Vec<u8> {
        format!("POST {{\"max_tokens\":5,\"messages\":[{{\"content\":\"{text}\"}}]}}").into_bytes()
    }

    fn client(n: u8) -> Address {
        Address::basechain([n; 32])
    }

    #[test]
    fn the_longest_known_beginning_of_the_same_client_decides() {
        let shared = "once upon a time ".repeat(60);
        let mut near = Near::new([7; 32]);
        let first = Beginning::of(&request(&shared)).unwrap();
        near.served(client(1), Some(&first), LinkId(4), 1000);
        // Another end, the same beginning.
        let long = Beginning::of(&request(&format!("{shared}{}", "x".repeat(9000)))).unwrap();
        assert_eq!(near.owner_of(client(1), Some(&long), 2000), Some(LinkId(4)));
        near.served(client(1), Some(&long), LinkId(5), 2000);
        assert_eq!(near.owner_of(client(1), Some(&long), 2000), Some(LinkId(5)));
        // Nobody else profits, or learns of it.
        assert_eq!(near.owner_of(client(2), Some(&long), 2000), None);
        let other = Beginning::of(&request(&"y".repeat(3000))).unwrap();
        assert_eq!(near.owner_of(client(1), Some(&other), 2000), None);
        assert_eq!(
            near.owner_of(client(1), Some(&long), 2001 + MAX_AGE_MS),
            None
        );
        assert_eq!(Beginning::of(&request("short")), None);
        assert_eq!(Beginning::of(b"no conversation here"), None);
    }

    #[test]
    fn memory_is_bounded_and_salted() {
        let mut near = Near::new([7; 32]);
        for n in 0..MAX_KNOWN + 100 {
            let b = Beginning(vec![Sha256::digest(n.to_le_bytes()).into()]);
            near.served(client(1), Some(&b), LinkId(1), n as u64);
        }
        assert_eq!((near.known.len(), near.order.len()), (MAX_KNOWN, MAX_KNOWN));
        let last = Beginning(vec![Sha256::digest((MAX_KNOWN + 99).to_le_bytes()).into()]);
        assert!(near.owner_of(client(1), Some(&last), 0).is_some());
        let hash = last.0[0];
        assert!(!near.known.keys().any(|k| hash.starts_with(k)));
        assert_ne!(
            near.key(client(1), &hash),
            Near::new([8; 32]).key(client(1), &hash)
        );
    }
}
