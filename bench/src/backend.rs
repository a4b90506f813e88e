//! The fixed-answer inference server: an OpenAI HTTP surface on a thread of its own that computes nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::answer::Answer;
use crate::error::BenchError;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Starts the server; it runs as long as the process.
pub fn start(answer: Arc<Answer>, interval: Duration) -> Result<SocketAddr, BenchError> {
    let io = |e: std::io::Error| BenchError::Io("starting the backend".to_owned(), e);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(io)?;
    listener.set_nonblocking(true).map_err(io)?;
    let address = listener.local_addr().map_err(io)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io)?;
    std::thread::Builder::new()
        .name("backend".to_owned())
        .spawn(move || runtime.block_on(serve(listener, answer, interval)))
        .map_err(io)?;
    Ok(address)
}

async fn serve(listener: std::net::TcpListener, answer: Arc<Answer>, interval: Duration) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return eprintln!("cocoon-bench: the backend cannot listen: {e}"),
    };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                eprintln!("cocoon-bench: the backend cannot accept: {e}");
                // Out of file descriptors, most likely: others may close meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(answer.clone(), interval, request));
            // A connection that the other side drops is no news.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    answer: Arc<Answer>,
    interval: Duration,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (status, kind, body) = match (parts.method, parts.uri.path()) {
        (Method::GET, "/v1/models") => (StatusCode::OK, "application/json", whole(&answer.models)),
        (Method::POST, "/v1/chat/completions") if wants_stream(&body) => (
            StatusCode::OK,
            "text/event-stream",
            events(answer, interval),
        ),
        (Method::POST, "/v1/chat/completions") => {
            (StatusCode::OK, "application/json", whole(&answer.chat))
        }
        _ => (
            StatusCode::NOT_FOUND,
            "application/json",
            whole(&Bytes::from_static(
                b"{\"error\":{\"message\":\"no such path\"}}",
            )),
        ),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(kind),
    );
    Ok(response)
}

fn wants_stream(body: &[u8]) -> bool {
    // Whole JSON: what arrives through cocoon was written anew, with other spaces and another order.
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|v| v["stream"] == true)
}

fn whole(bytes: &Bytes) -> Body {
    Full::new(bytes.clone()).boxed_unsync()
}

/// Every event is written by itself, as an engine that makes one token after the other does.
fn events(answer: Arc<Answer>, interval: Duration) -> Body {
    let events = stream::unfold((answer, 0), move |(answer, at)| async move {
        let event = answer.events.get(at)?.clone();
        if at > 0 {
            if interval.is_zero() {
                // Lets the connection flush what it has.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(interval).await;
            }
        }
        Some((Ok(Frame::data(event)), (answer, at + 1)))
    });
    StreamBody::new(events).boxed_unsync()
}
