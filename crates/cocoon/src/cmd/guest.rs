//! `cocoon attest host`, `quote`, `gpu` and `extend`: what this machine can prove about itself.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use cocoon_attest::evidence::Verdict;
use cocoon_attest::guest::event_log::{FoundLog, lines};
use cocoon_attest::guest::host::{Host, Kind};
use cocoon_attest::guest::registers::Registers;
use cocoon_attest::guest::{GuestError, Kernel, Provider, Reports, System, gpu};
use cocoon_attest::measurements::TdxMeasurements;
use serde_json::json;

use crate::cli::{ExtendArgs, GpuArgs, HostArgs, MachineArgs, QuoteArgs, QuoteKind};
use crate::error::{CliError, Result};
use crate::fs::{PUBLIC_MODE, io_error, read_small, write_atomic};

fn kernel(machine: &MachineArgs) -> Arc<dyn Kernel> {
    Arc::new(System::at(&machine.root))
}

/// The errors of the guest's side say themselves what to do.
fn failure(what: &str, error: &dyn std::fmt::Display) -> CliError {
    CliError::new(what).found(error.to_string())
}

/// Runs `cocoon attest host`.
pub fn host(args: &HostArgs) -> Result<ExitCode> {
    let kernel = kernel(&args.machine);
    let host = Host::look(&*kernel);
    let registers = Registers::open(kernel.clone()).and_then(|r| r.measurements());
    let log = compare_log(kernel, args.events.as_deref())?;
    if args.json {
        let mut out = json!(host);
        out["image_hash"] = json!(registers.as_ref().ok().map(|m| hex::encode(m.image_hash())));
        out["rtmr"] = json!(registers.as_ref().ok().map(|m| m.rtmr.map(hex::encode)));
        out["event_log_replay"] = match &log {
            Ok(verdict) => json!({"explains_registers": verdict.accepted(), "checks": verdict}),
            Err(error) => json!({"error": error.to_string()}),
        };
        super::print_json(&out);
    } else {
        print(&host, registers, log);
    }
    Ok(ExitCode::SUCCESS)
}

fn compare_log(
    kernel: Arc<dyn Kernel>,
    events: Option<&Path>,
) -> Result<std::result::Result<Verdict, GuestError>> {
    let text = match events {
        None => String::new(),
        Some(path) => {
            let bytes = read_small(path)?.ok_or_else(|| {
                CliError::usage(format!("there is no file {}", path.display()))
                    .expected("the log of text events that 'cocoon attest extend --events' writes")
            })?;
            String::from_utf8(bytes)
                .map_err(|e| failure(&format!("cannot read {}", path.display()), &e))?
        }
    };
    let later = lines(&text).map_err(|e| failure("cannot use the log of text events", &e))?;
    Ok(FoundLog::read(&*kernel).and_then(|log| log.compare(kernel, &later)))
}

fn print(
    host: &Host,
    registers: std::result::Result<TdxMeasurements, GuestError>,
    log: std::result::Result<Verdict, GuestError>,
) {
    let yes = |there: bool| if there { "yes" } else { "no" };
    println!(
        "Machine      {}",
        match host.kind {
            Kind::TdxGuest => "Intel TDX guest",
            Kind::SnpGuest => "AMD SEV-SNP guest",
            Kind::None if host.virtual_machine => "an ordinary virtual machine",
            Kind::None => "no confidential machine",
        }
    );
    println!("Kernel       {}", host.kernel);
    println!("Configfs     {}", yes(host.configfs));
    println!("Quotes       {}", yes(host.quotes && host.device));
    println!("Registers    {}", yes(host.registers));
    println!("Event log    {}", yes(host.event_log));
    println!(
        "GPUs         {}{}",
        host.gpu.count,
        match (&host.gpu.driver, host.gpu.confidential) {
            (None, _) => " (no NVIDIA driver)".to_owned(),
            (Some(driver), None) => format!(" (driver {driver}, mode unknown)"),
            (Some(driver), Some(on)) => format!(
                " (driver {driver}, confidential computing {})",
                if on { "on" } else { "off" }
            ),
        }
    );
    if host.registers {
        match registers {
            Ok(found) => {
                println!("Image hash   {}", hex::encode(found.image_hash()));
                for (index, register) in found.rtmr.iter().enumerate() {
                    println!("RTMR{index}        {}", hex::encode(register));
                }
            }
            Err(error) => println!("Image hash   unknown: {error}"),
        }
    }
    if host.event_log {
        match log {
            Ok(verdict) if verdict.accepted() => {
                println!("Replay       the event log explains all four registers");
            }
            Ok(verdict) => println!("Replay       {verdict}"),
            Err(error) => println!("Replay       impossible: {error}"),
        }
    }
    for text in host.missing.iter().chain(&host.gpu.unknown) {
        println!("\nMissing: {text}");
    }
}

