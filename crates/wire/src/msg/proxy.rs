//! Messages of the proxy to both sides, payments, and answers of workers (`spec/protocol.md`, 2.4 and section 4).

use cocoon_tl::Flags;

use super::common::TokensUsed;

cocoon_tl::tl_objects! {
    /// Who a proxy is and which protocol version it chose.
    "proxy.params#d5c5609f flags:# proxy_public_key:int256 proxy_owner_address:string proxy_sc_address:string is_test:flags.0?Bool proto_version:flags.1?int = proxy.Params",
    pub struct Params {
        /// Flag bits without a field.
        flags: Flags,
        /// Ed25519 key that signs payments.
        proxy_public_key: [u8; 32],
        /// Wallet of the proxy, user-friendly form.
        proxy_owner_address: String,
        /// Contract of the proxy.
        proxy_sc_address: String,
        /// Fake-TON mode; both sides must agree.
        is_test(flags.0): bool,
        /// The chosen version; absent means 0.
        proto_version(flags.1): i32,
    }

    /// The books on a request are closed: what the client owes.
    ///
    /// P → C, packet.
    "proxy.clientRequestPayment request_id:int256 signed_payment:proxy.SignedPayment db_tokens:long max_tokens:long request_tokens:long = proxy.WorkerRequestPayment",
    pub struct ClientRequestPayment {
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// The newest signed payment, if any.
        signed_payment: SignedPayment,
        /// Tokens that the proxy has saved.
        db_tokens: i64,
        /// All tokens so far, saved or not.
        max_tokens: i64,
        /// Tokens of this request.
        request_tokens: i64,
    }

    /// A signed charge message for the contract of the peer.
    ///
    /// P → C, P → W, nested boxed; the peer also accepts it alone as a packet.
    #[derive(Eq)]
    "proxy.signedPayment data:bytes = proxy.SignedPayment",
    pub struct SignedPaymentData {
        /// The BOC of the external message body.
        @hidden data: Vec<u8>,
    }

    /// Nothing is signed yet.
    ///
    /// P → C, P → W, nested boxed; W also ignores it as a packet.
    #[derive(Copy, Eq, Default)]
    "proxy.signedPaymentEmpty = proxy.SignedPayment",
    pub struct SignedPaymentEmpty {}

    /// First answer of a worker, version 0.
    ///
    /// W → P, packet, version 0.
    "proxy.queryAnswer answer:bytes is_completed:Bool request_id:int256 tokens_used:tokensUsed = proxy.QueryAnswer",
    pub struct QueryAnswer {
        /// A boxed `http.response`.
        @hidden answer: Vec<u8>,
        /// Whether this is the last message of the request.
        is_completed: bool,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Usage; meaningful in the last message.
        tokens_used: TokensUsed,
    }

    /// The worker failed before the head, version 0.
    ///
    /// W → P, packet, version 0.
    "proxy.queryAnswerError error_code:int error:string request_id:int256 tokens_used:tokensUsed = proxy.QueryAnswer",
    pub struct QueryAnswerError {
        /// See [`codes`](crate::codes).
        error_code: i32,
        /// For a human.
        error: String,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Usage; meaningful in the last message.
        tokens_used: TokensUsed,
    }

    /// A further piece of an answer, version 0.
    ///
    /// W → P, packet, version 0.
    "proxy.queryAnswerPart answer:bytes is_completed:Bool request_id:int256 tokens_used:tokensUsed = proxy.QueryAnswerPart",
    pub struct QueryAnswerPart {
        /// Body bytes.
        @hidden answer: Vec<u8>,
        /// Whether this is the last message of the request.
        is_completed: bool,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Usage; meaningful in the last message.
        tokens_used: TokensUsed,
    }

    /// The worker failed after the head, version 0.
    ///
    /// W → P, packet, version 0.
    "proxy.queryAnswerPartError error_code:int error:string request_id:int256 tokens_used:tokensUsed = proxy.QueryAnswerPart",
    pub struct QueryAnswerPartError {
        /// See [`codes`](crate::codes).
        error_code: i32,
        /// For a human.
        error: String,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Usage; meaningful in the last message.
        tokens_used: TokensUsed,
    }

    /// What a request used, when, and a debug text: with the last message of a worker.
    "proxy.queryFinalInfo flags:# tokens_used:tokensUsed worker_debug:flags.0?string worker_start_time:flags.1?double worker_end_time:flags.1?double = proxy.QueryFinalInfo",
    pub struct QueryFinalInfo {
        /// Flag bits without a field.
        flags: Flags,
        /// Usage.
        tokens_used: TokensUsed,
        /// JSON of the worker, when asked for.
        worker_debug(flags.0): String,
        /// Times, from version 2.
        times(flags.1): WorkerTimes,
    }

    /// First answer of a worker: a boxed `http.response` with the head and perhaps a piece of body.
    ///
    /// W → P, packet, version at least 1.
    "proxy.queryAnswerEx request_id:int256 answer:bytes flags:# final_info:flags.0?proxy.queryFinalInfo = proxy.QueryAnswerEx",
    pub struct QueryAnswerEx {
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// A boxed `http.response`.
        @hidden answer: Vec<u8>,
        /// Flag bits without a field.
        flags: Flags,
        /// Present in the last message of a request.
        final_info(flags.0): QueryFinalInfo,
    }

    /// The worker failed. Always send `final_info`: the reference reads it unasked.
    ///
    /// W → P, packet, version at least 1.
    "proxy.queryAnswerErrorEx request_id:int256 error_code:int error:string flags:# final_info:flags.0?proxy.queryFinalInfo = proxy.QueryAnswerEx",
    pub struct QueryAnswerErrorEx {
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// See [`codes`](crate::codes).
        error_code: i32,
        /// For a human.
        error: String,
        /// Flag bits without a field.
        flags: Flags,
        /// Present in the last message of a request.
        final_info(flags.0): QueryFinalInfo,
    }

    /// A further piece of body.
    ///
    /// W → P, packet, version at least 1.
    "proxy.queryAnswerPartEx request_id:int256 answer:bytes flags:# final_info:flags.0?proxy.queryFinalInfo = proxy.QueryAnswerEx",
    pub struct QueryAnswerPartEx {
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Body bytes.
        @hidden answer: Vec<u8>,
        /// Flag bits without a field.
        flags: Flags,
        /// Present in the last message of a request.
        final_info(flags.0): QueryFinalInfo,
    }

    /// The books on a request are closed: what the worker earned.
    ///
    /// P → W, packet.
    "proxy.workerRequestPayment request_id:int256 signed_payment:proxy.SignedPayment db_tokens:long max_tokens:long request_tokens:long request_client_owner:string = proxy.WorkerRequestPayment",
    pub struct WorkerRequestPayment {
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// The newest signed payment, if any.
        signed_payment: SignedPayment,
        /// Tokens that the proxy has saved.
        db_tokens: i64,
        /// All tokens so far, saved or not.
        max_tokens: i64,
        /// Tokens of this request.
        request_tokens: i64,
        /// Wallet of the client that asked.
        request_client_owner: String,
    }

    /// Gives a request to a worker, version 0.
    ///
    /// P → W, packet, version 0 (despite being a function).
    "proxy.runQuery query:bytes signed_payment:proxy.SignedPayment coefficient:long timeout:double request_id:int256 = proxy.QueryAnswer",
    pub struct RunQuery {
        /// A boxed `http.request`.
        @hidden query: Vec<u8>,
        /// The newest signed payment, if any.
        signed_payment: SignedPayment,
        /// Price factor in thousandths.
        coefficient: i64,
        /// Seconds.
        timeout: f64,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
    }

    /// Gives a request to a worker.
    ///
    /// P → W, packet, version at least 1 (despite being a function).
    "proxy.runQueryEx query:bytes signed_payment:proxy.SignedPayment coefficient:long timeout:double request_id:int256 flags:# enable_debug:flags.0?Bool = proxy.QueryAnswer",
    pub struct RunQueryEx {
        /// A boxed `http.request`.
        @hidden query: Vec<u8>,
        /// The newest signed payment, if any.
        signed_payment: SignedPayment,
        /// Price factor in thousandths.
        coefficient: i64,
        /// Seconds.
        timeout: f64,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Flag bits without a field.
        flags: Flags,
        /// Whether debug texts are wanted.
        enable_debug(flags.0): bool,
    }

    /// The worker may stop generating: an extension of ours.
    ///
    /// P → W, packet, version at least 3.
    "proxy.cancelQuery request_id:int256 = proxy.CancelQuery",
    pub struct CancelQuery {
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
    }

    /// Unix times in seconds of the worker.
    #[derive(Copy)]
    pub struct WorkerTimes {
        /// When the worker accepted the request.
        worker_start_time: f64,
        /// When the worker wrote this.
        worker_end_time: f64,
    }
}

