//! Where a single node's root configuration and contracts are: `--chain static:FILE` or `--chain toncenter:URL`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cocoon_node::static_root::{Codes, StaticRoot};
use cocoon_node::wallet::WalletHandle;
use cocoon_node::{RootSource, Settlement};
use cocoon_ton::{Address, Chain};
use ed25519_dalek::SigningKey;

use super::start;
use crate::contracts::Contracts;
use crate::error::{CliError, Result};
use crate::toncenter::Toncenter;

/// Between looks of a wallet at its account over HTTP.
const WALLET_POLL: Duration = Duration::from_secs(1);

/// A source of the root configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file; no chain at all (protocol.md 9.4).
    Static(PathBuf),
    /// A toncenter-style server, such as that of `cocoon up`.
    Toncenter(String),
}

impl Source {
    /// Reads `static:FILE` or `toncenter:URL`; `origin` says where the text stands.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("static", file)) if !file.is_empty() => Ok(Source::Static(file.into())),
            Some(("toncenter", url)) if url.starts_with("http://") => {
                Ok(Source::Toncenter(url.to_owned()))
            }
            _ => Err(CliError::usage(format!("cannot use the chain of {origin}"))
                .expected("static:FILE, or toncenter:http://HOST:PORT")
                .found(format!("{text:?}"))),
        }
    }
}

impl Source {
    /// As `--chain` takes it; a file by its absolute path.
    pub fn text(&self) -> String {
        match self {
            Source::Static(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                format!("static:{}", path.display())
            }
            Source::Toncenter(url) => format!("toncenter:{url}"),
        }
    }
}

/// A node's settlement, and its wallet if there is a chain.
pub struct Opened {
    /// For the node.
    pub settlement: Settlement,
    /// To be closed at the end.
    pub wallet: Option<WalletHandle>,
}

/// Opens a source for a node that only reads the root configuration.
pub async fn root_source(source: &Source, root: Address) -> Result<RootSource> {
    Ok(match source {
        Source::Static(path) => RootSource::Static(static_root(path, root, Contracts::load()?)),
        Source::Toncenter(url) => RootSource::OnChain {
            chain: connect(url).await?,
            root,
        },
    })
}

fn static_root(path: &std::path::Path, address: Address, contracts: Contracts) -> StaticRoot {
    StaticRoot {
        path: path.to_owned(),
        address,
        codes: Codes {
            proxy: contracts.proxy,
            worker: contracts.worker,
            client: contracts.client,
        },
    }
}

async fn connect(url: &str) -> Result<Arc<dyn Chain>> {
    let server = Toncenter::open(url).await.map_err(|e| {
        CliError::new(format!("the chain at {url} does not answer"))
            .expected("a toncenter-style server (v2), such as the chain of 'cocoon up'")
            .found(e.to_string())
    })?;
    Ok(Arc::new(server))
}

/// Opens a source for the node with this wallet key and owner.
pub async fn open(
    source: &Source,
    root: Address,
    key: &SigningKey,
    owner: Address,
) -> Result<Opened> {
    let contracts = Contracts::load()?;
    let init = contracts.wallet(key.verifying_key().to_bytes(), Some(owner))?;
    match source {
        Source::Static(path) => Ok(Opened {
            settlement: Settlement::Assumed {
                root: static_root(path, root, contracts),
                wallet: init.address,
            },
            wallet: None,
        }),
        Source::Toncenter(url) => {
            let chain = connect(url).await?;
            let wallet = start::wallet(&chain, key, &init, WALLET_POLL);
            Ok(Opened {
                settlement: Settlement::OnChain {
                    chain,
                    root,
                    wallet: wallet.clone(),
                },
                wallet: Some(wallet),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let parse = |text: &str| Source::parse(text, "--chain");
        assert_eq!(parse("static:a:b").unwrap(), Source::Static("a:b".into()));
        assert_eq!(
            parse("toncenter:http://127.0.0.1:8081").unwrap(),
            Source::Toncenter("http://127.0.0.1:8081".into())
        );
        for wrong in [
            "",
            "static:",
            "static",
            "toncenter:",
            "toncenter:https://x",
            "liteserver:x",
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(
                error.contains("static:FILE") && error.contains("--chain"),
                "{error}"
            );
        }
    }
}