/// Runs `cocoon attest quote`.
pub fn quote(args: &QuoteArgs) -> Result<ExitCode> {
    let mut data = [0; 64];
    if let Some(text) = &args.report_data {
        let bytes = hex::decode(text).ok().filter(|bytes| bytes.len() <= 64);
        let bytes = bytes.ok_or_else(|| {
            CliError::usage("cannot read --report-data")
                .expected("up to 64 bytes in hexadecimal")
                .found(format!("{} characters", text.len()))
        })?;
        data[..bytes.len()].copy_from_slice(&bytes);
    }
    let wanted = match args.kind {
        QuoteKind::Auto => None,
        QuoteKind::Tdx => Some(Provider::Tdx),
        QuoteKind::Snp => Some(Provider::Snp),
    };
    let report = Reports::new(kernel(&args.machine))
        .report(&data, wanted)
        .map_err(|e| {
            failure("this machine gives no evidence", &e)
                .hint("'cocoon attest host' shows what it offers and what is missing")
        })?;
    if let Some(path) = &args.out {
        write_atomic(path, &report.evidence, PUBLIC_MODE)?;
    }
    if let Some(path) = &args.auxiliary {
        write_atomic(path, &report.auxiliary, PUBLIC_MODE)?;
    }
    if args.json {
        let whole = args.out.is_none().then(|| hex::encode(&report.evidence));
        super::print_json(&json!({
            "provider": report.provider.kernel_name(),
            "report_data": hex::encode(data),
            "length": report.evidence.len(),
            "auxiliary_length": report.auxiliary.len(),
            "evidence": whole,
        }));
    } else if let Some(path) = &args.out {
        println!(
            "{} bytes of {} evidence are in {}",
            report.evidence.len(),
            report.provider.kernel_name(),
            path.display()
        );
    } else {
        println!("{}", hex::encode(&report.evidence));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `cocoon attest gpu`.
pub fn gpu(args: &GpuArgs) -> Result<ExitCode> {
    let nonce: [u8; 32] = match &args.nonce {
        None => rand::random(),
        Some(text) => hex::decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| {
                CliError::usage("cannot read --nonce")
                    .expected("32 bytes: 64 hexadecimal digits")
                    .found(format!("{} characters", text.len()))
            })?,
    };
    let evidence =
        gpu::evidence(&nonce).map_err(|e| failure("this machine gives no GPU evidence", &e))?;
    std::fs::create_dir_all(&args.dir).map_err(|e| io_error("create", &args.dir, &e))?;
    let mut found = Vec::new();
    for (index, gpu) in evidence.iter().enumerate() {
        let report = args.dir.join(format!("gpu{index}-report.bin"));
        let chain = args.dir.join(format!("gpu{index}-chain.pem"));
        write_atomic(&report, &gpu.report, PUBLIC_MODE)?;
        write_atomic(&chain, gpu.chain.as_bytes(), PUBLIC_MODE)?;
        if !args.json {
            println!("{}: {} and {}", gpu.name, report.display(), chain.display());
        }
        found.push(json!({
            "name": gpu.name,
            "report": report.display().to_string(),
            "chain": chain.display().to_string(),
        }));
    }
    if args.json {
        super::print_json(&json!({"nonce": hex::encode(nonce), "gpus": found}));
    } else {
        println!("nonce {}", hex::encode(nonce));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `cocoon attest extend`.
pub fn extend(args: &ExtendArgs) -> Result<ExitCode> {
    let register = usize::from(args.register);
    let digest = args.digest.as_deref().map(|text| {
        let bytes = hex::decode(text).ok();
        bytes.and_then(|b| b.try_into().ok()).ok_or_else(|| {
            CliError::usage("cannot read --digest")
                .expected("48 bytes: 96 hexadecimal digits")
                .found(format!("{} characters", text.len()))
        })
    });
    let digest: Option<[u8; 48]> = digest.transpose()?;
    let registers = Registers::open(kernel(&args.machine));
    let extended = registers.and_then(|registers| match (&digest, &args.message) {
        (Some(digest), _) => registers.extend(register, digest),
        (None, Some(message)) => registers.extend_text(register, message, args.events.as_deref()),
        (None, None) => Err(GuestError::Message("there is nothing to measure")),
    });
    let value = hex::encode(extended.map_err(|e| {
        failure(&format!("RTMR{register} was not extended"), &e)
            .hint("'cocoon attest host' shows what this machine offers and what is missing")
    })?);
    if args.json {
        super::print_json(&json!({"register": register, "value": value}));
    } else {
        println!("RTMR{register}  {value}");
    }
    Ok(ExitCode::SUCCESS)
}
