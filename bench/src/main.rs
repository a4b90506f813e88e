//! Measures what the network costs: the same requests straight to a fixed-answer inference server, and through a
//! `cocoon up` in front of it (client, proxy, worker and chain on loopback), in turns within the same minute.

mod answer;
mod args;
mod backend;
mod error;
mod load;
mod machine;
mod network;
mod process;
mod report;
mod stats;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;

use answer::Answer;
use args::{Args, Kind};
use error::BenchError;
use load::Plan;
use network::{Network, Start};
use process::{Consumed, Quiet, Watcher};
use report::{MemoryReport, Others, Report, Row, Settings};

/// Between two turns: sockets close, the disk settles.
const PAUSE: Duration = Duration::from_millis(300);
/// After the start and before the end, for the figures of an idle network.
const IDLE: Duration = Duration::from_secs(3);
/// Workers and prices may still be on their way when the network says that it is ready.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cocoon-bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), BenchError> {
    let program = program(args)?;
    let answer = Arc::new(Answer::new(args.tokens));
    let upstream = backend::start(answer.clone(), args.token_interval())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| BenchError::Io("starting the load generator".to_owned(), e))?;
    say(&format!("starting {} up", program.display()));
    let mut network = Network::start(&Start {
        program: &program,
        upstream,
        up_args: &args.up_arg,
        timeout: Duration::from_secs(args.start_timeout),
        parent: &std::env::temp_dir(),
        keep: args.keep,
    })?;
    if args.keep {
        say(&format!("data and log: {}", network.path().display()));
    }
    let bench = Bench {
        args,
        answer,
        upstream,
        endpoint: network.endpoint,
        pid: network.pid(),
    };
    for kind in &args.kinds {
        runtime.block_on(bench.prove(*kind))?;
    }
    let own = vec![std::process::id(), network.pid()];
    let before_busy = process::busy(&own);
    let machine = machine::Machine::look(args.host.as_deref(), network.path());
    std::thread::sleep(IDLE);
    let gone =
        || BenchError::Network("the memory of `cocoon up` cannot be read in /proc".to_owned());
    let before = process::memory(network.pid()).ok_or_else(gone)?;
    let (quiet, watcher) = (Quiet::start(own.clone()), Watcher::start(network.pid()));
    let mut rows = Vec::new();
    for kind in &args.kinds {
        for callers in &args.concurrency {
            rows.push(runtime.block_on(bench.row(*kind, *callers, &watcher)));
            network.alive()?;
        }
    }
    let cores = quiet.others();
    drop(watcher);
    let after = process::memory(network.pid()).ok_or_else(gone)?;
    std::thread::sleep(IDLE);
    let idle = process::memory(network.pid()).ok_or_else(gone)?;
    let after_busy = process::busy(&own);
    let ready = network.ready;
    let stop = network.stop()?;
    let report = Report {
        format: Report::format(),
        date: machine::today(),
        machine,
        settings: Settings {
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            rounds: args.rounds,
            seconds: args.seconds,
            requests: args.requests,
            tokens: args.tokens,
            token_interval_us: args.token_interval_us,
            prompt_bytes: args.prompt_bytes,
            up_args: args.up_arg.clone(),
        },
        ready_s: ready.as_secs_f64(),
        stop_s: stop.as_secs_f64(),
        rows,
        memory: MemoryReport {
            of: report::ONE_PROCESS,
            before,
            after,
            idle,
        },
        others: Others {
            cores,
            before: before_busy,
            after: after_busy,
        },
        notes: args.note.clone(),
    };
    println!(
        "{}",
        if args.json {
            report.json()
        } else {
            report.text()
        }
    );
    if !args.no_write {
        for path in report.write(&args.results)? {
            say(&format!("written: {}", path.display()));
        }
    }
    Ok(())
}

struct Bench<'a> {
    args: &'a Args,
    answer: Arc<Answer>,
    upstream: SocketAddr,
    endpoint: SocketAddr,
    pid: u32,
}

impl Bench<'_> {
    fn plan(&self, target: SocketAddr, kind: Kind, callers: u16) -> Plan {
        Plan {
            target,
            kind,
            callers,
            time: self.args.slice(),
            requests: self.args.requests,
            prompt_bytes: self.args.prompt_bytes,
        }
    }

    /// Both ways give exactly the backend's answer; otherwise there is nothing to compare.
    async fn prove(&self, kind: Kind) -> Result<(), BenchError> {
        for (target, name) in [
            (self.upstream, "to the backend"),
            (self.endpoint, "through cocoon"),
        ] {
            let plan = self.plan(target, kind, 1);
            let begun = Instant::now();
            loop {
                let checked = load::ask_once(&plan, &self.answer)
                    .await
                    .and_then(|body| self.answer.check_whole(kind, &body));
                match checked {
                    Ok(()) => break,
                    Err(_) if begun.elapsed() < FIRST_ANSWER => tokio::time::sleep(PAUSE).await,
                    Err(reason) => {
                        return Err(BenchError::Wrong {
                            kind: kind.name(),
                            target: name,
                            reason,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Direct and cocoon in turns.
    async fn row(&self, kind: Kind, callers: u16, watcher: &Watcher) -> Row {
        let (mut direct, mut cocoon) = (Vec::new(), Vec::new());
        let mut consumed = Consumed::default();
        watcher.take();
        for round in 1..=self.args.rounds {
            direct
                .push(load::measure(&self.plan(self.upstream, kind, callers), &self.answer).await);
            tokio::time::sleep(PAUSE).await;
            let start = process::consumed(self.pid);
            cocoon
                .push(load::measure(&self.plan(self.endpoint, kind, callers), &self.answer).await);
            consumed = consumed.plus(process::consumed(self.pid).since(start));
            tokio::time::sleep(PAUSE).await;
            if let (Some(d), Some(c)) = (direct.last(), cocoon.last()) {
                say(&format!(
                    "{} x {callers}, round {round}: direct {:.0}/s, cocoon {:.0}/s, errors {} / {}",
                    kind.name(),
                    d.rate(),
                    c.rate(),
                    d.failed(),
                    c.failed()
                ));
            }
        }
        Row::new(kind, callers, &direct, &cocoon, consumed, watcher.take())
    }
}

/// Progress goes to standard error, figures to standard output.
fn say(text: &str) {
    eprintln!("cocoon-bench: {text}");
}

/// The program under test: named, or built into the same directory.
fn program(args: &Args) -> Result<PathBuf, BenchError> {
    let path = match &args.cocoon {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(|e| BenchError::Io("finding this program".to_owned(), e))?
            .with_file_name("cocoon"),
    };
    if Path::is_file(&path) {
        Ok(path)
    } else {
        Err(BenchError::Network(format!(
            "there is no program {}; build it with `cargo build --release -p cocoon`, or name it with --cocoon FILE",
            path.display()
        )))
    }
}
