//! Messages between client and proxy (`spec/protocol.md`, section 3).

use cocoon_tl::Flags;

use super::common::{TokensUsed, VersionRange};
use super::market::{GetWorkerTypesV3, RunQueryRouted};
use super::proxy;
use super::proxy::{ClientRequestPayment, SignedPayment, SignedPaymentData, SignedPaymentEmpty};

cocoon_tl::tl_objects! {
    /// Who a client is and what it speaks.
    "client.params#40fdca64 flags:# client_owner_address:string is_test:flags.0?Bool min_proto_version:flags.1?int max_proto_version:flags.1?int = client.Params",
    pub struct Params {
        /// Flag bits without a field.
        flags: Flags,
        /// Wallet of the client, user-friendly form.
        client_owner_address: String,
        /// Fake-TON mode; both sides must agree.
        is_test(flags.0): bool,
        /// Protocol versions; absent means version 0.
        versions(flags.1): VersionRange,
    }

    /// The client is known: prove the secret whose hash is on chain.
    #[derive(Copy, Eq)]
    "client.proxyConnectionAuthShort secret_hash:int256 nonce:long = client.ProxyConnectionAuth",
    pub struct ProxyConnectionAuthShort {
        /// SHA-256 of the secret, as on chain.
        secret_hash: [u8; 32],
        /// To be registered on chain.
        nonce: i64,
    }

    /// The client is unknown: register the nonce on chain.
    #[derive(Copy, Eq)]
    "client.proxyConnectionAuthLong nonce:long = client.ProxyConnectionAuth",
    pub struct ProxyConnectionAuthLong {
        /// To be registered on chain.
        nonce: i64,
    }

    /// The client is authorised.
    ///
    /// P → C, query answer.
    "client.authorizationWithProxySuccess signed_payment:proxy.SignedPayment tokens_committed_to_db:long max_tokens:long = client.AuthorizationWithProxy",
    pub struct AuthorizationWithProxySuccess {
        /// The newest signed payment, if any.
        signed_payment: SignedPayment,
        /// Tokens that the sender has saved.
        tokens_committed_to_db: i64,
        /// All tokens so far, saved or not.
        max_tokens: i64,
    }

    /// The client is refused. Never sent by the reference.
    ///
    /// P → C, query answer; never sent by the reference, must be accepted.
    "client.authorizationWithProxyFailed error_code:int error:string = client.AuthorizationWithProxy",
    pub struct AuthorizationWithProxyFailed {
        /// See [`codes`](crate::codes).
        error_code: i32,
        /// For a human.
        error: String,
    }

    /// Who the proxy is, and how the client shall prove itself.
    ///
    /// P → C, query answer.
    "client.connectedToProxy params:proxy.params client_sc_address:string auth:client.ProxyConnectionAuth signed_payment:proxy.SignedPayment = client.ConnectedToProxy",
    pub struct ConnectedToProxy {
        /// The proxy.
        params: proxy::Params,
        /// Contract of the client at this proxy.
        client_sc_address: String,
        /// How to authorise.
        auth: ProxyConnectionAuth,
        /// The newest signed payment, if any.
        signed_payment: SignedPayment,
    }

    /// First answer to a request, version 0.
    ///
    /// P → C, packet, version 0.
    "client.queryAnswer answer:bytes is_completed:Bool request_id:int256 request_tokens_used:tokensUsed = client.QueryAnswer",
    pub struct QueryAnswer {
        /// A boxed `http.response`.
        @hidden answer: Vec<u8>,
        /// Whether this is the last message of the request.
        is_completed: bool,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Usage; meaningful in the last message.
        request_tokens_used: TokensUsed,
    }

    /// A request failed before its head. Understood in every version.
    ///
    /// P → C, packet, version 0, and every failure raised by the proxy itself in any version.
    "client.queryAnswerError error_code:int error:string request_id:int256 request_tokens_used:tokensUsed = client.QueryAnswer",
    pub struct QueryAnswerError {
        /// See [`codes`](crate::codes).
        error_code: i32,
        /// For a human.
        error: String,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Usage; meaningful in the last message.
        request_tokens_used: TokensUsed,
    }

    /// A further piece of an answer, version 0.
    ///
    /// P → C, packet, version 0.
    "client.queryAnswerPart answer:bytes is_completed:Bool request_id:int256 request_tokens_used:tokensUsed = client.QueryAnswerPart",
    pub struct QueryAnswerPart {
        /// Body bytes.
        @hidden answer: Vec<u8>,
        /// Whether this is the last message of the request.
        is_completed: bool,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Usage; meaningful in the last message.
        request_tokens_used: TokensUsed,
    }

    /// A request failed after its head. Understood in every version.
    ///
    /// P → C, packet, version 0, and every failure raised by the proxy itself in any version.
    "client.queryAnswerPartError error_code:int error:string request_id:int256 request_tokens_used:tokensUsed = client.QueryAnswerPart",
    pub struct QueryAnswerPartError {
        /// See [`codes`](crate::codes).
        error_code: i32,
        /// For a human.
        error: String,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// Usage; meaningful in the last message.
        request_tokens_used: TokensUsed,
    }

    /// What a request used, when, and debug texts: with the last message of a request.
    "client.queryFinalInfo flags:# tokens_used:tokensUsed worker_debug:flags.0?string proxy_debug:flags.0?string proxy_start_time:flags.1?double proxy_end_time:flags.1?double worker_start_time:flags.1?double worker_end_time:flags.1?double = client.QueryFinalInfo",
    pub struct QueryFinalInfo {
        /// Flag bits without a field.
        flags: Flags,
        /// Usage.
        tokens_used: TokensUsed,
        /// Debug texts, when asked for.
        debug(flags.0): DebugTexts,
        /// Times, from version 2.
        times(flags.1): QueryTimes,
    }

    /// First answer to a request: a boxed `http.response` with the head and perhaps a piece of body.
    ///
    /// P → C, packet, version at least 1.
    "client.queryAnswerEx request_id:int256 answer:bytes flags:# final_info:flags.0?client.queryFinalInfo = client.QueryAnswerEx",
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

    /// The request failed. Always send `final_info`: the reference reads it unasked.
    ///
    /// P → C, packet, version at least 1.
    "client.queryAnswerErrorEx request_id:int256 error_code:int error:string flags:# final_info:flags.0?client.queryFinalInfo = client.QueryAnswerEx",
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
    /// P → C, packet, version at least 1.
    "client.queryAnswerPartEx request_id:int256 answer:bytes flags:# final_info:flags.0?client.queryFinalInfo = client.QueryAnswerEx",
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

    /// A signed refund. Not implemented by the reference.
    ///
    /// P → C, defined, not implemented.
    "client.refund data:bytes = client.Refund",
    pub struct Refund {
        /// Not specified.
        data: Vec<u8>,
    }

    /// No refund while queries run. Not implemented by the reference.
    ///
    /// P → C, defined, not implemented.
    "client.refundRejected active_queries:long = client.Refund",
    pub struct RefundRejected {
        /// How many queries run.
        active_queries: i64,
    }

    /// The workers of one model, version 0.
    "client.workerType name:string active_workers:int coefficient_min:int coefficient_bucket50:int coefficient_max:int = client.WorkerType",
    pub struct WorkerType {
        /// Base name of the model.
        name: String,
        /// Connections that serve it.
        active_workers: i32,
        /// Lowest price factor.
        coefficient_min: i32,
        /// Median price factor.
        coefficient_bucket50: i32,
        /// Highest price factor.
        coefficient_max: i32,
    }

    /// All models, version 0.
    ///
    /// P → C, query answer, version 0.
    "client.workerTypes types:vector client.workerType = client.WorkerTypes",
    pub struct WorkerTypes {
        /// One element a model.
        types: Vec<WorkerType>,
    }

    /// One worker as a client may know it.
    "client.workerInstanceV2#3ea93d00 flags:# coefficient:int active_requests:int max_active_requests:int = client.WorkerInstanceV2",
    pub struct WorkerInstanceV2 {
        /// Flag bits without a field.
        flags: Flags,
        /// Price factor in thousandths.
        coefficient: i32,
        /// Requests that run now.
        active_requests: i32,
        /// Requests that may run at once.
        max_active_requests: i32,
    }

    /// The enabled workers of one model, cheapest first.
    "client.workerTypeV2 name:string workers:vector client.workerInstanceV2 = client.WorkerTypeV2",
    pub struct WorkerTypeV2 {
        /// Base name of the model.
        name: String,
        /// Enabled workers.
        workers: Vec<WorkerInstanceV2>,
    }

    /// All models with their workers.
    ///
    /// P → C, query answer, version at least 1.
    "client.workerTypesV2 types:vector client.workerTypeV2 = client.WorkerTypesV2",
    pub struct WorkerTypesV2 {
        /// One element a model.
        types: Vec<WorkerTypeV2>,
    }

    /// The state of the payments of a client.
    ///
    /// P → C, query answer.
    "client.paymentStatus signed_payment:proxy.SignedPayment db_tokens:long max_tokens:long = client.PaymentStatus",
    pub struct PaymentStatus {
        /// The newest signed payment, if any.
        signed_payment: SignedPayment,
        /// Tokens that the proxy has saved.
        db_tokens: i64,
        /// All tokens so far, saved or not.
        max_tokens: i64,
    }

    /// Opens the application session of a client.
    ///
    /// C → P, query.
    "client.connectToProxy params:client.params min_config_version:int = client.ConnectedToProxy",
    pub struct ConnectToProxy {
        /// The client.
        params: Params,
        /// The version of the root config that the asker holds.
        min_config_version: i32,
    }

    /// Proves a known client by its secret.
    ///
    /// C → P, query.
    "client.authorizeWithProxyShort data:bytes = client.AuthorizationWithProxy",
    pub struct AuthorizeWithProxyShort {
        /// The secret itself.
        @hidden data: Vec<u8>,
    }

    /// Waits until the nonce is registered on chain.
    ///
    /// C → P, query.
    #[derive(Copy, Eq, Default)]
    "client.authorizeWithProxyLong = client.AuthorizationWithProxy",
    pub struct AuthorizeWithProxyLong {}

    /// Asks for an HTTP request to be run, version 0.
    ///
    /// C → P, packet, version 0 (despite being a function).
    "client.runQuery model_name:string query:bytes max_coefficient:int max_tokens:int timeout:double request_id:int256 min_config_version:int = client.QueryAnswer",
    pub struct RunQuery {
        /// Base name of the model.
        model_name: String,
        /// A boxed `http.request`.
        @hidden query: Vec<u8>,
        /// Highest acceptable price factor in thousandths.
        max_coefficient: i32,
        /// Output budget in model tokens.
        max_tokens: i32,
        /// Seconds.
        timeout: f64,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// The version of the root config that the asker holds.
        min_config_version: i32,
    }

    /// Asks for an HTTP request to be run.
    ///
    /// C → P, packet, version at least 1 (despite being a function).
    "client.runQueryEx model_name:string query:bytes max_coefficient:int max_tokens:int timeout:double request_id:int256 min_config_version:int flags:# enable_debug:flags.0?Bool = client.QueryAnswerEx",
    pub struct RunQueryEx {
        /// Base name of the model.
        model_name: String,
        /// A boxed `http.request`.
        @hidden query: Vec<u8>,
        /// Highest acceptable price factor in thousandths.
        max_coefficient: i32,
        /// Output budget in model tokens.
        max_tokens: i32,
        /// Seconds.
        timeout: f64,
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
        /// The version of the root config that the asker holds.
        min_config_version: i32,
        /// Flag bits without a field.
        flags: Flags,
        /// Whether debug texts are wanted.
        enable_debug(flags.0): bool,
    }

    /// Asks for a refund. Not implemented by the reference.
    ///
    /// C → P, defined, not implemented.
    #[derive(Copy, Eq, Default)]
    "client.requestRefund = client.Refund",
    pub struct RequestRefund {}

    /// Asks for the newest signed payment.
    ///
    /// C → P, query.
    #[derive(Copy, Eq, Default)]
    "client.updatePaymentStatus = client.PaymentStatus",
    pub struct UpdatePaymentStatus {}

    /// Asks for the models, version 0.
    ///
    /// C → P, query, version 0.
    #[derive(Copy, Eq, Default)]
    "client.getWorkerTypes = client.WorkerTypes",
    pub struct GetWorkerTypes {}

    /// Asks for the models and their workers.
    ///
    /// C → P, query, version at least 1.
    #[derive(Copy, Eq, Default)]
    "client.getWorkerTypesV2 = client.WorkerTypesV2",
    pub struct GetWorkerTypesV2 {}

    /// The client no longer wants the answer: an extension of ours.
    ///
    /// C → P, packet, version at least 3.
    "client.cancelQuery request_id:int256 = client.CancelQuery",
    pub struct CancelQuery {
        /// 32 random bytes of the side that asks, valid on this leg only.
        request_id: [u8; 32],
    }

    /// Debug texts of both hops.
    #[derive(Eq)]
    pub struct DebugTexts {
        /// JSON of the worker.
        worker_debug: String,
        /// JSON of the proxy.
        proxy_debug: String,
    }

    /// Unix times in seconds of both hops; 0.0 where a hop did not tell.
    #[derive(Copy)]
    pub struct QueryTimes {
        /// When the proxy accepted the request.
        proxy_start_time: f64,
        /// When the proxy wrote this.
        proxy_end_time: f64,
        /// When the worker accepted the request.
        worker_start_time: f64,
        /// When the worker wrote this.
        worker_end_time: f64,
    }
}

