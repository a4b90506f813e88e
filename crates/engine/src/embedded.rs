//! The embedded engine: a model directory, loaded into this process and served as a backend.

use crate::backend::{Backend, BackendEvent, EVENT_QUEUE, HttpRequest, ModelInfo};
use crate::batch::{BatchOptions, Capacity, Scheduler, Stats};
use crate::decoder::{Decoder, token_ids};
use crate::error::{EngineError, read_file};
use crate::openai::{Service, serve};
use crate::sampler::Sampling;
use crate::template::ChatTemplate;
use crate::text::Text;
use async_trait::async_trait;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A generation configuration is a few hundred bytes.
const MAX_GENERATION_CONFIG_BYTES: u64 = 1 << 20;

/// How to load and run a model.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// The name that requests use; the directory's name if absent.
    pub name: Option<String>,
    /// Threads, slots and memory.
    pub batch: BatchOptions,
}

/// A model running in this process. Cheap to clone; the model is freed with the last clone and request.
#[derive(Clone)]
pub struct EmbeddedEngine {
    service: Arc<Service>,
}

impl EmbeddedEngine {
    /// Loads a Hugging Face directory. Reads files and computes: not for an async thread.
    pub fn load(dir: &Path, options: EngineOptions) -> Result<Self, EngineError> {
        if !dir.is_dir() {
            return Err(EngineError::Missing {
                path: dir.to_owned(),
                expected: "a model directory with config.json, model.safetensors and tokenizer.json",
            });
        }
        let name = match options.name {
            Some(name) => name,
            None => {
                // `models/x/..` and the like have no name of their own.
                let full = dir.canonicalize().map_err(|e| EngineError::io(dir, e))?;
                full.file_name()
                    .map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned())
            }
        };
        let decoder = Decoder::load(dir)?;
        let vocab_size = decoder.config().vocab_size;
        let text = Arc::new(Text::load(dir, vocab_size)?);
        let template = ChatTemplate::load(dir)?;
        let (generation_ends, sampling) = generation_defaults(&dir.join("generation_config.json"))?;
        let mut end_tokens = if generation_ends.is_empty() {
            decoder.config().eos_ids.clone()
        } else {
            generation_ends
        };
        end_tokens.retain(|id| (*id as usize) < vocab_size);
        let scheduler = Scheduler::start(decoder, text.clone(), &options.batch)?;
        let created = crate::openai::now();
        let service = Service {
            name,
            created,
            text,
            template,
            end_tokens,
            sampling,
            vocab_size,
            scheduler,
        };
        Ok(Self {
            service: Arc::new(service),
        })
    }

    /// The name that requests use.
    pub fn name(&self) -> &str {
        &self.service.name
    }

    /// The tokenizer.
    pub fn text(&self) -> &Text {
        &self.service.text
    }

    /// Limits in force.
    pub fn capacity(&self) -> Capacity {
        self.service.scheduler.capacity()
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.service.scheduler.stats()
    }
}

/// End tokens and sampling preferences of `generation_config.json`, if there is one.
fn generation_defaults(path: &Path) -> Result<(Vec<u32>, Sampling), EngineError> {
    let mut sampling = Sampling::default();
    if !path.exists() {
        return Ok((Vec::new(), sampling));
    }
    let bytes = read_file(
        path,
        MAX_GENERATION_CONFIG_BYTES,
        "the generation configuration (JSON)",
    )?;
    let json: Value = serde_json::from_slice(&bytes)
        .map_err(|e| EngineError::invalid(path, format!("expected JSON: {e}")))?;
    let number = |name: &str, max: f64| -> Result<Option<f32>, EngineError> {
        match json.get(name).filter(|v| !v.is_null()) {
            None => Ok(None),
            Some(v) => match v.as_f64() {
                Some(x) if (0.0..=max).contains(&x) => Ok(Some(x as f32)),
                _ => Err(EngineError::invalid(
                    path,
                    format!("`{name}` is {v}; expected a number from 0 to {max}"),
                )),
            },
        }
    };
    // Files without `do_sample` mean greedy decoding to Hugging Face; OpenAI's default of 1 is what callers expect.
    sampling.temperature = number("temperature", 2.0)?.unwrap_or(sampling.temperature);
    sampling.top_p = number("top_p", 1.0)?.unwrap_or(sampling.top_p);
    sampling.min_p = number("min_p", 1.0)?.unwrap_or(sampling.min_p);
    sampling.top_k = number("top_k", 1e6)?.map_or(sampling.top_k, |k| k as usize);
    Ok((token_ids(json.get("eos_token_id")), sampling))
}

#[async_trait]
impl Backend for EmbeddedEngine {
    fn start(&self, req: HttpRequest) -> mpsc::Receiver<BackendEvent> {
        let (out, receiver) = mpsc::channel(EVENT_QUEUE);
        tokio::spawn(serve(self.service.clone(), req, out));
        receiver
    }

    async fn healthy(&self) -> Result<(), String> {
        if self.service.scheduler.running() {
            Ok(())
        } else {
            Err("the engine's thread has stopped".into())
        }
    }

    fn models(&self) -> Vec<ModelInfo> {
        let context = u32::try_from(self.capacity().context).ok();
        vec![ModelInfo {
            id: self.service.name.clone(),
            context_length: context,
        }]
    }

    fn max_active(&self) -> usize {
        self.capacity().max_active
    }
}
