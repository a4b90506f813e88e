//! Database values of the reference key manager.

cocoon_tl::tl_objects! {
    /// No state. Never written.
    #[derive(Copy, Eq, Default)]
    "keyManagerDb.configEmpty = keyManagerDb.Config",
    pub struct ConfigEmpty {}

    /// The state of a key manager.
    "keyManagerDb.configV1 root_contract_version:int = keyManagerDb.Config",
    pub struct ConfigV1 {
        /// Version of the root config.
        root_contract_version: i32,
    }

    /// A key. The reference writes the two flags swapped (`spec/protocol.md`, 11.6).
    "keyManagerDb.key private_key:int256 for_proxies:Bool for_workers:Bool valid_since_config_version:int valid_since_utime:int valid_until_utime:int = keyManagerDb.Key",
    pub struct Key {
        /// Ed25519 seed.
        @hidden private_key: [u8; 32],
        /// Whether proxies get it.
        for_proxies: bool,
        /// Whether workers get it.
        for_workers: bool,
        /// Root config version of its birth.
        valid_since_config_version: i32,
        /// Unix time of its birth.
        valid_since_utime: i32,
        /// Unix time of its end.
        valid_until_utime: i32,
    }
}

cocoon_tl::tl_union! {
    /// The database value of key `config`: TL type `keyManagerDb.Config`.
    pub enum Config {
        /// Never written.
        Empty(ConfigEmpty),
        /// Present form.
        V1(ConfigV1),
    }
}
