//! Op codes of all messages (contracts.md, section 3).

macro_rules! ops {
    ($($(#[$m:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$m])* pub const $name: u32 = $value;)*
        /// Every op with its name, for logs and tools.
        pub const NAMES: &[(u32, &str)] = &[$(($value, stringify!($name))),*];
    };
}

ops! {
    /// Text commands: one character follows.
    TEXT = 0x0000_0000;
    /// Leftover coins come back.
    EXCESSES = 0x2565_934c;
    /// Coins for an owner.
    PAYOUT = 0xc59a_7cd3;
    /// To be ignored by the contract; read by nodes.
    DO_NOT_PROCESS = 0x9a12_47c0;
    /// Database commit of a proxy node, inside [`DO_NOT_PROCESS`].
    SAVE_STATE = 0x5310_9c0f;
    /// Allow a worker image.
    ROOT_ADD_WORKER_HASH = 0xe34b_1c60;
    /// No longer allow a worker image.
    ROOT_DELETE_WORKER_HASH = 0x8d94_a79a;
    /// Allow a model.
    ROOT_ADD_MODEL_HASH = 0xc146_134d;
    /// No longer allow a model.
    ROOT_DELETE_MODEL_HASH = 0x92b1_1c18;
    /// Allow a proxy image.
    ROOT_ADD_PROXY_HASH = 0x7186_0e80;
    /// No longer allow a proxy image.
    ROOT_DELETE_PROXY_HASH = 0x3c41_d0b2;
    /// List a proxy's net address.
    ROOT_REGISTER_PROXY = 0x927c_7cb5;
    /// Take a proxy off the list.
    ROOT_UNREGISTER_PROXY = 0x6d49_eaf2;
    /// Change a proxy's net address.
    ROOT_UPDATE_PROXY = 0x9c79_24ba;
    /// Change the prices.
    ROOT_CHANGE_PRICE = 0xc52e_d8d4;
    /// Change prices, delays and stakes.
    ROOT_CHANGE_PARAMS = 0x022f_a189;
    /// Replace the codes of proxy, worker and client contracts.
    ROOT_REPLACE_CONTRACT_CODES = 0xa237_0f61;
    /// Replace the root's own code.
    ROOT_REPLACE_CODE = 0x11ae_fd51;
    /// Replace the root's own data and code.
    ROOT_REPLACE_DATA_AND_CODE = 0x4f7c_5789;
    /// Empty the registries.
    ROOT_RESET = 0x563c_1d96;
    /// Hand the root over.
    ROOT_CHANGE_OWNER = 0xc4a1_ae54;
    /// Register a public key (structure version 4).
    ROOT_ADD_PUBLIC_KEY = 0x6e5a_646a;
    /// Register a public key by the key manager's signature (structure version 4).
    ROOT_ADD_PUBLIC_KEY_SIGNED = 0x9e0e_1821;
    /// Change the key manager (structure version 4).
    ROOT_CHANGE_KEY_MANAGER = 0xb01c_0fe9;
    /// A worker contract reports to its proxy.
    WORKER_REQUEST = 0x4d72_5d2c;
    /// Payload of a worker request: payout.
    WORKER_REQUEST_PAYOUT = 0x08e7_d036;
    /// A client contract reports to its proxy.
    CLIENT_REQUEST = 0x6544_8ff4;
    /// Payload of a client request: top-up.
    CLIENT_REQUEST_TOP_UP = 0x5cfc_6b87;
    /// Payload of a client request: register.
    CLIENT_REQUEST_REGISTER = 0xa35c_b580;
    /// Payload of a client request: refund granted by the proxy, or of what exceeds the stake.
    CLIENT_REQUEST_REFUND_GRANTED = 0xc68e_bc7b;
    /// Payload of a client request: refund forced after the delay.
    CLIENT_REQUEST_REFUND_FORCED = 0xf4c3_54c9;
    /// Pay a proxy's revenue to its owner.
    PROXY_PAY_REVENUE = 0x7610_e6eb;
    /// Add to a proxy's stake.
    PROXY_INCREASE_STAKE = 0x9713_f187;
    /// Owner closes the proxy.
    PROXY_CLOSE = 0xb51d_5a01;
    /// Proxy closes itself by its signature.
    PROXY_CLOSE_SIGNED = 0x636a_4391;
    /// Proxy completes closing by its signature.
    PROXY_CLOSE_COMPLETE = 0xe511_abc7;
    /// Owner makes the worker contract report.
    WORKER_REGISTER = 0x26ed_7f65;
    /// Signed payout.
    WORKER_PAYOUT = 0xa040_ad28;
    /// Signed payout that closes the worker contract.
    WORKER_LAST_PAYOUT = 0xf5f2_6a36;
    /// Add to a client's deposit.
    CLIENT_TOP_UP = 0xf172_e6c2;
    /// Change the secret hash and add to the deposit.
    CLIENT_CHANGE_SECRET_HASH_AND_TOP_UP = 0x8473_b408;
    /// Prove ownership to the proxy with its nonce.
    CLIENT_REGISTER = 0xc45f_9f3b;
    /// Change the secret hash.
    CLIENT_CHANGE_SECRET_HASH = 0xa935_7034;
    /// Raise the stake.
    CLIENT_INCREASE_STAKE = 0x6a1f_6a60;
    /// Take out what exceeds the stake.
    CLIENT_WITHDRAW = 0xda06_8e78;
    /// Close the client, first and second step.
    CLIENT_REQUEST_REFUND = 0xfafa_6cc1;
    /// Signed charge.
    CLIENT_CHARGE = 0xbb63_ff93;
    /// Signed refund that closes the client.
    CLIENT_GRANT_REFUND = 0xefd7_11e1;
    /// Owner makes the wallet send a message.
    WALLET_SEND = 0x9c69_f376;
}

/// Name of an op, if it is one of ours.
pub fn name(op: u32) -> Option<&'static str> {
    NAMES
        .iter()
        .find(|(code, _)| *code == op)
        .map(|(_, name)| *name)
}
