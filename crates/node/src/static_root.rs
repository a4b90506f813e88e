//! The root configuration from a file instead of a chain (protocol.md 9.4, `rootConfig.pseudo`).
//!
//! A network on such a file has no chain: contracts count as deployed, nothing is ever charged or paid. Payments are
//! signed and contract addresses computed as always, so that peers go through the same steps.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use cocoon_ton::abi::Params;
use cocoon_ton::amount::NANO_PER_TON;
use cocoon_ton::{Address, Cell, boc};

use crate::reference_json::{FieldError, Object};
use crate::root::{RegisteredProxy, RootView, base_model, model_hash};

/// Largest file that is read. One with three contract codes and a hundred proxies has some 30 kB.
pub const MAX_FILE: u64 = 1 << 20;
/// Layout of the params in a static root: no multipliers.
const STRUCT_VERSION: u8 = 1;
/// Identity of every static network.
const UNIQUE_ID: u32 = 13;
/// Delays in seconds before a proxy's and a client's contract end.
const DELAYS: (u32, u32) = (600, 300);

/// Code of the three contracts, used where the file names none. It enters the addresses of contracts, so all nodes
/// must mean the same.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Of proxies.
    pub proxy: Cell,
    /// Of workers.
    pub worker: Cell,
    /// Of clients.
    pub client: Cell,
}

/// A file with a root configuration.
#[derive(Clone, Debug)]
pub struct StaticRoot {
    /// The file.
    pub path: PathBuf,
    /// Address of the root contract, which is part of proxies' addresses though nothing is there.
    pub address: Address,
    /// Codes for a file without any.
    pub codes: Codes,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StaticRootError {
    /// It cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// It says something wrong.
    #[error("{path}, {error}")]
    Field {
        /// The file.
        path: String,
        /// Where, and what.
        error: FieldError,
    },
}

impl StaticRoot {
    /// Reads the file. The second value names members that mean nothing here, as the reference ignores them too.
    pub fn read(&self) -> Result<(RootView, Vec<String>), StaticRootError> {
        let path = || self.path.display().to_string();
        let failed = |reason: String| StaticRootError::Read {
            path: path(),
            reason,
        };
        let size = std::fs::metadata(&self.path)
            .map_err(|e| failed(e.to_string()))?
            .len();
        if size > MAX_FILE {
            return Err(failed(format!(
                "it has {size} bytes, a root configuration has at most {MAX_FILE}"
            )));
        }
        let text = std::fs::read_to_string(&self.path).map_err(|e| failed(e.to_string()))?;
        parse(&text, self.address, &self.codes).map_err(|error| StaticRootError::Field {
            path: path(),
            error,
        })
    }
}

/// Reads the text of such a file.
pub fn parse(
    text: &str,
    address: Address,
    codes: &Codes,
) -> Result<(RootView, Vec<String>), FieldError> {
    let mut o = Object::parse(text)?;
    let proxy_hashes: BTreeSet<_> = o.int256_list("proxy_hashes")?.into_iter().collect();
    let worker_hashes: BTreeSet<_> = o.int256_list("worker_hashes")?.into_iter().collect();
    let mut model_hashes: BTreeSet<_> = o.int256_list("model_hashes")?.into_iter().collect();
    let types = o.string_list("model_types")?;
    model_hashes.extend(types.iter().map(|name| model_hash(base_model(name))));
    let mut proxies = Vec::new();
    for mut entry in o.object_list("registered_proxies")? {
        let seqno = entry.unsigned("seqno", i32::MAX as u32)?.unwrap_or(0);
        let text = entry.string("address")?.unwrap_or_default();
        let (workers, clients) = endpoints(&text).ok_or_else(|| {
            entry.refuse(
                "address",
                "ip:port for both roles, or ip:port ip:port with the workers' first (IPv4)",
                format!(
                    "\"{}\"",
                    text.chars().take(80).collect::<String>().escape_debug()
                ),
            )
        })?;
        proxies.push(RegisteredProxy {
            seqno,
            workers,
            clients,
        });
    }
    let mut count = |name: &str| -> Result<u32, FieldError> {
        Ok(o.unsigned(name, i32::MAX as u32)?.unwrap_or(0))
    };
    let price = count("price_per_token")?;
    let fee = count("worker_fee_per_token")?;
    let last_proxy_seqno = count("last_proxy_seqno")?;
    let version = count("version")?;
    let params_version = count("params_version")?;
    let mut code = |name: &str, fallback: &Cell| -> Result<Cell, FieldError> {
        let text = o.string(name)?.unwrap_or_default();
        if text.is_empty() {
            return Ok(fallback.clone());
        }
        hex::decode(&text)
            .ok()
            .and_then(|bytes| boc::decode(&bytes, boc::STATE).ok())
            .ok_or_else(|| {
                let found = format!("{} characters that are not", text.len());
                o.refuse(name, "a bag of cells in hex, or an empty text", found)
            })
    };
    let (proxy_code, worker_code, client_code) = (
        code("proxy_sc_code", &codes.proxy)?,
        code("worker_sc_code", &codes.worker)?,
        code("client_sc_code", &codes.client)?,
    );
    let owner = o.string("root_owner_address")?.unwrap_or_default();
    let owner = match owner.as_str() {
        "" => None,
        text => Some(
            Address::parse(text)
                .map_err(|e| {
                    o.refuse(
                        "root_owner_address",
                        "an address, or an empty text",
                        e.to_string(),
                    )
                })?
                .address,
        ),
    };
    let one = cocoon_ton::abi::params::MULTIPLIER_ONE;
    let view = RootView {
        address,
        version,
        params: Params {
            struct_version: STRUCT_VERSION,
            params_version,
            unique_id: UNIQUE_ID,
            is_test: true,
            price_per_token: u128::from(price),
            worker_fee_per_token: u128::from(fee),
            prompt_multiplier: one,
            cached_multiplier: one,
            completion_multiplier: one,
            reasoning_multiplier: one,
            proxy_delay: DELAYS.0,
            client_delay: DELAYS.1,
            min_proxy_stake: NANO_PER_TON,
            min_client_stake: NANO_PER_TON,
            proxy_code: Some(proxy_code),
            worker_code: Some(worker_code),
            client_code: Some(client_code),
        },
        proxy_hashes,
        worker_hashes,
        model_hashes,
        owner,
        last_proxy_seqno,
        proxies,
    };
    Ok((view, o.unread()))
}

/// `ip:port`, or the workers' and the clients', each with or without square brackets.
fn endpoints(text: &str) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let mut words = text.split(' ').filter(|word| !word.is_empty()).map(|word| {
        let bare = word
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(word);
        bare.parse::<SocketAddrV4>().ok().filter(|a| a.port() != 0)
    });
    let first = words.next()??;
    let second = match words.next() {
        Some(word) => word?,
        None => first,
    };
    words.next().is_none().then_some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use proptest::prelude::*;

