//! `cocoon attest collateral`: a directory of what Intel and AMD publish about their platforms.

use std::path::Path;
use std::process::ExitCode;

use cocoon_attest::evidence::collateral::{CollateralStore, Edition, TdxCollateral};
use cocoon_attest::evidence::snp::SnpRoots;
use cocoon_attest::evidence::snp_collateral::SnpCollateral;
use cocoon_attest::evidence::tdx::{self, Platform, TdxRoot};
use cocoon_attest::time::unix_now;
use cocoon_collateral::cache::{Found, read_text};
use cocoon_collateral::fetch::{describe, parse_fmspc};
use cocoon_collateral::kds::{AMD, Kds, Wanted};
use cocoon_collateral::service::{Authority, INTEL};
use cocoon_collateral::web::{Deadlines, Web};
use cocoon_collateral::{CollateralConfig, DiskCache, Fetcher};
use serde_json::{Value, json};

use super::attest::{moment, read};
use crate::cli::{CollateralCommand, FetchArgs, LookArgs};
use crate::error::{CliError, Result};
use crate::evidence::{cached, settings};

/// Runs the command.
pub async fn run(command: &CollateralCommand) -> Result<ExitCode> {
    match command {
        CollateralCommand::Fetch(args) => fetch(args).await,
        CollateralCommand::List(args) => look(args, false),
        CollateralCommand::Check(args) => look(args, true),
    }
}

/// What became of the wishes, for machines and for the exit code.
#[derive(Default)]
struct Outcome {
    fetched: Vec<Value>,
    failed: Vec<Value>,
}

impl Outcome {
    fn add(&mut self, json: bool, what: &str, result: std::result::Result<Value, String>) {
        match result {
            Ok(value) => {
                if !json {
                    let until = value["valid_until"].as_str().unwrap_or("?");
                    println!(
                        "{what}: {}, good until {until}",
                        value["file"].as_str().unwrap_or("?")
                    );
                }
                self.fetched.push(value);
            }
            Err(reason) => {
                eprintln!("{what}: {reason}");
                self.failed.push(json!({"what": what, "reason": reason}));
            }
        }
    }
}

async fn fetch(args: &FetchArgs) -> Result<ExitCode> {
    let cache = DiskCache::open(&args.directory).map_err(|e| cached(&e))?;
    let config = CollateralConfig {
        directory: Some(args.directory.clone()),
        service: Some(args.service.clone().unwrap_or_else(|| INTEL.to_owned())),
        api_key_file: args.api_key_file.clone(),
        ca_file: args.ca_file.clone(),
        allow_plain_http: args.allow_plain_http,
        ..CollateralConfig::default()
    };
    let fetcher = config.fetcher(TdxRoot::INTEL).map_err(|e| settings(&e))?;
    let fetcher = fetcher.ok_or_else(|| CliError::new("no service is named"))?;
    let store = CollateralStore::new();
    let loaded = cache.load(&store).map_err(|e| cached(&e))?;
    for (path, why) in &loaded.ignored {
        eprintln!("{} is passed over: {why}", path.display());
    }
    let mut outcome = Outcome::default();
    let mut platforms = wishes(args)?;
    if platforms.is_empty() && args.snp_report.is_empty() {
        platforms = store.editions().into_iter().map(|(p, _)| p).collect();
        if platforms.is_empty() {
            return Err(CliError::usage("nothing to fetch")
                .expected("--quote, --fmspc with --ca, or --snp-report; or collateral in the directory, to be refreshed")
                .found(format!("no usable collateral in {}", args.directory.display())));
        }
    }
    for platform in &platforms {
        let what = describe(platform);
        eprintln!("{what}: asking {}", fetcher.service().base());
        let result = fetch_tdx(&fetcher, &cache, &store, platform).await;
        outcome.add(args.json, &what, result);
    }
    if !args.snp_report.is_empty() {
        let kds = kds(args)?;
        for path in &args.snp_report {
            let what = format!("the chip of {}", path.display());
            eprintln!("{what}: asking AMD's service");
            let report = read(path)?;
            let generation = args.generation.map(Into::into);
            let result = fetch_snp(&kds, &cache, &report, generation).await;
            outcome.add(args.json, &what, result);
        }
    }
    let is_whole = outcome.failed.is_empty();
    if args.json {
        super::print_json(&json!({"fetched": outcome.fetched, "failed": outcome.failed}));
    }
    Ok(exit(is_whole))
}

