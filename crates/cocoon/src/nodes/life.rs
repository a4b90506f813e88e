//! The life of a node program: ready, serving, and a stop that loses nothing.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cocoon_node::client::ClientHandle;
use cocoon_node::metrics::{Page, trace};
use cocoon_node::proxy::ProxyHandle;
use cocoon_node::wallet::WalletHandle;
use cocoon_node::worker::WorkerHandle;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::base::Base;
use super::node_file::NodeFile;
use crate::cli::NodeArgs;
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
}

impl Node {
    async fn stopped(&self) -> String {
        match self {
            Node::Client(n) => n.stopped().await,
            Node::Proxy(n) => n.stopped().await,
            Node::Worker(n) => n.stopped().await,
        }
    }

    async fn drain(&self) {
        match self {
            Node::Client(n) => n.drain().await,
            Node::Proxy(n) => n.drain().await,
            Node::Worker(n) => n.drain().await,
        }
    }

    /// Gives the node up, or takes it into use again where that is possible: a closed proxy contract stays closed until
    /// the root's params change.
    pub async fn set_closed(&self, closed: bool) -> bool {
        match self {
            Node::Client(n) => n.set_closed(closed).await,
            Node::Worker(n) => n.set_closed(closed).await,
            Node::Proxy(n) if closed => n.close().await,
            Node::Proxy(_) => return false,
        }
        true
    }

    /// Metrics.
    pub async fn page(&self) -> Page {
        match self {
            Node::Client(n) => n.page().await,
            Node::Proxy(n) => n.page().await,
            Node::Worker(n) => n.page().await,
        }
    }

    /// Requests that ended since the last call; the first call begins to collect.
    pub async fn spans(&self) -> trace::Taken {
        match self {
            Node::Client(n) => n.spans().await,
            Node::Proxy(n) => n.spans().await,
            Node::Worker(n) => n.spans().await,
        }
    }

    /// Figures for status pages.
    pub async fn stats(&self) -> Value {
        match self {
            Node::Client(n) => n.stats().await,
            Node::Proxy(n) => n.stats().await,
            Node::Worker(n) => n.stats().await,
        }
    }
}

/// What a started node consists of.
pub struct Started {
    /// The node.
    pub node: Node,
    /// Its wallet, if there is a chain.
    pub wallet: Option<WalletHandle>,
    /// Its pages and what else runs beside it.
    pub pages: Vec<JoinHandle<()>>,
    /// Where its pages are, if anywhere.
    pub url: Option<String>,
    /// What to tell when ready; `role`, `pid` and `data_dir` are added.
    pub ready: Value,
    /// The same for people.
    pub screen: String,
    /// Held until the end.
    pub base: Base,
}

/// Starts a node and runs it until it is told to stop. A stop while it starts is no failure.
pub async fn run(
    args: &NodeArgs,
    start: impl Future<Output = Result<Started>>,
) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let reloads = crate::signals::hangup()?;
    let mut started = tokio::select! {
        started = start => started?,
        () = signals.next() => {
            eprintln!("stopped before it was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let layout = started.base.data.layout().clone();
    let role = started.base.role;
    let file = NodeFile {
        role: role.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        url: started.url.clone(),
        chain: started.base.source.text(),
        root: started.base.shared.root.to_string(),
    };
    file.write(&layout)?;
    if args.json {
        let ready = &mut started.ready;
        ready["role"] = role.into();
        ready["pid"] = std::process::id().into();
        ready["data_dir"] = layout.path().display().to_string().into();
        ready["startup_ms"] = (started.base.began.elapsed().as_millis() as u64).into();
        println!("{ready}");
    } else if !args.quiet {
        print!("{}", started.screen);
    }
    let halted = tokio::select! {
        reason = started.node.stopped() => Some(reason),
        () = signals.next() => None,
        never = reload(&started.base, reloads) => match never {},
    };
    NodeFile::remove(&layout);
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

/// Reads again what may be read again, at every SIGHUP.
async fn reload(base: &Base, mut hangups: tokio::signal::unix::Signal) -> std::convert::Infallible {
    loop {
        if hangups.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        base.reload();
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
    for page in &started.pages {
        page.abort();
    }
    if let Some(wallet) = &started.wallet {
        let _ = tokio::time::timeout(CLOSE, wallet.close()).await;
    }
}
