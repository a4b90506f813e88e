//! Flags of the nodes as programs of their own. A flag wins over the configuration file.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;

use super::Settle;

const CLIENT_EXAMPLES: &str = "\
Examples:
  cocoon client --config client-config.json --chain static:root.json
  cocoon client --config client-config.json --chain toncenter:http://127.0.0.1:8081
  cocoon client --config client-config.json --router 127.0.0.1:8116

The file is the reference's client-config.json (a JSON object): is_test, is_testnet, http_port, owner_address,
root_contract_address, node_wallet_key, proxy_connections, connect_to_proxy_via, check_proxy_hashes, secret_string,
http_access_hash; and of our own: chain, attestation, certificate, collateral, evidence_policy, require_claims,
router_uid. See docs/nodes.md.";

const PROXY_EXAMPLES: &str = "\
Examples:
  cocoon proxy --config proxy-config.json --chain static:root.json            behind a router, as in the reference
  cocoon proxy --config proxy-config.json --chain static:root.json --direct   attesting its peers itself

The file is the reference's proxy-config.json (a JSON object): is_test, is_testnet, workers_rpc_port, client_rpc_port,
http_port, owner_address, root_contract_address, machine_specific_private_key, node_wallet_key, db_path,
check_worker_hashes, http_access_hash; and of our own: chain, attestation, certificate, collateral, evidence_policy,
require_claims, router_uid, direct, listen, pow_difficulty. See docs/nodes.md.";

const WORKER_EXAMPLES: &str = "\
Examples:
  cocoon worker --config worker-config.json --chain static:root.json --upstream http://127.0.0.1:8000
  cocoon worker --config worker-config.json --chain static:root.json --model ./models/my-model
  cocoon worker --config worker-config.json --chain static:root.json          with the tiny model inside this program

The file is the reference's worker-config.json (a JSON object): is_test, is_testnet, http_port, owner_address,
root_contract_address, node_wallet_key, proxy_connections, connect_to_proxy_via, model_name, coefficient,
forward_requests_to, max_active_requests, check_proxy_hashes, image_hash, http_access_hash; and of our own: chain,
attestation, certificate, collateral, evidence_policy, require_claims, router_uid. See docs/nodes.md.";

const CHAIN_EXAMPLES: &str = "\
Examples:
  cocoon chain --data-dir net
  cocoon chain --data-dir net --workers-rpc-port 11001 --client-rpc-port 11002 --price 20 --worker-fee 19

Then, each in a terminal, with the root's address that it prints:
  cocoon proxy  --config proxy-config.json  --chain toncenter:http://127.0.0.1:8081 --direct
  cocoon worker --config worker-config.json --chain toncenter:http://127.0.0.1:8081
  cocoon client --config client-config.json --chain toncenter:http://127.0.0.1:8081";

/// Flags of every node.
#[derive(Debug, Clone, Default, Args)]
pub struct NodeArgs {
    /// Where the root configuration and the contracts are: static:FILE (no chain) or toncenter:URL
    #[arg(long, value_name = "WHERE")]
    pub chain: Option<String>,
    /// The reference's name for --chain static:FILE
    #[arg(long, short = 'C', value_name = "FILE", conflicts_with = "chain")]
    pub disable_ton: Option<PathBuf>,
    /// Compare image hashes with the root's lists also where the configuration does not ask for it
    #[arg(long, short = 'p', visible_aliases = ["check-proxy-hashes", "check-worker-hashes"])]
    pub check_hashes: bool,
    /// Port of the node's HTTP interface
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// Address of the node's HTTP interface [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub http_listen: Option<Ipv4Addr>,
    /// Directory of Intel's collateral: files, or what --collateral-service fetched
    #[arg(long, value_name = "DIR")]
    pub collateral: Option<PathBuf>,
    /// Where collateral is fetched from: Intel's service (https://api.trustedservices.intel.com) or a PCCS
    #[arg(long, value_name = "URL")]
    pub collateral_service: Option<String>,
    /// File with one policy on evidence for direct links; read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub evidence_policy: Option<PathBuf>,
    /// When the node goes to the chain: 'reference' as in the production network, or 'fast', within seconds [default: reference]
    #[arg(long, value_enum)]
    pub settle: Option<Settle>,
    /// Log level as a number, as the reference has it: 1 errors, 2 warnings, 3 info, 4 and more everything
    #[arg(long, short = 'v', value_name = "N", conflicts_with = "log")]
    pub verbosity: Option<u8>,
    /// Collector of traces that takes OTLP over HTTP, such as http://127.0.0.1:4318; spans hold times and outcomes, never content
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Print one line of JSON on standard output when ready
    #[arg(long)]
    pub json: bool,
    /// Print nothing when ready
    #[arg(long, short)]
    pub quiet: bool,
}