cocoon_tl::tl_union! {
    /// How a client shall prove itself: TL type `client.ProxyConnectionAuth`.
    #[derive(Eq)]
    pub enum ProxyConnectionAuth {
        /// With its secret.
        Short(ProxyConnectionAuthShort),
        /// With a registration on chain.
        Long(ProxyConnectionAuthLong),
    }
}

cocoon_tl::tl_union! {
    /// The result of authorisation: TL type `client.AuthorizationWithProxy`.
    pub enum AuthorizationWithProxy {
        /// Authorised.
        Success(AuthorizationWithProxySuccess),
        /// Refused.
        Failed(AuthorizationWithProxyFailed),
    }
}

cocoon_tl::tl_union! {
    /// Everything that a client sends as a query.
    pub enum ClientQuery {
        /// Handshake.
        ConnectToProxy(ConnectToProxy),
        /// Authorisation by secret.
        AuthorizeWithProxyShort(AuthorizeWithProxyShort),
        /// Authorisation by registration.
        AuthorizeWithProxyLong(AuthorizeWithProxyLong),
        /// Payment status.
        UpdatePaymentStatus(UpdatePaymentStatus),
        /// Models, version 0.
        GetWorkerTypes(GetWorkerTypes),
        /// Models.
        GetWorkerTypesV2(GetWorkerTypesV2),
        /// Models, version 3.
        GetWorkerTypesV3(GetWorkerTypesV3),
        /// Refund.
        RequestRefund(RequestRefund),
    }
}

