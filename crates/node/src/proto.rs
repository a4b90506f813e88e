//! The messages of both legs in one shape, whatever the protocol version (protocol.md 3.4).
//!
//! The legs client–proxy and proxy–worker carry the same things under different constructors, and versions 0 and
//! 1–2 spell them differently again. The cores think in [`RunQuery`], [`Answer`] and [`FinalInfo`].

use std::collections::BTreeMap;

use cocoon_ledger::TokensUsed;
use cocoon_tl::{Flags, from_boxed, to_boxed};
use cocoon_wire::msg::{client, common, http, proxy, worker};

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

/// `client.connectedToProxy`.
pub fn client_connected(
    params: &ProxyParams,
    sc: &str,
    auth: client::ProxyConnectionAuth,
    payment: Option<Vec<u8>>,
) -> Vec<u8> {
    to_boxed(&client::ConnectedToProxy {
        params: params.to_wire(),
        client_sc_address: sc.to_owned(),
        auth,
        signed_payment: signed(payment),
    })
}

/// `client.authorizationWithProxySuccess`.
pub fn client_authorized(s: &PaymentStatus) -> Vec<u8> {
    to_boxed(&client::AuthorizationWithProxySuccess {
        signed_payment: s.signed(),
        tokens_committed_to_db: wire(s.db_tokens),
        max_tokens: wire(s.max_tokens),
    })
}

/// `client.paymentStatus`.
pub fn client_payment_status(s: &PaymentStatus) -> Vec<u8> {
    to_boxed(&client::PaymentStatus {
        signed_payment: s.signed(),
        db_tokens: wire(s.db_tokens),
        max_tokens: wire(s.max_tokens),
    })
}

/// `proxy.clientRequestPayment`.
pub fn client_request_payment(rid: [u8; 32], s: &PaymentStatus, used: u64) -> Vec<u8> {
    to_boxed(&proxy::ClientRequestPayment {
        request_id: rid,
        signed_payment: s.signed(),
        db_tokens: wire(s.db_tokens),
        max_tokens: wire(s.max_tokens),
        request_tokens: wire(used),
    })
}

/// `worker.connectedToProxy`.
pub fn worker_connected(params: &ProxyParams, sc: &str) -> Vec<u8> {
    to_boxed(&worker::ConnectedToProxy {
        params: params.to_wire(),
        worker_sc_address: sc.to_owned(),
    })
}

/// `worker.compareBalanceWithProxyResult`.
pub fn worker_compare_result(s: &PaymentStatus, error_code: i32) -> Vec<u8> {
    to_boxed(&worker::CompareBalanceWithProxyResult {
        signed_payment: s.signed(),
        tokens_committed_to_db: wire(s.db_tokens),
        max_tokens: wire(s.max_tokens),
        error_code,
    })
}

/// `worker.paymentStatus`.
pub fn worker_payment_status(s: &PaymentStatus) -> Vec<u8> {
    to_boxed(&worker::PaymentStatus {
        signed_payment: s.signed(),
        db_tokens: wire(s.db_tokens),
        max_tokens: wire(s.max_tokens),
    })
}

/// `proxy.workerRequestPayment`.
pub fn worker_request_payment(
    rid: [u8; 32],
    s: &PaymentStatus,
    used: u64,
    client_owner: &str,
) -> Vec<u8> {
    to_boxed(&proxy::WorkerRequestPayment {
        request_id: rid,
        signed_payment: s.signed(),
        db_tokens: wire(s.db_tokens),
        max_tokens: wire(s.max_tokens),
        request_tokens: wire(used),
        request_client_owner: client_owner.to_owned(),
    })
}

// ---- worker lists ---------------------------------------------------------------------------------

/// One connection of a worker, as the lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInstance {
    /// Price factor, thousandths.
    pub coefficient: u32,
    /// Running requests.
    pub active_requests: u32,
    /// Its limit at this proxy.
    pub max_active_requests: u32,
    /// Taking requests now.
    pub enabled: bool,
}

