//! The verifier that a TLS handshake asks: synchronous, on collateral that is already there.
//!
//! A handshake never waits for Intel. Whoever runs a node fills a [`CollateralStore`] ahead of time and refreshes it;
//! without collateral for a peer's platform the peer is refused, and the refusal says so. Verified quotes are kept for
//! a while, because peers reconnect: a kept result is good for exactly the bytes of quote and collateral it was made
//! from, no longer than the collateral lives, and never longer than [`KEEP_SECONDS`]. Policies are compared every time.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::Verdict;
use super::collateral::{CollateralStore, Supply};
use super::tdx::{self, Platform, TdxClaims, TdxError, TdxRoot};
use super::tdx_policy::TdxPolicy;
use crate::time::unix_now;

/// Longest time for which a verification is kept: an hour, as often as the reference's guests make new quotes.
pub const KEEP_SECONDS: u64 = 3_600;
/// Most verifications kept; each has about a kilobyte.
pub const MAX_KEPT: usize = 10_000;

/// Verifies TDX quotes for any number of connections.
pub struct TdxVerifier {
    store: Arc<CollateralStore>,
    policy: RwLock<Arc<TdxPolicy>>,
    /// Counts the policies so far.
    policies: watch::Sender<u64>,
    root: TdxRoot,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The latest time that a source better than our clock has named.
    not_before: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<[u8; 64], Entry>,
    /// Keys in the order in which they were added.
    order: VecDeque<[u8; 64]>,
}

struct Entry {
    claims: TdxClaims,
    from: u64,
    until: u64,
}

impl TdxVerifier {
    /// A verifier under Intel's root with the system's clock.
    #[must_use]
    pub fn new(store: Arc<CollateralStore>, policy: TdxPolicy) -> Self {
        Self::with(store, policy, TdxRoot::INTEL, unix_now)
    }

    /// A verifier under another root and with another clock, for tests and simulations.
    #[must_use]
    pub fn with(
        store: Arc<CollateralStore>,
        policy: TdxPolicy,
        root: TdxRoot,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        TdxVerifier {
            store,
            policy: RwLock::new(Arc::new(policy)),
            policies: watch::Sender::new(0),
            root,
            clock: Box::new(clock),
            not_before: AtomicU64::new(0),
            kept: Mutex::default(),
        }
    }

    /// Learns that it is at least `unix`, from the blockchain: our own clock is set by the host, who could turn it back
    /// to a time when old collateral was good.
    pub fn note_time(&self, unix: u64) {
        self.not_before.fetch_max(unix, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        (self.clock)().max(self.not_before.load(Ordering::Relaxed))
    }

    /// Replaces the policy. Connections that live are judged by the new one when their owners ask again.
    pub fn set_policy(&self, policy: TdxPolicy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        // What was verified under another policy's options need not verify under this one's.
        *self.kept() = Kept::default();
        self.policies.send_modify(|count| *count += 1);
    }

    fn policy(&self) -> Arc<TdxPolicy> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&policy)
    }

    /// Wakes up when peers should be judged again: at every new policy and whenever collateral comes in.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes {
            policies: self.policies.subscribe(),
            collateral: self.store.changes(),
        }
    }

    /// What the quote proves, or why it is refused.
    pub fn check(&self, quote: &[u8]) -> Result<TdxClaims, Verdict> {
        let policy = self.policy();
        let verified = self.verify(&policy, quote, self.now());
        let verdict = policy.verdict(quote, &verified);
        match verified {
            Ok(claims) if verdict.accepted() => Ok(claims),
            _ => Err(verdict),
        }
    }

    fn verify(&self, policy: &TdxPolicy, quote: &[u8], now: u64) -> Result<TdxClaims, TdxError> {
        let platform = tdx::platform(quote)?;
        let Some(collateral) = self.store.find(platform.fmspc, platform.issuer.as_deref()) else {
            return Err(TdxError::NoCollateral {
                supply: self.want(quote)?,
                fmspc: platform.fmspc,
                issuer: platform.issuer,
            });
        };
        let mut key = [0; 64];
        key[..32].copy_from_slice(&Sha256::digest(quote));
        key[32..].copy_from_slice(&collateral.hash());
        if let Some(claims) = self.kept().find(&key, now) {
            return Ok(claims);
        }
        let claims = policy
            .verify(quote, &collateral, now, self.root)
            .map_err(|error| self.explain_end(error, quote, &platform, now))?;
        self.kept().add(
            key,
            Entry {
                from: now,
                until: claims
                    .collateral_expires
                    .min(now.saturating_add(KEEP_SECONDS)),
                claims: claims.clone(),
            },
        );
        Ok(claims)
    }

    /// Has collateral fetched, for platforms that exist: anybody can claim to have any.
    fn want(&self, quote: &[u8]) -> Result<Supply, TdxError> {
        if !self.store.is_supplied() {
            return Ok(Supply::Nobody);
        }
        let platform = tdx::genuine_platform(quote, self.root)?;
        Ok(self.store.want(&platform))
    }

    /// If the collateral has ended, that is what is wrong, and the source is to bring a newer.
    fn explain_end(
        &self,
        error: TdxError,
        quote: &[u8],
        platform: &Platform,
        now: u64,
    ) -> TdxError {
        match self.store.edition(platform) {
            Some(edition) if edition.expires <= now => match self.want(quote) {
                Ok(supply) => TdxError::CollateralEnded {
                    fmspc: platform.fmspc,
                    ended: edition.end(),
                    reason: error.to_string(),
                    supply,
                },
                Err(foreign) => foreign,
            },
            _ => error,
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`TdxVerifier::changes`].
#[derive(Debug, Clone)]
pub struct Changes {
    policies: watch::Receiver<u64>,
    collateral: watch::Receiver<u64>,
}

impl Changes {
    /// Resolves at the next change, or never once the verifier is gone.
    pub async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.policies.changed() => changed,
            changed = self.collateral.changed() => changed,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Kept {
    fn find(&self, key: &[u8; 64], now: u64) -> Option<TdxClaims> {
        let entry = self.entries.get(key)?;
        // A clock that went back proves nothing about the time before.
        (entry.from <= now && now < entry.until).then(|| entry.claims.clone())
    }

    fn add(&mut self, key: [u8; 64], entry: Entry) {
        if self.entries.insert(key, entry).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MAX_KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

impl fmt::Debug for TdxVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TdxVerifier")
            .field("policy", &self.policy())
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// A shared verifier as a part of comparable settings: equal only to itself.
#[derive(Clone, Debug)]
pub struct SharedVerifier(pub Arc<TdxVerifier>);

impl PartialEq for SharedVerifier {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedVerifier {}
