//! Between client and proxy.

use std::collections::BTreeMap;

use cocoon_tl::{Flags, from_boxed, to_boxed};
use cocoon_wire::msg::{client, market, proxy};

use crate::wishes::WireWishes;

use super::{
    Answer, AnswerKind, FinalInfo, PaymentStatus, ProxyParams, plain_fin, signed, tokens_from_wire,
    tokens_to_wire, wire,
};

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

/// One connection of a worker, as the lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInstance {
    /// Owner, as text.
    pub owner: String,
    /// Price factor, thousandths.
    pub coefficient: u32,
    /// Running requests.
    pub active_requests: u32,
    /// Its limit at this proxy.
    pub max_active_requests: u32,
    /// Taking requests now.
    pub enabled: bool,
    /// Share of recent requests that failed, thousandths.
    pub failed_permille: u32,
    /// Mean time to the first byte.
    pub first_byte_ms: Option<u32>,
    /// Mean time per token, microseconds.
    pub token_us: Option<u32>,
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

/// `client.workerTypesV3` of version 3: as [`worker_types_v2`], with owners and measures.
pub fn worker_types_v3(list: &WorkerTypes) -> Vec<u8> {
    let types = list
        .iter()
        .map(|(name, workers)| market::WorkerTypeV3 {
            name: name.clone(),
            workers: workers
                .iter()
                .filter(|w| w.enabled)
                .map(|w| market::WorkerInstanceV3 {
                    flags: Flags::NONE,
                    owner_address: w.owner.clone(),
                    coefficient: small(w.coefficient),
                    active_requests: small(w.active_requests),
                    max_active_requests: small(w.max_active_requests),
                    failed_permille: small(w.failed_permille),
                    first_byte_ms: w.first_byte_ms.map(small),
                    token_us: w.token_us.map(small),
                })
                .collect(),
        })
        .collect();
    to_boxed(&market::WorkerTypesV3 { types })
}

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
    /// What is wanted of the worker; travels from version 3 on.
    pub wishes: WireWishes,
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
            wishes: no_wishes(),
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
            wishes: no_wishes(),
        }))),
        Ok(client::ClientPacket::RunQueryRouted(q)) => Ok(Some(ClientPacket::Run(RunQuery {
            model: q.model_name,
            query: q.query,
            max_coefficient: q.max_coefficient,
            max_tokens: q.max_tokens,
            timeout: q.timeout,
            request_id: q.request_id,
            min_config_version: q.min_config_version,
            enable_debug: q.enable_debug.unwrap_or(false),
            wishes: WireWishes {
                sort: q.sort,
                retries: q.retries,
                allow: q.allow,
                exclude: q.exclude,
            },
        }))),
        Ok(client::ClientPacket::CancelQuery(q)) => Ok(Some(ClientPacket::Cancel(q.request_id))),
        Err(cocoon_tl::TlError::UnknownConstructor { .. }) => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

/// What earlier versions say about the worker.
fn no_wishes() -> WireWishes {
    WireWishes {
        retries: -1,
        ..WireWishes::default()
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
    if version >= 3 && q.wishes != no_wishes() {
        return to_boxed(&market::RunQueryRouted {
            model_name: q.model,
            query: q.query,
            max_coefficient: q.max_coefficient,
            max_tokens: q.max_tokens,
            timeout: q.timeout,
            request_id: q.request_id,
            min_config_version: q.min_config_version,
            flags: Flags::NONE,
            enable_debug: Some(q.enable_debug),
            sort: q.wishes.sort,
            retries: q.wishes.retries,
            allow: q.wishes.allow,
            exclude: q.wishes.exclude,
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

/// `client.cancelQuery` of version 3.
pub fn client_cancel(rid: [u8; 32]) -> Vec<u8> {
    to_boxed(&client::CancelQuery { request_id: rid })
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
