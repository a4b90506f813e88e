//! The cocoon program: command line, configuration, the local network.
#![allow(
    rustdoc::bare_urls,
    reason = "what documents an argument is printed as help"
)]

mod cli;
mod cmd;
mod config;
mod contracts;
mod datadir;
mod engine;
mod error;
mod evidence;
mod fs;
mod http;
mod keys;
mod logging;
mod model;
mod network;
mod nodes;
mod signals;
mod toncenter;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::error::Result;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        // It chooses its own number of threads.
        Command::Router(args) => cmd::router::run(args, &cli.global),
        _ => run(cli),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.code())
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    // Nodes log into their data directory, which they must take first.
    let node = matches!(
        cli.command,
        Command::Up(_)
            | Command::Chain(_)
            | Command::Client(_)
            | Command::Proxy(_)
            | Command::Worker(_)
            | Command::KeyManager(_)
    );
    if !node {
        logging::init(cli.global.log.as_deref(), None, cli.global.log_format)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| error::CliError::new("cannot start the runtime").found(e.to_string()))?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Up(args) => up::run(*args, &cli.global).await,
            Command::Chain(args) => up::alone::run(&args, &cli.global).await,
            Command::Client(args) => nodes::client(&args, &cli.global).await,
            Command::Proxy(args) => nodes::proxy(&args, &cli.global).await,
            Command::Worker(args) => nodes::worker(&args, &cli.global).await,
            Command::KeyManager(args) => nodes::key_manager(&args, &cli.global).await,
            Command::Status(args) => cmd::status::run(&args, &cli.global).await,
            Command::Chat(args) => cmd::chat::run(&args, &cli.global).await,
            Command::Wallet(command) => cmd::wallet::run(&command, &cli.global).await,
            Command::Account(args) => cmd::account::run(&args, &cli.global).await,
            Command::Contracts(command) => cmd::contracts::run(&command, &cli.global).await,
            Command::Model(command) => cmd::model::run(&command, &cli.global).await,
            Command::Attest(command) => cmd::attest::run(&command).await,
            Command::Doctor(args) => cmd::doctor::run(&args, &cli.global).await,
            Command::Router(_) => unreachable!("main runs the router"),
        }
    });
    // A blocking read or a model that still computes must not keep the process alive.
    runtime.shutdown_background();
    result
}
