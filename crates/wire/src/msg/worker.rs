//! Messages between worker and proxy (`spec/protocol.md`, section 4).

use cocoon_tl::Flags;

use super::common::VersionRange;
use super::proxy;
use super::proxy::{
    QueryAnswer, QueryAnswerError, QueryAnswerErrorEx, QueryAnswerEx, QueryAnswerPart,
    QueryAnswerPartError, QueryAnswerPartEx, SignedPayment,
};

cocoon_tl::tl_objects! {
    /// Who a worker is, what it serves and what it speaks.
    "worker.params#869c73ed flags:# worker_owner_address:string model:string coefficient:int is_test:flags.0?Bool proxy_cnt:flags.0?int max_active_requests:flags.0?int min_proto_version:flags.1?int max_proto_version:flags.1?int = worker.Params",
    pub struct Params {
        /// Flag bits without a field.
        flags: Flags,
        /// Wallet of the worker, user-friendly form.
        worker_owner_address: String,
        /// `name@commit:hash` of the model.
        model: String,
        /// Price factor in thousandths.
        coefficient: i32,
        /// Test mode and capacity; a proxy refuses workers without it.
        setup(flags.0): WorkerSetup,
        /// Protocol versions; absent means version 0.
        versions(flags.1): VersionRange,
    }

    /// The worker opens or closes for requests.
    ///
    /// W → P, packet.
    "worker.enabledDisabled disabled:int = worker.EnabledDisabled",
    pub struct EnabledDisabled {
        /// 0 enabled, 1 disabled.
        disabled: i32,
    }

    /// The worker changes its price.
    ///
    /// W → P, packet.
    "worker.newCoefficient new_coefficient:int = worker.NewCoefficient",
    pub struct NewCoefficient {
        /// Price factor in thousandths.
        new_coefficient: i32,
    }

    /// Who the proxy is.
    ///
    /// P → W, query answer.
    "worker.connectedToProxy params:proxy.params worker_sc_address:string = worker.ConnectedToProxy",
    pub struct ConnectedToProxy {
        /// The proxy.
        params: proxy::Params,
        /// Contract of the worker at this proxy.
        worker_sc_address: String,
    }

    /// How the books of the proxy compare with those of the worker.
    ///
    /// P → W, query answer.
    "worker.compareBalanceWithProxyResult signed_payment:proxy.SignedPayment tokens_committed_to_db:long max_tokens:long error_code:int = worker.CompareBalanceWithProxyResult",
    pub struct CompareBalanceWithProxyResult {
        /// The newest signed payment, if any.
        signed_payment: SignedPayment,
        /// Tokens that the sender has saved.
        tokens_committed_to_db: i64,
        /// All tokens so far, saved or not.
        max_tokens: i64,
        /// 0 when the books agree.
        error_code: i32,
    }

    /// The result of the extended comparison.
    ///
    /// P → W, query answer.
    "worker.extendedCompareBalanceWithProxyResult error_code:int = worker.ExtendedCompareBalanceWithProxyResult",
    pub struct ExtendedCompareBalanceWithProxyResult {
        /// 0 when the proxy accepts.
        error_code: i32,
    }

    /// The worker is in service.
    ///
    /// P → W, query answer.
    #[derive(Copy, Eq, Default)]
    "worker.proxyHandshakeCompleted = worker.HandshakeCompleted",
    pub struct ProxyHandshakeCompleted {}

    /// The state of the payments to a worker.
    ///
    /// P → W, query answer.
    "worker.paymentStatus signed_payment:proxy.SignedPayment db_tokens:long max_tokens:long = worker.PaymentStatus",
    pub struct PaymentStatus {
        /// The newest signed payment, if any.
        signed_payment: SignedPayment,
        /// Tokens that the proxy has saved.
        db_tokens: i64,
        /// All tokens so far, saved or not.
        max_tokens: i64,
    }

    /// Opens the application session of a worker.
    ///
    /// W → P, query.
    "worker.connectToProxy params:worker.params = worker.ConnectedToProxy",
    pub struct ConnectToProxy {
        /// The worker.
        params: Params,
    }

    /// Compares what both sides know of the earnings, to detect a rollback.
    ///
    /// W → P, query.
    "worker.compareBalanceWithProxy tokens_committed_to_blockchain:long tokens_committed_to_db:long max_tokens:long = worker.CompareBalanceWithProxyResult",
    pub struct CompareBalanceWithProxy {
        /// Tokens that the contract has seen.
        tokens_committed_to_blockchain: i64,
        /// Tokens that the sender has saved.
        tokens_committed_to_db: i64,
        /// All tokens so far, saved or not.
        max_tokens: i64,
    }

    /// The comparison with evidence.
    ///
    /// W → P, query.
    "worker.extendedCompareBalanceWithProxy tokens_committed_to_db:long other:bytes = worker.ExtendedCompareBalanceWithProxyResult",
    pub struct ExtendedCompareBalanceWithProxy {
        /// Tokens that the sender has saved.
        tokens_committed_to_db: i64,
        /// Evidence; not specified.
        other: Vec<u8>,
    }

    /// The worker is satisfied; ends the handshake.
    ///
    /// W → P, query.
    "worker.proxyHandshakeComplete is_disabled:Bool = worker.HandshakeCompleted",
    pub struct ProxyHandshakeComplete {
        /// Whether the worker starts disabled.
        is_disabled: bool,
    }

    /// Asks for the newest signed payment.
    ///
    /// W → P, query.
    #[derive(Copy, Eq, Default)]
    "worker.updatePaymentStatus = worker.PaymentStatus",
    pub struct UpdatePaymentStatus {}

    /// Test mode and capacity of a worker.
    #[derive(Copy, Eq)]
    pub struct WorkerSetup {
        /// Fake-TON mode; both sides must agree.
        is_test: bool,
        /// How many proxies the worker serves.
        proxy_cnt: i32,
        /// Requests that may run at once.
        max_active_requests: i32,
    }
}

cocoon_tl::tl_union! {
    /// Everything that a worker sends as a query.
    pub enum WorkerQuery {
        /// Handshake, first step.
        ConnectToProxy(ConnectToProxy),
        /// Handshake, comparison of the books.
        CompareBalanceWithProxy(CompareBalanceWithProxy),
        /// Handshake, comparison with evidence.
        ExtendedCompareBalanceWithProxy(ExtendedCompareBalanceWithProxy),
        /// Handshake, last step.
        ProxyHandshakeComplete(ProxyHandshakeComplete),
        /// Payment status.
        UpdatePaymentStatus(UpdatePaymentStatus),
    }
}

cocoon_tl::tl_union! {
    /// Everything that a worker sends as a packet.
    pub enum WorkerPacket {
        /// Head, version 0.
        QueryAnswer(QueryAnswer),
        /// Failure before the head, version 0.
        QueryAnswerError(QueryAnswerError),
        /// Body, version 0.
        QueryAnswerPart(QueryAnswerPart),
        /// Failure after the head, version 0.
        QueryAnswerPartError(QueryAnswerPartError),
        /// Head.
        QueryAnswerEx(QueryAnswerEx),
        /// Failure.
        QueryAnswerErrorEx(QueryAnswerErrorEx),
        /// Body.
        QueryAnswerPartEx(QueryAnswerPartEx),
        /// Opens or closes for requests.
        EnabledDisabled(EnabledDisabled),
        /// New price.
        NewCoefficient(NewCoefficient),
    }
}
