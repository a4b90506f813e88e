//! Configuration files of single nodes: the reference's JSON (protocol.md 9.1 and 9.2) and a few members of our own.
//!
//! Ours are `chain`, `attestation`, `certificate`, `collateral`, `evidence_policy`, `require_claims`, `router_uid`, and for
//! a proxy `direct`, `listen` and `pow_difficulty`; the reference ignores what it does not know, so one file serves both.
//! Where its defaults would lose money or serve nobody, ours differ:
//! a missing key or secret is made instead of being empty, a missing coefficient is 1000, a missing
//! `proxy_connections` is 1.

mod key_manager;

use std::net::Ipv4Addr;

use cocoon_collateral::CollateralConfig;
use cocoon_node::reference_json::{FieldError, Object};
use cocoon_ton::Address;
use zeroize::Zeroizing;

pub use key_manager::{KeyManagerFile, key_manager};

/// Members that stand in the reference's templates and mean nothing there either.
const MEANINGLESS: [&str; 3] = ["rpc_port", "max_coefficient", "max_tokens"];
/// Proxies one node keeps connected.
const MAX_CONNECTIONS: u32 = 64;
/// Requests that a worker takes unless told otherwise.
const DEFAULT_MAX_ACTIVE: u32 = 200;

/// A file's members, and the names of those that mean nothing here.
pub type Parsed<T> = Result<(T, Vec<String>), FieldError>;

/// A 32-byte secret.
pub type Seed = Zeroizing<[u8; 32]>;

/// Members of every node.
pub struct Shared {
    /// Test network.
    pub is_test: bool,
    /// TON testnet.
    pub testnet: bool,
    /// Port of the HTTP interface; 0 for none.
    pub http_port: u16,
    /// The operator's address.
    pub owner: Address,
    /// The root contract.
    pub root: Address,
    /// Key of the node's wallet, if it stands here.
    pub wallet_key: Option<Seed>,
    /// Token of the HTTP interface, if it stands here.
    pub http_token: Option<Zeroizing<String>>,
    /// Compare hashes with the root's lists.
    pub check_hashes: bool,
    /// Ours: where the chain is.
    pub chain: Option<String>,
    /// Ours: what direct peers must prove.
    pub attestation: Option<String>,
    /// Ours: what our own certificate proves to direct peers.
    pub certificate: Option<String>,
    /// Ours: where Intel's collateral comes from, without which no quote is believed.
    pub collateral: Option<CollateralConfig>,
    /// Ours: file with one policy on evidence.
    pub evidence_policy: Option<String>,
    /// Ours: the user id that the router runs as; nobody else on this machine is believed.
    pub router_uid: Option<u32>,
    /// Ours: refuse peers that make no signed claims, such as the reference and whoever is behind a router.
    pub require_claims: bool,
}

impl Shared {
    /// Nothing in particular, left where the real one was taken away.
    pub fn nobody() -> Self {
        Self {
            is_test: false,
            testnet: false,
            http_port: 0,
            owner: Address::default(),
            root: Address::default(),
            wallet_key: None,
            http_token: None,
            check_hashes: true,
            chain: None,
            attestation: None,
            certificate: None,
            collateral: None,
            evidence_policy: None,
            require_claims: false,
            router_uid: None,
        }
    }
}

/// `clientRunner.config`.
pub struct ClientFile {
    /// See [`Shared`].
    pub shared: Shared,
    /// Proxies to keep connected.
    pub proxy_connections: u32,
    /// The router; `None` dials proxies directly.
    pub router: Option<String>,
    /// Proves the client to proxies, if it stands here.
    pub secret: Option<Zeroizing<String>>,
}

/// `proxyRunner.config`.
pub struct ProxyFile {
    /// See [`Shared`].
    pub shared: Shared,
    /// Port for workers; 0 accepts none.
    pub workers_port: u16,
    /// Port for clients; 0 accepts none.
    pub clients_port: u16,
    /// Signs payments, if it stands here.
    pub payment_key: Option<Seed>,
    /// Data directory.
    pub db_path: Option<String>,
    /// Ours: accept peers without a router.
    pub direct: bool,
    /// Ours: address to accept peers on, if direct.
    pub listen: Option<Ipv4Addr>,
    /// Ours: proof of work asked of direct peers.
    pub pow_difficulty: Option<u8>,
    /// Own image hash, if given. For display: only workers are compared with it.
    pub image_hash: Option<[u8; 32]>,
}

