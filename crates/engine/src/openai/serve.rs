//! Runs one HTTP request against the scheduler and writes its answer as events.

use super::answer::{Envelope, Grown, Usage};
use super::error::{ApiError, head};
use super::request::{Kind, Limits, Parsed};
use crate::backend::{BackendEvent, HttpRequest};
use crate::batch::{Event, Scheduler};
use crate::sampler::Sampling;
use crate::template::ChatTemplate;
use crate::text::Text;
use bytes::Bytes;
use rand::Rng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Larger bodies are refused. A context of 128k tokens is below 1 MB of text; the rest is room for escapes.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Bodies from this size on are tokenized away from the async threads.
const LARGE_BODY_BYTES: usize = 32 << 10;
/// Events that one choice may run ahead of its reader.
const EVENTS_AHEAD: usize = 16;

/// Everything that requests share.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) created: u64,
    pub(crate) text: Arc<Text>,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) end_tokens: Vec<u32>,
    pub(crate) sampling: Sampling,
    pub(crate) vocab_size: usize,
    pub(crate) scheduler: Scheduler,
}

type Out = mpsc::Sender<BackendEvent>;
/// The receiver of the answer is gone.
struct Gone;

/// Answers one request; returns early when nobody listens any more.
pub(crate) async fn serve(service: Arc<Service>, request: HttpRequest, out: Out) {
    let outcome = match route(&request) {
        Ok(Route::Models) => {
            one(
                &out,
                200,
                &json!({"object": "list", "data": [service.model_json()]}),
            )
            .await
        }
        Ok(Route::Model(id)) if id == service.name => one(&out, 200, &service.model_json()).await,
        Ok(Route::Model(id)) => refuse(&out, &ApiError::unknown_model(&id)).await,
        Ok(Route::Generate(kind)) => generate(&service, kind, request.body, &out).await,
        Err(error) => refuse(&out, &error).await,
    };
    // Nothing is left to do for a reader that is gone.
    let _: Result<(), Gone> = outcome;
}

enum Route {
    Models,
    Model(String),
    Generate(Kind),
}

fn route(request: &HttpRequest) -> Result<Route, ApiError> {
    let path = request.url.split(['?', '#']).next().unwrap_or_default();
    let (route, method) = match path {
        "/v1/models" => (Route::Models, "GET"),
        "/v1/chat/completions" => (Route::Generate(Kind::Chat), "POST"),
        "/v1/completions" => (Route::Generate(Kind::Completion), "POST"),
        _ => match path.strip_prefix("/v1/models/") {
            Some(id) => (Route::Model(id.to_owned()), "GET"),
            None => {
                let message = "Unknown request URL; expected /v1/chat/completions, /v1/completions or /v1/models.";
                return Err(ApiError::unknown_url(404, message.into()));
            }
        },
    };
    if request.method.eq_ignore_ascii_case(method) {
        Ok(route)
    } else {
        Err(ApiError::unknown_url(
            405,
            format!("Method not allowed here; expected {method}."),
        ))
    }
}

impl Service {
    fn model_json(&self) -> Value {
        json!({
            "id": self.name, "object": "model", "created": self.created, "owned_by": "cocoon",
            "context_length": self.scheduler.capacity().context,
        })
    }

    fn parse(&self, kind: Kind, body: &[u8]) -> Result<Parsed, ApiError> {
        let limits = Limits {
            model: &self.name,
            context: self.scheduler.capacity().context,
            vocab_size: self.vocab_size,
            end_tokens: &self.end_tokens,
            sampling: &self.sampling,
        };
        Parsed::read(kind, body, &limits, &self.text, self.template.as_ref())
    }
}

async fn generate(service: &Arc<Service>, kind: Kind, body: Bytes, out: &Out) -> Result<(), Gone> {
    if body.len() > MAX_BODY_BYTES {
        let message = format!(
            "The body has {} bytes; expected at most {MAX_BODY_BYTES}.",
            body.len()
        );
        return refuse(
            out,
            &ApiError {
                status: 413,
                ..ApiError::invalid("", message)
            },
        )
        .await;
    }
    let parsed = if body.len() >= LARGE_BODY_BYTES {
        let service = service.clone();
        match tokio::task::spawn_blocking(move || service.parse(kind, &body)).await {
            Ok(parsed) => parsed,
            Err(_) => Err(ApiError::internal("Reading the request failed.".into())),
        }
    } else {
        service.parse(kind, &body)
    };
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(out, &error).await,
    };
    let choices = parsed.jobs.len();
    let with_logprobs = parsed
        .jobs
        .iter()
        .any(|job| job.sampling.logprobs.is_some());
    let (events, receiver) = mpsc::channel(choices * EVENTS_AHEAD);
    for (index, job) in parsed.jobs.into_iter().enumerate() {
        if let Err(error) = service.scheduler.submit(job, index, events.clone()) {
            // Those already queued are cancelled by dropping the receiver.
            return refuse(
                out,
                &ApiError::overloaded(format!("No answer now: {error}. Please try again.")),
            )
            .await;
        }
    }
    drop(events);
    let prefix = if kind == Kind::Chat {
        "chatcmpl"
    } else {
        "cmpl"
    };
    let envelope = Envelope {
        kind,
        id: format!("{prefix}-{:032x}", rand::rng().random::<u128>()),
        created: now(),
        model: &service.name,
        text: &service.text,
        include_usage: parsed.include_usage,
    };
    let mut run = Run {
        envelope,
        receiver,
        choices,
        prompt_tokens: parsed.prompt_tokens,
        out,
    };
    if parsed.stream {
        run.stream().await
    } else {
        run.complete(with_logprobs).await
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// One request in progress.
struct Run<'a> {
    envelope: Envelope<'a>,
    receiver: mpsc::Receiver<(usize, Event)>,
    choices: usize,
    prompt_tokens: usize,
    out: &'a Out,
}

