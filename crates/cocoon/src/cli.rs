//! The command line: every command, flag and example.

mod collateral;
mod guest;
mod key_manager;
mod nodes;
mod operators;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

pub use self::collateral::{CollateralCommand, FetchArgs, LookArgs};
pub use self::guest::{ExtendArgs, GpuArgs, HostArgs, MachineArgs, QuoteArgs, QuoteKind};
pub use key_manager::KeyManagerArgs;
pub use nodes::{ChainArgs, ClientArgs, NodeArgs, ProxyArgs, WorkerArgs};
use operators::{
    CHARGE_EXAMPLES, CLOSE_EXAMPLES, PAYOUT_EXAMPLES, TOPUP_EXAMPLES, WITHDRAW_EXAMPLES,
};
pub use operators::{DoctorArgs, FinalChoice, NodeChoice, Role, StatusArgs};

const TOP_EXAMPLES: &str = "\
Examples:
  cocoon up                                    a whole network on this machine, with a model that answers
  cocoon chat \"What is 7 + 8?\"                 ask it
  cocoon status                                what runs, and who has how much
  cocoon account 0:1f2e...                     look at any account of the local chain
  cocoon account exit --dry-run                how the client's deposit could be taken out again
  cocoon attest explain quote.dat collat.json  why a peer passes or fails
  cocoon doctor                                check this machine
  cocoon worker --config worker-config.json    one node of a network as a program of its own

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
    /// Directory of the data [default: $XDG_DATA_HOME/cocoon or ~/.local/share/cocoon; of single nodes cocoon-ROLE there]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [default: cocoon.toml in the data directory, if there is one; of nodes ROLE-config.json]
    #[arg(
        long,
        short = 'c',
        global = true,
        value_name = "FILE",
        help_heading = "Everywhere"
    )]
    pub config: Option<PathBuf>,
    /// Log level on the terminal: error, warn, info, debug, trace, or a filter by target such as
    /// cocoon_node=debug,cocoon_attest=info,warn; RUST_LOG works too [default: warn]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Everywhere")]
    pub log: Option<String>,
    /// Shape of log lines, on the terminal and in the file: text, or json (one object a line)
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        help_heading = "Everywhere"
    )]
    pub log_format: crate::logging::Format,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a whole network on this machine: chain, contracts, proxy, worker, client and model
    Up(Box<UpArgs>),
    /// Run the embedded chain and its root contract alone, for a network put together from single nodes
    Chain(ChainArgs),
    /// Run a client: an OpenAI-compatible endpoint that finds its proxies in the root configuration
    Client(Box<ClientArgs>),
    /// Run a proxy: it matches clients and workers and keeps their books
    Proxy(Box<ProxyArgs>),
    /// Run a worker: it serves a model to proxies
    Worker(Box<WorkerArgs>),
    /// Run a key manager: it makes keys and gives them to proxies and workers whose image is listed
    KeyManager(Box<KeyManagerArgs>),
    /// Show what runs and who has how much
    Status(StatusArgs),
    /// Ask the local endpoint one question; the answer streams to the terminal
    Chat(ChatArgs),
    /// Make wallets, show their balances, send coins on the local chain
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Look at an account of the local chain, take the client's deposit out again, or have a running node charge, pay,
    /// top up, withdraw or close
    Account(AccountArgs),
    /// Tell which contract code lies at an address
    #[command(subcommand)]
    Contracts(ContractsCommand),
    /// List the models served, or compute the identity of a model directory
    #[command(subcommand)]
    Model(ModelCommand),
    /// Say why evidence of confidential hardware passes or fails, and compute what it should say
    #[command(subcommand)]
    Attest(AttestCommand),
    /// Check this machine and say in plain words what is missing
    Doctor(DoctorArgs),
    /// Carry connections between local applications and attested peers: SOCKS5, forward and reverse ports
    Router(Box<crate::cmd::router::RouterArgs>),
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
    /// Stake of the proxy contract in TON: what pays the clients back if the proxy dies; raised at start if it is lower
    /// [default: twice a client's stake]
    #[arg(long, value_name = "TON")]
    pub proxy_stake: Option<String>,
    /// Let the client deposit also where the proxy's stake does not cover it: if the proxy dies, the rest is lost
    #[arg(long)]
    pub accept_exit_risk: bool,
    /// Collector of traces that takes OTLP over HTTP, such as http://127.0.0.1:4318; spans hold times and outcomes, never content
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
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
    /// The faucet of the local network instead, which has all coins that nobody owns yet
    #[arg(long, conflicts_with_all = ["mnemonic_file", "owner"])]
    pub faucet: bool,
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
        #[arg(value_name = "ADDRESS", conflicts_with_all = ["mnemonic_file", "faucet"])]
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
        after_help = "Examples:\n  cocoon wallet send --mnemonic-file my.words --to UQ... --amount 1.5\n  cocoon wallet send --faucet --to UQ... --amount 50\n\nThe wallet contract keeps 2 TON back for fees."
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
        /// Body of the message: a bag of cells in hex. The message bounces if the receiver fails
        #[arg(long, value_name = "HEX")]
        body: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Options of `cocoon account`.