/// `workerRunner.config`.
pub struct WorkerFile {
    /// See [`Shared`].
    pub shared: Shared,
    /// Proxies to keep connected.
    pub proxy_connections: u32,
    /// The router; `None` dials proxies directly.
    pub router: Option<String>,
    /// Full name of the model.
    pub model_name: Option<String>,
    /// Price factor in thousandths.
    pub coefficient: Option<u32>,
    /// `host:port` of the inference server.
    pub forward_to: Option<String>,
    /// Requests running at once.
    pub max_active_requests: u32,
    /// Own image hash, if given.
    pub image_hash: Option<[u8; 32]>,
}

/// Reads a client's file.
pub fn client(text: &str) -> Parsed<ClientFile> {
    let mut o = Object::parse(text)?;
    let file = ClientFile {
        shared: shared(&mut o, "check_proxy_hashes")?,
        proxy_connections: connections(&mut o)?,
        router: router(&mut o)?,
        secret: nonempty(&mut o, "secret_string")?.map(Zeroizing::new),
    };
    Ok((file, unread(&o)))
}

/// Reads a proxy's file.
pub fn proxy(text: &str) -> Parsed<ProxyFile> {
    let mut o = Object::parse(text)?;
    let file = ProxyFile {
        shared: shared(&mut o, "check_worker_hashes")?,
        workers_port: port(&mut o, "workers_rpc_port")?,
        clients_port: port(&mut o, "client_rpc_port")?,
        payment_key: seed(&mut o, "machine_specific_private_key")?,
        db_path: nonempty(&mut o, "db_path")?,
        direct: o.bool("direct")?.unwrap_or(false),
        listen: match nonempty(&mut o, "listen")? {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                o.refuse("listen", "an IPv4 address, such as 0.0.0.0", shown(&text))
            })?),
        },
        pow_difficulty: o
            .unsigned("pow_difficulty", u32::from(u8::MAX))?
            .map(|n| n as u8),
        image_hash: o.int256("image_hash")?.filter(|hash| *hash != [0; 32]),
    };
    Ok((file, unread(&o)))
}

/// Reads a worker's file.
pub fn worker(text: &str) -> Parsed<WorkerFile> {
    let mut o = Object::parse(text)?;
    let file = WorkerFile {
        shared: shared(&mut o, "check_proxy_hashes")?,
        proxy_connections: connections(&mut o)?,
        router: router(&mut o)?,
        model_name: nonempty(&mut o, "model_name")?,
        coefficient: o.unsigned("coefficient", cocoon_ledger::units::MAX_COEFFICIENT)?,
        forward_to: nonempty(&mut o, "forward_requests_to")?,
        max_active_requests: match o.int("max_active_requests")? {
            Some(n) if n > 0 => n.unsigned_abs(),
            _ => DEFAULT_MAX_ACTIVE,
        },
        image_hash: o.int256("image_hash")?.filter(|hash| *hash != [0; 32]),
    };
    Ok((file, unread(&o)))
}

fn shared(o: &mut Object, check: &str) -> Result<Shared, FieldError> {
    let owner = address(o, "owner_address")?;
    let wallet_key = seed(o, "node_wallet_key")?;
    Ok(Shared {
        owner,
        wallet_key,
        ..without_owner(o, check)?
    })
}

/// The same for a node without a wallet.
fn without_owner(o: &mut Object, check: &str) -> Result<Shared, FieldError> {
    let is_test = o.bool("is_test")?.unwrap_or(false);
    // Light clients are not in this build; the member of every reference file is known all the same.
    o.string("ton_config_filename")?;
    Ok(Shared {
        is_test,
        testnet: o.bool("is_testnet")?.unwrap_or(false),
        http_port: port(o, "http_port")?,
        owner: Address::default(),
        root: address(o, "root_contract_address")?,
        wallet_key: None,
        http_token: nonempty(o, "http_access_hash")?.map(Zeroizing::new),
        // Outside test mode hashes are always compared (9.2).
        check_hashes: o.bool(check)?.unwrap_or(false) || !is_test,
        chain: nonempty(o, "chain")?,
        attestation: nonempty(o, "attestation")?,
        certificate: nonempty(o, "certificate")?,
        collateral: collateral(o)?,
        evidence_policy: nonempty(o, "evidence_policy")?,
        router_uid: o.unsigned("router_uid", u32::MAX)?,
        require_claims: o.bool("require_claims")?.unwrap_or(false),
    })
}

/// A directory, or an object with a service. An empty text is none, as everywhere in these files.
fn collateral(o: &mut Object) -> Result<Option<CollateralConfig>, FieldError> {
    match o.value("collateral") {
        None => Ok(None),
        Some(serde_json::Value::String(text)) if text.is_empty() => Ok(None),
        Some(value) => serde_json::from_value(value).map(Some).map_err(|_| {
            o.refuse(
                "collateral",
                "a directory, or an object with directory, service, api_key_file, api_key_header, ca_file, allow_plain_http",
                "something else",
            )
        }),
    }
}