    fn codes() -> Codes {
        let cell = |byte: u8| {
            let mut b = cocoon_ton::CellBuilder::new();
            b.store_u8(byte).unwrap();
            b.build().unwrap()
        };
        Codes {
            proxy: cell(1),
            worker: cell(2),
            client: cell(3),
        }
    }

    fn read(text: &str) -> Result<(RootView, Vec<String>), FieldError> {
        parse(text, Address::basechain([9; 32]), &codes())
    }

    fn b64(byte: u8) -> String {
        base64::engine::general_purpose::STANDARD.encode([byte; 32])
    }

    #[test]
    fn a_file_of_the_reference() {
        let text = format!(
            r#"{{"proxy_hashes": ["{}"], "proxy_hash": "ignored", "worker_hashes": ["{}"], "model_names": ["x"],
                "model_hashes": ["{}"], "model_types": ["Qwen/Qwen3-8B@c0ffee:11"],
                "registered_proxies": [{{"seqno": 1, "address": "[127.0.0.1:11001] [127.0.0.1:11002]"}}, {{"seqno": "2", "address": "10.0.0.1:5"}}],
                "price_per_token": 20, "worker_fee_per_token": 19, "last_proxy_seqno": 1, "version": 3, "params_version": 1,
                "proxy_sc_code": "{}", "worker_sc_code": "", "root_owner_address": ""}}"#,
            b64(1),
            b64(2),
            b64(3),
            hex::encode(boc::encode(&codes().client)),
        );
        let (root, unread) = read(&text).unwrap();
        assert_eq!(unread, ["model_names", "proxy_hash"]);
        assert_eq!((root.version, root.params.params_version), (3, 1));
        assert_eq!((root.price().0, root.worker_fee().0), (20, 19));
        assert!(root.is_test());
        assert!(root.proxy_hashes.contains(&[1; 32]) && root.worker_hashes.contains(&[2; 32]));
        assert!(root.model_hashes.contains(&[3; 32]) && root.allows_model("Qwen/Qwen3-8B"));
        assert!(
            !root.allows_model("Qwen/Qwen3-8B@c0ffee:11"),
            "only the base name counts (9.4)"
        );
        let p = &root.proxies[0];
        assert_eq!((p.workers.port(), p.clients.port()), (11001, 11002));
        assert_eq!(root.proxies[1].workers, root.proxies[1].clients);
        assert_eq!(root.params.proxy_code, Some(codes().client));
        assert_eq!(root.params.worker_code, Some(codes().worker));
        let p = &root.params;
        assert_eq!((p.struct_version, p.unique_id), (1, 13));
        assert_eq!((p.proxy_delay, p.client_delay), (600, 300));
        assert_eq!(
            (p.min_proxy_stake, p.min_client_stake),
            (NANO_PER_TON, NANO_PER_TON)
        );
        assert_eq!(root.multipliers().reasoning.0, 10_000);
    }

    #[test]
    fn an_empty_object_is_a_network_of_nobody() {
        let (root, _) = read("{}").unwrap();
        assert!(root.proxies.is_empty() && root.model_hashes.is_empty());
        assert!(root.price().is_zero());
    }

    #[test]
    fn wrong_members_are_named() {
        for (text, place) in [
            (r#"{"proxy_hashes": "x"}"#, "proxy_hashes"),
            (r#"{"proxy_hashes": ["x"]}"#, "proxy_hashes[0]"),
            (r#"{"worker_hashes": ["AAAA"]}"#, "worker_hashes[0]"),
            (r#"{"model_types": [1]}"#, "model_types[0]"),
            (r#"{"registered_proxies": [5]}"#, "registered_proxies[0]"),
            (
                r#"{"registered_proxies": [{"address": "1.2.3.4:1"}, {}]}"#,
                "registered_proxies[1].address",
            ),
            (
                r#"{"registered_proxies": [{"address": "proxy.example:1"}]}"#,
                "registered_proxies[0].address",
            ),
            (
                r#"{"registered_proxies": [{"address": "1.2.3.4:0"}]}"#,
                "registered_proxies[0].address",
            ),
            (
                r#"{"registered_proxies": [{"address": "1.2.3.4:1 1.2.3.4:2 1.2.3.4:3"}]}"#,
                "registered_proxies[0].address",
            ),
            (
                r#"{"registered_proxies": [{"seqno": -1, "address": "1.2.3.4:1"}]}"#,
                "registered_proxies[0].seqno",
            ),
            (r#"{"price_per_token": -1}"#, "price_per_token"),
            (r#"{"version": 2147483648}"#, "version"),
            (r#"{"params_version": 1.5}"#, "params_version"),
            (r#"{"client_sc_code": "zz"}"#, "client_sc_code"),
            (r#"{"worker_sc_code": "b5ee9c72"}"#, "worker_sc_code"),
            (r#"{"root_owner_address": "me"}"#, "root_owner_address"),
        ] {
            assert_eq!(read(text).unwrap_err().place, place, "{text}");
        }
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let text = format!(
                r#"{{"proxy_hashes": ["{}"], "model_types": ["a@b"], "registered_proxies": [{{"seqno": 1, "address": "[127.0.0.1:11001] 127.0.0.1:11002"}}], "price_per_token": 20, "client_sc_code": "{}"}}"#,
                b64(1), hex::encode(boc::encode(&codes().client)),
            );
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut.max(1));
            let _ = read(&String::from_utf8_lossy(&bytes));
        }
    }
}
