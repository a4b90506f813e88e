//! Command line and configuration file: everything the reference takes, and nothing that fails open.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cocoon_attest::policy_config::PolicyType;
use cocoon_attest::{Policy, PolicyRules};
use cocoon_router::grammar::{self, PolicySpec, PortForm};
use cocoon_router::socks5::Choice;
use cocoon_router::{
    CertificateMode, CertificateSource, FileConfig, Options, PortKind, Settings, Target, example,
};
use proptest::prelude::*;

const H32: &str = "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61";

fn plain(edit: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    edit(&mut options);
    options
}

fn assemble(edit: impl FnOnce(&mut Options)) -> Result<Settings, String> {
    Settings::assemble(&plain(edit), None).map_err(|error| error.to_string())
}

fn with_file(json: &str, edit: impl FnOnce(&mut Options)) -> Result<Settings, String> {
    let file = FileConfig::parse(json.as_bytes()).map_err(|error| error.to_string())?;
    Settings::assemble(&plain(edit), Some(&file)).map_err(|error| error.to_string())
}

fn target(host: &str, port: u16) -> Target {
    Target::new(host, port).unwrap()
}

/// The command lines of spec 5.5.
#[test]
fn production_command_lines() {
    let proxy = assemble(|o| {
        o.reverse = vec![
            "11001:localhost:11101@tdx".into(),
            "11002:localhost:11102@any".into(),
        ];
        o.serialize_info = true;
        o.cert = Some("/guest/cert".into());
    })
    .unwrap();
    assert_eq!(
        proxy.certificate,
        CertificateSource::Files(PathBuf::from("/guest/cert"))
    );
    assert_eq!(proxy.listen.to_string(), "0.0.0.0");
    assert!(proxy.ports.iter().all(|port| port.serialize_info));
    assert_eq!(proxy.ports[0].listen, 11001);
    assert_eq!(proxy.ports[0].policy, "tdx");
    let to = target("localhost", 11101);
    assert_eq!(
        proxy.ports[0].kind,
        PortKind::Reverse { to, difficulty: 20 }
    );
    assert_eq!(proxy.policies["tdx"], Policy::Tdx(PolicyRules::default()));
    let client = assemble(|o| {
        o.socks5 = vec!["8116@tdx".into()];
        o.serialize_info = true;
    })
    .unwrap();
    assert_eq!(
        client.certificate,
        CertificateSource::Memory(CertificateMode::None)
    );
    assert_eq!(
        client.ports[0].kind,
        PortKind::Socks5 {
            choice: Choice::Fixed,
            max_difficulty: 28
        }
    );
    assert!(client.warnings.is_empty());
    let local = assemble(|o| {
        o.socks5 = vec!["8116@any".into()];
        o.reverse = vec![
            "11001:127.0.0.1:11101@any".into(),
            "11002:127.0.0.1:11102@any".into(),
        ];
    })
    .unwrap();
    assert_eq!(local.ports.len(), 3);
}

#[test]
fn every_form_of_the_command_line() {
    let upper = H32.to_uppercase();
    let settings = assemble(|o| {
        o.policies = vec![format!("strict:tdx:{upper},{H32}"), "open:any".into()];
        o.socks5 = vec![format!("8116@tdx:{H32}")];
        o.forward = vec!["8117:[2001:db8::1]:443@strict".into()];
        o.ports = vec!["8118:socks5".into(), "8119:reverse:open:10.0.0.1:80".into()];
        (o.pow_difficulty, o.max_pow_difficulty) = (Some(0), Some(64));
        o.threads = Some(3);
    })
    .unwrap();
    let rules = |n| PolicyRules {
        allowed_image_hashes: vec![hex::decode(H32).unwrap().try_into().unwrap(); n],
        ..PolicyRules::default()
    };
    assert_eq!(settings.policies["strict"], Policy::Tdx(rules(2)));
    assert_eq!(settings.policies["tdx_inline_8116"], Policy::Tdx(rules(1)));
    assert_eq!(settings.ports[0].policy, "tdx_inline_8116");
    let to = target("2001:db8::1", 443);
    assert_eq!(to.to_string(), "[2001:db8::1]:443");
    assert_eq!(
        settings.ports[1].kind,
        PortKind::Forward {
            to,
            max_difficulty: 64
        }
    );
    assert_eq!(settings.ports[2].policy, "any");
    let to = target("10.0.0.1", 80);
    assert_eq!(
        settings.ports[3].kind,
        PortKind::Reverse { to, difficulty: 0 }
    );
    assert_eq!(settings.threads, 3);
}