fn nonempty(o: &mut Object, name: &str) -> Result<Option<String>, FieldError> {
    Ok(o.string(name)?.filter(|text| !text.is_empty()))
}

fn port(o: &mut Object, name: &str) -> Result<u16, FieldError> {
    let number = o.unsigned(name, u32::from(u16::MAX))?;
    Ok(number.map_or(0, |n| n as u16))
}

fn connections(o: &mut Object) -> Result<u32, FieldError> {
    match o.unsigned("proxy_connections", MAX_CONNECTIONS)? {
        Some(0) => Err(o.refuse(
            "proxy_connections",
            format!("1 to {MAX_CONNECTIONS}"),
            "0, with which the node would never connect",
        )),
        number => Ok(number.unwrap_or(1)),
    }
}

fn address(o: &mut Object, name: &str) -> Result<Address, FieldError> {
    const EXPECTED: &str = "an address: 48 characters (EQ... or UQ...), or 0:<64 hex digits>";
    let Some(text) = nonempty(o, name)? else {
        return Err(o.refuse(name, EXPECTED, "nothing"));
    };
    Address::parse(text.trim())
        .map(|parsed| parsed.address)
        .map_err(|e| o.refuse(name, EXPECTED, e.to_string()))
}

/// A key must not be guessable: an empty template gives 32 zeros.
fn seed(o: &mut Object, name: &str) -> Result<Option<Seed>, FieldError> {
    match o.int256(name)?.map(Zeroizing::new) {
        Some(seed) if *seed == [0; 32] => Err(o.refuse(
            name,
            "a random key, or no such member (then one is made in the data directory)",
            "32 zeros, which everybody knows",
        )),
        seed => Ok(seed),
    }
}

fn router(o: &mut Object) -> Result<Option<String>, FieldError> {
    match nonempty(o, "connect_to_proxy_via")? {
        Some(text) if !is_host_port(&text) => Err(o.refuse(
            "connect_to_proxy_via",
            "host:port of a router's SOCKS5 port, such as 127.0.0.1:8116, or an empty text",
            shown(&text),
        )),
        text => Ok(text),
    }
}

/// `host:port` with a port that exists.
pub fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(['/', ' ', '@'])
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

/// A value that is no secret, cut to a readable length.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("\"{}\"", short.escape_debug())
}

