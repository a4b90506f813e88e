//! What a node says and wants to hear in the signed claims of its direct links.
//!
//! Claims belong to a TLS connection, and behind a router the node has none: its router holds key and connection, and the
//! frame (protocol.md 1.2) has no room for more. So links through routers carry none, and a node that requires them
//! refuses to start behind one.

use std::sync::Arc;

use cocoon_attest::claims::{
    ClaimsProfile, Expected, GpuDemand, GpuSource, Network, OwnClaims, ProtocolRange, Role,
    RootContract,
};
use cocoon_attest::hybrid_kem;
use ed25519_dalek::SigningKey;

use crate::common::NodeError;
use crate::proxy::MAX_VERSION;
use crate::root::RootView;
use crate::settlement::Settlement;

/// What an operator decides about claims.
#[derive(Clone, Default)]
pub struct ClaimsSettings {
    /// Refuse peers that make none: the reference, and whoever is behind a router.
    pub require: bool,
    /// What the GPUs of workers have to prove; for proxies.
    pub gpu_demand: Option<GpuDemand>,
    /// Makes evidence of our own GPUs; for workers.
    pub gpu_source: Option<Arc<dyn GpuSource>>,
}

/// Says who this node is, on all its links.
pub(crate) struct Speaker {
    role: Role,
    network: Network,
    root: RootContract,
    settings: ClaimsSettings,
    payment_key: Option<Arc<SigningKey>>,
    encryption: Option<hybrid_kem::PublicKey>,
}

impl Speaker {
    /// Nothing but what is the same on every link.
    pub async fn new(
        role: Role,
        settlement: &Settlement,
        root: &RootView,
        settings: ClaimsSettings,
    ) -> Result<Self, NodeError> {
        let network = Network {
            global_id: settlement.global_id().await?,
            is_test: root.is_test(),
        };
        let root = RootContract {
            workchain: root.address.workchain.into(),
            hash: root.address.hash,
        };
        Ok(Speaker {
            role,
            network,
            root,
            settings,
            payment_key: None,
            encryption: None,
        })
    }

    /// Proves that the node holds this key.
    pub fn with_payment_key(mut self, key: SigningKey) -> Self {
        self.payment_key = Some(Arc::new(key));
        self
    }

    /// Offers a key that bodies are sealed to.
    pub fn with_encryption(mut self, key: hybrid_kem::PublicKey) -> Self {
        self.encryption = Some(key);
        self
    }

    /// For links to peers of a role. `direct` tells whether TLS ends in this process; elsewhere nothing can be required.
    pub fn towards(&self, peer: Role, direct: bool) -> Result<Arc<ClaimsProfile>, NodeError> {
        let gpu = self.settings.gpu_demand.clone();
        let gpu = gpu.filter(|_| peer == Role::Worker);
        // Without claims a required GPU is not proved.
        let require = self.settings.require || gpu.as_ref().is_some_and(|gpu| gpu.required);
        if require && !direct {
            return Err(NodeError::Config(format!(
                "signed claims are required of every {peer} (require_claims, or a GPU in the policy), and links to {peer}s go through a router, which ends the TLS connection that claims are bound to: link directly, or do not require claims"
            )));
        }
        Ok(Arc::new(ClaimsProfile {
            require,
            own: OwnClaims {
                role: self.role,
                network: self.network,
                root: self.root,
                protocol: ProtocolRange {
                    min: 0,
                    max: MAX_VERSION,
                },
                encryption: self.encryption.clone(),
                payment_key: self.payment_key.clone(),
                gpu: self.settings.gpu_source.clone(),
            },
            expected: Expected {
                roles: vec![peer],
                network: self.network,
                root: self.root,
                gpu,
            },
        }))
    }
}

/// A proxy that made claims has proved a payment key; the one it names afterwards must be the same. A reference proxy and
/// one behind a router have made none.
pub(crate) fn check_payment_key(claimed: Option<[u8; 32]>, named: &[u8; 32]) -> Result<(), String> {
    match claimed {
        Some(claimed) if claimed != *named => Err(format!(
            "the proxy names the payment key {}, its signed claims prove {}",
            hex::encode(named),
            hex::encode(claimed)
        )),
        _ => Ok(()),
    }
}