#[test]
fn wrong_command_lines_say_what_is_expected() {
    type Edit = fn(&mut Options);
    let cases: [(Edit, &str); 22] = [
        (|_| {}, "no port is configured"),
        (|o| o.socks5 = vec!["8116".into()], "port@policy"),
        (|o| o.socks5 = vec!["8116@".into()], "port@policy"),
        (|o| o.socks5 = vec!["8116@a@b".into()], "port@policy"),
        (|o| o.socks5 = vec!["70000@any".into()], "no port"),
        (|o| o.socks5 = vec!["+80@any".into()], "no port"),
        (
            |o| o.socks5 = vec!["8116@nobody".into()],
            "not defined (there are any",
        ),
        (|o| o.socks5 = vec!["8116@mine:00".into()], "built-in names"),
        (
            |o| o.socks5 = vec!["8116@tdx:00".into()],
            "64 hexadecimal digits",
        ),
        (|o| o.socks5 = vec!["8116@tdx:".into()], "port@policy"),
        (
            |o| o.socks5 = vec![format!("8116@any:{H32}")],
            "looks at no quote",
        ),
        (
            |o| o.socks5 = vec!["8116@any".into(), "8116@tdx".into()],
            "twice",
        ),
        (
            |o| o.forward = vec!["1:host@any".into()],
            "port:host:port@policy",
        ),
        (
            |o| o.forward = vec!["1:::1:80@any".into()],
            "port:host:port@policy",
        ),
        (|o| o.forward = vec!["1:host:0@any".into()], "number from 1"),
        (|o| o.forward = vec!["1:ho st:80@any".into()], "a host is"),
        (|o| o.ports = vec!["1:telnet".into()], "port type"),
        (|o| o.ports = vec!["1:reverse:any".into()], "port:type"),
        (|o| o.policies = vec!["x:sgx".into()], "policy type"),
        (|o| o.policies = vec!["tdx:tdx".into()], "built-in policy"),
        (
            |o| o.collateral_hash = Some(String::new()),
            "--collateral-hash is empty",
        ),
        (
            |o| o.collateral_hash = Some("abcd".into()),
            "96 hexadecimal digits",
        ),
    ];
    for (number, (edit, expected)) in cases.into_iter().enumerate() {
        let error = assemble(edit).unwrap_err();
        assert!(error.contains(expected), "case {number}: {error}");
    }
    let twice = assemble(|o| {
        o.policies = vec!["a:tdx".into(), "a:any".into()];
        o.socks5 = vec!["1@a".into()];
    });
    assert!(twice.unwrap_err().contains("defined twice"));
    let bits = assemble(|o| {
        o.socks5 = vec!["1@any".into()];
        o.max_pow_difficulty = Some(65);
    });
    assert!(bits.unwrap_err().contains("0 to 64"));
    let two = assemble(|o| {
        o.socks5 = vec!["1@any".into()];
        (o.cert, o.cert_mode) = (Some("x".into()), Some(CertificateMode::None));
    });
    assert!(two.unwrap_err().contains("cannot be made in mode none too"));
}

#[test]
fn fakes_are_announced_and_never_chosen_by_a_name_alone() {
    // The reference's command lines work as they are, with a warning that cannot be missed.
    let warned = |change: fn(&mut Options)| {
        let settings = assemble(change).unwrap();
        let warning = settings
            .warnings
            .iter()
            .find(|w| w.contains("nothing that passes is confidential"));
        warning.cloned().unwrap_or_default()
    };
    let port = warned(|o| o.socks5 = vec!["1@fake_tdx".into()]);
    assert!(port.contains("port 1 names"), "{port}");
    let renamed = warned(|o| {
        o.policies = vec!["innocent:fake_tdx".into()];
        o.socks5 = vec!["1@innocent".into()];
    });
    assert!(renamed.contains("port 1 names"), "{renamed}");
    let certificate = warned(|o| {
        o.socks5 = vec!["1@any".into()];
        o.cert_mode = Some(CertificateMode::FakeTdx);
    });
    assert!(certificate.contains("its certificate"), "{certificate}");
    let said = warned(|o| {
        o.socks5 = vec!["1@any".into()];
        o.test_network = true;
    });
    assert!(said.contains("told so"), "{said}");
    let honest = warned(|o| o.socks5 = vec!["1@tdx".into()]);
    assert!(honest.is_empty(), "{honest}");
    // A user name cannot choose what nobody wrote down.
    let json = r#"{"policies": [{"name": "innocent", "type": "fake_tdx"}],
        "ports": [{"port": 1, "type": "socks5", "policy_name": "tdx", "allow_policy_from_username": true}]}"#;
    let settings = with_file(json, |_| {}).unwrap();
    let names: BTreeSet<String> = ["any".into(), "tdx".into()].into();
    let PortKind::Socks5 { choice, .. } = &settings.ports[0].kind else {
        panic!("{settings:?}")
    };
    assert_eq!(*choice, Choice::Among(names));
    assert!(!settings.policies.contains_key("innocent"));
    assert!(settings.warnings[0].contains("any program on this machine"));
}

