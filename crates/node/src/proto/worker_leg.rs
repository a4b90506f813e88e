//! Between proxy and worker.

use cocoon_tl::{Flags, from_boxed, to_boxed};
use cocoon_wire::msg::{proxy, worker};

use super::{
    Answer, AnswerKind, FinalInfo, PaymentStatus, ProxyParams, plain_fin, signed, tokens_from_wire,
    tokens_to_wire, wire,
};

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
