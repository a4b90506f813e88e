//! `keyManagerRunner.config` (protocol.md 9.2, column K).

use std::net::Ipv4Addr;

use cocoon_node::reference_json::Object;

use super::{Parsed, Seed, Shared, nonempty, port, seed, shown, unread, without_owner};

/// `keyManagerRunner.config`.
pub struct KeyManagerFile {
    /// See [`Shared`]; without owner and wallet.
    pub shared: Shared,
    /// Port for askers.
    pub rpc_port: u16,
    /// Signs the store's records, if it stands here.
    pub store_key: Option<Seed>,
    /// Data directory.
    pub db_path: Option<String>,
    /// Own image hash, for display.
    pub image_hash: Option<[u8; 32]>,
    /// Ours: accept peers without a router.
    pub direct: bool,
    /// Ours: address to accept peers on, if direct.
    pub listen: Option<Ipv4Addr>,
    /// Ours: proof of work asked of direct peers.
    pub pow_difficulty: Option<u8>,
}

/// Reads a key manager's file.
pub fn key_manager(text: &str) -> Parsed<KeyManagerFile> {
    let mut o = Object::parse(text)?;
    let shared = without_owner(&mut o, "check_hashes")?;
    if shared.testnet && !shared.is_test {
        return Err(o.refuse(
            "is_testnet",
            "false, or is_test as well: keys of a production network are not given out on a test chain",
            "true",
        ));
    }
    let file = KeyManagerFile {
        shared,
        rpc_port: port(&mut o, "rpc_port")?,
        store_key: seed(&mut o, "machine_specific_private_key")?,
        db_path: nonempty(&mut o, "db_path")?,
        image_hash: o.int256("image_hash")?.filter(|hash| *hash != [0; 32]),
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
    };
    // The file may be shared with other roles' templates.
    Ok((file, unread(&o)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "0:83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8";

    fn with(members: &str) -> String {
        format!(r#"{{"root_contract_address":"{ROOT}"{members}}}"#)
    }

    #[test]
    fn a_file_of_the_reference_is_read() {
        use base64::Engine;
        let key = base64::engine::general_purpose::STANDARD.encode([7u8; 32]);
        let text = with(&format!(
            r#","is_test":true,"is_testnet":true,"rpc_port":14001,"http_port":14000,"ton_config_filename":"x",
            "machine_specific_private_key":"{key}","db_path":"/tmp/k","check_hashes":true,"image_hash":"{key}","http_access_hash":"t""#
        ));
        let (file, unread) = key_manager(&text).unwrap();
        assert!(unread.is_empty(), "{unread:?}");
        assert_eq!((file.rpc_port, file.shared.http_port), (14001, 14000));
        assert_eq!(file.store_key.as_deref(), Some(&[7; 32]));
        assert_eq!(file.db_path.as_deref(), Some("/tmp/k"));
        assert_eq!(file.image_hash, Some([7; 32]));
        assert!(file.shared.check_hashes && file.shared.is_test && !file.direct);
        let (file, unread) = key_manager(&with(r#","owner_address":"x""#)).unwrap();
        assert!(
            file.shared.check_hashes,
            "hashes are always checked outside test mode"
        );
        assert_eq!(unread, ["owner_address"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (place, members) in [
            ("is_testnet", r#","is_testnet":true"#),
            ("rpc_port", r#","rpc_port":65536"#),
            ("listen", r#","listen":"everywhere""#),
            ("check_hashes", r#","check_hashes":"yes""#),
            (
                "machine_specific_private_key",
                r#","machine_specific_private_key":"hunter2""#,
            ),
        ] {
            let error = key_manager(&with(members)).err().expect("refused");
            assert_eq!(error.place, place, "{error}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert_eq!(
            key_manager("{}").err().expect("refused").place,
            "root_contract_address"
        );
    }
}
