//! What computes the answers: the embedded engine with a directory's model, or an upstream server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_engine::upstream::UpstreamOptions;
use cocoon_engine::{Backend, EmbeddedEngine, EngineOptions, HttpUpstream};
use tokio::task::JoinHandle;

use crate::error::{CliError, Result};
use crate::model;

/// What computes the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// The model inside this program.
    Shipped,
    /// A model directory.
    Directory(PathBuf),
    /// An OpenAI-compatible server.
    Upstream(String),
}

/// A backend with the names of its model.
pub struct Model {
    /// Computes.
    pub backend: Arc<dyn Backend>,
    /// Name that requests use.
    pub name: String,
    /// Name whose hash stands in the root contract.
    pub full_name: String,
}

/// Loads the model beside everything else that a start does.
pub fn spawn_model(
    engine: Engine,
    name: Option<String>,
    models: PathBuf,
) -> JoinHandle<Result<Model>> {
    tokio::spawn(async move {
        match engine {
            Engine::Upstream(url) => upstream(&url, name).await,
            Engine::Shipped | Engine::Directory(_) => {
                tokio::task::spawn_blocking(move || embedded(engine, name, &models))
                    .await
                    .map_err(|e| CliError::new("loading the model failed").found(e.to_string()))?
            }
        }
    })
}

fn embedded(engine: Engine, name: Option<String>, models: &Path) -> Result<Model> {
    let dir = match engine {
        Engine::Directory(dir) => dir,
        _ => model::unpack_shipped(models)?,
    };
    let name = match name {
        Some(name) => name,
        None => model::base_name(&dir)?,
    };
    model::check_name(&name)?;
    let full_name = model::full_name(&name, &dir)?;
    let options = EngineOptions {
        name: Some(name.clone()),
        ..EngineOptions::default()
    };
    let engine = EmbeddedEngine::load(&dir, options).map_err(|e| {
        CliError::new("the model cannot be loaded; nothing was changed")
            .expected("a Llama- or Qwen-shaped model in Hugging Face layout")
            .found(e.to_string())
            .hint("check --model, or leave it out for the tiny model inside this program")
    })?;
    Ok(Model {
        backend: Arc::new(engine),
        name,
        full_name,
    })
}

async fn upstream(url: &str, name: Option<String>) -> Result<Model> {
    let upstream = HttpUpstream::new(url, UpstreamOptions::default())
        .map_err(|e| CliError::usage("cannot use --upstream").found(e.to_string()))?;
    let failure = |found: String| {
        CliError::new(format!("the upstream {url} cannot be used"))
            .expected("an OpenAI-compatible server that lists its models at /v1/models")
            .found(found)
            .hint("start it first, and check --upstream")
    };
    let models = upstream.discover().await.map_err(failure)?;
    let offered: Vec<&str> = models.iter().map(|m| m.id.as_str()).collect();
    let name = match (name, offered.as_slice()) {
        (Some(name), _) if offered.contains(&name.as_str()) => name,
        (None, [only]) => (*only).to_owned(),
        (None, []) => return Err(failure("an empty list of models".to_owned())),
        (wanted, _) => {
            let wanted = wanted.map_or_else(
                || "several models".to_owned(),
                |name| format!("no model {name:?}"),
            );
            return Err(
                failure(format!("{wanted}; it offers {}", offered.join(", ")))
                    .hint("choose one of them with --model-name"),
            );
        }
    };
    model::check_name(&name)?;
    // Nothing is known of what really runs there, so the full name is the base name alone.
    let full_name = name.clone();
    Ok(Model {
        backend: Arc::new(upstream),
        name,
        full_name,
    })
}
