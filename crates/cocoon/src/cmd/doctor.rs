//! `cocoon doctor`: is this machine ready, in plain words.

mod network;
mod node;

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::cli::{DoctorArgs, Global, UpArgs};
use crate::config;
use crate::contracts::Contracts;
use crate::datadir::Layout;
use crate::engine::Engine;
use crate::error::{CliError, Result};
use crate::network::Network;
use crate::up::ports::{PORTS, in_order, listen};
use crate::up::settings::Settings;

/// A clock before this (2025-01-01) is wrong: certificates and payments depend on it.
const LEAST_TIME: u64 = 1_735_689_600;
/// The tiny model, the chain and the nodes fit into this easily.
const LEAST_MEMORY: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    Warning,
    Problem,
}

struct Finding {
    check: &'static str,
    verdict: Verdict,
    text: String,
}

/// Runs the command. Exit code 1 if something would keep `cocoon up` from starting.
pub async fn run(args: &DoctorArgs, global: &Global) -> Result<ExitCode> {
    if let Some(role) = args.role {
        let findings = node::check(args, role, global).await;
        return Ok(report(
            &findings,
            args.json,
            &format!("cocoon {}", role.name()),
        ));
    }
    let layout = Layout::locate(global.data_dir.as_deref())?;
    let mut findings = Vec::new();
    let mut add = |check, verdict, text: String| {
        findings.push(Finding {
            check,
            verdict,
            text,
        })
    };
    let network = Network::find(&layout).ok().flatten();

    let (verdict, text) = data_dir(&layout);
    add("data directory", verdict, text);
    let settings = config::merged(UpArgs::default(), global, &layout)
        .and_then(|args| Settings::resolve(&args));
    match &settings {
        Ok(_) => add(
            "configuration",
            Verdict::Fine,
            "readable, or none".to_owned(),
        ),
        Err(e) => add("configuration", Verdict::Problem, flat(e)),
    }
    if let Ok(settings) = &settings {
        for (number, (purpose, flag)) in in_order(settings.ports).into_iter().zip(PORTS) {
            if number == 0 {
                continue;
            }
            match listen(number, (purpose, flag)) {
                Ok(_) => add(
                    "port",
                    Verdict::Fine,
                    format!("{number} is free for {purpose}"),
                ),
                Err(_) if network.is_some() => {
                    add(
                        "port",
                        Verdict::Fine,
                        format!("{number} is in use, by the running network it seems"),
                    );
                }
                Err(e) => add("port", Verdict::Problem, flat(&e)),
            }
        }
        let engine = match &settings.engine {
            Engine::Shipped => "the tiny model inside this program".to_owned(),
            Engine::Directory(dir) => format!("{} (complete by its file names)", dir.display()),
            Engine::Upstream(url) => format!("computed by {url}"),
        };
        add("model", Verdict::Fine, engine);
    }
    match Contracts::load() {
        Ok(_) => add(
            "contracts",
            Verdict::Fine,
            "the five contracts inside this program are intact".to_owned(),
        ),
        Err(e) => add("contracts", Verdict::Problem, flat(&e)),
    }
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let verdict = if threads >= 2 {
        Verdict::Fine
    } else {
        Verdict::Warning
    };
    let more = if threads >= 2 {
        ""
    } else {
        "; the nodes and the model will wait for each other"
    };
    add("processor", verdict, format!("{threads} threads{more}"));
    let (verdict, text) = memory();
    add("memory", verdict, text);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| t.as_secs());
    if now < LEAST_TIME {
        add(
            "clock",
            Verdict::Problem,
            "it is years behind; certificates and payments need the right time".to_owned(),
        );
    } else {
        add("clock", Verdict::Fine, "plausible".to_owned());
    }
    let tee = if Path::new("/dev/tdx_guest").exists() {
        "this is a TDX guest; this build cannot use that yet, local networks use fake_tdx"
    } else {
        "no confidential machine: fine for a local network (fake_tdx), not for serving others"
    };
    add("attestation", Verdict::Fine, tee.to_owned());
    if let Some(network) = &network {
        add(
            "network",
            Verdict::Fine,
            format!(
                "running as process {}, endpoint {}",
                network.pid, network.client.openai_base_url
            ),
        );
    }
    Ok(report(&findings, args.json, "cocoon up"))
}

fn report(findings: &[Finding], json: bool, command: &str) -> ExitCode {
    let problems = findings
        .iter()
        .filter(|f| f.verdict == Verdict::Problem)
        .count();
    if json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({"check": f.check, "verdict": word(f.verdict).trim(), "text": f.text}))
            .collect();
        super::print_json(&json!({"problems": problems, "findings": list}));
    } else {
        for f in findings {
            println!("{}  {:<15} {}", word(f.verdict), f.check, f.text);
        }
        match problems {
            0 => println!("\nnothing is missing: '{command}' should work"),
            1 => println!("\n1 problem; '{command}' will not work before it is solved"),
            n => println!("\n{n} problems; '{command}' will not work before they are solved"),
        }
    }
    if problems == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "ok     ",
        Verdict::Warning => "warning",
        Verdict::Problem => "PROBLEM",
    }
}

/// An error in one line.
fn flat(error: &CliError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text
        .trim_start_matches("error: ")
        .lines()
        .map(str::trim)
        .collect();
    lines.join("; ")
}

fn data_dir(layout: &Layout) -> (Verdict, String) {
    let path = layout.path().display();
    match layout.read_data_file() {
        Err(e) => return (Verdict::Problem, flat(&e)),
        Ok(Some(data)) => {
            let held = layout
                .holder()
                .map_or_else(String::new, |pid| format!(", held by process {pid}"));
            let network = if data.founding.is_some() {
                "with a network"
            } else {
                "without a network yet"
            };
            return (
                Verdict::Fine,
                format!(
                    "{path}, {network}, made by cocoon {}{held}",
                    data.created_by
                ),
            );
        }
        Ok(None) => {}
    }
    // The nearest directory that exists tells whether the rest can be made.
    let existing = layout.path().ancestors().find(|p| p.exists());
    match existing.map(std::fs::metadata) {
        Some(Ok(meta)) if meta.is_dir() && !meta.permissions().readonly() => {
            (Verdict::Fine, format!("{path} will be made on first start"))
        }
        _ => (
            Verdict::Problem,
            format!("{path} cannot be made; choose another one with --data-dir"),
        ),
    }
}

fn memory() -> (Verdict, String) {
    let available = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("MemAvailable:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    match available.map(|kib| kib * 1024) {
        Some(bytes) if bytes < LEAST_MEMORY => (
            Verdict::Warning,
            format!(
                "{} MiB available; 1 GiB is comfortable for the tiny model",
                bytes >> 20
            ),
        ),
        Some(bytes) => (Verdict::Fine, format!("{} MiB available", bytes >> 20)),
        None => (Verdict::Fine, "unknown on this system".to_owned()),
    }
}
