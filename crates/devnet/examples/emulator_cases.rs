//! Writes the behaviour cases as executor inputs with our transaction hashes, for comparison with the official
//! emulator: `cargo run -p cocoon-devnet --example emulator_cases > cases.json`, then feed each to `@ton/sandbox`.

use cocoon_devnet::config::{ChainConfig, ConfigOptions};
use cocoon_devnet::executor::{Context, execute};
use cocoon_devnet::message::{InternalMessage, external_message};
use cocoon_devnet::sandbox::Contract;
use cocoon_ton::{Address, Cell, CellBuilder};
use serde_json::{Value, json};
use tycho_types::boc::Boc;

const LT: u64 = 46_000_000;

fn main() {
    let vectors: Value =
        serde_json::from_str(include_str!("../tests/vectors/contracts.json")).expect("vectors");
    // Mainnet's time of today: the emulator must agree on the newest storage price too.
    let age = 86_400 * 30;
    let config =
        ChainConfig::new(&ConfigOptions::new(-217, [1; 32], 1_700_000_000)).expect("config");
    let mut out = Vec::new();
    for case in vectors["behaviour"].as_array().expect("cases") {
        let name = case["contract"].as_str().expect("contract");
        let file = format!(
            "{}/../../contracts/build/Cocoon{}{}.boc",
            env!("CARGO_MANIFEST_DIR"),
            name[..1].to_uppercase(),
            &name[1..]
        );
        let code = Boc::decode(std::fs::read(file).expect("compiled contract")).expect("code");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let cell = |value: &Value| Boc::decode_base64(text(value)).expect("cell");
        let address = |value: &Value| Address::parse(&text(value)).expect("address").address;
        let account = &case["account"];
        let contract = Contract {
            address: address(&account["address"]),
            balance: text(&account["balance"]).parse().expect("balance"),
            code,
            data: cell(&account["data"]),
        };
        let now = case["now"].as_u64().expect("now") as u32;
        let message = &case["in"];
        let built: Cell = if message["kind"] == "internal" {
            InternalMessage {
                bounce: message["bounce"].as_bool().expect("bounce"),
                bounced: message["bounced"].as_bool().unwrap_or(false),
                created_lt: 1,
                created_at: now,
                ..InternalMessage::new(
                    address(&message["from"]),
                    contract.address,
                    text(&message["value"]).parse().expect("value"),
                    cell(&message["body"]),
                )
            }
            .build()
            .expect("message")
        } else {
            external_message(&contract.address, None, cell(&message["body"])).expect("message")
        };
        let before = contract.account(now - age).expect("account");
        let mut context = Context::new(&config, now, LT);
        // The emulator rounds the block's time down to a million; seeds are zero on both sides.
        context.block_lt = LT;
        let result = execute(&before, &contract.address, &built, &context);
        let (hash, boc, account_after) = match &result {
            Ok(executed) => (
                executed.transaction.repr_hash().to_string(),
                Boc::encode_base64(&executed.transaction),
                executed.account.account.inner().repr_hash().to_string(),
            ),
            Err(error) => (error.to_string(), String::new(), String::new()),
        };
        out.push(json!({
            "name": case["name"],
            "account": Boc::encode_base64(CellBuilder::build_from(&before).expect("account")),
            "message": Boc::encode_base64(&built),
            "now": now,
            "lt": LT.to_string(),
            "hash": hash,
            "boc": boc,
            "account_after": account_after,
        }));
    }
    let document = json!({"config": Boc::encode_base64(config.root()), "cases": out});
    println!("{document}");
}
