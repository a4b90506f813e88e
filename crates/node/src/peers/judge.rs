//! Living peers are judged again: what vouches for evidence ends, and what is demanded of it changes.

use std::time::Duration;

use cocoon_attest::evidence::verifier::Changes;
use cocoon_attest::{PeerIdentity, Policy};
use rand::Rng;

/// Longest time between two looks at the evidence of a living peer.
pub const REJUDGE_EVERY: Duration = Duration::from_secs(50);

/// A peer that was accepted, with the policy that accepted it.
pub struct Judge {
    peer: PeerIdentity,
    policy: Policy,
    /// Listened to from the beginning, so that nothing is missed.
    changes: Option<Changes>,
    every: Duration,
}

impl Judge {
    /// Judges this peer again by this policy.
    pub fn new(peer: &PeerIdentity, policy: &Policy) -> Self {
        Judge {
            peer: peer.clone(),
            policy: policy.clone(),
            changes: policy.changes(),
            every: REJUDGE_EVERY,
        }
    }

    /// Resolves when the policy refuses the peer, with the reason. Looks at every change of collateral and demands, and
    /// at random moments in between, so that many links do not look at once.
    pub async fn refusal(mut self) -> String {
        loop {
            let pause = self.every.mul_f64(rand::rng().random_range(0.7..1.0));
            let changed = async {
                match &mut self.changes {
                    Some(changes) => changes.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(refusal) = self.peer.recheck(&self.policy) {
                return refusal.to_string();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use cocoon_attest::evidence::TdxVerifier;
    use cocoon_attest::evidence::collateral::{CollateralStore, TdxCollateral};
    use cocoon_attest::evidence::tdx::TdxRoot;
    use cocoon_attest::evidence::tdx_policy::TdxPolicy;
    use cocoon_attest::{
        CertificateMode, PolicyRules, QuoteSource, QuoteSourceError, TlsIdentity, accept, connect,
        unix_now,
    };
    use cocoon_softtee::{SoftTdx, TdFields};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    struct Machine(SoftTdx);

    impl QuoteSource for Machine {
        fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError> {
            Ok(self.0.quote(&TdFields {
                report_data: *report_data,
                ..TdFields::default()
            }))
        }
    }

    struct World {
        machine: Machine,
        store: Arc<CollateralStore>,
        verifier: Arc<TdxVerifier>,
        /// Seconds by which the verifier's clock is ahead.
        ahead: Arc<AtomicU64>,
        policy: Policy,
    }

    impl World {
        fn new() -> Self {
            let tdx = SoftTdx::new(unix_now());
            let root = TdxRoot::pinned(tdx.root_sha256());
            let store = Arc::new(CollateralStore::under(root));
            let ahead = Arc::new(AtomicU64::new(0));
            let offset = ahead.clone();
            let clock = move || unix_now() + offset.load(Ordering::SeqCst);
            let verifier = TdxVerifier::with(store.clone(), TdxPolicy::default(), root, clock);
            let verifier = Arc::new(verifier);
            let policy = Policy::Tdx(PolicyRules {
                allowed_collateral_root_hashes: vec![tdx.root_hash()],
                ..PolicyRules::default()
            })
            .with_verifier(verifier.clone());
            let world = World {
                machine: Machine(tdx),
                store,
                verifier,
                ahead,
                policy,
            };
            world.publish();
            world
        }

        fn publish(&self) {
            let collateral = TdxCollateral::from_json(&self.machine.0.collateral()).unwrap();
            self.store.insert(collateral).unwrap();
        }

        /// A peer that was accepted and is judged at least so often.
        async fn judge(&self, every: Duration) -> Judge {
            let now = unix_now();
            let attested = TlsIdentity::attested(&self.machine, now).unwrap();
            let plain = TlsIdentity::generate(CertificateMode::None, now).unwrap();
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let (client, server) = tokio::join!(
                connect(ours, &attested, &Policy::Any, 0),
                accept(theirs, &plain, &self.policy, 0)
            );
            client.unwrap();
            let peer = server.unwrap().1;
            Judge {
                every,
                ..Judge::new(&peer, &self.policy)
            }
        }
    }

    async fn refusal(judge: Judge) -> String {
        tokio::time::timeout(LIMIT, judge.refusal()).await.unwrap()
    }

    /// Far longer than any test: only changes wake the judge.
    const NEVER: Duration = Duration::from_secs(10_000);

    #[tokio::test]
    async fn new_ratings_and_new_demands_reach_living_peers_at_once() {
        let mut world = World::new();
        let living = world.judge(NEVER).await;
        world.machine.0.evaluation_number = 21;
        world.machine.0.tcb_status = "OutOfDate".to_owned();
        let waiting = tokio::spawn(refusal(living));
        world.publish();
        let why = waiting.await.unwrap();
        assert!(why.contains("OutOfDate"), "{why}");

        let world = World::new();
        let waiting = tokio::spawn(refusal(world.judge(NEVER).await));
        world.verifier.set_policy(TdxPolicy {
            minimum_evaluation_number: 99,
            ..TdxPolicy::default()
        });
        let why = waiting.await.unwrap();
        assert!(why.contains("at least 99"), "{why}");
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_noticed_within_the_interval() {
        assert!(REJUDGE_EVERY < Duration::from_secs(60), "within a minute");
        let world = World::new();
        let judge = world.judge(Duration::from_millis(20)).await;
        world.ahead.store(29 * 86_400 + 1, Ordering::SeqCst);
        let why = refusal(judge).await;
        assert!(why.contains("ended at"), "{why}");
    }
}
