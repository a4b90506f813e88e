//! The shipped tiny model as a test subject, and shorthand for talking to a backend.
#![allow(dead_code)]

use cocoon_engine::batch::BatchOptions;
use cocoon_engine::{Backend, BackendEvent, EmbeddedEngine, EngineOptions, HttpRequest};
use serde_json::Value;
use std::path::PathBuf;
use tokio::sync::mpsc::Receiver;

/// The shipped model.
pub fn model_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/cocoon-tiny")
}

/// The shipped model, loaded.
pub fn engine() -> EmbeddedEngine {
    engine_with(BatchOptions::default())
}

pub fn engine_with(batch: BatchOptions) -> EmbeddedEngine {
    EmbeddedEngine::load(&model_dir(), EngineOptions { name: None, batch }).unwrap()
}

pub fn post(url: &str, body: &Value) -> HttpRequest {
    HttpRequest {
        method: "POST".into(),
        url: url.into(),
        headers: Vec::new(),
        body: body.to_string().into(),
    }
}

pub fn get(url: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        url: url.into(),
        headers: Vec::new(),
        body: bytes::Bytes::new(),
    }
}

/// A finished exchange.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub pieces: Vec<bytes::Bytes>,
    pub failed: Option<(u16, String)>,
}

impl Answer {
    pub fn body(&self) -> String {
        String::from_utf8(self.pieces.concat()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body()).unwrap()
    }

    /// The events of a stream; checks the framing.
    pub fn events(&self) -> Vec<Value> {
        let body = self.body();
        let body = body
            .strip_suffix("data: [DONE]\n\n")
            .expect("[DONE] at the end");
        body.split_terminator("\n\n")
            .map(|event| {
                serde_json::from_str(event.strip_prefix("data: ").expect("data: prefix")).unwrap()
            })
            .collect()
    }
}

/// Reads all events and checks their order.
pub async fn collect(mut events: Receiver<BackendEvent>) -> Answer {
    let mut answer = Answer {
        status: 0,
        headers: Vec::new(),
        pieces: Vec::new(),
        failed: None,
    };
    while let Some(event) = events.recv().await {
        match event {
            BackendEvent::Head {
                status, headers, ..
            } => {
                assert_eq!(answer.status, 0, "one head");
                answer.status = status;
                answer.headers = headers;
            }
            BackendEvent::Body(piece) => {
                assert_ne!(answer.status, 0, "head before body");
                answer.pieces.push(piece);
            }
            BackendEvent::End => {
                assert!(events.recv().await.is_none(), "nothing after the end");
                return answer;
            }
            BackendEvent::Failed { status, message } => {
                assert!(events.recv().await.is_none(), "nothing after a failure");
                answer.failed = Some((status, message));
                return answer;
            }
        }
    }
    panic!("the stream closed without an end: {answer:?}");
}

pub async fn ask(backend: &impl Backend, url: &str, body: Value) -> Answer {
    collect(backend.start(post(url, &body))).await
}