fn unread(o: &Object) -> Vec<String> {
    let mut names = o.unread();
    names.retain(|name| !MEANINGLESS.contains(&name.as_str()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    const OWNER: &str = "0:83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8";

    /// A file with the two addresses that every node needs.
    fn with(members: &str) -> String {
        let comma = if members.is_empty() { "" } else { "," };
        format!(
            r#"{{"owner_address":"{OWNER}","root_contract_address":"{OWNER}"{comma}{members}}}"#
        )
    }

    #[test]
    fn a_file_of_the_reference_is_read() {
        let key = STANDARD.encode([7u8; 32]);
        let text = with(&format!(
            r#""is_test":1,"is_testnet":"0","http_port":12000,"proxy_connections":2,"connect_to_proxy_via":"127.0.0.1:8116",
            "model_name":"Qwen/Qwen3-8B@c0ffee:11","coefficient":0,"node_wallet_key":"{key}","forward_requests_to":"localhost:8000",
            "ton_config_filename":"x","check_proxy_hashes":false,"max_active_requests":60,"image_hash":"{key}","http_access_hash":"",
            "rpc_port":1,"chain":"static:root.json""#
        ));
        let (file, unread) = worker(&text).unwrap();
        assert!(unread.is_empty(), "{unread:?}");
        assert!(file.shared.is_test && !file.shared.testnet && !file.shared.check_hashes);
        assert_eq!((file.shared.http_port, file.proxy_connections), (12000, 2));
        assert_eq!(file.router.as_deref(), Some("127.0.0.1:8116"));
        assert_eq!(file.coefficient, Some(0));
        assert_eq!(file.max_active_requests, 60);
        assert_eq!(file.image_hash, Some([7; 32]));
        assert_eq!(file.shared.wallet_key.as_deref(), Some(&[7; 32]));
        assert!(file.shared.http_token.is_none());
        assert_eq!(file.shared.chain.as_deref(), Some("static:root.json"));

        let (file, _) = proxy(&with(
            r#""workers_rpc_port":11101,"client_rpc_port":11102,"http_port":11000,"db_path":"/tmp/x","direct":true,"listen":"0.0.0.0","pow_difficulty":4"#,
        ))
        .unwrap();
        assert_eq!((file.workers_port, file.clients_port), (11101, 11102));
        assert!(file.shared.check_hashes, "always outside test mode");
        assert_eq!(
            (file.direct, file.listen, file.pow_difficulty),
            (true, Some(Ipv4Addr::UNSPECIFIED), Some(4))
        );
        let (file, _) = client(&with(r#""secret_string":"0123456789abcdef""#)).unwrap();
        assert_eq!(
            file.secret.as_deref().map(String::as_str),
            Some("0123456789abcdef")
        );
        assert_eq!((file.proxy_connections, file.router), (1, None));
    }

    #[test]
    fn members_that_mean_nothing_are_named() {
        let text = with(r#""http_prot":1,"max_tokens":5,"coeficient":1000"#);
        assert_eq!(worker(&text).unwrap().1, ["coeficient", "http_prot"]);
        assert_eq!(
            client(&with(r#""model_name":"x""#)).unwrap().1,
            ["model_name"]
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_secrets_are_not_shown() {
        let zeros = STANDARD.encode([0u8; 32]);
        let cases = [
            (
                "owner_address",
                r#"{"root_contract_address":"x"}"#.to_owned(),
            ),
            ("owner_address", r#"{"owner_address":"hunter2"}"#.to_owned()),
            (
                "root_contract_address",
                format!(r#"{{"owner_address":"{OWNER}"}}"#),
            ),
            ("http_port", with(r#""http_port":65536"#)),
            ("http_port", with(r#""http_port":-1"#)),
            ("node_wallet_key", with(r#""node_wallet_key":"hunter2""#)),
            (
                "node_wallet_key",
                with(&format!(r#""node_wallet_key":"{zeros}""#)),
            ),
            ("node_wallet_key", with(r#""node_wallet_key":5"#)),
            ("http_access_hash", with(r#""http_access_hash":[1]"#)),
            ("is_test", with(r#""is_test":"yes""#)),
            ("proxy_connections", with(r#""proxy_connections":0"#)),
            ("proxy_connections", with(r#""proxy_connections":1000"#)),
            (
                "connect_to_proxy_via",
                with(r#""connect_to_proxy_via":"127.0.0.1""#),
            ),
            (
                "connect_to_proxy_via",
                with(r#""connect_to_proxy_via":"http://x:1""#),
            ),
            ("coefficient", with(r#""coefficient":-1"#)),
            ("coefficient", with(r#""coefficient":1000000000"#)),
            ("max_active_requests", with(r#""max_active_requests":1e3"#)),
            ("model_name", with(r#""model_name":null"#)),
            ("image_hash", with(r#""image_hash":"AAAA""#)),
        ];
        for (place, text) in cases {
            let error = worker(&text)
                .err()
                .unwrap_or_else(|| panic!("{text} was read"));
            assert_eq!(error.place, place, "{error}");
            assert!(
                !error.to_string().contains("hunter2") || place == "owner_address",
                "{error}"
            );
        }
        for (place, members) in [
            ("listen", r#""listen":"localhost""#),
            ("pow_difficulty", r#""pow_difficulty":256"#),
            (
                "machine_specific_private_key",
                r#""machine_specific_private_key":"x""#,
            ),
            ("direct", r#""direct":{}"#),
        ] {
            assert_eq!(proxy(&with(members)).err().unwrap().place, place);
        }
        let error = client(&with(r#""secret_string":5"#)).err().unwrap();
        assert_eq!(error.place, "secret_string");
    }

    #[test]
    fn damaged_files_never_panic() {
        let text = with(
            r#""is_test":true,"http_port":"12000","connect_to_proxy_via":"[::1]:8116","secret_string":"abc","listen":"1.2.3.4","coefficient":5"#,
        );
        for at in 0..text.len() {
            for byte in [0, b'"', b'{', b'}', b',', b'9', 0xff] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = byte;
                let text = String::from_utf8_lossy(&bytes);
                let _ = (client(&text), proxy(&text), worker(&text));
                let cut = String::from_utf8_lossy(&bytes[..at]);
                let _ = (client(&cut), proxy(&cut), worker(&cut));
            }
        }
    }

    #[test]
    fn host_and_port() {
        for good in ["127.0.0.1:8116", "localhost:1", "[::1]:8116"] {
            assert!(is_host_port(good), "{good}");
        }
        for bad in ["", ":1", "x", "x:", "x:0", "x:70000", "http://x:1", "a b:1"] {
            assert!(!is_host_port(bad), "{bad}");
        }
    }
}
