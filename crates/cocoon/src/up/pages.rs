//! Small status pages on loopback for nodes that have no HTTP of their own: `/`, `/health`, `/jsonstats`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Gives a node's figures.
pub type Stats = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>;

#[derive(Clone)]
struct Page {
    role: &'static str,
    stats: Stats,
}

/// Serves the pages of a role until the task is aborted.
pub fn serve(listener: TcpListener, role: &'static str, stats: Stats) -> JoinHandle<()> {
    let router = Router::new()
        .route("/", get(index))
        .route("/health", get(health))
        .route("/jsonstats", get(jsonstats))
        .with_state(Page { role, stats });
    tokio::spawn(async move {
        if let Err(e) = axum::serve(cocoon_node::common::no_delay(listener), router).await {
            tracing::error!("the {role}'s status page ended: {e}");
        }
    })
}

async fn index(State(page): State<Page>) -> String {
    format!(
        "cocoon {} of a local network (fake_tdx: NOT confidential)\n\n/health     is it running\n/jsonstats  figures\n",
        page.role
    )
}

async fn health(State(page): State<Page>) -> Json<Value> {
    // The page lives in the process of the node: a halted node takes the process down.
    Json(json!({"status": "ok", "role": page.role, "version": env!("CARGO_PKG_VERSION")}))
}

async fn jsonstats(State(page): State<Page>) -> Json<Value> {
    Json((page.stats)().await)
}
