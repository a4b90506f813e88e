//! Database values of the reference proxy (`spec/protocol.md`, 5.7).

use super::root_config;

cocoon_tl::tl_objects! {
    /// A block of the chain.
    "ton.blockIdExt workchain:int shard:long seqno:int root_hash:bytes file_hash:bytes = ton.BlockIdExt",
    pub struct BlockIdExt {
        /// Workchain.
        workchain: i32,
        /// Shard prefix.
        shard: i64,
        /// Block number.
        seqno: i32,
        /// 32 bytes.
        root_hash: Vec<u8>,
        /// 32 bytes.
        file_hash: Vec<u8>,
    }

    /// A client, older form.
    "proxyDb.clientInfo owner_address:string sc_address:string status:int balance:long sc_tokens_used:long tokens_used:long secret_hash:int256 last_request_at:int = proxyDb.ClientInfo",
    pub struct ClientInfo {
        /// Wallet of the owner.
        owner_address: String,
        /// Its contract.
        sc_address: String,
        /// State of the contract.
        status: i32,
        /// Nano TON in the contract.
        balance: i64,
        /// Tokens that the contract has seen.
        sc_tokens_used: i64,
        /// Tokens so far.
        tokens_used: i64,
        /// SHA-256 of the secret, as on chain.
        secret_hash: [u8; 32],
        /// Unix time.
        last_request_at: i32,
    }

    /// A client.
    "proxyDb.clientInfoV2 owner_address:string sc_address:string status:int balance:long stake:long sc_tokens_used:long tokens_used:long secret_hash:int256 last_request_at:int = proxyDb.ClientInfo",
    pub struct ClientInfoV2 {
        /// Wallet of the owner.
        owner_address: String,
        /// Its contract.
        sc_address: String,
        /// State of the contract.
        status: i32,
        /// Nano TON in the contract.
        balance: i64,
        /// Nano TON staked.
        stake: i64,
        /// Tokens that the contract has seen.
        sc_tokens_used: i64,
        /// Tokens so far.
        tokens_used: i64,
        /// SHA-256 of the secret, as on chain.
        secret_hash: [u8; 32],
        /// Unix time.
        last_request_at: i32,
    }

    /// A worker.
    "proxyDb.workerInfo owner_address:string sc_address:string sc_tokens:long tokens:long last_request_at:int = proxyDb.WorkerInfo",
    pub struct WorkerInfo {
        /// Wallet of the owner.
        owner_address: String,
        /// Its contract.
        sc_address: String,
        /// Tokens that the contract has seen.
        sc_tokens: i64,
        /// Tokens so far.
        tokens: i64,
        /// Unix time.
        last_request_at: i32,
    }

    /// A state commit that is on its way to the chain.
    "proxyDb.pendingBlockchainSeqnoCommit seqno:int session_hash:int256 = proxyDb.PendingBlockchainSeqnoCommit",
    pub struct PendingBlockchainSeqnoCommit {
        /// Number of the commit.
        seqno: i32,
        /// Of the process that commits.
        session_hash: [u8; 32],
    }

    /// No state. Never written.
    #[derive(Copy, Eq, Default)]
    "proxyDb.configEmpty = proxyDb.Config",
    pub struct ConfigEmpty {}

    /// The state of a proxy in service.
    "proxyDb.configV4 root_contract_address:string is_testnet:int root_contract_state:rootConfig.Config root_contract_state_block_ts:int sc_block_id:ton.blockIdExt last_seqno_committed_to_blockchain:int pending_blockchain_seqno_commits:vector proxyDb.pendingBlockchainSeqnoCommit = proxyDb.Config",
    pub struct ConfigV4 {
        /// The root contract.
        root_contract_address: String,
        /// 1 for testnet addresses.
        is_testnet: i32,
        /// The root configuration.
        root_contract_state: root_config::Config,
        /// Unix time of its block.
        root_contract_state_block_ts: i32,
        /// Last block that was processed.
        sc_block_id: BlockIdExt,
        /// Number of the newest commit.
        last_seqno_committed_to_blockchain: i32,
        /// Oldest first.
        pending_blockchain_seqno_commits: Vec<PendingBlockchainSeqnoCommit>,
    }

    /// The state of a proxy out of service.
    "proxyDb.configV4Disabled root_contract_address:string is_testnet:int root_contract_state:rootConfig.Config root_contract_state_block_ts:int disabled_until_version:long = proxyDb.Config",
    pub struct ConfigV4Disabled {
        /// The root contract.
        root_contract_address: String,
        /// 1 for testnet addresses.
        is_testnet: i32,
        /// The root configuration.
        root_contract_state: root_config::Config,
        /// Unix time of its block.
        root_contract_state_block_ts: i32,
        /// Root config version that enables it again.
        disabled_until_version: i64,
    }

    /// A client of a contract that is being closed: an element of a linked list.
    "proxyDb.oldClient owner_address:string tokens:long next_client:string = proxyDb.OldClient",
    pub struct OldClient {
        /// Wallet of the owner.
        owner_address: String,
        /// Tokens so far.
        tokens: i64,
        /// Database key of the next element; empty at the end.
        next_client: String,
    }

    /// A worker of a contract that is being closed: an element of a linked list.
    "proxyDb.oldWorker owner_address:string tokens:long next_worker:string = proxyDb.OldWorker",
    pub struct OldWorker {
        /// Wallet of the owner.
        owner_address: String,
        /// Tokens so far.
        tokens: i64,
        /// Database key of the next element; empty at the end.
        next_worker: String,
    }

    /// A contract that is being closed.
    "proxyDb.oldInstance contract_address:string closing_state:int close_at:int next_client:string next_worker:string root_contract_state:rootConfig.Config = proxyDb.OldInstance",
    pub struct OldInstance {
        /// The contract.
        contract_address: String,
        /// How far closing is.
        closing_state: i32,
        /// Unix time.
        close_at: i32,
        /// Database key of the first client; empty if there is none.
        next_client: String,
        /// Database key of the first worker; empty if there is none.
        next_worker: String,
        /// The root configuration.
        root_contract_state: root_config::Config,
    }
}

cocoon_tl::tl_union! {
    /// The database value of key `config`: TL type `proxyDb.Config`.
    pub enum Config {
        /// Never written.
        Empty(ConfigEmpty),
        /// In service.
        V4(ConfigV4),
        /// Out of service.
        V4Disabled(ConfigV4Disabled),
    }
}

cocoon_tl::tl_union! {
    /// A client in either form: TL type `proxyDb.ClientInfo`.
    pub enum AnyClientInfo {
        /// Older form.
        V1(ClientInfo),
        /// Present form.
        V2(ClientInfoV2),
    }
}
