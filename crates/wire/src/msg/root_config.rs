//! The root configuration as the reference stores it.

cocoon_tl::tl_objects! {
    /// A proxy of the root contract.
    "rootConfig.registeredProxy seqno:int address:string = rootConfig.RegisteredProxy",
    pub struct RegisteredProxy {
        /// Number of the registration.
        seqno: i32,
        /// `[host:port] [host:port]` for workers and clients.
        address: String,
    }

    /// The root configuration of fake-TON mode.
    "rootConfig.pseudo proxy_hashes:vector int256 worker_hashes:vector int256 model_hashes:vector int256 model_types:vector string registered_proxies:vector rootConfig.registeredProxy price_per_token:int worker_fee_per_token:int last_proxy_seqno:int version:int params_version:int proxy_sc_code:string worker_sc_code:string client_sc_code:string root_owner_address:string = rootConfig.Config",
    pub struct Pseudo {
        /// Allowed proxy images.
        proxy_hashes: Vec<[u8; 32]>,
        /// Allowed worker images.
        worker_hashes: Vec<[u8; 32]>,
        /// Allowed models.
        model_hashes: Vec<[u8; 32]>,
        /// Names of models.
        model_types: Vec<String>,
        /// Proxies to connect to.
        registered_proxies: Vec<RegisteredProxy>,
        /// Nano TON that a client pays for a token.
        price_per_token: i32,
        /// Nano TON that a worker earns for a token.
        worker_fee_per_token: i32,
        /// Highest registration number.
        last_proxy_seqno: i32,
        /// Grows with any change.
        version: i32,
        /// Grows with changes that force new contracts.
        params_version: i32,
        /// BOC of the contract code.
        proxy_sc_code: String,
        /// BOC of the contract code.
        worker_sc_code: String,
        /// BOC of the contract code.
        client_sc_code: String,
        /// Owner of the root contract.
        root_owner_address: String,
    }

    /// The root configuration.
    "rootConfig.configV5 root_owner_address:string proxy_hashes:vector int256 registered_proxies:vector rootConfig.registeredProxy last_proxy_seqno:int worker_hashes:vector int256 model_hashes:vector int256 version:int struct_version:int params_version:int unique_id:int is_test:int price_per_token:long worker_fee_per_token:long prompt_tokens_price_multiplier:int cached_tokens_price_multiplier:int completion_tokens_price_multiplier:int reasoning_tokens_price_multiplier:int proxy_delay_before_close:int client_delay_before_close:int min_proxy_stake:long min_client_stake:long proxy_sc_code:string worker_sc_code:string client_sc_code:string = rootConfig.Config",
    pub struct ConfigV5 {
        /// Owner of the root contract.
        root_owner_address: String,
        /// Allowed proxy images.
        proxy_hashes: Vec<[u8; 32]>,
        /// Proxies to connect to.
        registered_proxies: Vec<RegisteredProxy>,
        /// Highest registration number.
        last_proxy_seqno: i32,
        /// Allowed worker images.
        worker_hashes: Vec<[u8; 32]>,
        /// Allowed models.
        model_hashes: Vec<[u8; 32]>,
        /// Grows with any change.
        version: i32,
        /// Layout of the parameters.
        struct_version: i32,
        /// Grows with changes that force new contracts.
        params_version: i32,
        /// Distinguishes networks.
        unique_id: i32,
        /// 1 for a test network.
        is_test: i32,
        /// Nano TON that a client pays for a token.
        price_per_token: i64,
        /// Nano TON that a worker earns for a token.
        worker_fee_per_token: i64,
        /// In ten-thousandths.
        prompt_tokens_price_multiplier: i32,
        /// In ten-thousandths.
        cached_tokens_price_multiplier: i32,
        /// In ten-thousandths.
        completion_tokens_price_multiplier: i32,
        /// In ten-thousandths.
        reasoning_tokens_price_multiplier: i32,
        /// Seconds.
        proxy_delay_before_close: i32,
        /// Seconds.
        client_delay_before_close: i32,
        /// Nano TON.
        min_proxy_stake: i64,
        /// Nano TON.
        min_client_stake: i64,
        /// BOC of the contract code.
        proxy_sc_code: String,
        /// BOC of the contract code.
        worker_sc_code: String,
        /// BOC of the contract code.
        client_sc_code: String,
    }
}

cocoon_tl::tl_union! {
    /// A root configuration: TL type `rootConfig.Config`.
    pub enum Config {
        /// Fake-TON mode.
        Pseudo(Pseudo),
        /// From the chain.
        V5(ConfigV5),
    }
}
