//! Flags of `cocoon key-manager`.

use std::net::Ipv4Addr;

use clap::Args;

use super::NodeArgs;

const EXAMPLES: &str = "\
Examples:
  cocoon key-manager --config key-manager-config.json --chain static:root.json            behind a router
  cocoon key-manager --config key-manager-config.json --chain static:root.json --direct   attesting its peers itself

The file is the reference's key-manager-config.json (a JSON object): is_test, is_testnet, rpc_port, http_port,
root_contract_address, machine_specific_private_key, db_path, check_hashes, image_hash, http_access_hash; and of our
own: chain, attestation, collateral, evidence_policy, direct, listen, pow_difficulty. See docs/nodes.md.";

/// Options of `cocoon key-manager`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = EXAMPLES)]
pub struct KeyManagerArgs {
    /// Flags of every node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Port for proxies and workers that ask for their keys
    #[arg(long, value_name = "PORT")]
    pub rpc_port: Option<u16>,
    /// Accept peers without a router: proof of work and RA-TLS in this process
    #[arg(long)]
    pub direct: bool,
    /// Address to accept peers on, with --direct only [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub listen: Option<Ipv4Addr>,
    /// Proof of work asked of peers, in bits, with --direct only [default: 20]
    #[arg(long, value_name = "BITS")]
    pub pow_difficulty: Option<u8>,
}
