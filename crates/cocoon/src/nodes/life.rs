//! The life of a node program: ready, serving, and a stop that loses nothing.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_node::client::ClientHandle;
use cocoon_node::key_manager::KeyManagerHandle;
use cocoon_node::proxy::ProxyHandle;
use cocoon_node::wallet::WalletHandle;
use cocoon_node::worker::WorkerHandle;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::cli::NodeArgs;
use crate::datadir::DataDir;
use crate::error::{CliError, Result};
use crate::signals::Signals;

/// How long running requests may take to finish when the node stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a wallet may take to settle what is in flight.
const CLOSE: Duration = Duration::from_secs(3);

/// A running node of any role.
#[derive(Clone)]
pub enum Node {
    /// A client.
    Client(Arc<ClientHandle>),
    /// A proxy.
    Proxy(Arc<ProxyHandle>),
    /// A worker.
    Worker(Arc<WorkerHandle>),
    /// A key manager.
    KeyManager(Arc<KeyManagerHandle>),
}

impl Node {
    async fn stopped(&self) -> String {
        match self {
            Node::Client(n) => n.stopped().await,
            Node::Proxy(n) => n.stopped().await,
            Node::Worker(n) => n.stopped().await,
            Node::KeyManager(n) => n.stopped().await,
        }
    }

    async fn drain(&self) {
        match self {
            Node::Client(n) => n.drain().await,
            Node::Proxy(n) => n.drain().await,
            Node::Worker(n) => n.drain().await,
            Node::KeyManager(n) => n.drain().await,
        }
    }

    /// Figures for status pages.
    pub async fn stats(&self) -> Value {
        match self {
            Node::Client(n) => n.stats().await,
            Node::Proxy(n) => n.stats().await,
            Node::Worker(n) => n.stats().await,
            Node::KeyManager(n) => n.stats().await,
        }
    }
}

/// What a started node consists of.
pub struct Started {
    /// The node.
    pub node: Node,
    /// Its wallet, if there is a chain.
    pub wallet: Option<WalletHandle>,
    /// Its status page, if it has one of its own.
    pub pages: Option<JoinHandle<()>>,
    /// What to tell when ready; `role`, `pid` and `data_dir` are added.
    pub ready: Value,
    /// The same for people.
    pub screen: String,
    /// Its role.
    pub role: &'static str,
    /// When the program began.
    pub began: Instant,
    /// Its data, held until the end.
    pub data: DataDir,
}

/// Starts a node and runs it until it is told to stop. A stop while it starts is no failure.
pub async fn run(
    args: &NodeArgs,
    start: impl Future<Output = Result<Started>>,
) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut started = tokio::select! {
        started = start => started?,
        () = signals.next() => {
            eprintln!("stopped before it was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let layout = started.data.layout().clone();
    let role = started.role;
    if args.json {
        let ready = &mut started.ready;
        ready["role"] = role.into();
        ready["pid"] = std::process::id().into();
        ready["data_dir"] = layout.path().display().to_string().into();
        ready["startup_ms"] = (started.began.elapsed().as_millis() as u64).into();
        println!("{ready}");
    } else if !args.quiet {
        print!("{}", started.screen);
    }
    let halted = tokio::select! {
        reason = started.node.stopped() => Some(reason),
        () = signals.next() => None,
    };
    if !args.quiet {
        eprintln!("stopping: finishing what runs (Ctrl-C again stops at once)");
    }
    tokio::select! {
        () = stop(&started) => {}
        () = signals.next() => {
            eprintln!("stopped at once; everything that was committed is on disk");
            return Ok(ExitCode::SUCCESS);
        }
    }
    match halted {
        Some(reason) => Err(CliError::new(format!(
            "the {role} has stopped by itself; nothing was deleted"
        ))
        .found(reason)
        .hint(format!(
            "the log is {}",
            layout.logs().join("cocoon.log").display()
        ))),
        None => {
            if !args.quiet {
                eprintln!("stopped; the data is in {}", layout.path().display());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn stop(started: &Started) {
    if tokio::time::timeout(DRAIN, started.node.drain())
        .await
        .is_err()
    {
        tracing::warn!(
            "requests were still running after {} s and are broken off",
            DRAIN.as_secs()
        );
    }
    if let Some(pages) = &started.pages {
        pages.abort();
    }
    if let Some(wallet) = &started.wallet {
        let _ = tokio::time::timeout(CLOSE, wallet.close()).await;
    }
}