#[derive(Debug, Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  cocoon account 0:83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8\n  cocoon account EQ... --json\n  cocoon account exit --dry-run\n  cocoon account topup --data-dir ./client\n  cocoon account payout --data-dir ./worker"
)]
pub struct AccountArgs {
    /// Address in either form
    #[arg(value_name = "ADDRESS", required = true)]
    pub address: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// What else can be done with an account.
    #[command(subcommand)]
    pub command: Option<AccountCommand>,
}

/// What else can be done with an account.
#[derive(Debug, Clone, Subcommand)]
pub enum AccountCommand {
    /// Show every way to take the client's deposit out again, or take the best one
    Exit(ExitArgs),
    /// Raise the deposit of a running client
    #[command(after_help = TOPUP_EXAMPLES)]
    Topup(NodeChoice),
    /// Take out what exceeds the stake (client), or the commission (proxy)
    #[command(after_help = WITHDRAW_EXAMPLES)]
    Withdraw(NodeChoice),
    /// Present a signed charge now
    #[command(after_help = CHARGE_EXAMPLES)]
    Charge(NodeChoice),
    /// Pay a worker now, or fetch the pay
    #[command(after_help = PAYOUT_EXAMPLES)]
    Payout(NodeChoice),
    /// Ask for the refund of a running client's deposit, for good
    #[command(after_help = CLOSE_EXAMPLES)]
    Close(FinalChoice),
}

const EXIT_EXAMPLES: &str = "\
Examples:
  cocoon account exit --dry-run                what each way yields, costs and loses; nothing is sent
  cocoon account exit --dry-run --deposit 20   the same, and whether 20 TON more would come out again
  cocoon account exit                          the best way, after a question; closes the account for good
  cocoon account exit --withdraw --yes         only what exceeds the stake; the account stays open
  cocoon account exit --forced --yes           out of the proxy's stake, without the proxy's signature

The figures are found by taking each way on a copy of the chain. A refund is forced unasked only if the proxy is silent
and nothing but fees is lost; otherwise the proxy is asked, and --forced has to be given.";

/// Options of `cocoon account exit`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_EXAMPLES)]
pub struct ExitArgs {
    /// Only show the ways out; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take the forced way although there is a better one, or although something is lost
    #[arg(long, conflicts_with_all = ["withdraw", "dry_run", "grant"])]
    pub forced: bool,
    /// Take out only what exceeds the stake, and keep the account
    #[arg(long, conflicts_with = "dry_run")]
    pub withdraw: bool,
    /// File with a refund that the proxy has signed (a BOC, as bytes or in hex)
    #[arg(long, value_name = "FILE")]
    pub grant: Option<PathBuf>,
    /// Also judge a deposit of this amount
    #[arg(long, value_name = "TON", requires = "dry_run")]
    pub deposit: Option<String>,
    /// Also judge raising the client's stake to this amount
    #[arg(
        long,
        value_name = "TON",
        requires = "dry_run",
        conflicts_with = "deposit"
    )]
    pub stake: Option<String>,
    /// Another client contract than the local client's
    #[arg(long, value_name = "ADDRESS", requires = "dry_run")]
    pub contract: Option<String>,
    /// How long to wait for the proxy's signature, or for the delay, before giving back the prompt
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub wait: u64,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Print one JSON object; amounts are nanoTON in text
    #[arg(long)]
    pub json: bool,
}

