//! HTTP upstreams: pass-through piece by piece, and every way in which a server can fail.

mod common;

use bytes::Bytes;
use cocoon_engine::backend::{Backend, BackendEvent};
use cocoon_engine::upstream::{HttpUpstream, UpstreamOptions};
use common::{collect, get, post};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that reads a request head and body and then writes what `answer` says; returns its address and the
/// number of connections it accepted.
async fn server<F, Fut>(answer: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(String, TcpStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, answer) = (connections.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                        return;
                    }
                    request.push(byte[0]);
                }
                let head = String::from_utf8(request).unwrap();
                let length = head.lines().find_map(|l| {
                    l.to_lowercase()
                        .strip_prefix("content-length: ")
                        .map(|n| n.parse().unwrap())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                stream.read_exact(&mut body).await.unwrap();
                answer(head + &String::from_utf8(body).unwrap(), stream).await;
            });
        }
    });
    (address, connections)
}

fn upstream(address: SocketAddr) -> HttpUpstream {
    let options = UpstreamOptions {
        head_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(400),
        ..Default::default()
    };
    HttpUpstream::new(&format!("http://{address}"), options).unwrap()
}

#[tokio::test]
async fn requests_and_answers_pass_unchanged_without_the_headers_of_the_connection() {
    let (address, _) = server(|request, mut stream| async move {
        let mut answer = format!("HTTP/1.1 418 I'm a teapot\r\nX-Test: yes\r\nconnection: close, x-hop\r\nx-hop: 1\r\ncontent-length: {}\r\n\r\n", request.len());
        answer += &request;
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let mut request = post("/v1/chat/completions?x=1", &json!({"a": 1}));
    request.headers = [
        ("Authorization", "Bearer k"),
        ("Host", "other"),
        ("Connection", "keep-alive, X-Drop"),
        ("X-Drop", "1"),
        ("Transfer-Encoding", "chunked"),
    ]
    .map(|(n, v)| (n.to_owned(), v.to_owned()))
    .to_vec();
    let answer = collect(upstream(address).start(request)).await;
    assert_eq!(answer.status, 418);
    let seen = answer.body().to_lowercase();
    assert!(
        seen.starts_with("post /v1/chat/completions?x=1 http/1.1\r\n"),
        "{seen}"
    );
    assert!(
        seen.contains("authorization: bearer k") && seen.contains(&format!("host: {address}")),
        "{seen}"
    );
    assert!(
        seen.ends_with("{\"a\":1}")
            && !seen.contains("x-drop")
            && !seen.contains("transfer-encoding"),
        "{seen}"
    );
    assert_eq!(answer.headers, [("x-test".to_owned(), "yes".to_owned())]);
}

#[tokio::test]
async fn a_stream_arrives_piece_by_piece() {
    let (address, _) = server(|_, mut stream| async move {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
        stream
            .write_all(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
            .await
            .unwrap();
    })
    .await;
    let mut events = upstream(address).start(post("/v1/completions", &json!({})));
    assert!(matches!(
        events.recv().await,
        Some(BackendEvent::Head { status: 200, .. })
    ));
    assert_eq!(
        events.recv().await,
        Some(BackendEvent::Body(Bytes::from_static(b"data: 1\n\n")))
    );
    assert!(
        events.try_recv().is_err(),
        "the second piece is not there yet"
    );
    assert_eq!(
        events.recv().await,
        Some(BackendEvent::Body(Bytes::from_static(b"data: 2\n\n")))
    );
    assert_eq!(events.recv().await, Some(BackendEvent::End));
}

#[tokio::test]
async fn connections_are_reused_and_models_are_found() {
    let (address, connections) = server(|_, mut stream| async move {
        let body = r#"{"data": [{"id": "m", "max_model_len": 4096}, {"id": "n"}]}"#;
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Serves further requests on the same connection.
        let mut seen = [0; 4096];
        while stream.read(&mut seen).await.unwrap_or(0) > 0 {
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let upstream = upstream(address);
    assert!(upstream.models().is_empty());
    upstream.healthy().await.unwrap();
    let models = upstream.models();
    assert_eq!(
        (models[0].id.as_str(), models[0].context_length),
        ("m", Some(4096))
    );
    assert_eq!(
        (models[1].id.as_str(), models[1].context_length),
        ("n", None)
    );
    for _ in 0..3 {
        assert_eq!(collect(upstream.start(get("/v1/models"))).await.status, 200);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// What becomes of a request to a server that behaves like `answer`.
async fn failure(answer: &'static [u8], hang: bool) -> (u16, Option<(u16, String)>) {
    let (address, _) = server(move |_, mut stream| async move {
        stream.write_all(answer).await.unwrap();
        stream.flush().await.unwrap();
        if hang {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    })
    .await;
    let result = collect(upstream(address).start(post("/v1/completions", &json!({})))).await;
    if let Some((_, message)) = &result.failed {
        assert!(
            !message.contains("127.0.0.1"),
            "addresses stay inside: {message}"
        );
    }
    (result.status, result.failed)
}

#[tokio::test]
async fn failures_before_and_within_an_answer_are_told_apart() {
    let refused = HttpUpstream::new("http://127.0.0.1:1", UpstreamOptions::default()).unwrap();
    let answer = collect(refused.start(post("/v1/completions", &json!({})))).await;
    assert_eq!(
        answer.failed,
        Some((502, "the inference server cannot be reached".into()))
    );
    assert!(
        refused
            .healthy()
            .await
            .unwrap_err()
            .contains("cannot be reached")
    );

    let broken = |message: &str| Some((502, message.to_owned()));
    assert_eq!(
        failure(b"", false).await,
        (0, broken("the inference server broke the connection"))
    );
    assert_eq!(
        failure(b"SSH-2.0-hello\r\n\r\n", false).await,
        (0, broken("the inference server broke the connection"))
    );
    let middle = "the inference server broke off in the middle of an answer";
    assert_eq!(
        failure(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf", false).await,
        (200, broken(middle))
    );
    assert_eq!(
        failure(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            false
        )
        .await,
        (200, broken(middle))
    );
    assert_eq!(failure(b"", true).await.1.unwrap().0, 504);
    assert_eq!(
        failure(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf", true)
            .await
            .1
            .unwrap()
            .0,
        504
    );
}

#[tokio::test]
async fn a_caller_who_leaves_closes_the_connection() {
    let (closed, mut was_closed) = tokio::sync::mpsc::channel(1);
    let (address, _) = server(move |_, mut stream| {
        let closed = closed.clone();
        async move {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
                .await
                .unwrap();
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                closed.send(()).await.unwrap();
            }
        }
    })
    .await;
    let upstream =
        HttpUpstream::new(&format!("http://{address}"), UpstreamOptions::default()).unwrap();
    let mut events = upstream.start(post("/v1/completions", &json!({})));
    events.recv().await.unwrap();
    drop(events);
    tokio::time::timeout(Duration::from_secs(5), was_closed.recv())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn lists_of_models_that_are_none_are_unhealthy() {
    for (answer, word) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]"[..],
            "not what OpenAI",
        ),
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", "500"),
    ] {
        let (address, _) =
            server(move |_, mut stream| async move { stream.write_all(answer).await.unwrap() })
                .await;
        assert!(
            upstream(address)
                .healthy()
                .await
                .unwrap_err()
                .contains(word)
        );
    }
}

#[test]
fn urls_that_cannot_work_are_refused() {
    for (url, word) in [
        ("https://example.com", "https"),
        ("127.0.0.1:8000", ""),
        ("http://", ""),
        ("ftp://x", "scheme"),
        ("http://user:pw@x", "credentials"),
        ("http://x/?a=1", "query"),
    ] {
        let error = HttpUpstream::new(url, UpstreamOptions::default())
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains(word) && error.contains("http://127.0.0.1:8000"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn requests_that_are_no_http_are_refused() {
    let upstream = HttpUpstream::new("http://127.0.0.1:1", UpstreamOptions::default()).unwrap();
    for (method, url, header) in [
        ("PO ST", "/v1/x", "a"),
        ("POST", "http://evil/", "a"),
        ("POST", "/v1/x", "a b"),
        ("POST", "/v1/ x", "a"),
    ] {
        let mut request = post(url, &json!({}));
        request.method = method.into();
        request.headers.push((header.into(), "v".into()));
        assert_eq!(
            collect(upstream.start(request)).await.failed.unwrap().0,
            400
        );
    }
}