#[test]
fn the_file_and_what_overrides_it() {
    let json = r#"{"cert_base_name": "/certs/a", "threads": 2, "policies": [{"name": "p", "type": "any"}],
        "ports": [{"port": "8116", "type": "socks5", "policy_name": "tdx", "max_pow_difficulty": 30},
                  {"port": 1, "type": "reverse", "policy_name": "p", "destination_host": "::1", "destination_port": 2,
                   "pow_difficulty": 24, "serialize_info": false}]}"#;
    let settings = with_file(json, |o| o.serialize_info = true).unwrap();
    assert_eq!(
        settings.certificate,
        CertificateSource::Files("/certs/a".into())
    );
    assert_eq!(settings.threads, 2);
    // The default of -s reaches ports that do not say themselves.
    assert!(settings.ports[0].serialize_info && !settings.ports[1].serialize_info);
    assert_eq!(
        settings.ports[0].kind,
        PortKind::Socks5 {
            choice: Choice::Fixed,
            max_difficulty: 30
        }
    );
    let to = target("::1", 2);
    assert_eq!(
        settings.ports[1].kind,
        PortKind::Reverse { to, difficulty: 24 }
    );
    let settings = with_file(json, |o| {
        (o.cert, o.threads) = (Some("b".into()), Some(0));
        (o.pow_difficulty, o.max_pow_difficulty) = (Some(1), Some(2));
    })
    .unwrap();
    assert_eq!(settings.certificate, CertificateSource::Files("b".into()));
    assert_eq!(settings.threads, 0);
    let to = target("::1", 2);
    assert_eq!(
        settings.ports[1].kind,
        PortKind::Reverse { to, difficulty: 1 }
    );
    // Ports of the command line replace the file's, aloud.
    let settings = with_file(json, |o| o.socks5 = vec!["9@p".into()]).unwrap();
    assert_eq!(settings.ports.len(), 1);
    assert!(settings.warnings[0].contains("the 2 ports of the configuration file"));
}

#[test]
fn roots_are_taken_as_they_are() {
    let (own, global) = ("ab".repeat(48), "cd".repeat(48));
    let json = format!(
        r#"{{"policies": [{{"name": "own", "type": "tdx", "tdx_config": {{"allowed_collateral_root_hashes": "{own}"}}}}],
            "ports": [{{"port": 1, "type": "socks5", "policy_name": "own"}}]}}"#
    );
    let settings = with_file(&json, |o| o.collateral_hash = Some(global)).unwrap();
    let roots = |name: &str| match &settings.policies[name] {
        Policy::Tdx(rules) => rules.allowed_collateral_root_hashes.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(roots("own"), [[0xab; 48]]);
    assert_eq!(roots("tdx"), [[0xcd; 48]]);
}