/// Connections by base model name, cheapest first.
pub type WorkerTypes = BTreeMap<String, Vec<WorkerInstance>>;

fn small(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// `client.workerTypes`, with the sentinel that the reference mixes into its statistics (3.10).
pub fn worker_types_v0(list: &WorkerTypes) -> Vec<u8> {
    let types = list
        .iter()
        .map(|(name, workers)| {
            let mut c: Vec<i32> = workers.iter().map(|w| small(w.coefficient)).collect();
            c.push(i32::MAX);
            c.sort_unstable();
            client::WorkerType {
                name: name.clone(),
                active_workers: i32::try_from(workers.len()).unwrap_or(i32::MAX),
                coefficient_min: c[0],
                coefficient_bucket50: c[c.len() / 2],
                coefficient_max: i32::MAX,
            }
        })
        .collect();
    to_boxed(&client::WorkerTypes { types })
}

/// `client.workerTypesV2`: enabled connections only.
pub fn worker_types_v2(list: &WorkerTypes) -> Vec<u8> {
    let types = list
        .iter()
        .map(|(name, workers)| client::WorkerTypeV2 {
            name: name.clone(),
            workers: workers
                .iter()
                .filter(|w| w.enabled)
                .map(|w| client::WorkerInstanceV2 {
                    flags: Flags::NONE,
                    coefficient: small(w.coefficient),
                    active_requests: small(w.active_requests),
                    max_active_requests: small(w.max_active_requests),
                })
                .collect(),
        })
        .collect();
    to_boxed(&client::WorkerTypesV2 { types })
}

// ---- running a query ------------------------------------------------------------------------------

/// A request of a client, whatever its version.
#[derive(Clone)]
pub struct RunQuery {
    /// Base model name.
    pub model: String,
    /// Boxed `http.request`.
    pub query: Vec<u8>,
    /// Highest acceptable coefficient, as it came.
    pub max_coefficient: i32,
    /// Output budget, as it came.
    pub max_tokens: i32,
    /// Seconds.
    pub timeout: f64,
    /// Id on this leg.
    pub request_id: [u8; 32],
    /// Root version the client knows.
    pub min_config_version: i32,
    /// Debug data wanted.
    pub enable_debug: bool,
}

/// A one-way message of a client.
pub enum ClientPacket {
    /// Run something.
    Run(RunQuery),
    /// The caller left (version 3).
    Cancel([u8; 32]),
}

/// Reads a client's packet; `Ok(None)` for constructors that clients do not send, which are ignored (1.5).
pub fn parse_client_packet(data: &[u8]) -> Result<Option<ClientPacket>, String> {
    match from_boxed::<client::ClientPacket>(data) {
        Ok(client::ClientPacket::RunQuery(q)) => Ok(Some(ClientPacket::Run(RunQuery {
            model: q.model_name,
            query: q.query,
            max_coefficient: q.max_coefficient,
            max_tokens: q.max_tokens,
            timeout: q.timeout,
            request_id: q.request_id,
            min_config_version: q.min_config_version,
            enable_debug: false,
        }))),
        Ok(client::ClientPacket::RunQueryEx(q)) => Ok(Some(ClientPacket::Run(RunQuery {
            model: q.model_name,
            query: q.query,
            max_coefficient: q.max_coefficient,
            max_tokens: q.max_tokens,
            timeout: q.timeout,
            request_id: q.request_id,
            min_config_version: q.min_config_version,
            enable_debug: q.enable_debug.unwrap_or(false),
        }))),
        Ok(client::ClientPacket::CancelQuery(q)) => Ok(Some(ClientPacket::Cancel(q.request_id))),
        Err(cocoon_tl::TlError::UnknownConstructor { .. }) => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

/// The client's side of [`parse_client_packet`].
pub fn client_run_query(version: i32, q: RunQuery) -> Vec<u8> {
    if version == 0 {
        return to_boxed(&client::RunQuery {
            model_name: q.model,
            query: q.query,
            max_coefficient: q.max_coefficient,
            max_tokens: q.max_tokens,
            timeout: q.timeout,
            request_id: q.request_id,
            min_config_version: q.min_config_version,
        });
    }
    to_boxed(&client::RunQueryEx {
        model_name: q.model,
        query: q.query,
        max_coefficient: q.max_coefficient,
        max_tokens: q.max_tokens,
        timeout: q.timeout,
        request_id: q.request_id,
        min_config_version: q.min_config_version,
        flags: Flags::NONE,
        enable_debug: Some(q.enable_debug),
    })
}

/// A request as a worker gets it.
#[derive(Clone)]
pub struct WorkerQuery {
    /// Boxed `http.request`.
    pub query: Vec<u8>,
    /// BOC of the newest payment the proxy holds.
    pub signed_payment: Option<Vec<u8>>,
    /// Coefficient to bill with.
    pub coefficient: i64,
    /// Seconds.
    pub timeout: f64,
    /// Id on this leg.
    pub request_id: [u8; 32],
    /// Debug data wanted.
    pub enable_debug: bool,
}

/// `proxy.runQuery` or `proxy.runQueryEx`.
pub fn proxy_run_query(version: i32, q: WorkerQuery) -> Vec<u8> {
    if version == 0 {
        return to_boxed(&proxy::RunQuery {
            query: q.query,
            signed_payment: signed(q.signed_payment),
            coefficient: q.coefficient,
            timeout: q.timeout,
            request_id: q.request_id,
        });
    }
    to_boxed(&proxy::RunQueryEx {
        query: q.query,
        signed_payment: signed(q.signed_payment),
        coefficient: q.coefficient,
        timeout: q.timeout,
        request_id: q.request_id,
        flags: Flags::NONE,
        enable_debug: Some(q.enable_debug),
    })
}

/// `proxy.cancelQuery` of version 3.
pub fn proxy_cancel(rid: [u8; 32]) -> Vec<u8> {
    to_boxed(&proxy::CancelQuery { request_id: rid })
}

/// `client.cancelQuery` of version 3.
pub fn client_cancel(rid: [u8; 32]) -> Vec<u8> {
    to_boxed(&client::CancelQuery { request_id: rid })
}

// ---- answers --------------------------------------------------------------------------------------

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

/// An answer on the leg proxy–client.
pub fn client_answer(version: i32, a: Answer) -> Vec<u8> {
    let Answer {
        request_id,
        kind,
        fin,
    } = a;
    if version == 0 {
        let is_completed = fin.is_some();
        let request_tokens_used = tokens_to_wire(&fin.unwrap_or_default().tokens);
        return match kind {
            AnswerKind::Head(answer) => to_boxed(&client::QueryAnswer {
                answer,
                is_completed,
                request_id,
                request_tokens_used,
            }),
            AnswerKind::Part(answer) => to_boxed(&client::QueryAnswerPart {
                answer,
                is_completed,
                request_id,
                request_tokens_used,
            }),
            AnswerKind::Error {
                code,
                text,
                after_head: false,
            } => to_boxed(&client::QueryAnswerError {
                error_code: code,
                error: text,
                request_id,
                request_tokens_used,
            }),
            AnswerKind::Error {
                code,
                text,
                after_head: true,
            } => to_boxed(&client::QueryAnswerPartError {
                error_code: code,
                error: text,
                request_id,
                request_tokens_used,
            }),
        };
    }
    let info = |f: FinalInfo| client::QueryFinalInfo {
        flags: Flags::NONE,
        tokens_used: tokens_to_wire(&f.tokens),
        debug: (f.worker_debug.is_some() || f.proxy_debug.is_some()).then(|| client::DebugTexts {
            worker_debug: f.worker_debug.unwrap_or_default(),
            proxy_debug: f.proxy_debug.unwrap_or_default(),
        }),
        times: (version >= 2).then_some(client::QueryTimes {
            proxy_start_time: f.proxy_start,
            proxy_end_time: f.proxy_end,
            worker_start_time: f.worker_start,
            worker_end_time: f.worker_end,
        }),
    };
    match kind {
        AnswerKind::Head(answer) => to_boxed(&client::QueryAnswerEx {
            request_id,
            answer,
            flags: Flags::NONE,
            final_info: fin.map(info),
        }),
        AnswerKind::Part(answer) => to_boxed(&client::QueryAnswerPartEx {
            request_id,
            answer,
            flags: Flags::NONE,
            final_info: fin.map(info),
        }),
        // The reference reads final_info of an error unasked, so it is always there.
        AnswerKind::Error { code, text, .. } => to_boxed(&client::QueryAnswerErrorEx {
            request_id,
            error_code: code,
            error: text,
            flags: Flags::NONE,
            final_info: Some(info(fin.unwrap_or_default())),
        }),
    }
}

/// Something a proxy sent to a client.
pub enum FromProxy {
    /// Part of an answer.
    Answer(Answer),
    /// A payment: BOC, saved and running total.
    Payment(PaymentStatus),
}

/// Reads a packet of a proxy at the client; both families of answers in every version (appendix A).
pub fn parse_packet_to_client(data: &[u8]) -> Result<Option<FromProxy>, String> {
    use client::PacketToClient as P;
    let fin = |f: client::QueryFinalInfo| {
        let (worker_debug, proxy_debug) = f.debug.map_or((None, None), |d| {
            (Some(d.worker_debug), Some(d.proxy_debug))
        });
        let t = f.times.unwrap_or(client::QueryTimes {
            proxy_start_time: 0.0,
            proxy_end_time: 0.0,
            worker_start_time: 0.0,
            worker_end_time: 0.0,
        });
        FinalInfo {
            tokens: tokens_from_wire(f.tokens_used),
            worker_debug,
            proxy_debug,
            proxy_start: t.proxy_start_time,
            proxy_end: t.proxy_end_time,
            worker_start: t.worker_start_time,
            worker_end: t.worker_end_time,
        }
    };
    let answer = |request_id, kind, fin| {
        Ok(Some(FromProxy::Answer(Answer {
            request_id,
            kind,
            fin,
        })))
    };
    let done = |yes: bool, t| if yes { plain_fin(t) } else { None };
    let payment = |boc: Option<Vec<u8>>, db: i64, max: i64| {
        Ok(Some(FromProxy::Payment(PaymentStatus {
            signed_payment: boc,
            db_tokens: db.max(0) as u64,
            max_tokens: max.max(0) as u64,
        })))
    };
    match from_boxed::<P>(data) {
        Ok(P::QueryAnswer(m)) => answer(
            m.request_id,
            AnswerKind::Head(m.answer),
            done(m.is_completed, m.request_tokens_used),
        ),
        Ok(P::QueryAnswerPart(m)) => answer(
            m.request_id,
            AnswerKind::Part(m.answer),
            done(m.is_completed, m.request_tokens_used),
        ),
        Ok(P::QueryAnswerError(m)) => answer(
            m.request_id,
            AnswerKind::Error {
                code: m.error_code,
                text: m.error,
                after_head: false,
            },
            plain_fin(m.request_tokens_used),
        ),
        Ok(P::QueryAnswerPartError(m)) => answer(
            m.request_id,
            AnswerKind::Error {
                code: m.error_code,
                text: m.error,
                after_head: true,
            },
            plain_fin(m.request_tokens_used),
        ),
        Ok(P::QueryAnswerEx(m)) => answer(
            m.request_id,
            AnswerKind::Head(m.answer),
            m.final_info.map(fin),
        ),
        Ok(P::QueryAnswerPartEx(m)) => answer(
            m.request_id,
            AnswerKind::Part(m.answer),
            m.final_info.map(fin),
        ),
        Ok(P::QueryAnswerErrorEx(m)) => answer(
            m.request_id,
            AnswerKind::Error {
                code: m.error_code,
                text: m.error,
                after_head: false,
            },
            Some(m.final_info.map(fin).unwrap_or_default()),
        ),
        Ok(P::ClientRequestPayment(m)) => payment(
            m.signed_payment.boc().map(<[u8]>::to_vec),
            m.db_tokens,
            m.max_tokens,
        ),
        Ok(P::SignedPayment(m)) => payment(Some(m.data), 0, 0),
        Ok(P::SignedPaymentEmpty(_)) | Err(cocoon_tl::TlError::UnknownConstructor { .. }) => {
            Ok(None)
        }
        Err(e) => Err(e.to_string()),
    }
}

/// An answer on the leg worker–proxy.
pub fn worker_answer(version: i32, a: Answer) -> Vec<u8> {
    let Answer {
        request_id,
        kind,
        fin,
    } = a;
    if version == 0 {
        let is_completed = fin.is_some();
        let tokens_used = tokens_to_wire(&fin.unwrap_or_default().tokens);
        return match kind {
            AnswerKind::Head(answer) => to_boxed(&proxy::QueryAnswer {
                answer,
                is_completed,
                request_id,
                tokens_used,
            }),
            AnswerKind::Part(answer) => to_boxed(&proxy::QueryAnswerPart {
                answer,
                is_completed,
                request_id,
                tokens_used,
            }),
            AnswerKind::Error {
                code,
                text,
                after_head: false,
            } => to_boxed(&proxy::QueryAnswerError {
                error_code: code,
                error: text,
                request_id,
                tokens_used,
            }),
            AnswerKind::Error {
                code,
                text,
                after_head: true,
            } => to_boxed(&proxy::QueryAnswerPartError {
                error_code: code,
                error: text,
                request_id,
                tokens_used,
            }),
        };
    }
    let info = |f: FinalInfo| proxy::QueryFinalInfo {
        flags: Flags::NONE,
        tokens_used: tokens_to_wire(&f.tokens),
        worker_debug: f.worker_debug,
        times: (version >= 2).then_some(proxy::WorkerTimes {
            worker_start_time: f.worker_start,
            worker_end_time: f.worker_end,
        }),
    };
    match kind {
        AnswerKind::Head(answer) => to_boxed(&proxy::QueryAnswerEx {
            request_id,
            answer,
            flags: Flags::NONE,
            final_info: fin.map(info),
        }),
        AnswerKind::Part(answer) => to_boxed(&proxy::QueryAnswerPartEx {
            request_id,
            answer,
            flags: Flags::NONE,
            final_info: fin.map(info),
        }),
        AnswerKind::Error { code, text, .. } => to_boxed(&proxy::QueryAnswerErrorEx {
            request_id,
            error_code: code,
            error: text,
            flags: Flags::NONE,
            final_info: Some(info(fin.unwrap_or_default())),
        }),
    }
}

/// A packet of a worker.
pub enum FromWorker {
    /// Part of an answer.
    Answer(Answer),
    /// Takes requests, or not.
    Enabled(bool),
    /// New price factor.
    Coefficient(i32),
}

/// Reads a packet of a worker at the proxy.
pub fn parse_worker_packet(data: &[u8]) -> Result<Option<FromWorker>, String> {
    use worker::WorkerPacket as P;
    let fin = |f: proxy::QueryFinalInfo| FinalInfo {
        tokens: tokens_from_wire(f.tokens_used),
        worker_debug: f.worker_debug,
        worker_start: f.times.map_or(0.0, |t| t.worker_start_time),
        worker_end: f.times.map_or(0.0, |t| t.worker_end_time),
        ..Default::default()
    };
    let answer = |request_id, kind, fin| {
        Ok(Some(FromWorker::Answer(Answer {
            request_id,
            kind,
            fin,
        })))
    };
    let done = |yes: bool, t| if yes { plain_fin(t) } else { None };
    match from_boxed::<P>(data) {
        Ok(P::QueryAnswer(m)) => answer(
            m.request_id,
            AnswerKind::Head(m.answer),
            done(m.is_completed, m.tokens_used),
        ),
        Ok(P::QueryAnswerPart(m)) => answer(
            m.request_id,
            AnswerKind::Part(m.answer),
            done(m.is_completed, m.tokens_used),
        ),
        Ok(P::QueryAnswerError(m)) => answer(
            m.request_id,
            AnswerKind::Error {
                code: m.error_code,
                text: m.error,
                after_head: false,
            },
            plain_fin(m.tokens_used),
        ),
        Ok(P::QueryAnswerPartError(m)) => answer(
            m.request_id,
            AnswerKind::Error {
                code: m.error_code,
                text: m.error,
                after_head: true,
            },
            plain_fin(m.tokens_used),
        ),
        Ok(P::QueryAnswerEx(m)) => answer(
            m.request_id,
            AnswerKind::Head(m.answer),
            m.final_info.map(fin),
        ),
        Ok(P::QueryAnswerPartEx(m)) => answer(
            m.request_id,
            AnswerKind::Part(m.answer),
            m.final_info.map(fin),
        ),
        // A reference worker always sends it; without it nothing is claimed, which must not hurt us (11 #21).
        Ok(P::QueryAnswerErrorEx(m)) => answer(
            m.request_id,
            AnswerKind::Error {
                code: m.error_code,
                text: m.error,
                after_head: false,
            },
            Some(m.final_info.map(fin).unwrap_or_default()),
        ),
        Ok(P::EnabledDisabled(m)) => Ok(Some(FromWorker::Enabled(m.disabled == 0))),
        Ok(P::NewCoefficient(m)) => Ok(Some(FromWorker::Coefficient(m.new_coefficient))),
        Err(cocoon_tl::TlError::UnknownConstructor { .. }) => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

// ---- carried HTTP ---------------------------------------------------------------------------------

/// Whether `data` is an `http.request`; more is not the proxy's business (3.9).
pub fn check_http_request(data: &[u8]) -> Result<(), String> {
    from_boxed::<http::Request>(data)
        .map(|_| ())
        .map_err(|e| e.to_string())
}

/// A complete error response in the form the reference client survives (appendix A, proxy 5).
pub fn error_response(status: u16, body: &[u8]) -> Vec<u8> {
    let header = |name: &str, value: &str| http::Header {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    to_boxed(&http::Response {
        http_version: "HTTP/1.1".to_owned(),
        status_code: i32::from(status),
        reason: reason(status).to_owned(),
        headers: vec![
            header("Content-Type", "application/json"),
            header("Transfer-Encoding", "chunked"),
        ],
        payload: body.to_vec(),
    })
}

/// Adds the two times of a hop to a response head (6.5).
pub fn stamp_response(
    data: &[u8],
    start: (&str, f64),
    end: (&str, f64),
) -> Result<Vec<u8>, String> {
    let mut r: http::Response = from_boxed(data).map_err(|e| e.to_string())?;
    if !(100..=999).contains(&r.status_code) {
        return Err(format!("status {} is not an HTTP status", r.status_code));
    }
    for (name, at) in [start, end] {
        r.headers.push(http::Header {
            name: name.to_owned(),
            value: format!("{at:.6}"),
        });
    }
    Ok(to_boxed(&r))
}

/// The statistics text of 6.6.
pub fn debug_text(kind: &str, start_ms: u64, now_ms: u64) -> String {
    let s = |ms: u64| ms as f64 / 1000.0;
    serde_json::json!({"type": kind, "start_time": s(start_ms), "answer_receive_start_at": s(now_ms), "answer_receive_end_at": s(now_ms)}).to_string()
}

/// Reason phrase of a status.
pub fn reason(status: u16) -> &'static str {
    ::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Error")
}
