//! Makes, checks and tries the tiny model.

use clap::{Parser, Subcommand};
use cocoon_engine::tiny::recipe::Recipe;
use cocoon_engine::tiny::{Trainer, export, train_tokenizer};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
        } => make(&out, Recipe::shipped(seed, steps), minutes),
        Command::Smoke { steps } => smoke(steps),
    }
}

fn make(out: &Path, recipe: Recipe, minutes: Option<f64>) -> Result<(), Failure> {
    std::fs::create_dir_all(out)?;
    let start = Instant::now();
    let tokenizer = train_tokenizer(&recipe)?;
    let mut trainer = Trainer::new(recipe, tokenizer)?;
    println!(
        "tokenizer trained in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let (mut saved, mut tokens, mut smooth, mut cooling) =
        (Instant::now(), 0usize, None::<f32>, false);
    while !trainer.finished() {
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
        let late = minutes.is_some_and(|m| {
            let per_step = elapsed.as_secs_f64() / step.step as f64;
            elapsed.as_secs_f64() + per_step * trainer.recipe().cooldown.min(step.step) as f64
                >= m * 60.0
        });
        if !cooling && (late || out.join("finish").exists()) {
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
        trainer.recipe().steps
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
