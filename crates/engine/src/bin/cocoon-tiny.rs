//! Makes, checks and tries the tiny model.

use clap::{Parser, Subcommand};
use cocoon_engine::tiny::corpus::{Corpus, Mix};
use cocoon_engine::tiny::recipe::Recipe;
use cocoon_engine::tiny::{Trainer, export, train_tokenizer};
use cocoon_engine::{Backend, BackendEvent, EmbeddedEngine, EngineOptions, HttpRequest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokenizers::Tokenizer;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The model so far is written this often, so that a long training can be stopped at any time.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(180);

#[derive(Parser)]
#[command(about = "Makes, checks and tries Cocoon's tiny language model (a toy).")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train the model by its full recipe. A file named `finish` in DIR starts the last phase early.
    Make {
        /// Where to write the model.
        #[arg(long)]
        out: PathBuf,
        /// Optimiser steps.
        #[arg(long, default_value_t = 2400)]
        steps: usize,
        /// Begin the last phase so that training takes about this long.
        #[arg(long)]
        minutes: Option<f64>,
        /// Seed of data and weights.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Do a further part of the training, from the weights and tokenizer in this directory.
        #[arg(long)]
        from: Option<PathBuf>,
        /// The further part is mostly about counting.
        #[arg(long, requires = "from")]
        counting: bool,
        /// Begin the last phase after this step.
        #[arg(long)]
        cool_down_at: Option<usize>,
        /// End after this step, whatever the phase.
        #[arg(long)]
        stop_at: Option<usize>,
    },
    /// Ask the model questions that the generator knows the answers to, and count the right ones.
    Eval {
        /// The model's directory.
        #[arg(long, default_value = "models/cocoon-tiny")]
        model: PathBuf,
        /// How many questions.
        #[arg(long, default_value_t = 300)]
        questions: usize,
        /// Seed of the questions; that of training plus one by default.
        #[arg(long, default_value_t = 2)]
        seed: u64,
    },
    /// Ask the model one question and print the answer as it comes.
    Chat {
        /// The model's directory.
        #[arg(long, default_value = "models/cocoon-tiny")]
        model: PathBuf,
        /// 0 for the likeliest answer.
        #[arg(long, default_value_t = 0.0)]
        temperature: f64,
        /// The question.
        question: String,
    },
    /// Train for seconds and check that the loss falls.
    Smoke {
        /// Optimiser steps.
        #[arg(long, default_value_t = 30)]
        steps: usize,
    },
}

fn main() -> Result<(), Failure> {
    match Arguments::parse().command {
        Command::Make {
            out,
            steps,
            minutes,
            seed,
            from,
            counting,
            cool_down_at,
            stop_at,
        } => {
            let recipe = match from {
                None => Recipe::shipped(seed, steps),
                Some(_) if counting => Recipe::further(seed, steps, Mix::Counting),
                Some(_) => Recipe::further(seed, steps, Mix::Focused),
            };
            let plan = Plan {
                out,
                from,
                minutes,
                cool_down_at,
                stop_at,
            };
            make(&plan, recipe)
        }
        Command::Eval {
            model,
            questions,
            seed,
        } => runtime()?.block_on(eval(&model, questions, seed)),
        Command::Chat {
            model,
            temperature,
            question,
        } => {
            let messages = json!([{"role": "user", "content": question}]);
            runtime()?.block_on(chat(&model, temperature, messages))
        }
        Command::Smoke { steps } => smoke(steps),
    }
}

/// Where a training starts and ends.
struct Plan {
    out: PathBuf,
    from: Option<PathBuf>,
    minutes: Option<f64>,
    cool_down_at: Option<usize>,
    stop_at: Option<usize>,
}