/// The commands about contract code.
#[derive(Debug, Subcommand)]
pub enum ContractsCommand {
    /// Compare the code at an address with ours and with the official builds; exit code 1 if it is unknown
    #[command(
        after_help = "Examples:\n  cocoon contracts verify EQ...\n  cocoon contracts verify 0:83df... --json"
    )]
    Verify {
        /// Address in either form
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the code hashes that are known
    #[command(after_help = "Example:\n  cocoon contracts list")]
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
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

/// The attestation commands. All of them work offline and send nothing anywhere.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  cocoon attest explain quote.dat collateral.json\n  cocoon attest measure config ./spec-proxy\n  cocoon attest measure model ./Qwen3-8B --name Qwen/Qwen3-8B@b968826d9c46dd6066d109eabc6255188de91218"
)]
pub enum AttestCommand {
    /// Say field by field why a peer passes or fails: exit code 0 if it passes, 1 if it is refused
    #[command(
        after_help = "Examples:\n  cocoon attest explain peer_cert.pem collateral.json --policy policy.json\n  cocoon attest explain quote.dat collateral.json --at 2026-02-20T00:00:00Z\n  cocoon attest explain snp-report.bin vcek.der cert_chain.pem\n  cocoon attest explain peer_cert.pem collateral.json gpu-report.txt gpu-chain.pem driver_rim.xml vbios_rim.xml --policy policy.json\n\nFiles are recognised by what is in them. Without a policy the strict defaults count."
    )]
    Explain {
        /// Evidence and what belongs to it: certificate, quote, report, chain, collateral, manifests
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Policy file (JSON) [default: the strict defaults]
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Which policy of the file [default: the only one]
        #[arg(long, value_name = "NAME", requires = "policy")]
        name: Option<String>,
        /// Moment for which to judge, like 2026-02-20T00:00:00Z or Unix seconds [default: now]
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Compute what evidence should say
    #[command(subcommand)]
    Measure(MeasureCommand),
    /// What Intel and AMD publish about their platforms: fetch it ahead of time, list it, check it
    #[command(subcommand)]
    Collateral(CollateralCommand),
    /// Say what this machine can prove about itself: TDX or SEV-SNP guest, kernel, registers, event log, GPUs
    Host(HostArgs),
    /// Take a quote or report of this machine
    Quote(QuoteArgs),
    /// Take reports of this machine's GPUs
    Gpu(GpuArgs),
    /// Measure a text into a run-time register of this TDX guest
    Extend(ExtendArgs),
}

/// What can be measured.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  cocoon attest measure quote quote.dat")]
pub enum MeasureCommand {
    /// The image hash of a TDX quote or TD report, as the root contract lists it; nothing is verified
    #[command(after_help = "Example:\n  cocoon attest measure quote quote.dat --json")]
    Quote {
        /// TDX quote or TD report, binary or hexadecimal
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// The hash of a configuration directory (spec.tree) and the RTMR3 of a guest that runs it
    #[command(after_help = "Example:\n  cocoon attest measure config ./spec-proxy")]
    Config {
        /// Configuration directory; its `runtime` is not measured
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// The guest is started in debug mode
        #[arg(long)]
        debug: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// The dm-verity root hash of a model's package, and its name in the root contract
    #[command(
        after_help = "Example:\n  cocoon attest measure model ./Qwen3-8B --name Qwen/Qwen3-8B@b968826d9c46dd6066d109eabc6255188de91218"
    )]
    Model {
        /// Directory as downloaded at one commit
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Repository and commit; gives the full model string and its hash
        #[arg(long, value_name = "NAME@COMMIT")]
        name: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
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