#[test]
fn nothing_in_a_file_is_ignored() {
    let port = |rest: &str| {
        format!(r#"{{"ports": [{{"port": 1, "type": "socks5", "policy_name": "any"{rest}}}]}}"#)
    };
    for (json, expected) in [
        ("{}".to_owned(), "missing field `ports`"),
        (r#"{"ports": []}"#.to_owned(), "no port is configured"),
        (r#"{"ports": [], "prots": []}"#.to_owned(), "unknown field"),
        (port(r#", "policy": "tdx""#), "unknown field"),
        (port(r#", "serialize_info": 1"#), "expected a boolean"),
        (port(r#", "allow_policy_from_username": "any""#), "array of policy names"),
        (port(r#", "allow_policy_from_username": ["nobody"]"#), "not defined"),
        (port(r#", "pow_difficulty": 300"#), "u8"),
        (port(r#", "max_pow_difficulty": 65"#), "0 to 64"),
        (port(r#", "port": 2"#), "duplicate field"),
        (r#"{"ports": [{"port": "x", "type": "socks5", "policy_name": "any"}]}"#.to_owned(), "is no port"),
        (r#"{"ports": [{"port": 65536, "type": "socks5", "policy_name": "any"}]}"#.to_owned(), "0 to 65535"),
        (r#"{"ports": [{"port": 1, "type": "forward", "policy_name": "any"}]}"#.to_owned(), "needs destination_host"),
        (r#"{"ports": [{"port": 1, "type": "proxy", "policy_name": "any"}]}"#.to_owned(), "unknown variant"),
        (r#"{"ports": [{"port": 1, "type": "socks5", "policy_name": "any"}, {"port": 1, "type": "socks5", "policy_name": "tdx"}]}"#.to_owned(), "twice"),
        (r#"{"policies": [{"name": "tdx", "type": "tdx", "tdx_config": {}}], "ports": []}"#.to_owned(), "built-in"),
        (r#"{"policies": [{"type": "tdx"}], "ports": []}"#.to_owned(), "has no name"),
        (r#"{"policies": [{"name": "a", "type": "tdx", "tdx_config": {"allowed_mrtd": "00"}}], "ports": []}"#.to_owned(), "expected a sequence"),
    ] {
        let error = with_file(&json, |_| {}).unwrap_err();
        assert!(error.contains(expected), "{json}: {error}");
    }
    // Harmless and written by the reference's users: said, and taken.
    let settings = with_file(&port(r#", "destination_host": "x""#), |_| {}).unwrap();
    assert!(settings.warnings[0].contains("destination_host means nothing"));
}

#[test]
fn the_example_is_a_configuration() {
    let text = serde_json::to_string_pretty(&example::config()).unwrap();
    let read = FileConfig::parse(text.as_bytes()).unwrap();
    assert_eq!(read, example::config());
    let settings = Settings::assemble(&Options::default(), Some(&read)).unwrap();
    assert_eq!(settings.ports.len(), 3);
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("router.json");
    let error = || FileConfig::load(&path).unwrap_err().to_string();
    assert!(error().contains("router.json"));
    std::fs::write(&path, "{\n \"ports\": [nonsense]}").unwrap();
    assert!(error().contains("line 2"), "{}", error());
    std::fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
    assert!(error().contains("more than the limit"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_as_an_option(text in "\\PC{0,60}") {
        for read in [grammar::socks5, grammar::forward, grammar::reverse, grammar::legacy] {
            let _ = read(&text);
        }
        let _ = grammar::policy(&text);
    }

    /// Random text rarely gets past the first separator; this is made of the grammar's own characters.
    #[test]
    fn plausible_options(text in "[0-9a-f:@,\\[\\]]{0,40}") {
        for read in [grammar::socks5, grammar::forward, grammar::reverse, grammar::legacy] {
            let _ = read(&text);
        }
        let _ = grammar::policy(&text);
    }

    #[test]
    fn what_is_written_is_read(listen: u16, port in 1u16.., host in "[a-z0-9]{1,20}(\\.[a-z]{1,9}){0,3}") {
        let spec = grammar::forward(&format!("{listen}:{host}:{port}@tdx:{H32}")).unwrap();
        prop_assert_eq!(spec.listen, listen);
        prop_assert_eq!(spec.form, PortForm::Forward(target(&host, port)));
        prop_assert_eq!(spec.policy.hashes, vec![H32.to_owned()]);
        let policy = grammar::policy(&format!("{host}:any")).unwrap();
        let expected = PolicySpec { name: host, kind: PolicyType::Any, hashes: Vec::new() };
        prop_assert_eq!(policy, expected);
    }

    #[test]
    fn any_bytes_as_a_file(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = FileConfig::parse(&bytes);
    }

    #[test]
    fn a_damaged_file(at in 0usize..1_200, byte: u8) {
        let mut text = serde_json::to_vec(&example::config()).unwrap();
        let at = at % text.len();
        text[at] = byte;
        if let Ok(file) = FileConfig::parse(&text) {
            let _ = Settings::assemble(&Options::default(), Some(&file));
        }
    }
}

#[test]
fn where_collateral_comes_from_is_read_strictly() {
    let read = |members: &str| FileConfig::parse(format!("{{{members} \"ports\": []}}").as_bytes());
    let file = read(
        r#""collateral": {"directory": "/x", "service": "https://pccs.example"}, "evidence_policy": "/p","#,
    )
    .unwrap();
    let collateral = file.collateral.unwrap();
    assert_eq!(collateral.service.as_deref(), Some("https://pccs.example"));
    assert_eq!(file.evidence_policy.unwrap().to_str(), Some("/p"));
    let plain = read(r#""collateral": "/x","#).unwrap().collateral.unwrap();
    assert_eq!(
        (plain.directory.unwrap().to_str(), plain.service),
        (Some("/x"), None)
    );
    for bad in [
        r#""collateral": 5,"#,
        r#""collateral": {"sevrice": "https://x"},"#,
        r#""evidence_policy": ["/p"],"#,
    ] {
        read(bad).unwrap_err();
    }
}
