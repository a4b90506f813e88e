//! A web server for tests that answers like Intel's service, or wrongly.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cocoon_attest::evidence::collateral::TdxCollateral;
use cocoon_attest::evidence::tdx::{Platform, TdxRoot};
use cocoon_collateral::fetch::{Fetcher, Retry};
use cocoon_collateral::service::{Part, Service};
use cocoon_collateral::web::{Deadlines, Web};
use cocoon_softtee::SoftTdx;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// The time of every test.
pub const NOW: u64 = 1_790_000_000;
pub const DAY: u64 = 86_400;

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub way: Way,
}

/// How it is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// Whole.
    Whole,
    /// The connection ends in the middle of the body.
    Cut,
    /// A byte, and then nothing.
    Stalled,
    /// A body without end.
    Endless,
    /// The connection closes without a word.
    Silent,
}

impl Reply {
    pub fn of(body: impl Into<Vec<u8>>) -> Self {
        Reply {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
            way: Way::Whole,
        }
    }

    pub fn status(status: u16) -> Self {
        Reply {
            status,
            ..Reply::of("")
        }
    }
}

type Replies = Arc<Mutex<HashMap<String, Vec<Reply>>>>;

/// A server. Answers by path and query; the last reply of a list is repeated.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    replies: Replies,
    /// Requests with their heads, in order.
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            replies: Replies::default(),
            seen: Arc::default(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, path: &str, replies: Vec<Reply>) {
        self.replies
            .lock()
            .unwrap()
            .insert(path.to_owned(), replies);
    }

    /// The reply that comes next at a path.
    pub fn reply(&self, path: &str) -> Reply {
        self.replies.lock().unwrap()[path][0].clone()
    }

    /// Changes the reply that comes next at the path that begins so.
    pub fn edit(&self, path: &str, edit: impl Fn(&mut Reply)) {
        let mut replies = self.replies.lock().unwrap();
        let mut found = 0;
        for (known, replies) in replies.iter_mut() {
            if known.starts_with(path) {
                edit(&mut replies[0]);
                found += 1;
            }
        }
        assert_eq!(found, 1, "{path}");
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                return;
            };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        self.seen.lock().unwrap().push(head);
        let reply = {
            let mut replies = self.replies.lock().unwrap();
            match replies.get_mut(&path) {
                Some(list) if list.len() > 1 => list.remove(0),
                Some(list) => list[0].clone(),
                None => Reply::status(404),
            }
        };
        // A client that turned away is no error of ours.
        let _ = send(&mut stream, reply).await;
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, reply: Reply) -> std::io::Result<()> {
    if reply.way == Way::Silent {
        return Ok(());
    }
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.way != Way::Endless {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    match reply.way {
        Way::Whole => stream.write_all(&reply.body).await?,
        Way::Cut => {
            stream
                .write_all(&reply.body[..reply.body.len() / 2])
                .await?
        }
        Way::Stalled => {
            stream.write_all(&reply.body[..1]).await?;
            stream.flush().await?;
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        Way::Endless => loop {
            stream.write_all(&[b' '; 4_096]).await?;
        },
        Way::Silent => {}
    }
    stream.flush().await
}

/// Everything that is not a letter or digit becomes `%XX`, as in the headers of the service.
pub fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}

/// Which collateral a server gives.
pub struct Intel {
    pub server: Server,
    pub tdx: SoftTdx,
}

impl Intel {
    /// A service that published its collateral a day ago.
    pub async fn start() -> Self {
        let intel = Intel {
            server: Server::start().await,
            tdx: SoftTdx::new(NOW),
        };
        intel.publish(NOW - DAY);
        intel
    }

    pub fn root(&self) -> TdxRoot {
        TdxRoot::pinned(self.tdx.root_sha256())
    }

    pub fn collateral(&self, issued: u64) -> TdxCollateral {
        TdxCollateral::from_json(&self.tdx.collateral_at(issued)).unwrap()
    }

    pub fn platform(&self) -> Platform {
        self.collateral(NOW).platform()
    }

    /// Puts the collateral of a moment on the server, in the form of the service.
    pub fn publish(&self, issued: u64) {
        let bundle: Value = serde_json::from_str(&self.tdx.collateral_at(issued)).unwrap();
        let text = |name: &str| bundle[name].as_str().unwrap().to_owned();
        let service = Service::at(&self.server.url(), false).unwrap();
        let platform = TdxCollateral::from_json(&bundle.to_string())
            .unwrap()
            .platform();
        for part in Part::ALL {
            let url = service.url(part, &platform).unwrap();
            let path = url.strip_prefix(&self.server.url()).unwrap().to_owned();
            // The signature covers the exact text, so it is put in as it is.
            let signed = |member: &str, name: &str| {
                let signature = text(&format!("{name}_signature"));
                format!(
                    "{{\"{member}\":{},\"signature\":\"{signature}\"}}",
                    text(name)
                )
            };
            let (body, chain) = match part {
                Part::TcbInfo => (
                    signed("tcbInfo", "tcb_info").into_bytes(),
                    text("tcb_info_issuer_chain"),
                ),
                Part::QeIdentity => (
                    signed("enclaveIdentity", "qe_identity").into_bytes(),
                    text("qe_identity_issuer_chain"),
                ),
                Part::PckCrl => (
                    hex::decode(text("pck_crl")).unwrap(),
                    text("pck_crl_issuer_chain"),
                ),
                // As a PCCS writes it.
                Part::RootCaCrl => (text("root_ca_crl").into_bytes(), String::new()),
            };
            let mut reply = Reply::of(body);
            if let Some(name) = part.chain_header() {
                reply.headers.push((name.to_owned(), escape(&chain)));
            }
            self.server.set(&path, vec![reply]);
        }
    }

    /// Lets every path answer with this.
    pub fn break_with(&self, reply: &Reply) {
        for replies in self.server.replies.lock().unwrap().values_mut() {
            *replies = vec![reply.clone()];
        }
    }

    pub fn fetcher(&self) -> Fetcher {
        self.fetcher_within(Duration::from_secs(60))
    }

    /// Two tries without a pause, each within `total`.
    pub fn fetcher_within(&self, total: Duration) -> Fetcher {
        let service = Service::at(&self.server.url(), false).unwrap();
        let web = Web::native(deadlines(total));
        Fetcher::new(service, web, None, self.root()).retrying(QUICK)
    }
}

pub const QUICK: Retry = Retry {
    tries: 2,
    pause: Duration::ZERO,
};

pub fn deadlines(total: Duration) -> Deadlines {
    Deadlines {
        connect: total,
        total,
    }
}

/// Changes one member of the signed text, so that its signature does not fit.
pub fn tamper(body: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1).into_bytes()
}

/// Waits for a condition.
pub async fn until(what: &str, check: impl Fn() -> bool) {
    let wait = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(done.is_ok(), "never: {what}");
}
