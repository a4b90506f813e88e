//! The command line: every command, flag and example.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

const TOP_EXAMPLES: &str = "\
Examples:
  cocoon up                                    a whole network on this machine, with a model that answers
  cocoon chat \"What is 7 + 8?\"                 ask it
  cocoon status                                what runs, and who has how much
  cocoon account 0:1f2e...                     look at any account of the local chain
  cocoon doctor                                check this machine

Exit codes: 0 success, 1 failure, 2 wrong usage.";

/// Cocoon in Rust: confidential inference on TON, as one program.
#[derive(Debug, Parser)]
#[command(name = "cocoon", version, about, after_help = TOP_EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Directory of the network's data [default: $XDG_DATA_HOME/cocoon or ~/.local/share/cocoon]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [default: cocoon.toml in the data directory, if there is one]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    /// Log level on the terminal: error, warn, info, debug, trace, or a filter; RUST_LOG works too [default: warn]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Everywhere")]
    pub log: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a whole network on this machine: chain, contracts, proxy, worker, client and model
    Up(Box<UpArgs>),
    /// Show what runs and who has how much
    Status(StatusArgs),
    /// Ask the local endpoint one question; the answer streams to the terminal
    Chat(ChatArgs),
    /// Make wallets, show their balances, send coins on the local chain
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Look at an account of the local chain; Cocoon's contracts are decoded
    Account(AccountArgs),
    /// List the models served, or compute the identity of a model directory
    #[command(subcommand)]
    Model(ModelCommand),
    /// Check this machine and say in plain words what is missing
    Doctor(DoctorArgs),
}

const UP_EXAMPLES: &str = "\
Examples:
  cocoon up
  cocoon up --data-dir ./net --client-port 10080
  cocoon up --upstream http://127.0.0.1:8000 --model-name Qwen/Qwen3-8B
  cocoon up --data-dir ./net --json --quiet > ready.json &

Everything listens on loopback only. The nodes attest each other with fake_tdx here, which proves nothing: a local
network is for development and is NOT confidential.

The same settings can stand in cocoon.toml in the data directory, with '_' instead of '-', for example
client_port = 10080. A flag wins over the file.";

/// Options of `cocoon up`. The same names, with `_` for `-`, are the keys of `cocoon.toml`.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[command(after_help = UP_EXAMPLES)]
#[serde(deny_unknown_fields, default)]
pub struct UpArgs {
    /// Port of the OpenAI-compatible endpoint; 0 picks a free one [default: 10000]
    #[arg(long, value_name = "PORT")]
    pub client_port: Option<u16>,
    /// Port of the proxy's status page [default: 11000]
    #[arg(long, value_name = "PORT")]
    pub proxy_port: Option<u16>,
    /// Port on which the proxy accepts workers [default: 11001]
    #[arg(long, value_name = "PORT")]
    pub worker_rpc_port: Option<u16>,
    /// Port on which the proxy accepts clients [default: 11002]
    #[arg(long, value_name = "PORT")]
    pub client_rpc_port: Option<u16>,
    /// Port of the worker's status page [default: 12000]
    #[arg(long, value_name = "PORT")]
    pub worker_port: Option<u16>,
    /// Port of the chain's HTTP interface, in the shapes of toncenter v2 [default: 8081]
    #[arg(long, value_name = "PORT")]
    pub chain_port: Option<u16>,
    /// Model directory in Hugging Face layout (config.json, tokenizer.json, *.safetensors) [default: the tiny model inside this program]
    #[arg(long, value_name = "DIR", conflicts_with = "upstream")]
    pub model: Option<PathBuf>,
    /// OpenAI-compatible server that computes the answers instead of the embedded engine
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Name under which the model is offered [default: the directory's name, or the upstream's only model]
    #[arg(long, value_name = "NAME")]
    pub model_name: Option<String>,
    /// NanoTON that a client pays for a token; fixed when the network is founded [default: 10000]
    #[arg(long, value_name = "NANOTON")]
    pub price: Option<u64>,
    /// NanoTON that a worker gets for a token; fixed when the network is founded [default: 9000]
    #[arg(long, value_name = "NANOTON")]
    pub worker_fee: Option<u64>,
    /// The worker's price factor in thousandths [default: 1000]
    #[arg(long, value_name = "THOUSANDTHS")]
    pub coefficient: Option<u32>,
    /// Address that gets the worker's pay [default: a wallet made on first start]
    #[arg(long, value_name = "ADDRESS")]
    pub worker_owner: Option<String>,
    /// File with the 24 words of the wallet that shall own proxy, worker and client; used on first start
    #[arg(long, value_name = "FILE")]
    pub owner_mnemonic_file: Option<PathBuf>,
    /// Proof of work that the proxy asks of peers, in bits [default: 20]
    #[arg(long, value_name = "BITS")]
    pub pow_difficulty: Option<u8>,
    /// When the nodes go to the chain: 'fast' settles within seconds, 'reference' like the production network [default: fast]
    #[arg(long, value_enum)]
    pub settle: Option<Settle>,
    /// Print one line of JSON on standard output when ready, instead of the screen
    #[arg(long)]
    #[serde(skip)]
    pub json: bool,
    /// No progress and no screen; errors are still printed
    #[arg(long, short)]
    #[serde(skip)]
    pub quiet: bool,
}

