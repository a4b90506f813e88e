//! The messages of both legs in one shape, whatever the protocol version (protocol.md 3.4).
//!
//! The legs client–proxy and proxy–worker carry the same things under different constructors, and versions 0 and
//! 1–2 spell them differently again. The cores think in [`RunQuery`], [`Answer`] and [`FinalInfo`].

mod carried;
mod client_leg;
mod worker_leg;

use cocoon_ledger::TokensUsed;
use cocoon_tl::Flags;
use cocoon_wire::msg::{common, proxy};

pub use carried::{
    REFUSED_HEADER, StampedHead, check_http_request, debug_text, error_response, reason,
    stamp_response,
};
pub use client_leg::*;
pub use worker_leg::*;

/// What a proxy says about itself in `proxy.params`.
#[derive(Clone, Debug)]
pub struct ProxyParams {
    /// Key that signs payments.
    pub public_key: [u8; 32],
    /// Owner of the contract.
    pub owner: String,
    /// The contract, non-bounceable text.
    pub sc: String,
    /// Test flag.
    pub is_test: bool,
    /// Chosen protocol version.
    pub version: i32,
}

impl ProxyParams {
    /// The TL object; the version travels only when it is above 0 (3.3).
    pub fn to_wire(&self) -> proxy::Params {
        proxy::Params {
            flags: Flags::NONE,
            proxy_public_key: self.public_key,
            proxy_owner_address: self.owner.clone(),
            proxy_sc_address: self.sc.clone(),
            is_test: Some(self.is_test),
            proto_version: (self.version > 0).then_some(self.version),
        }
    }
}

/// Newest amounts of a party, as they go into status answers and payments.
#[derive(Clone, Debug)]
pub struct PaymentStatus {
    /// BOC of the newest signed payment.
    pub signed_payment: Option<Vec<u8>>,
    /// Saved total.
    pub db_tokens: u64,
    /// Running total.
    pub max_tokens: u64,
}

impl PaymentStatus {
    fn signed(&self) -> proxy::SignedPayment {
        signed(self.signed_payment.clone())
    }
}

fn signed(boc: Option<Vec<u8>>) -> proxy::SignedPayment {
    boc.map_or(proxy::SignedPayment::EMPTY, proxy::SignedPayment::signed)
}

fn wire(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

/// What comes with the last message of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FinalInfo {
    /// Adjusted tokens.
    pub tokens: TokensUsed,
    /// The worker's debug text.
    pub worker_debug: Option<String>,
    /// The proxy's debug text.
    pub proxy_debug: Option<String>,
    /// Unix seconds; 0.0 where unknown.
    pub proxy_start: f64,
    /// Unix seconds.
    pub proxy_end: f64,
    /// Unix seconds.
    pub worker_start: f64,
    /// Unix seconds.
    pub worker_end: f64,
}

/// A step of an answer.
#[derive(Clone, PartialEq)]
pub enum AnswerKind {
    /// Boxed `http.response`.
    Head(Vec<u8>),
    /// Body bytes.
    Part(Vec<u8>),
    /// The request failed.
    Error {
        /// Code of 1.8.
        code: i32,
        /// For people.
        text: String,
        /// A head went out before; only version 0 tells this on the wire.
        after_head: bool,
    },
}

/// One message of an answer.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// Id on this leg.
    pub request_id: [u8; 32],
    /// Head, body or failure.
    pub kind: AnswerKind,
    /// Present in the last message.
    pub fin: Option<FinalInfo>,
}

fn tokens_to_wire(t: &TokensUsed) -> common::TokensUsed {
    common::TokensUsed {
        prompt_tokens_used: t.prompt,
        cached_tokens_used: t.cached,
        completion_tokens_used: t.completion,
        reasoning_tokens_used: t.reasoning,
        total_tokens_used: t.total,
    }
}

fn tokens_from_wire(t: common::TokensUsed) -> TokensUsed {
    TokensUsed {
        prompt: t.prompt_tokens_used,
        cached: t.cached_tokens_used,
        completion: t.completion_tokens_used,
        reasoning: t.reasoning_tokens_used,
        total: t.total_tokens_used,
    }
}

fn plain_fin(tokens: common::TokensUsed) -> Option<FinalInfo> {
    Some(FinalInfo {
        tokens: tokens_from_wire(tokens),
        ..Default::default()
    })
}