cocoon_tl::tl_union! {
    /// A signed payment or the statement that there is none: TL type `proxy.SignedPayment`.
    #[derive(Eq)]
    pub enum SignedPayment {
        /// A payment.
        Signed(SignedPaymentData),
        /// None yet.
        Empty(SignedPaymentEmpty),
    }
}

impl SignedPayment {
    /// No payment yet.
    pub const EMPTY: SignedPayment = SignedPayment::Empty(SignedPaymentEmpty {});

    /// A payment whose message body has this BOC.
    pub fn signed(boc: Vec<u8>) -> Self {
        Self::Signed(SignedPaymentData { data: boc })
    }

    /// The BOC of the message body, if there is one.
    pub fn boc(&self) -> Option<&[u8]> {
        match self {
            Self::Signed(payment) => Some(&payment.data),
            Self::Empty(_) => None,
        }
    }
}

cocoon_tl::tl_union! {
    /// Everything that a proxy sends to a worker as a packet.
    pub enum PacketToWorker {
        /// Request, version 0.
        RunQuery(RunQuery),
        /// Request.
        RunQueryEx(RunQueryEx),
        /// Cancellation, version 3.
        CancelQuery(CancelQuery),
        /// Payment for a request.
        WorkerRequestPayment(WorkerRequestPayment),
        /// A signed payment alone.
        SignedPayment(SignedPaymentData),
        /// No signed payment.
        SignedPaymentEmpty(SignedPaymentEmpty),
    }
}