cocoon_tl::tl_union! {
    /// Everything that a client sends as a packet.
    pub enum ClientPacket {
        /// Request, version 0.
        RunQuery(RunQuery),
        /// Request.
        RunQueryEx(RunQueryEx),
        /// Request with wishes about the worker, version 3.
        RunQueryRouted(RunQueryRouted),
        /// Cancellation, version 3.
        CancelQuery(CancelQuery),
    }
}

cocoon_tl::tl_union! {
    /// Everything that a proxy sends to a client as a packet. A client understands both families of answers
    /// whatever the version (`spec/protocol.md`, appendix A).
    pub enum PacketToClient {
        /// Head, version 0.
        QueryAnswer(QueryAnswer),
        /// Failure before the head.
        QueryAnswerError(QueryAnswerError),
        /// Body, version 0.
        QueryAnswerPart(QueryAnswerPart),
        /// Failure after the head.
        QueryAnswerPartError(QueryAnswerPartError),
        /// Head.
        QueryAnswerEx(QueryAnswerEx),
        /// Failure.
        QueryAnswerErrorEx(QueryAnswerErrorEx),
        /// Body.
        QueryAnswerPartEx(QueryAnswerPartEx),
        /// Payment for a request.
        ClientRequestPayment(ClientRequestPayment),
        /// A signed payment alone.
        SignedPayment(SignedPaymentData),
        /// No signed payment.
        SignedPaymentEmpty(SignedPaymentEmpty),
    }
}
