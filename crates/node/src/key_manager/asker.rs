//! The other end: how a proxy or a worker gets its keys from a key manager.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use cocoon_attest::keys::{KeyError, KeyFuture};
use cocoon_attest::{KeyName, KeySource, SecretKey, unix_now};
use cocoon_tl::{from_boxed, to_boxed};
use cocoon_wire::QueryFailure;
use cocoon_wire::driver::{self, ConnConfig, PeerEvent, PeerHandle, Role};
use cocoon_wire::msg::key_manager::{GetProxyPrivateKeys, GetWorkerPrivateKeys, PrivateKeys};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use zeroize::{Zeroize, Zeroizing};

use super::types::{Audience, MAX_KEYS};
use crate::link::PeerInfo;
use crate::peers::{DoorError, Trusted, Way};

/// From the connection to the answer; the key manager answers at once or after one write to its disk.
const LIMIT: Duration = Duration::from_secs(30);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No attested link.
    #[error("no link to the key manager: {0}")]
    Link(#[from] DoorError),
    /// Somebody else's machine.
    #[error(
        "the key manager at {target} runs image {found}, which is not among those that were named"
    )]
    Image {
        /// Who was dialled.
        target: SocketAddr,
        /// Its image hash.
        found: String,
    },
    /// It said no.
    #[error("the key manager refused: {message} (code {code})")]
    Refused {
        /// Code of protocol.md 1.8.
        code: i32,
        /// Its words.
        message: String,
    },
    /// No answer.
    #[error("the key manager did not answer: {0}")]
    Lost(String),
    /// Its answer cannot be used.
    #[error("the key manager's answer cannot be used: {0}")]
    Answer(&'static str),
}

/// A key and its end.
#[derive(Clone, Debug)]
pub struct ManagedKey {
    /// Ed25519 seed.
    pub seed: SecretKey,
    /// Unix second from which it counts no more.
    pub until: u64,
}

/// Asks one key manager.
#[derive(Clone)]
pub struct KeyAsker {
    /// How it is reached.
    pub way: Way,
    /// Where it is.
    pub target: SocketAddr,
    /// Image hashes that it may have. `None` takes any that the policy of the way allows: on test networks only,
    /// because the root contract lists no key managers.
    pub images: Option<BTreeSet<[u8; 32]>>,
}

impl KeyAsker {
    /// All keys of this audience, the longest life first; at least one.
    ///
    /// `config_version` is that of the root configuration which the asker knows: an older key manager refuses.
    pub async fn fetch(
        &self,
        audience: Audience,
        config_version: u32,
    ) -> Result<Vec<ManagedKey>, FetchError> {
        let work = async {
            let (stream, peer) = self.way.go(self.target, None).await?;
            self.check(&peer)?;
            match stream {
                Trusted::Tls(tls, _) => ask(*tls, audience, config_version).await,
                Trusted::Plain(tcp) => ask(tcp, audience, config_version).await,
            }
        };
        tokio::time::timeout(LIMIT, work)
            .await
            .unwrap_or_else(|_| Err(FetchError::Lost(format!("within {} s", LIMIT.as_secs()))))
    }

    fn check(&self, peer: &PeerInfo) -> Result<(), FetchError> {
        match &self.images {
            Some(images) if !images.contains(&peer.image_hash) => Err(FetchError::Image {
                target: self.target,
                found: hex::encode(peer.image_hash),
            }),
            _ => Ok(()),
        }
    }
}

async fn ask<S>(
    stream: S,
    audience: Audience,
    config_version: u32,
) -> Result<Vec<ManagedKey>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (handle, mut events) = driver::spawn(stream, Role::Dialler, ConnConfig::default());
    let result = query(&handle, &mut events, audience, config_version).await;
    handle.close_after_flush("the keys are here");
    result
}

async fn query(
    handle: &PeerHandle,
    events: &mut mpsc::Receiver<PeerEvent>,
    audience: Audience,
    config_version: u32,
) -> Result<Vec<ManagedKey>, FetchError> {
    match events.recv().await {
        Some(PeerEvent::Ready) => {}
        Some(PeerEvent::Closed { reason }) => return Err(FetchError::Lost(reason)),
        _ => return Err(FetchError::Lost("it speaks another protocol".to_owned())),
    }
    let min_config_version = i32::try_from(config_version).unwrap_or(i32::MAX);
    let question = if audience.proxies {
        to_boxed(&GetProxyPrivateKeys { min_config_version })
    } else {
        to_boxed(&GetWorkerPrivateKeys { min_config_version })
    };
    let answer = handle.query(question, LIMIT).await.map_err(|e| match e {
        QueryFailure::Remote { code, message } => FetchError::Refused { code, message },
        QueryFailure::Timeout => FetchError::Lost("no answer in time".to_owned()),
        _ => FetchError::Lost("the link ended".to_owned()),
    })?;
    read_keys(&Zeroizing::new(answer), unix_now())
}

/// Reads an answer; a key that has ended is left out.
pub fn read_keys(answer: &[u8], now: u64) -> Result<Vec<ManagedKey>, FetchError> {
    let mut list: PrivateKeys =
        from_boxed(answer).map_err(|_| FetchError::Answer("it is no list of keys"))?;
    let too_many = list.keys.len() > 2 * MAX_KEYS;
    let mut keys: Vec<ManagedKey> = Vec::new();
    for key in &mut list.keys {
        let seed = SecretKey::new(Zeroizing::new(key.private_key));
        key.private_key.zeroize();
        let until = u64::try_from(key.valid_until_utime).unwrap_or(0);
        if until > now {
            keys.push(ManagedKey { seed, until });
        }
    }
    if too_many {
        return Err(FetchError::Answer("it holds more keys than there can be"));
    }
    if keys.is_empty() {
        return Err(FetchError::Answer("it holds no key that has not ended"));
    }
    if keys.iter().any(|k| *k.seed.expose() == [0; 32]) {
        return Err(FetchError::Answer("it holds a key of zeros"));
    }
    keys.sort_by_key(|k| std::cmp::Reverse(k.until));
    Ok(keys)
}

/// A key manager as a [`KeySource`]: the names `proxy` and `worker` give the key of that role that lives longest.
pub struct ManagedKeys {
    /// Whom to ask.
    pub asker: KeyAsker,
    /// Version of the root configuration that this node knows.
    pub config_version: u32,
}

impl KeySource for ManagedKeys {
    fn key<'a>(&'a self, name: &'a KeyName) -> KeyFuture<'a> {
        Box::pin(async move {
            let audience = match name.as_bytes() {
                b"proxy" => Audience::PROXIES,
                b"worker" => Audience::WORKERS,
                _ => {
                    return Err(KeyError::Unknown {
                        source_name: "a key manager",
                        name: name.clone(),
                    });
                }
            };
            let keys = self
                .asker
                .fetch(audience, self.config_version)
                .await
                .map_err(|e| KeyError::Manager(e.to_string()))?;
            keys.into_iter()
                .next()
                .map(|key| key.seed)
                .ok_or_else(|| KeyError::Manager("no key".to_owned()))
        })
    }
}