/// The platforms that are asked for by name or by quote.
fn wishes(args: &FetchArgs) -> Result<Vec<Platform>> {
    let mut platforms = Vec::new();
    for path in &args.quote {
        let bytes = read(path)?;
        let digits = std::str::from_utf8(&bytes).ok().map(str::trim);
        let bytes = digits.and_then(|d| hex::decode(d).ok()).unwrap_or(bytes);
        let platform = tdx::genuine_platform(&bytes, TdxRoot::INTEL).map_err(|error| {
            CliError::usage(format!(
                "{} is no quote of an Intel platform",
                path.display()
            ))
            .found(error.to_string())
        })?;
        platforms.push(platform);
    }
    if let (Some(text), Some(ca)) = (&args.fmspc, args.ca) {
        let fmspc = parse_fmspc(text).ok_or_else(|| {
            CliError::usage("cannot read the platform family (--fmspc)")
                .expected("12 hexadecimal digits, such as 90c06f000000")
                .found(format!("{text:?}"))
        })?;
        platforms.push(Authority::from(ca).platform(fmspc));
    }
    platforms.sort();
    platforms.dedup();
    Ok(platforms)
}

async fn fetch_tdx(
    fetcher: &Fetcher,
    cache: &DiskCache,
    store: &CollateralStore,
    platform: &Platform,
) -> std::result::Result<Value, String> {
    let fetched = fetcher.tdx(platform, unix_now()).await;
    let collateral = fetched.map_err(|error| error.to_string())?;
    let edition = collateral.edition().map_err(|error| error.to_string())?;
    let text = collateral.to_json();
    store
        .insert(collateral)
        .map_err(|error| error.to_string())?;
    cache
        .write(platform, &text)
        .map_err(|error| error.to_string())?;
    let path = cache.path(platform).map_err(|error| error.to_string())?;
    Ok(about_tdx(&path, platform, &edition))
}

fn kds(args: &FetchArgs) -> Result<Kds> {
    let web = match &args.ca_file {
        None => Web::native(Deadlines::default()),
        Some(path) => Web::trusting_file(path, Deadlines::default())
            .map_err(|error| CliError::usage("cannot use --ca-file").found(error))?,
    };
    let address = args.amd_service.as_deref().unwrap_or(AMD);
    Kds::at(address, web, args.allow_plain_http)
        .map_err(|error| CliError::usage("cannot use --amd-service").found(error.to_string()))
}

async fn fetch_snp(
    kds: &Kds,
    cache: &DiskCache,
    report: &[u8],
    generation: Option<cocoon_attest::evidence::snp::Generation>,
) -> std::result::Result<Value, String> {
    let wanted = Wanted::of_report(report, generation).map_err(|error| error.to_string())?;
    let fetched = kds.fetch(&wanted, unix_now(), &SnpRoots::amd()).await;
    let collateral = fetched.map_err(|error| error.to_string())?;
    let path = cache
        .write_snp(&collateral)
        .map_err(|error| error.to_string())?;
    about_snp(&path, &collateral)
}

fn about_tdx(path: &Path, platform: &Platform, edition: &Edition) -> Value {
    json!({
        "file": path,
        "tee": "tdx",
        "fmspc": platform.fmspc,
        "issuer": platform.issuer,
        "tcb_evaluation_number": edition.tcb_info.evaluation,
        "issued": cocoon_attest::time::Moment(i64::try_from(edition.issued).unwrap_or(i64::MAX)).to_string(),
        "valid_until": edition.end().to_string(),
    })
}

