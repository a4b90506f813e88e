//! `cocoon model`: what the endpoint offers, and the identity of a model directory.

use std::process::ExitCode;

use cocoon_node::root::model_hash;
use serde_json::json;

use crate::cli::{Global, ModelCommand};
use crate::error::Result;
use crate::http::Http;
use crate::model;

/// Runs the command.
pub async fn run(command: &ModelCommand, global: &Global) -> Result<ExitCode> {
    match command {
        ModelCommand::List { json } => {
            let network = super::running(global)?;
            let answer = Http::default()
                .get(&format!("{}/models", network.client.openai_base_url))
                .await?;
            if *json {
                super::print_json(&answer.json);
            } else {
                for model in answer.json["data"].as_array().into_iter().flatten() {
                    println!("{}", model["id"].as_str().unwrap_or("?"));
                }
            }
        }
        ModelCommand::Hash { dir, name, json } => {
            model::check_dir(dir)?;
            let name = match name {
                Some(name) => name.clone(),
                None => model::base_name(dir)?,
            };
            model::check_name(&name)?;
            let full_name = model::full_name(&name, dir)?;
            let hash = hex::encode(model_hash(&full_name));
            if *json {
                super::print_json(
                    &json!({"name": name, "full_name": full_name, "model_hash": hash}),
                );
            } else {
                println!("full name  {full_name}\nroot hash  {hash}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
