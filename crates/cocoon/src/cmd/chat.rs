//! `cocoon chat`: one question to an endpoint, the answer as it is made.

use std::io::{Read, Write};
use std::process::ExitCode;

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::cli::{ChatArgs, Global};
use crate::error::{CliError, Result};
use crate::http::Http;

/// Questions from standard input; far above any model's context.
const MAX_PROMPT_BYTES: u64 = 1 << 20;
/// A line of an event stream; a piece of an answer is far smaller.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Runs the command.
pub async fn run(args: &ChatArgs, global: &Global) -> Result<ExitCode> {
    let http = Http::default();
    let (base, model) = match &args.endpoint {
        Some(url) => {
            let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
            let model = match &args.model {
                Some(model) => model.clone(),
                None => first_model(&http, &base).await?,
            };
            (base, model)
        }
        None => {
            let network = super::running(global)?;
            (
                network.client.url,
                args.model.clone().unwrap_or(network.model),
            )
        }
    };
    let mut messages = Vec::new();
    if let Some(system) = &args.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.push(json!({"role": "user", "content": prompt(&args.prompt)?}));
    let mut body = json!({
        "model": model,
        "messages": messages,
        "max_completion_tokens": args.max_tokens,
    });
    if let Some(temperature) = args.temperature {
        body["temperature"] = json!(temperature);
    }
    let url = format!("{base}/v1/chat/completions");
    if args.json {
        let answer = http.call(Method::POST, &url, Some(&body)).await?;
        super::print_json(&answer.json);
        let fine = (200..300).contains(&answer.status);
        return Ok(if fine {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    stream(&http, &url, &body).await
}

fn prompt(argument: &str) -> Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_PROMPT_BYTES)
        .read_to_string(&mut text)
        .map_err(|e| {
            CliError::new("cannot read the question from standard input").found(e.to_string())
        })?;
    Ok(text.trim_end().to_owned())
}

async fn first_model(http: &Http, base: &str) -> Result<String> {
    let url = format!("{base}/v1/models");
    let answer = http.get(&url).await?;
    let id = answer.json["data"][0]["id"].as_str();
    id.map(ToOwned::to_owned).ok_or_else(|| {
        CliError::new(format!("{url} lists no model"))
            .found(explain(&answer.json))
            .hint("name one with --model")
    })
}

async fn stream(http: &Http, url: &str, body: &Value) -> Result<ExitCode> {
    let response = http.open(Method::POST, url, Some(body)).await?;
    let status = response.status();
    let mut incoming = response.into_body();
    let mut waiting: Vec<u8> = Vec::new();
    let mut usage = Value::Null;
    let mut done = false;
    while let Some(frame) = incoming.frame().await {
        let frame =
            frame.map_err(|e| CliError::new("the answer broke off").found(e.to_string()))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        waiting.extend_from_slice(data);
        if waiting.len() > MAX_LINE_BYTES {
            return Err(CliError::new("the answer cannot be read").found("a line without an end"));
        }
        if !status.is_success() {
            continue;
        }
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some(event) = line.trim_end().strip_prefix("data:") else {
                continue;
            };
            if event.trim() == "[DONE]" {
                done = true;
                continue;
            }
            let Ok(event) = serde_json::from_str::<Value>(event.trim()) else {
                continue;
            };
            if event.get("error").is_some() {
                println!();
                return Err(failure(url, 200, &event));
            }
            if let Some(piece) = event["choices"][0]["delta"]["content"].as_str() {
                print!("{piece}");
                let _ = std::io::stdout().flush();
            }
            if event["usage"].is_object() {
                usage = event["usage"].clone();
            }
        }
    }
    if !status.is_success() {
        let json = serde_json::from_slice(&waiting).unwrap_or(Value::Null);
        return Err(failure(url, status.as_u16(), &json));
    }
    println!();
    if !done {
        return Err(CliError::new("the answer broke off before its end")
            .expected("[DONE]")
            .hint("ask again; 'cocoon status' shows whether the network is sound"));
    }
    if usage.is_object() {
        eprintln!("({})", usage_line(&usage));
    }
    Ok(ExitCode::SUCCESS)
}

fn usage_line(usage: &Value) -> String {
    let mut line = format!(
        "{} prompt + {} answer tokens",
        usage["prompt_tokens"], usage["completion_tokens"]
    );
    // Cost fields are the network's own addition to OpenAI's usage.
    if let Some(cost) = usage["total_cost"].as_u64() {
        line.push_str(&format!(
            ", {}",
            cocoon_ton::amount::format_ton(cost.into())
        ));
    }
    line
}

fn explain(json: &Value) -> String {
    json["error"]["message"].as_str().map_or_else(
        || "an answer without an explanation".to_owned(),
        ToOwned::to_owned,
    )
}

fn failure(url: &str, status: u16, json: &Value) -> CliError {
    let failure = CliError::new(format!("the endpoint did not answer the question ({url})"))
        .found(format!("HTTP {status}: {}", explain(json)));
    match json["error"]["code"].as_str() {
        Some("model_not_found") => failure.hint("'cocoon model list' shows the models"),
        _ => failure.hint("'cocoon status' shows the network"),
    }
}