/// Options of `cocoon client`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = CLIENT_EXAMPLES)]
pub struct ClientArgs {
    /// Flags of every node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// HOST:PORT of a router's SOCKS5 port; 'direct' attests proxies in this process [default: connect_to_proxy_via]
    #[arg(long, value_name = "ADDRESS")]
    pub router: Option<String>,
    /// File with the API keys that callers must show, one a line [default: none asked for]
    #[arg(long, value_name = "FILE")]
    pub api_keys_file: Option<PathBuf>,
    /// Deposit at proxies also where the worst way out loses more than fees
    #[arg(long)]
    pub accept_exit_risk: bool,
}

/// Options of `cocoon proxy`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = PROXY_EXAMPLES)]
pub struct ProxyArgs {
    /// Flags of every node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Accept peers without a router: proof of work and RA-TLS in this process
    #[arg(long)]
    pub direct: bool,
    /// Address to accept peers on, with --direct only [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub listen: Option<Ipv4Addr>,
    /// Port for workers; 0 accepts none
    #[arg(long, value_name = "PORT")]
    pub workers_rpc_port: Option<u16>,
    /// Port for clients; 0 accepts none
    #[arg(long, value_name = "PORT")]
    pub client_rpc_port: Option<u16>,
    /// Proof of work asked of peers, in bits, with --direct only [default: 20]
    #[arg(long, value_name = "BITS")]
    pub pow_difficulty: Option<u8>,
    /// Stake of the proxy contract in TON; raised from the node's wallet at start [default: twice a client's, or the least allowed]
    #[arg(long, value_name = "TON")]
    pub stake: Option<String>,
}

/// Options of `cocoon worker`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = WORKER_EXAMPLES)]
pub struct WorkerArgs {
    /// Flags of every node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// HOST:PORT of a router's SOCKS5 port; 'direct' attests proxies in this process [default: connect_to_proxy_via]
    #[arg(long, value_name = "ADDRESS")]
    pub router: Option<String>,
    /// OpenAI-compatible server that computes the answers [default: forward_requests_to]
    #[arg(long, value_name = "URL", conflicts_with = "model")]
    pub upstream: Option<String>,
    /// Model directory in Hugging Face layout for the embedded engine
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Price factor in thousandths [default: coefficient, or 1000]
    #[arg(long, value_name = "THOUSANDTHS")]
    pub coefficient: Option<u32>,
}

/// Options of `cocoon chain`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = CHAIN_EXAMPLES)]
pub struct ChainArgs {
    /// Port of the chain's HTTP interface, in the shapes of toncenter v2; 0 picks a free one [default: 8081]
    #[arg(long, value_name = "PORT")]
    pub chain_port: Option<u16>,
    /// Port of the proxy for workers on 127.0.0.1, for the registry [default: 11001]
    #[arg(long, value_name = "PORT")]
    pub workers_rpc_port: Option<u16>,
    /// Port of the proxy for clients on 127.0.0.1, for the registry [default: 11002]
    #[arg(long, value_name = "PORT")]
    pub client_rpc_port: Option<u16>,
    /// Full name of the model that workers may serve, base@commit:hash [default: that of the tiny model inside this program]
    #[arg(long, value_name = "NAME")]
    pub model_full_name: Option<String>,
    /// NanoTON that a client pays for a token; fixed when the network is founded [default: 10000]
    #[arg(long, value_name = "NANOTON")]
    pub price: Option<u64>,
    /// NanoTON that a worker gets for a token; fixed when the network is founded [default: 9000]
    #[arg(long, value_name = "NANOTON")]
    pub worker_fee: Option<u64>,
    /// Print one line of JSON on standard output when ready
    #[arg(long)]
    pub json: bool,
    /// No progress and no screen; errors are still printed
    #[arg(long, short)]
    pub quiet: bool,
}
