//! Transactions are bit for bit those of the official emulator: a sample recorded with `@ton/sandbox`.

use cocoon_devnet::config::{ChainConfig, ConfigOptions};
use cocoon_devnet::executor::{Context, execute, message_destination};
use serde_json::Value;
use tycho_types::boc::Boc;
use tycho_types::models::ShardAccount;

#[test]
fn transaction_hashes_equal_the_official_emulators() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/emulator.json")).unwrap();
    let config = ChainConfig::new(&ConfigOptions::new(-217, [1; 32], 1_700_000_000)).unwrap();
    assert_eq!(
        Boc::encode_base64(config.root()),
        vectors["config"].as_str().unwrap(),
        "the config changed: record the hashes again (see the example emulator_cases)"
    );
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let text = |key: &str| case[key].as_str().unwrap();
        let account: ShardAccount = Boc::decode_base64(text("account"))
            .unwrap()
            .parse()
            .unwrap();
        let message = Boc::decode_base64(text("message")).unwrap();
        let (address, _) = message_destination(&message).unwrap();
        let now = u32::try_from(case["now"].as_u64().unwrap()).unwrap();
        let context = Context::new(&config, now, text("lt").parse().unwrap());
        let executed = execute(&account, &address, &message, &context).unwrap();
        assert_eq!(
            executed.transaction.repr_hash().to_string(),
            text("hash"),
            "{}",
            text("name")
        );
    }
}
