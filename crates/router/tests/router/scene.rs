//! Routers, applications and peers on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use cocoon_attest::frame::{PeerInfo, read_frame};
use cocoon_attest::{
    CertificateMode as Mode, PeerIdentity, Policy, TlsIdentity, TlsStream, connect, unix_now,
};
use cocoon_router::metrics::Snapshot;
use cocoon_router::{
    CertificateMode, CertificateSource, FileConfig, Handle, Limits, Options, Router, Settings,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A loaded machine is slow; this long means that it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Options of a router on a test network, on free ports of 127.0.0.1, with little proof of work.
pub fn options(edit: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options {
        listen: Some([127, 0, 0, 1].into()),
        test_network: true,
        pow_difficulty: Some(4),
        cert_mode: Some(CertificateMode::FakeTdx),
        limits: Limits {
            linger: Duration::from_millis(300),
            ..Limits::default()
        },
        ..Options::default()
    };
    edit(&mut options);
    options
}

/// A router that runs.
pub struct Running {
    pub handle: Handle,
    pub task: JoinHandle<()>,
}

pub async fn start(options: Options) -> Running {
    start_with(&options, None).await
}

pub async fn start_with(options: &Options, file: Option<&FileConfig>) -> Running {
    let settings = Settings::assemble(options, file).unwrap();
    run(settings).await
}

pub async fn run(settings: Settings) -> Running {
    let router = Router::bind(settings).await.unwrap();
    let handle = router.handle();
    let task = tokio::spawn(router.run());
    Running { handle, task }
}

/// A router with one reverse port to `backend`.
pub async fn reverse(
    backend: SocketAddr,
    policy: &str,
    edit: impl FnOnce(&mut Options),
) -> Running {
    start(options(|o| {
        o.reverse = vec![format!("0:{backend}@{policy}")];
        edit(o);
    }))
    .await
}

/// A router with one SOCKS5 port.
pub async fn socks5(policy: &str, edit: impl FnOnce(&mut Options)) -> Running {
    start(options(|o| {
        o.socks5 = vec![format!("0@{policy}")];
        edit(o);
    }))
    .await
}

/// A router with one forward port to `target`.
pub async fn forward(target: SocketAddr, policy: &str, edit: impl FnOnce(&mut Options)) -> Running {
    start(options(|o| {
        o.forward = vec![format!("0:{target}@{policy}")];
        edit(o);
    }))
    .await
}

impl Running {
    /// Address of the first port.
    pub fn address(&self) -> SocketAddr {
        self.handle.ports()[0].listen
    }

    /// Counters of the first port.
    pub fn counters(&self) -> Snapshot {
        self.handle.counters()[0].1.clone()
    }

    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// Waits until the counters are as they should be.
    pub async fn until(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let wait = async {
            loop {
                let now = self.counters();
                if condition(&now) {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{what} did not happen: {:?}", self.counters()))
    }

    /// The connection of a peer with this certificate to the reverse port.
    pub async fn peer(&self, identity: &TlsIdentity) -> (TlsStream<TcpStream>, PeerIdentity) {
        connect(self.tcp().await, identity, &Policy::Any, 28)
            .await
            .unwrap()
    }
}

impl Running {
    /// A plain peer's connection to the reverse port.
    pub async fn peer_of(&self) -> (TlsStream<TcpStream>, PeerIdentity) {
        self.peer(&plain()).await
    }
}

pub fn plain() -> TlsIdentity {
    TlsIdentity::generate(Mode::None, unix_now()).unwrap()
}

pub fn fake() -> TlsIdentity {
    TlsIdentity::generate(Mode::FakeTdx, unix_now()).unwrap()
}

/// An application behind a reverse port.
pub struct Backend {
    pub address: SocketAddr,
    /// Frames of its connections, `None` where it expects none.
    pub connections: mpsc::UnboundedReceiver<Option<PeerInfo>>,
}

/// Sends everything back, after the frame if there is one.
pub async fn echo(with_frame: bool) -> Backend {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = seen.clone();
            tokio::spawn(async move {
                let frame = match with_frame {
                    true => Some(read_frame(&mut stream).await.unwrap()),
                    false => None,
                };
                let _ = seen.send(frame);
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    Backend {
        address,
        connections,
    }
}

/// An application that gives its connections to the test.
pub async fn open_backend() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// Reads to the end, which must come.
pub async fn rest<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    // A reset is an end too.
    let _ = read.expect("the stream does not end");
    bytes
}

/// Sends bytes and gets them back.
pub async fn ping<S>(stream: &mut S, text: &[u8])
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream.write_all(text).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = vec![0; text.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back))
        .await
        .expect("no echo")
        .unwrap();
    assert_eq!(back, text);
}

pub fn in_memory(mode: CertificateMode) -> CertificateSource {
    CertificateSource::Memory(mode)
}
