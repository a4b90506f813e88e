//! Configuration files of the reference runners. They exist as JSON; the TL form completes the scheme.

cocoon_tl::tl_objects! {
    /// Configuration of a proxy.
    "proxyRunner.config is_test:Bool is_testnet:Bool workers_rpc_port:int client_rpc_port:int http_port:int owner_address:string root_contract_address:string machine_specific_private_key:int256 node_wallet_key:int256 ton_config_filename:string db_path:string check_worker_hashes:Bool image_hash:int256 http_access_hash:string = proxyRunner.Config",
    pub struct ProxyRunnerConfig {
        /// Fake-TON mode; both sides must agree.
        is_test: bool,
        /// Testnet addresses.
        is_testnet: bool,
        /// Port for workers.
        workers_rpc_port: i32,
        /// Port for clients.
        client_rpc_port: i32,
        /// Operator HTTP port.
        http_port: i32,
        /// Wallet of the owner.
        owner_address: String,
        /// The root contract.
        root_contract_address: String,
        /// Ed25519 seed of the machine.
        @hidden machine_specific_private_key: [u8; 32],
        /// Ed25519 seed of the node wallet.
        @hidden node_wallet_key: [u8; 32],
        /// TON global config.
        ton_config_filename: String,
        /// Database directory.
        db_path: String,
        /// Check image hashes of workers.
        check_worker_hashes: bool,
        /// Own image hash.
        image_hash: [u8; 32],
        /// Access hash of the operator HTTP.
        @hidden http_access_hash: String,
    }

    /// Configuration of a worker.
    "workerRunner.config is_test:Bool is_testnet:Bool http_port:int owner_address:string proxy_connections:int connect_to_proxy_via:string model_name:string coefficient:int root_contract_address:string node_wallet_key:int256 forward_requests_to:string ton_config_filename:string check_proxy_hashes:Bool max_active_requests:int image_hash:int256 http_access_hash:string = workerRunner.Config",
    pub struct WorkerRunnerConfig {
        /// Fake-TON mode; both sides must agree.
        is_test: bool,
        /// Testnet addresses.
        is_testnet: bool,
        /// Operator HTTP port.
        http_port: i32,
        /// Wallet of the owner.
        owner_address: String,
        /// How many proxies to hold.
        proxy_connections: i32,
        /// SOCKS5 router; empty for direct TLS.
        connect_to_proxy_via: String,
        /// Model to serve.
        model_name: String,
        /// Price factor in thousandths.
        coefficient: i32,
        /// The root contract.
        root_contract_address: String,
        /// Ed25519 seed of the node wallet.
        @hidden node_wallet_key: [u8; 32],
        /// The inference server.
        forward_requests_to: String,
        /// TON global config.
        ton_config_filename: String,
        /// Check image hashes of proxies.
        check_proxy_hashes: bool,
        /// Requests that may run at once.
        max_active_requests: i32,
        /// Own image hash.
        image_hash: [u8; 32],
        /// Access hash of the operator HTTP.
        @hidden http_access_hash: String,
    }

    /// Configuration of a client.
    "clientRunner.config is_test:Bool is_testnet:Bool http_port:int owner_address:string proxy_connections:int connect_to_proxy_via:string root_contract_address:string node_wallet_key:int256 check_proxy_hashes:Bool secret_string:string ton_config_filename:string http_access_hash:string = clientRunner.Config",
    pub struct ClientRunnerConfig {
        /// Fake-TON mode; both sides must agree.
        is_test: bool,
        /// Testnet addresses.
        is_testnet: bool,
        /// Operator HTTP port.
        http_port: i32,
        /// Wallet of the owner.
        owner_address: String,
        /// How many proxies to hold.
        proxy_connections: i32,
        /// SOCKS5 router; empty for direct TLS.
        connect_to_proxy_via: String,
        /// The root contract.
        root_contract_address: String,
        /// Ed25519 seed of the node wallet.
        @hidden node_wallet_key: [u8; 32],
        /// Check image hashes of proxies.
        check_proxy_hashes: bool,
        /// The secret of the client.
        @hidden secret_string: String,
        /// TON global config.
        ton_config_filename: String,
        /// Access hash of the operator HTTP.
        @hidden http_access_hash: String,
    }

    /// Configuration of a key manager.
    "keyStorageRunner.config is_test:Bool is_testnet:Bool rpc_port:int http_port:int root_contract_address:string machine_specific_private_key:int256 ton_config_filename:string db_path:string check_hashes:Bool image_hash:int256 http_access_hash:string = keyStorageRunner.Config",
    pub struct KeyStorageRunnerConfig {
        /// Fake-TON mode; both sides must agree.
        is_test: bool,
        /// Testnet addresses.
        is_testnet: bool,
        /// Port of the service.
        rpc_port: i32,
        /// Operator HTTP port.
        http_port: i32,
        /// The root contract.
        root_contract_address: String,
        /// Ed25519 seed of the machine.
        @hidden machine_specific_private_key: [u8; 32],
        /// TON global config.
        ton_config_filename: String,
        /// Database directory.
        db_path: String,
        /// Check image hashes of askers.
        check_hashes: bool,
        /// Own image hash.
        image_hash: [u8; 32],
        /// Access hash of the operator HTTP.
        @hidden http_access_hash: String,
    }
}
