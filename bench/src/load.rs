//! The load generator: so many callers, each with one kept-alive connection, each asking again as soon as it is answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use crate::answer::Answer;
use crate::args::Kind;
use crate::stats::Samples;

/// A request that takes longer is counted as an error; far above what a loaded chain needs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// After an error a caller waits, so that a dead server is not asked a million times.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whom.
    pub target: SocketAddr,
    /// What is asked.
    pub kind: Kind,
    /// How many callers.
    pub callers: u16,
    /// For how long.
    pub time: Duration,
    /// How many requests at most.
    pub requests: u64,
    /// Bytes of the prompt.
    pub prompt_bytes: u32,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// From sending the request to the last byte of a whole answer.
    pub latency: Samples,
    /// From sending the request to the first byte of its body.
    pub first_byte: Samples,
    /// Whole answers.
    pub completed: u64,
    /// Whole answers before the measurement, one a caller.
    pub warm_up: u64,
    /// Tokens in whole answers.
    pub tokens: u64,
    /// Failures by text.
    pub errors: BTreeMap<String, u64>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Outcome {
    /// Adds another measurement of the same thing.
    pub fn merge(&mut self, other: &Outcome) {
        self.latency.extend(&other.latency);
        self.first_byte.extend(&other.first_byte);
        self.completed += other.completed;
        self.warm_up += other.warm_up;
        self.tokens += other.tokens;
        for (text, n) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += n;
        }
        self.elapsed += other.elapsed;
    }

    /// Whole answers a second.
    pub fn rate(&self) -> f64 {
        per_second(self.completed, self.elapsed)
    }

    /// Tokens a second.
    pub fn token_rate(&self) -> f64 {
        per_second(self.tokens, self.elapsed)
    }

    /// All failures.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

fn per_second(n: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        n as f64 / time.as_secs_f64()
    }
}

/// Measures once.
pub async fn measure(plan: &Plan, answer: &Arc<Answer>) -> Outcome {
    let barrier = Arc::new(Barrier::new(usize::from(plan.callers) + 1));
    let left = Arc::new(AtomicU64::new(plan.requests));
    let body = answer.request(plan.kind, plan.prompt_bytes);
    let callers: Vec<_> = (0..plan.callers)
        .map(|_| {
            let caller = Caller {
                plan: plan.clone(),
                answer: answer.clone(),
                body: body.clone(),
                connection: None,
            };
            tokio::spawn(caller.run(barrier.clone(), left.clone()))
        })
        .collect();
    barrier.wait().await;
    let start = Instant::now();
    let mut all = Outcome::default();
    for caller in callers {
        match caller.await {
            Ok(one) => all.merge(&one),
            Err(e) => *all.errors.entry(format!("a caller died: {e}")).or_default() += 1,
        }
    }
    all.elapsed = start.elapsed();
    all
}

/// Asks once and gives the whole answer.
pub async fn ask_once(plan: &Plan, answer: &Arc<Answer>) -> Result<Bytes, String> {
    let mut caller = Caller {
        plan: plan.clone(),
        answer: answer.clone(),
        body: answer.request(plan.kind, plan.prompt_bytes),
        connection: None,
    };
    tokio::time::timeout(REQUEST_TIMEOUT, caller.ask())
        .await
        .map_err(|_| too_slow())?
        .map(|reply| reply.body)
}

fn too_slow() -> String {
    format!("no whole answer within {} s", REQUEST_TIMEOUT.as_secs())
}

/// An answer with its times.
struct Reply {
    body: Bytes,
    first_byte: Duration,
    whole: Duration,
}