fn make(plan: &Plan, recipe: Recipe) -> Result<(), Failure> {
    let out = &plan.out;
    std::fs::create_dir_all(out)?;
    let start = Instant::now();
    let tokenizer = match &plan.from {
        None => train_tokenizer(&recipe)?,
        Some(from) => Tokenizer::from_file(from.join("tokenizer.json"))?,
    };
    let mut trainer = Trainer::new(recipe, tokenizer)?;
    if let Some(from) = &plan.from {
        trainer.start_from(from)?;
    }
    println!(
        "tokenizer ready after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let (mut saved, mut tokens, mut smooth, mut cooling) =
        (Instant::now(), 0usize, None::<f32>, false);
    while !trainer.finished() && plan.stop_at != Some(trainer.steps_done()) {
        let step = trainer.train_step()?;
        tokens += step.tokens;
        let average = smooth.map_or(step.loss, |s| s * 0.95 + step.loss * 0.05);
        smooth = Some(average);
        let elapsed = start.elapsed();
        if step.step.is_multiple_of(10) {
            let speed = tokens as f64 / elapsed.as_secs_f64();
            println!(
                "step {} loss {average:.4} norm {:.2} tokens/s {speed:.0} time {:.0} s",
                step.step,
                step.norm,
                elapsed.as_secs_f64()
            );
        }
        let late = plan.minutes.is_some_and(|m| {
            let per_step = elapsed.as_secs_f64() / step.step as f64;
            elapsed.as_secs_f64() + per_step * trainer.recipe().cooldown.min(step.step) as f64
                >= m * 60.0
        });
        let asked = plan.cool_down_at == Some(step.step) || out.join("finish").exists();
        if !cooling && (late || asked) {
            cooling = true;
            trainer.cool_down_now();
            println!("last phase begins; {} steps in all", trainer.recipe().steps);
        }
        if saved.elapsed() >= CHECKPOINT_EVERY {
            saved = Instant::now();
            export(&trainer, out)?;
            let held_out = trainer.held_out(64)?;
            println!(
                "saved at step {}: held out {:.3} bits/byte in answers, {:.3} in all",
                step.step, held_out.answer_bits_per_byte, held_out.bits_per_byte
            );
        }
    }
    let hash = export(&trainer, out)?;
    let held_out = trainer.held_out(400)?;
    println!(
        "held out: {:.4} bits/byte in answers, {:.4} in all",
        held_out.answer_bits_per_byte, held_out.bits_per_byte
    );
    println!(
        "done: {} steps, {tokens} tokens, sha256 {hash}",
        trainer.steps_done()
    );
    Ok(())
}

fn smoke(steps: usize) -> Result<(), Failure> {
    let recipe = Recipe::smoke(1, steps);
    let tokenizer = train_tokenizer(&recipe)?;
    let mut trainer = Trainer::new(recipe, tokenizer)?;
    let start = Instant::now();
    let first = trainer.train_step()?.loss;
    let mut last = first;
    while !trainer.finished() {
        last = trainer.train_step()?.loss;
    }
    println!(
        "loss {first:.3} -> {last:.3} in {steps} steps, {:.1} s",
        start.elapsed().as_secs_f64()
    );
    if last < first * 0.8 {
        Ok(())
    } else {
        Err(format!("expected the loss to fall by a fifth from {first:.3}, found {last:.3}").into())
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn load(model: &Path) -> Result<EmbeddedEngine, Failure> {
    Ok(EmbeddedEngine::load(
        model,
        EngineOptions {
            name: Some("tiny".into()),
            ..EngineOptions::default()
        },
    )?)
}

fn request(body: Value) -> HttpRequest {
    let url = "/v1/chat/completions".into();
    HttpRequest {
        method: "POST".into(),
        url,
        headers: Vec::new(),
        body: body.to_string().into(),
    }
}

async fn chat(model: &Path, temperature: f64, messages: Value) -> Result<(), Failure> {
    let body =
        json!({"model": "tiny", "messages": messages, "temperature": temperature, "stream": true});
    let mut events = load(model)?.start(request(body));
    let mut out = std::io::stdout();
    while let Some(event) = events.recv().await {
        match event {
            BackendEvent::Body(piece) => {
                let event = String::from_utf8_lossy(&piece);
                let Some(json) = event.strip_prefix("data: ").map(str::trim_end) else {
                    return Err(event.into());
                };
                // The last event is `[DONE]`, which is no JSON.
                if let Ok(json) = serde_json::from_str::<Value>(json) {
                    write!(
                        out,
                        "{}",
                        json["choices"][0]["delta"]["content"]
                            .as_str()
                            .unwrap_or("")
                    )?;
                    out.flush()?;
                }
            }
            BackendEvent::Failed { message, .. } => return Err(message.into()),
            BackendEvent::Head { .. } | BackendEvent::End => {}
        }
    }
    writeln!(out)?;
    Ok(())
}

/// The kind of a question, by its answer, for the table of results.
fn kind(question: &str, answer: &str) -> &'static str {
    match () {
        () if answer.contains(" + ") => "addition",
        () if answer.contains(" - ") => "subtraction",
        () if answer.contains(" * ") => "multiplication",
        () if question.contains("ount") => "counting",
        () if question.contains("pell") || answer.contains(" letters") => "spelling",
        () if answer.starts_with("I am a very small model") => "not known",
        () if ["Repeat", "Say", "Copy"]
            .iter()
            .any(|w| question.starts_with(w)) =>
        {
            "copying"
        }
        () => "facts and greetings",
    }
}

async fn eval(model: &Path, questions: usize, seed: u64) -> Result<(), Failure> {
    let engine = load(model)?;
    let mut corpus = Corpus::new(seed, Mix::Focused);
    let mut results: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut asked = 0;
    let (start, mut tokens) = (Instant::now(), 0);
    while asked < questions {
        let mut turns = corpus.conversation().turns;
        let Some(expected) = turns.pop().map(|t| t.content) else {
            continue;
        };
        let question = turns.last().map(|t| t.content.clone()).unwrap_or_default();
        // Stories have no right answer.
        if expected.starts_with("Once upon") {
            continue;
        }
        asked += 1;
        let messages: Vec<Value> = turns
            .iter()
            .map(|t| json!({"role": t.role, "content": t.content}))
            .collect();
        let mut events = engine.start(request(
            json!({"model": "tiny", "messages": messages, "temperature": 0}),
        ));
        let mut body = Vec::new();
        while let Some(event) = events.recv().await {
            if let BackendEvent::Body(piece) = event {
                body.extend_from_slice(&piece);
            }
        }
        let answer: Value = serde_json::from_slice(&body)?;
        let found = answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or("");
        tokens += answer["usage"]["completion_tokens"].as_u64().unwrap_or(0);
        let (right, all) = results.entry(kind(&question, &expected)).or_default();
        *all += 1;
        if found == expected {
            *right += 1;
        } else {
            println!("wrong: {question:?}: expected {expected:?}, found {found:?}");
        }
    }
    for (kind, (right, all)) in &results {
        println!("{kind}: {right} of {all}");
    }
    println!(
        "{:.0} tokens/s, one request at a time",
        tokens as f64 / start.elapsed().as_secs_f64()
    );
    Ok(())
}
