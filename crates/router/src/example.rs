//! The example configuration that `--generate-config` prints.

use cocoon_attest::policy_config::{PolicyConfig, PolicyType, RulesConfig};

use crate::file::{FileConfig, FilePort, FilePortType, Usernames};

/// A configuration with one port of each type, which [`FileConfig::parse`] reads.
#[must_use]
pub fn config() -> FileConfig {
    let port = |port, kind, policy: &str| FilePort {
        port,
        kind,
        policy_name: policy.to_owned(),
        destination_host: None,
        destination_port: None,
        allow_policy_from_username: None,
        serialize_info: Some(true),
        pow_difficulty: None,
        max_pow_difficulty: None,
    };
    let to = |host: &str, number, port: FilePort| FilePort {
        destination_host: Some(host.to_owned()),
        destination_port: Some(number),
        ..port
    };
    FileConfig {
        threads: Some(0),
        policies: vec![PolicyConfig {
            name: Some("our_image".to_owned()),
            kind: PolicyType::Tdx,
            description: Some("the image that we built ourselves".to_owned()),
            tdx_config: Some(RulesConfig {
                // The real quote of the specification's example.
                allowed_image_hash: Some(
                    "04b3afd931d28680af91a15b09d672c40ad6b141f7f9089a8d67d595220f7436".to_owned(),
                ),
                ..RulesConfig::default()
            }),
        }],
        ports: vec![
            FilePort {
                allow_policy_from_username: Some(Usernames::These(vec!["our_image".to_owned()])),
                max_pow_difficulty: Some(28),
                ..port(8116, FilePortType::Socks5, "tdx")
            },
            to(
                "192.0.2.7",
                11001,
                FilePort {
                    max_pow_difficulty: Some(28),
                    ..port(8117, FilePortType::Forward, "our_image")
                },
            ),
            to(
                "127.0.0.1",
                11101,
                FilePort {
                    pow_difficulty: Some(20),
                    ..port(11001, FilePortType::Reverse, "tdx")
                },
            ),
        ],
        ..FileConfig::default()
    }
}