impl Run<'_> {
    /// The next event; an end before all choices are finished is a failure of the engine.
    async fn next(&mut self) -> Result<(usize, Event), Gone> {
        tokio::select! {
            () = self.out.closed() => Err(Gone),
            event = self.receiver.recv() => {
                Ok(event.unwrap_or_else(|| (0, Event::Failed("the engine stopped".into()))))
            }
        }
    }

    async fn complete(&mut self, with_logprobs: bool) -> Result<(), Gone> {
        let mut grown: Vec<Grown> = (0..self.choices).map(|_| Grown::default()).collect();
        let (mut open, mut completion) = (self.choices, 0);
        while open > 0 {
            let (index, event) = self.next().await?;
            let choice = &mut grown[index];
            match event {
                Event::Piece { text, logprobs } => {
                    choice.text += &text;
                    choice.logprobs.extend(logprobs);
                }
                Event::Finished {
                    reason,
                    completion_tokens,
                } => {
                    choice.finish = Some(reason);
                    completion += completion_tokens;
                    open -= 1;
                }
                Event::Failed(why) => {
                    return refuse(
                        self.out,
                        &ApiError::internal(format!("The engine failed: {why}.")),
                    )
                    .await;
                }
            }
        }
        let usage = Usage {
            prompt: self.prompt_tokens,
            completion,
        };
        one(
            self.out,
            200,
            &self.envelope.complete(&grown, usage, with_logprobs),
        )
        .await
    }

    async fn stream(&mut self) -> Result<(), Gone> {
        let mut offsets = vec![0; self.choices];
        let (mut open, mut completion, mut begun) = (self.choices, 0, false);
        while open > 0 {
            let (index, event) = self.next().await?;
            if let Event::Failed(why) = &event {
                if !begun {
                    return refuse(
                        self.out,
                        &ApiError::internal(format!("The engine failed: {why}.")),
                    )
                    .await;
                }
                return send(
                    self.out,
                    BackendEvent::Failed {
                        status: 500,
                        message: format!("the engine failed: {why}"),
                    },
                )
                .await;
            }
            if !begun {
                begun = true;
                send(self.out, head(200, "text/event-stream; charset=utf-8")).await?;
                if self.envelope.kind == Kind::Chat {
                    for index in 0..self.choices {
                        self.event(&self.envelope.role(index)).await?;
                    }
                }
            }
            match event {
                Event::Piece { text, logprobs } => {
                    let piece = self
                        .envelope
                        .piece(index, &text, &logprobs, &mut offsets[index]);
                    self.event(&piece).await?;
                }
                Event::Finished {
                    reason,
                    completion_tokens,
                } => {
                    completion += completion_tokens;
                    open -= 1;
                    self.event(&self.envelope.finish(index, reason)).await?;
                }
                Event::Failed(_) => {}
            }
        }
        if self.envelope.include_usage {
            let usage = Usage {
                prompt: self.prompt_tokens,
                completion,
            };
            self.event(&self.envelope.usage(usage)).await?;
        }
        send(
            self.out,
            BackendEvent::Body(Bytes::from_static(b"data: [DONE]\n\n")),
        )
        .await?;
        send(self.out, BackendEvent::End).await
    }

    async fn event(&self, value: &Value) -> Result<(), Gone> {
        send(
            self.out,
            BackendEvent::Body(format!("data: {value}\n\n").into()),
        )
        .await
    }
}

async fn send(out: &Out, event: BackendEvent) -> Result<(), Gone> {
    out.send(event).await.map_err(|_| Gone)
}

async fn one(out: &Out, status: u16, value: &Value) -> Result<(), Gone> {
    send(out, head(status, "application/json")).await?;
    send(out, BackendEvent::Body(value.to_string().into())).await?;
    send(out, BackendEvent::End).await
}

async fn refuse(out: &Out, error: &ApiError) -> Result<(), Gone> {
    for event in error.events() {
        send(out, event).await?;
    }
    Ok(())
}
