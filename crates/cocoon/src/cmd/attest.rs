//! `cocoon attest`: why evidence passes or fails, and what it should say.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cocoon_attest::evidence::explain::{Files, MAX_FILE_LEN, Roots};
use cocoon_attest::evidence::{EvidencePolicy, PolicyFile, tdx};
use cocoon_attest::image::model_package;
use cocoon_attest::image::spec_tree::{self, rtmr3};
use cocoon_attest::image::verity::Verity;
use cocoon_attest::measurements::{TdxMeasurements, model_hash};
use cocoon_attest::time::{parse_moment, unix_now};
use serde_json::json;

use super::guest;
use crate::cli::{AttestCommand, MeasureCommand};
use crate::error::{CliError, Result};
use crate::fs::io_error;

/// Runs the command.
pub async fn run(command: &AttestCommand) -> Result<ExitCode> {
    match command {
        AttestCommand::Explain {
            files,
            policy,
            name,
            at,
            json,
        } => {
            let policy = choose(policy.as_deref(), name.as_deref())?;
            let now = at.as_deref().map_or_else(|| Ok(unix_now()), moment)?;
            explain(files, &policy, now, *json)
        }
        AttestCommand::Collateral(command) => super::collateral::run(command).await,
        AttestCommand::Measure(MeasureCommand::Quote { file, json }) => quote(file, *json),
        AttestCommand::Measure(MeasureCommand::Config { dir, debug, json }) => {
            config(dir, *debug, *json)
        }
        AttestCommand::Measure(MeasureCommand::Model { dir, name, json }) => {
            model(dir, name.as_deref(), *json)
        }
        AttestCommand::Host(args) => guest::host(args),
        AttestCommand::Quote(args) => guest::quote(args),
        AttestCommand::Gpu(args) => guest::gpu(args),
        AttestCommand::Extend(args) => guest::extend(args),
    }
}

fn explain(paths: &[PathBuf], policy: &EvidencePolicy, now: u64, json: bool) -> Result<ExitCode> {
    let failure = |error: &dyn std::fmt::Display| {
        CliError::usage("cannot explain the evidence").found(error.to_string())
    };
    let mut files = Files::new();
    for path in paths {
        let name = path.display().to_string();
        files
            .add(&name, &read(path)?)
            .map_err(|error| failure(&error))?;
    }
    let explanation = files
        .explain(policy, now, &Roots::default())
        .map_err(|error| failure(&error))?;
    if json {
        super::print_json(&json!(explanation));
    } else {
        println!("{explanation}");
    }
    Ok(if explanation.accepted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The policy that was asked for; without a file the strict defaults, without a name the only one.
pub fn choose(path: Option<&Path>, name: Option<&str>) -> Result<EvidencePolicy> {
    let Some(path) = path else {
        return Ok(EvidencePolicy::strict());
    };
    let failure = || CliError::usage(format!("cannot use the policy file {}", path.display()));
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| failure().found(error.to_string()))?;
    let file = PolicyFile::from_json(text).map_err(|error| failure().found(error.to_string()))?;
    let names: Vec<&str> = file.policies().iter().map(|p| p.name.as_str()).collect();
    let chosen = match (name, file.policies()) {
        (Some(name), _) => file.get(name),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    chosen.cloned().ok_or_else(|| {
        failure()
            .expected(format!(
                "the name of one of its policies: {}",
                names.join(", ")
            ))
            .found(name.unwrap_or("none").to_owned())
            .hint("give it with --name")
    })
}

/// A moment of the command line.
pub fn moment(text: &str) -> Result<u64> {
    let unix = text.parse().ok().or_else(|| parse_moment(text));
    unix.ok_or_else(|| {
        CliError::usage("cannot read the time after --at")
            .expected("a moment like 2026-02-20T00:00:00Z, or Unix seconds")
            .found(format!("{text:?}"))
    })
}

/// A file within the limit for evidence.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|error| io_error("read", path, &error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_LEN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| io_error("read", path, &error))?;
    if bytes.len() > MAX_FILE_LEN {
        return Err(CliError::usage(format!("{} is too large", path.display()))
            .expected(format!("at most {MAX_FILE_LEN} bytes")));
    }
    Ok(bytes)
}

fn quote(path: &Path, json: bool) -> Result<ExitCode> {
    let bytes = read(path)?;
    let digits = std::str::from_utf8(&bytes).ok().map(str::trim);
    let bytes = digits
        .and_then(|digits| hex::decode(digits).ok())
        .unwrap_or(bytes);
    // A report is what a guest can look at without asking its host for a signature.
    let measured = match TdxMeasurements::from_td_report(&bytes) {
        Some(measured) => Ok(measured),
        None => tdx::unverified_body(&bytes).map(|body| body.measurements),
    };
    let found = &measured.map_err(|error| {
        CliError::usage(format!(
            "{} is neither a TDX quote nor a TD report",
            path.display()
        ))
        .found(error.to_string())
    })?;
    let image_hash = hex::encode(found.image_hash());
    if json {
        super::print_json(&json!({
            "verified": false,
            "image_hash": image_hash,
            "mr_td": hex::encode(found.mr_td),
            "mr_config_id": hex::encode(found.mr_config_id),
            "mr_owner": hex::encode(found.mr_owner),
            "mr_owner_config": hex::encode(found.mr_owner_config),
            "rtmr": found.rtmr.map(hex::encode),
            "report_data": hex::encode(found.report_data),
        }));
    } else {
        println!("image hash  {image_hash}  (not verified; see cocoon attest explain)");
        println!("MRTD        {}", hex::encode(found.mr_td));
        for (index, register) in found.rtmr.iter().enumerate() {
            println!("RTMR{index}       {}", hex::encode(register));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn config(dir: &Path, debug: bool, json: bool) -> Result<ExitCode> {
    let tree = spec_tree::measure(dir).map_err(|error| {
        CliError::new(format!("cannot measure {}", dir.display())).found(error.to_string())
    })?;
    let register = hex::encode(rtmr3(&tree, debug));
    if json {
        super::print_json(&json!({
            "spec_tree": tree.to_string(),
            "rtmr3": register,
            "debug": debug,
        }));
    } else {
        println!("spec.tree  {tree}\nRTMR3      {register}");
    }
    Ok(ExitCode::SUCCESS)
}

fn model(dir: &Path, name: Option<&str>, json: bool) -> Result<ExitCode> {
    if let Some(name) = name
        && !name.split_once('@').is_some_and(|(repository, commit)| {
            !repository.is_empty() && !commit.is_empty() && !commit.contains(['@', ':'])
        })
    {
        return Err(CliError::usage("cannot name the model")
            .expected("a repository and a commit, like Qwen/Qwen3-8B@b968826d")
            .found(format!("{name:?}")));
    }
    let tree = model_package::measure(dir, Verity::new()).map_err(|error| {
        CliError::new(format!("cannot measure {}", dir.display())).found(error.to_string())
    })?;
    let root = hex::encode(tree.root);
    let full = name.map(|name| format!("{name}:{root}"));
    let hash = full.as_deref().map(|full| hex::encode(model_hash(full)));
    if json {
        super::print_json(&json!({
            "verity_root": root,
            "data_blocks": tree.data_blocks,
            "model": full,
            "model_hash": hash,
        }));
    } else {
        println!("verity root  {root}");
        if let (Some(full), Some(hash)) = (full, hash) {
            println!("model        {full}\nroot hash    {hash}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
