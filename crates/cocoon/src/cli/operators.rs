//! Flags of the commands for operators: `status`, `doctor`, and the actions of `account`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

const STATUS_EXAMPLES: &str = "\
Examples:
  cocoon status
  cocoon status --data-dir ./worker             one node by its data directory
  cocoon status --url http://127.0.0.1:12000    one node by its operator's pages
  cocoon status --json | python3 -m json.tool

Without flags every node in the usual data directories is shown. Exit code 1 if nothing runs or something is wrong.";

/// Options of `cocoon status`.
#[derive(Debug, Clone, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct StatusArgs {
    /// Operator's pages of a node, on whatever machine; may be given several times
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// File with the operator's token, for pages that ask for it [default: that of the data directory]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

const DOCTOR_EXAMPLES: &str = "\
Examples:
  cocoon doctor                                                 is this machine ready for 'cocoon up'
  cocoon doctor --role worker --config worker-config.json       is it ready for a worker
  cocoon doctor --role proxy --chain toncenter:http://127.0.0.1:8081 --json

Nothing is changed, started or sent. Exit code 1 if something would keep the node from working.";

/// Options of `cocoon doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub struct DoctorArgs {
    /// Check for a node as a program of its own, with its configuration file (--config)
    #[arg(long, value_enum)]
    pub role: Option<Role>,
    /// Where the root configuration and the contracts are: static:FILE or toncenter:URL [default: 'chain' of the file]
    #[arg(long, value_name = "WHERE", requires = "role")]
    pub chain: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// An endpoint for callers.
    Client,
    /// Matches clients and workers.
    Proxy,
    /// Serves a model.
    Worker,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Proxy => "proxy",
            Role::Worker => "worker",
        }
    }
}

/// Which node, for an action of its operator.
#[derive(Debug, Clone, Args)]
pub struct NodeChoice {
    /// Operator's pages of the node [default: those of the node that runs in the data directory]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// File with the operator's token [default: keys/http-token.key in the data directory]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Whose contract: of a client or worker the proxy's contract, of a proxy the owner of the client or worker
    /// [default: the only one]
    #[arg(long, value_name = "ADDRESS")]
    pub party: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The same, for what cannot be undone.
#[derive(Debug, Clone, Args)]
pub struct FinalChoice {
    /// Which node.
    #[command(flatten)]
    pub node: NodeChoice,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Examples of an action.
pub const CHARGE_EXAMPLES: &str = "\
Examples:
  cocoon account charge --data-dir ./client                          present the proxy's newest signed charge
  cocoon account charge --data-dir ./proxy --party UQ...             charge that client now";
/// See [`CHARGE_EXAMPLES`].
pub const TOPUP_EXAMPLES: &str = "\
Examples:
  cocoon account topup --data-dir ./client
  cocoon account topup --url http://127.0.0.1:10000 --token-file token --party UQ...

The deposit grows by the stake's amount, from the node's wallet, if it could be taken out again.";
/// See [`CHARGE_EXAMPLES`].
pub const WITHDRAW_EXAMPLES: &str = "\
Examples:
  cocoon account withdraw --data-dir ./client      what exceeds the stake, to the client's wallet
  cocoon account withdraw --data-dir ./proxy       the commission, to the proxy's owner";
/// See [`CHARGE_EXAMPLES`].
pub const PAYOUT_EXAMPLES: &str = "\
Examples:
  cocoon account payout --data-dir ./worker                     fetch the pay, however little
  cocoon account payout --data-dir ./proxy --party UQ...        pay that worker now";
/// See [`CHARGE_EXAMPLES`].
pub const CLOSE_EXAMPLES: &str = "\
Examples:
  cocoon account close --data-dir ./client
  cocoon account close --data-dir ./client --party UQ... --yes

The client asks the proxy for its refund. If the proxy stays silent, the running client completes the refund out of the
proxy's stake after the contract's delay. The account with this proxy is closed for good.";
