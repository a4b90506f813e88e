//! The settings of `cocoon up`: flags and file, with defaults filled in and checked before anything is touched.

use std::path::PathBuf;

use cocoon_ton::Address;
use cocoon_ton::amount::{NANO_PER_TON, format_ton, parse_ton};

use crate::cli::{Settle, UpArgs};
use crate::engine::Engine;
use crate::error::{CliError, Result};
use crate::model;
use crate::nodes::otlp::Collector;

/// NanoTON that a client of a new local network pays for a token.
pub const DEFAULT_PRICE: u64 = 10_000;
/// NanoTON that a worker of a new local network gets for a token.
pub const DEFAULT_WORKER_FEE: u64 = 9_000;
/// A price factor of 1.
const DEFAULT_COEFFICIENT: u32 = 1000;
/// Prices above a whole TON a token are a slip of the pen.
const MAX_PRICE: u64 = 1_000_000_000;

/// A wallet sends at most 1000 TON at once, fees included.
const MAX_PROXY_STAKE: u128 = 990 * NANO_PER_TON;

/// Ports as asked for; 0 means any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortNumbers {
    /// Endpoint.
    pub client: u16,
    /// Proxy's page.
    pub proxy: u16,
    /// Proxy for workers.
    pub worker_rpc: u16,
    /// Proxy for clients.
    pub client_rpc: u16,
    /// Worker's page.
    pub worker: u16,
    /// Chain.
    pub chain: u16,
}

/// Everything that `cocoon up` was asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Ports.
    pub ports: PortNumbers,
    /// What computes the answers.
    pub engine: Engine,
    /// Name of the model, if not the engine's own.
    pub model_name: Option<String>,
    /// Price of a new network; must equal an existing one's.
    pub price: Option<u64>,
    /// Worker fee of a new network; must equal an existing one's.
    pub worker_fee: Option<u64>,
    /// The worker's price factor in thousandths.
    pub coefficient: u32,
    /// Gets the worker's pay.
    pub worker_owner: Option<Address>,
    /// Words of the wallet that owns all nodes.
    pub owner_words: Option<PathBuf>,
    /// Proof of work in bits.
    pub pow_difficulty: u8,
    /// When the nodes go to the chain.
    pub settle: Settle,
    /// Stake of the proxy contract in nanoTON, if not the default.
    pub proxy_stake: Option<u128>,
    /// Deposit also where the worst way out loses more than fees.
    pub accept_exit_risk: bool,
    /// Where spans go, if anywhere.
    pub collector: Option<Collector>,
}

impl Settings {
    /// Checks what was asked for. Touches nothing but reads the model's directory.
    pub fn resolve(args: &UpArgs) -> Result<Self> {
        let engine = match (&args.upstream, &args.model) {
            (Some(url), _) => Engine::Upstream(url.clone()),
            (None, Some(dir)) => {
                model::check_dir(dir)?;
                Engine::Directory(dir.clone())
            }
            (None, None) => Engine::Shipped,
        };
        if let Some(name) = &args.model_name {
            model::check_name(name)?;
        }
        let ports = PortNumbers {
            client: args.client_port.unwrap_or(10_000),
            proxy: args.proxy_port.unwrap_or(11_000),
            worker_rpc: args.worker_rpc_port.unwrap_or(11_001),
            client_rpc: args.client_rpc_port.unwrap_or(11_002),
            worker: args.worker_port.unwrap_or(12_000),
            chain: args.chain_port.unwrap_or(8081),
        };
        for (flag, value) in [("--price", args.price), ("--worker-fee", args.worker_fee)] {
            if value.is_some_and(|value| value > MAX_PRICE) {
                return Err(CliError::usage(format!("{flag} is too high"))
                    .expected(format!("at most {MAX_PRICE} nanoTON (1 TON) a token"))
                    .found(format!("{} nanoTON", value.unwrap_or_default())));
            }
        }
        if let (Some(price), Some(fee)) = (args.price, args.worker_fee)
            && fee > price
        {
            return Err(
                CliError::usage("a worker cannot get more than the client pays")
                    .expected(format!("--worker-fee of at most {price}, the --price"))
                    .found(fee.to_string()),
            );
        }
        let coefficient = args.coefficient.unwrap_or(DEFAULT_COEFFICIENT);
        if coefficient > cocoon_ledger::units::MAX_COEFFICIENT {
            return Err(CliError::usage("--coefficient is too high")
                .expected(format!("at most {}", cocoon_ledger::units::MAX_COEFFICIENT))
                .found(coefficient.to_string()));
        }
        let pow_difficulty = args
            .pow_difficulty
            .unwrap_or(cocoon_attest::pow::DEFAULT_DIFFICULTY);
        if pow_difficulty > cocoon_attest::pow::MAX_CLIENT_DIFFICULTY {
            return Err(CliError::usage("--pow-difficulty is too high")
                .expected(format!(
                    "at most {}, which peers still solve",
                    cocoon_attest::pow::MAX_CLIENT_DIFFICULTY
                ))
                .found(pow_difficulty.to_string()));
        }
        let worker_owner = args
            .worker_owner
            .as_deref()
            .map(|text| address(text, "--worker-owner"))
            .transpose()?;
        Ok(Self {
            ports,
            engine,
            model_name: args.model_name.clone(),
            price: args.price,
            worker_fee: args.worker_fee,
            coefficient,
            worker_owner,
            owner_words: args.owner_mnemonic_file.clone(),
            pow_difficulty,
            settle: args.settle.unwrap_or_default(),
            proxy_stake: args.proxy_stake.as_deref().map(proxy_stake).transpose()?,
            accept_exit_risk: args.accept_exit_risk,
            collector: args.otlp.as_deref().map(Collector::parse).transpose()?,
        })
    }
}

