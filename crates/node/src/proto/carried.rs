//! The HTTP that is carried over both legs.

use cocoon_tl::{from_boxed, to_boxed};
use cocoon_wire::msg::http;

/// Whether `data` is an `http.request`; more is not the proxy's business (3.9).
pub fn check_http_request(data: &[u8]) -> Result<(), String> {
    from_boxed::<http::Request>(data)
        .map(|_| ())
        .map_err(|e| e.to_string())
}

/// Header of answers that a proxy wrote itself: the code of protocol.md 1.8.
pub const REFUSED_HEADER: &str = "X-Cocoon-Refused";

/// A complete error response in the form the reference client survives (appendix A, proxy 5).
///
/// [`REFUSED_HEADER`] tells our own clients that no worker answered, so that another proxy may be asked.
pub fn error_response(status: u16, body: &[u8], code: i32, retry_after_s: Option<u32>) -> Vec<u8> {
    let header = |name: &str, value: &str| http::Header {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let mut headers = vec![
        header("Content-Type", "application/json"),
        header("Transfer-Encoding", "chunked"),
        header(REFUSED_HEADER, &code.to_string()),
    ];
    if let Some(seconds) = retry_after_s {
        headers.push(header("Retry-After", &seconds.to_string()));
    }
    to_boxed(&http::Response {
        http_version: "HTTP/1.1".to_owned(),
        status_code: i32::from(status),
        reason: reason(status).to_owned(),
        headers,
        payload: body.to_vec(),
    })
}

/// A response head on its way.
pub struct StampedHead {
    /// Boxed `http.response`.
    pub data: Vec<u8>,
    /// Its status.
    pub status: i32,
    /// It is an event stream.
    pub streams: bool,
    /// A first piece of body comes with it.
    pub has_body: bool,
}

/// Adds the two times of a hop to a response head (6.5).
pub fn stamp_response(
    data: &[u8],
    start: (&str, f64),
    end: (&str, f64),
) -> Result<StampedHead, String> {
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
    let streams = r
        .headers
        .iter()
        .any(|h| h.name.eq_ignore_ascii_case("content-type") && h.value.contains("event-stream"));
    Ok(StampedHead {
        status: r.status_code,
        streams,
        has_body: !r.payload.is_empty(),
        data: to_boxed(&r),
    })
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
