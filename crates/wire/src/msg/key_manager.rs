//! Questions to the key manager (`spec/protocol.md`, appendix B).

cocoon_tl::tl_objects! {
    /// A key and its end.
    "keyManager.privateKey valid_until_utime:int private_key:int256 = keyManager.PrivateKey",
    pub struct PrivateKey {
        /// Unix time of its end.
        valid_until_utime: i32,
        /// Ed25519 seed.
        @hidden private_key: [u8; 32],
    }

    /// The keys of one kind.
    ///
    /// K → asker, query answer.
    "keyManager.privateKeys keys:vector keyManager.privateKey = keyManager.PrivateKeys",
    pub struct PrivateKeys {
        /// All valid keys.
        keys: Vec<PrivateKey>,
    }

    /// Asks for the keys of workers.
    ///
    /// asker → K, query.
    "keyManager.getWorkerPrivateKeys min_config_version:int = keyManager.PrivateKeys",
    pub struct GetWorkerPrivateKeys {
        /// The version of the root config that the asker holds.
        min_config_version: i32,
    }

    /// Asks for the keys of proxies.
    ///
    /// asker → K, query.
    "keyManager.getProxyPrivateKeys min_config_version:int = keyManager.PrivateKeys",
    pub struct GetProxyPrivateKeys {
        /// The version of the root config that the asker holds.
        min_config_version: i32,
    }
}

cocoon_tl::tl_union! {
    /// Everything that is asked of a key manager.
    pub enum KeyManagerQuery {
        /// Keys of workers.
        GetWorkerPrivateKeys(GetWorkerPrivateKeys),
        /// Keys of proxies.
        GetProxyPrivateKeys(GetProxyPrivateKeys),
    }
}