fn proxy_stake(text: &str) -> Result<u128> {
    let stake = parse_ton(text).map_err(|e| {
        CliError::usage("cannot read --proxy-stake")
            .expected("an amount such as 40 or \"1000 nanoTON\"")
            .found(e.to_string())
    })?;
    if stake > MAX_PROXY_STAKE {
        return Err(CliError::usage("--proxy-stake is too high")
            .expected(format!(
                "at most {}, what the faucet's wallet sends at once",
                format_ton(MAX_PROXY_STAKE)
            ))
            .found(format_ton(stake)));
    }
    Ok(stake)
}

/// Reads an address that a person wrote.
pub fn address(text: &str, origin: &str) -> Result<Address> {
    Address::parse(text.trim()).map(|parsed| parsed.address).map_err(|e| {
        CliError::usage(format!("the address in {origin} cannot be used; nothing was changed"))
            .expected("48 characters with a right checksum (EQ... or UQ...), or the raw form 0:<64 hex digits>")
            .found(e.to_string())
            .hint("copy the address again instead of typing it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_ones() {
        let settings = Settings::resolve(&UpArgs::default()).unwrap();
        let p = settings.ports;
        assert_eq!(
            [
                p.client,
                p.proxy,
                p.worker_rpc,
                p.client_rpc,
                p.worker,
                p.chain
            ],
            [10_000, 11_000, 11_001, 11_002, 12_000, 8081]
        );
        assert_eq!(settings.pow_difficulty, 20);
        assert_eq!(settings.coefficient, 1000);
        assert_eq!(settings.engine, Engine::Shipped);
    }

    #[test]
    fn nonsense_is_refused() {
        let wrong = [
            UpArgs {
                price: Some(5),
                worker_fee: Some(6),
                ..UpArgs::default()
            },
            UpArgs {
                price: Some(u64::MAX),
                ..UpArgs::default()
            },
            UpArgs {
                pow_difficulty: Some(60),
                ..UpArgs::default()
            },
            UpArgs {
                coefficient: Some(u32::MAX),
                ..UpArgs::default()
            },
            UpArgs {
                model: Some("/nowhere".into()),
                ..UpArgs::default()
            },
            UpArgs {
                model_name: Some("a b".into()),
                ..UpArgs::default()
            },
            UpArgs {
                proxy_stake: Some("5000".into()),
                ..UpArgs::default()
            },
            UpArgs {
                proxy_stake: Some("many".into()),
                ..UpArgs::default()
            },
            UpArgs {
                worker_owner: Some("EQ".into()),
                ..UpArgs::default()
            },
        ];
        for args in wrong {
            let error = Settings::resolve(&args).unwrap_err();
            assert_eq!(error.code(), 2, "{error}");
            assert!(error.to_string().contains("expected:"), "{error}");
        }
    }
}
