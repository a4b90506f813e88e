//! The model backend and the oracle of what its answers cost, by protocol.md 6.1 written a second time.

use cocoon_engine::{BackendEvent, HttpRequest};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Multipliers of the model root contract: prompt, cached, completion, reasoning.
pub const MULTIPLIERS: [u32; 4] = [10_000, 1_000, 20_000, 10_000];

/// What an answer states as its usage.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub prompt: u64,
    pub cached: u64,
    pub completion: u64,
    pub reasoning: u64,
}

impl Usage {
    /// Billed tokens at a coefficient in thousandths.
    pub fn cost(&self, coefficient: u32) -> u64 {
        let classes = [
            self.prompt - self.cached,
            self.cached,
            self.completion - self.reasoning,
            self.reasoning,
        ];
        let class = |(n, m): (u64, u32)| {
            ((n as f64 * (f64::from(coefficient) * 0.001)) * f64::from(m) * 0.0001) as u64
        };
        classes.into_iter().zip(MULTIPLIERS).map(class).sum()
    }

    fn json(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        })
    }
}

/// One computation.
pub struct Run {
    /// `None` where a hostile peer wrote the request.
    pub client: Option<usize>,
    pub worker: usize,
    /// The most it can be billed.
    pub cap: u64,
    /// What a complete answer is billed exactly; `None` if it never becomes one.
    pub exact: Option<u64>,
}

/// An answer in pieces: milliseconds to wait before each, and the piece.
pub type Script = Vec<(u64, BackendEvent)>;

/// Who asked: the sim's callers write `client N` into the prompt.
fn caller(body: &Value) -> Option<usize> {
    let text = body["messages"][0]["content"].as_str().unwrap_or("");
    text.split(' ').nth(1).and_then(|n| n.parse().ok())
}

/// Invents an answer.
pub fn answer(
    rng: &mut ChaCha8Rng,
    run: usize,
    worker: usize,
    coefficient: u32,
    http: &HttpRequest,
    calm: bool,
) -> (Run, Script) {
    let body: Value = serde_json::from_slice(&http.body).unwrap_or_default();
    let stream = body["stream"].as_bool().unwrap_or(false);
    let budget = body["max_tokens"].as_u64().unwrap_or(100).clamp(1, 1 << 20);
    let prompt = rng.random_range(1..40);
    let completion = rng.random_range(1..=budget);
    let usage = Usage {
        prompt,
        cached: rng.random_range(0..=prompt),
        completion,
        reasoning: rng.random_range(0..=completion / 2),
    };
    let cost = usage.cost(coefficient);
    let pause = match rng.random_range(0..20) {
        0 if !calm => 4000,
        1..4 => 600,
        _ => 60,
    };
    let pieces = if stream {
        sse(run, &usage, completion.min(rng.random_range(1..6)))
    } else {
        let text = json!({"id": format!("run-{run}"), "choices": [{"message": {"content": "hello"}}], "usage": usage.json()}).to_string();
        cut(rng, text.into_bytes())
    };
    let head = |status: u16| {
        let kind = if stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        BackendEvent::Head {
            status,
            reason: String::new(),
            headers: vec![("Content-Type".to_owned(), kind.to_owned())],
        }
    };
    let mut events = vec![head(200)];
    events.extend(pieces.into_iter().map(|p| BackendEvent::Body(p.into())));
    events.push(BackendEvent::End);
    let failed = || BackendEvent::Failed {
        status: 500,
        // Engines quote what they were asked.
        message: format!("the model broke at: {}", super::callers::CANARY),
    };
    let (mut cap, mut exact) = (cost, Some(cost));
    match rng.random_range(0..50) {
        _ if calm => {}
        // Before the head.
        0 => (events, exact) = (vec![failed()], None),
        // In the middle.
        1..=3 => {
            let at = rng.random_range(1..events.len());
            events.truncate(at);
            events.push(failed());
            exact = None;
        }
        // An error of the engine in HTTP.
        4 => {
            let text = json!({"error": {"message": "no"}}).to_string();
            events = vec![
                head(503),
                BackendEvent::Body(text.into()),
                BackendEvent::End,
            ];
            exact = None;
        }
        // Broken: a body without a head, two heads, an end that never comes.
        5 => {
            events.remove(0);
            exact = None;
        }
        6 => {
            events.insert(1, head(200));
            exact = None;
        }
        7 => {
            events.pop();
            exact = None;
        }
        // More than was asked for: the proxy books the reservation at most.
        8 => {
            let lie = Usage {
                completion: budget * 50 + 100_000,
                ..usage
            };
            cap = lie.cost(coefficient);
            exact = None;
            events = vec![head(200)];
            let text = json!({"id": "lie", "usage": lie.json()}).to_string();
            events.push(BackendEvent::Body(text.into()));
            events.push(BackendEvent::End);
        }
        _ => {}
    }
    let script = events
        .into_iter()
        .map(|e| (rng.random_range(0..=pause), e))
        .collect();
    let run = Run {
        client: caller(&body),
        worker,
        cap,
        exact,
    };
    (run, script)
}

fn sse(run: usize, usage: &Usage, chunks: u64) -> Vec<Vec<u8>> {
    let line = |v: Value| format!("data: {v}\n\n").into_bytes();
    let id = format!("run-{run}");
    let mut out: Vec<Vec<u8>> = (0..chunks)
        .map(|_| line(json!({"id": id, "choices": [{"delta": {"content": "hm"}}]})))
        .collect();
    out.push(line(
        json!({"id": id, "choices": [], "usage": usage.json()}),
    ));
    out.push(b"data: [DONE]\n\n".to_vec());
    out
}

fn cut(rng: &mut ChaCha8Rng, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while rng.random_bool(0.5) && bytes.len() > 2 {
        let rest = bytes.split_off(rng.random_range(1..bytes.len()));
        out.push(std::mem::replace(&mut bytes, rest));
    }
    out.push(bytes);
    out
}