struct Caller {
    plan: Plan,
    answer: Arc<Answer>,
    body: Bytes,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Caller {
    async fn run(mut self, barrier: Arc<Barrier>, left: Arc<AtomicU64>) -> Outcome {
        let mut out = Outcome::default();
        // Connecting and the first request of a connection are not what is measured.
        match self.checked().await {
            Ok(_) => out.warm_up = 1,
            Err(e) => *out.errors.entry(format!("warming up: {e}")).or_default() += 1,
        }
        barrier.wait().await;
        let start = Instant::now();
        let tokens = self.answer.tokens(self.plan.kind);
        while start.elapsed() < self.plan.time && take(&left) {
            match self.checked().await {
                Ok(reply) => {
                    out.completed += 1;
                    out.tokens += tokens;
                    out.latency.push(nanos(reply.whole));
                    out.first_byte.push(nanos(reply.first_byte));
                }
                Err(e) => {
                    *out.errors.entry(e).or_default() += 1;
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
        out
    }

    async fn checked(&mut self) -> Result<Reply, String> {
        let reply = match tokio::time::timeout(REQUEST_TIMEOUT, self.ask()).await {
            Ok(reply) => reply,
            Err(_) => Err(too_slow()),
        };
        let checked = reply.and_then(|reply| {
            self.answer
                .check(self.plan.kind, &reply.body)
                .map(|()| reply)
        });
        if checked.is_err() {
            self.connection = None;
        }
        checked
    }

    async fn ask(&mut self) -> Result<Reply, String> {
        if self.connection.as_ref().is_none_or(SendRequest::is_closed) {
            self.connection = Some(connect(self.plan.target).await?);
        }
        let Some(connection) = &mut self.connection else {
            return Err("there is no connection".to_owned());
        };
        let request = request(&self.plan, &self.body)?;
        connection.ready().await.map_err(|e| e.to_string())?;
        let start = Instant::now();
        let response = connection
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        let (head, mut incoming) = response.into_parts();
        let mut first_byte = None;
        let mut body = Vec::with_capacity(1024);
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|e| format!("the answer broke off: {e}"))?;
            if let Some(data) = frame.data_ref() {
                first_byte.get_or_insert_with(|| start.elapsed());
                body.extend_from_slice(data);
            }
        }
        let whole = start.elapsed();
        if head.status != StatusCode::OK {
            return Err(refusal(head.status, &body));
        }
        Ok(Reply {
            body: Bytes::from(body),
            first_byte: first_byte.unwrap_or(whole),
            whole,
        })
    }
}

async fn connect(target: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(target)
        .await
        .map_err(|e| format!("connecting: {e}"))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        // Its errors are told to the sender too.
        let _ = connection.await;
    });
    Ok(sender)
}

fn request(plan: &Plan, body: &Bytes) -> Result<Request<Full<Bytes>>, String> {
    let (method, path) = match plan.kind {
        Kind::Models => (Method::GET, "/v1/models"),
        Kind::Chat | Kind::Stream => (Method::POST, "/v1/chat/completions"),
    };
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, plan.target.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.clone()))
        .map_err(|e| e.to_string())
}

/// A refusal in one line: the status, and the message of an OpenAI error object if it is one.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|v| Some(v["error"]["message"].as_str()?.to_owned()));
    match message {
        // Amounts and ids differ from answer to answer; the first words tell the failures apart.
        Some(text) => format!(
            "{}: {}",
            status.as_u16(),
            text.chars().take(60).collect::<String>()
        ),
        None => format!("{}", status.as_u16()),
    }
}

fn take(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(target: SocketAddr, kind: Kind) -> Plan {
        Plan {
            target,
            kind,
            callers: 3,
            time: Duration::from_secs(5),
            requests: 30,
            prompt_bytes: 64,
        }
    }

    #[tokio::test]
    async fn the_backend_is_measured_whole() {
        let answer = Arc::new(Answer::new(7));
        let target = crate::backend::start(answer.clone(), Duration::ZERO).unwrap();
        for kind in [Kind::Models, Kind::Chat, Kind::Stream] {
            let plan = plan(target, kind);
            let body = ask_once(&plan, &answer).await.unwrap();
            answer.check_whole(kind, &body).unwrap();
            let out = measure(&plan, &answer).await;
            assert_eq!(out.errors, BTreeMap::new());
            assert_eq!((out.completed, out.warm_up), (30, 3));
            assert_eq!(out.tokens, 30 * answer.tokens(kind));
            assert_eq!(out.latency.summary().unwrap().count, 30);
            assert!(out.rate() > 0.0);
        }
    }

    #[tokio::test]
    async fn a_slow_stream_has_an_early_first_byte() {
        let answer = Arc::new(Answer::new(10));
        let target = crate::backend::start(answer.clone(), Duration::from_millis(5)).unwrap();
        let out = measure(
            &Plan {
                requests: 3,
                ..plan(target, Kind::Stream)
            },
            &answer,
        )
        .await;
        let (first, whole) = (
            out.first_byte.summary().unwrap(),
            out.latency.summary().unwrap(),
        );
        // 12 pauses of at least 5 ms lie between the first byte and the last.
        assert!(whole.p50_ms - first.p50_ms > 50.0, "{first:?} {whole:?}");
    }

    #[tokio::test]
    async fn failures_are_counted_and_not_timed() {
        let answer = Arc::new(Answer::new(7));
        // The backend has another length of answer than the caller expects.
        let target = crate::backend::start(Arc::new(Answer::new(6)), Duration::ZERO).unwrap();
        let mut plan = plan(target, Kind::Stream);
        plan.requests = 6;
        let out = measure(&plan, &answer).await;
        assert_eq!((out.completed, out.failed()), (0, 9));
        assert!(out.latency.summary().is_none());
        // Nobody listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        plan.target = free.local_addr().unwrap();
        drop(free);
        assert_eq!(measure(&plan, &answer).await.completed, 0);
    }

    #[test]
    fn refusals_say_why() {
        let body = br#"{"error":{"message":"no such model"}}"#;
        assert_eq!(refusal(StatusCode::NOT_FOUND, body), "404: no such model");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"<html>"), "502");
    }
}