/// How eagerly the nodes settle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Settle {
    /// Tiny thresholds, seconds of idle time: for a local network.
    #[default]
    Fast,
    /// The reference's thresholds.
    Reference,
}

/// Options of `cocoon status`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  cocoon status\n  cocoon status --json | python3 -m json.tool")]
pub struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `cocoon chat`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  cocoon chat \"What is 7 + 8?\"\n  cocoon chat --system \"Answer briefly.\" --max-tokens 50 \"Who are you?\"\n  echo \"Count to five.\" | cocoon chat -"
)]
pub struct ChatArgs {
    /// The question; '-' reads it from standard input
    #[arg(value_name = "TEXT")]
    pub prompt: String,
    /// Model to ask [default: the network's]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// System message
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Most tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub max_tokens: u32,
    /// 0 always takes the likeliest token, 2 is the wildest [default: the model's]
    #[arg(long, value_name = "0..2")]
    pub temperature: Option<f64>,
    /// Endpoint to ask instead of the local network's, like http://127.0.0.1:10000
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Print the whole answer object instead of its text
    #[arg(long)]
    pub json: bool,
}

/// Where the 24 words come from. Never from the command line, where everybody on the machine can read them.
#[derive(Debug, Clone, Args)]
pub struct KeySource {
    /// File with the 24 words; without it they are asked for
    #[arg(long, value_name = "FILE")]
    pub mnemonic_file: Option<PathBuf>,
    /// Address that may overrule the wallet, if it was made with one [default: nobody]
    #[arg(long, value_name = "ADDRESS")]
    pub owner: Option<String>,
}

/// The wallet commands.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  cocoon wallet new --mnemonic-file my.words\n  cocoon wallet balance --mnemonic-file my.words\n  cocoon wallet send --mnemonic-file my.words --to UQ... --amount 1.5\n\nThe 24 words are read from a file or asked for, never taken from the command line."
)]
pub enum WalletCommand {
    /// Make a new mnemonic of 24 words
    #[command(
        after_help = "Examples:\n  cocoon wallet new --mnemonic-file my.words     written with mode 0600, never over an existing file\n  cocoon wallet new                              printed on the terminal"
    )]
    New {
        /// File to write the 24 words to; without it they are printed
        #[arg(long, value_name = "FILE")]
        mnemonic_file: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the address of a wallet
    #[command(after_help = "Example:\n  cocoon wallet address --mnemonic-file my.words")]
    Address {
        /// Whose.
        #[command(flatten)]
        key: KeySource,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the balance of a wallet, or of any address
    #[command(
        after_help = "Examples:\n  cocoon wallet balance --mnemonic-file my.words\n  cocoon wallet balance UQ..."
    )]
    Balance {
        /// Address instead of a mnemonic
        #[arg(value_name = "ADDRESS", conflicts_with = "mnemonic_file")]
        address: Option<String>,
        /// Whose.
        #[command(flatten)]
        key: KeySource,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Send coins on the local chain and wait until the wallet has sent them
    #[command(
        after_help = "Example:\n  cocoon wallet send --mnemonic-file my.words --to UQ... --amount 1.5\n\nThe wallet contract keeps 2 TON back for fees."
    )]
    Send {
        /// From whom.
        #[command(flatten)]
        key: KeySource,
        /// Receiver
        #[arg(long, value_name = "ADDRESS")]
        to: String,
        /// Amount, like 1.5 (TON) or "1000 nanoTON"
        #[arg(long, value_name = "TON")]
        amount: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Options of `cocoon account`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  cocoon account 0:83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8\n  cocoon account EQ... --json"
)]
pub struct AccountArgs {
    /// Address in either form
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The model commands.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// List the models that the local endpoint offers
    #[command(after_help = "Example:\n  cocoon model list")]
    List {
        /// Print the endpoint's own JSON
        #[arg(long)]
        json: bool,
    },
    /// Compute the full name and the root contract's hash of a model directory
    #[command(after_help = "Example:\n  cocoon model hash ./models/cocoon-tiny")]
    Hash {
        /// Directory in Hugging Face layout
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Name under which it is offered [default: the directory's name]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Options of `cocoon doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  cocoon doctor\n  cocoon doctor --data-dir ./net --json")]
pub struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                let help = sub.get_after_help().map(ToString::to_string);
                if sub.get_subcommands().next().is_none() {
                    assert!(
                        help.unwrap_or_default().contains("Example"),
                        "{path} has no example"
                    );
                }
                check(sub, &path);
            }
        }
        check(&Cli::command(), "cocoon");
    }
}