fn about_snp(path: &Path, collateral: &SnpCollateral) -> std::result::Result<Value, String> {
    let (_, end) = collateral
        .crl_edition()
        .map_err(|error| error.to_string())?;
    Ok(json!({
        "file": path,
        "tee": "snp",
        "generation": collateral.generation,
        "chip_id": collateral.chip_id,
        "tcb": collateral.tcb,
        "valid_until": cocoon_attest::time::Moment(i64::try_from(end).unwrap_or(i64::MAX)).to_string(),
    }))
}

/// What is in a directory; with `strict`, whether all of it can be used.
fn look(args: &LookArgs, strict: bool) -> Result<ExitCode> {
    let now = args.at.as_deref().map_or_else(|| Ok(unix_now()), moment)?;
    // A look changes nothing, so the directory is not made.
    if !args.directory.is_dir() {
        return Err(CliError::usage("there is no such directory")
            .found(args.directory.display().to_string())
            .hint("cocoon attest collateral fetch makes it"));
    }
    let cache = DiskCache::open(&args.directory).map_err(|e| cached(&e))?;
    let mut files = Vec::new();
    for Found { path, content } in cache.files().map_err(|e| cached(&e))? {
        files.push(judge(
            &path,
            content
                .map_err(|e| e.to_string())
                .and_then(|c| tdx_entry(&path, &c, now)),
        ));
    }
    for path in cache.snp_files().map_err(|e| cached(&e))? {
        files.push(judge(&path, snp_entry(&path, now)));
    }
    let is_good = files.iter().all(|file| file["problem"].is_null());
    if args.json {
        super::print_json(&json!({"directory": args.directory, "files": files, "usable": is_good}));
    } else if files.is_empty() {
        println!("{} holds no collateral", args.directory.display());
    } else {
        files.iter().for_each(print);
    }
    Ok(exit(!strict || (is_good && !files.is_empty())))
}

fn judge(path: &Path, entry: std::result::Result<(Value, Option<String>), String>) -> Value {
    let (mut value, problem) = match entry {
        Ok((value, problem)) => (value, problem),
        Err(problem) => (json!({"file": path}), Some(problem)),
    };
    value["problem"] = json!(problem);
    value
}

fn tdx_entry(
    path: &Path,
    collateral: &TdxCollateral,
    now: u64,
) -> std::result::Result<(Value, Option<String>), String> {
    let edition = collateral.edition().map_err(|error| error.to_string())?;
    let genuine = collateral
        .verify_signatures(TdxRoot::INTEL)
        .map_err(|error| format!("not genuine: {error}"));
    let of_now = edition
        .check(collateral.fmspc(), now)
        .map_err(|error| error.to_string());
    let value = about_tdx(path, &collateral.platform(), &edition);
    Ok((value, genuine.and(of_now).err()))
}

fn snp_entry(path: &Path, now: u64) -> std::result::Result<(Value, Option<String>), String> {
    let text = read_text(path).map_err(|error| error.to_string())?;
    let collateral = SnpCollateral::from_json(&text).map_err(|error| error.to_string())?;
    let problem = collateral.verify(now, &SnpRoots::amd()).err();
    let value = about_snp(path, &collateral)?;
    Ok((value, problem.map(|error| error.to_string())))
}

fn print(file: &Value) {
    let text = |name: &str| file[name].as_str().unwrap_or_default().to_owned();
    let what = match file["tee"].as_str() {
        Some("tdx") => format!(
            "TDX platform family {} ({}), evaluation {}, good until {}",
            text("fmspc"),
            text("issuer"),
            file["tcb_evaluation_number"],
            text("valid_until")
        ),
        Some(_) => format!(
            "SEV-SNP chip {} ({}), list good until {}",
            text("chip_id").chars().take(16).collect::<String>(),
            text("generation"),
            text("valid_until")
        ),
        None => "unreadable".to_owned(),
    };
    println!("{}: {what}", text("file"));
    if let Some(problem) = file["problem"].as_str() {
        println!("  {problem}");
    }
}

fn exit(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
