//! What attestation costs: handshakes, verifications, idle connections, a flood of bad peers.
//!
//! `cargo run --release -p cocoon-bench --example attest [-- --seconds 3 --connections 10000 --no-write]`
//!
//! Quotes are real in form and made by software machines, which are dev-dependencies: no program holds their roots.

mod client;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cocoon_attest::evidence::TdxVerifier;
use cocoon_attest::evidence::collateral::{CollateralStore, TdxCollateral};
use cocoon_attest::evidence::gpu::{self, GpuRoot};
use cocoon_attest::evidence::snp::{self, Generation, SnpChain, SnpRoots};
use cocoon_attest::evidence::tdx::{self, TdxRoot};
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_attest::quote_source::FakeQuotes;
use cocoon_attest::{
    CertificateMode, Policy, PolicyRules, QuoteSource, QuoteSourceError, TlsIdentity, accept,
    connect, unix_now,
};
use cocoon_softtee::{SnpFields, SoftGpu, SoftSnp, SoftTdx, TdFields};
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A machine whose quotes the policy of the same scene believes.
struct Machine {
    tdx: SoftTdx,
    store: Arc<CollateralStore>,
}

impl QuoteSource for Machine {
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError> {
        Ok(self.tdx.quote(&TdFields {
            report_data: *report_data,
            ..TdFields::default()
        }))
    }
}

impl Machine {
    fn new(now: u64) -> Result<Self, Failure> {
        let tdx = SoftTdx::new(now);
        let store = Arc::new(CollateralStore::under(TdxRoot::pinned(tdx.root_sha256())));
        store.insert(TdxCollateral::from_json(&tdx.collateral())?)?;
        Ok(Machine { tdx, store })
    }

    /// With a verifier that remembers nothing yet.
    fn policy(&self) -> Policy {
        let root = TdxRoot::pinned(self.tdx.root_sha256());
        let verifier = TdxVerifier::with(self.store.clone(), TdxPolicy::default(), root, unix_now);
        Policy::Tdx(PolicyRules {
            allowed_collateral_root_hashes: vec![self.tdx.root_hash()],
            ..PolicyRules::default()
        })
        .with_verifier(Arc::new(verifier))
    }
}

/// Evidence and policy of one line of the table.
#[derive(Clone, Copy, PartialEq)]
enum Evidence {
    Fake,
    Cached,
    Uncached,
}

/// Both sides of full mutual handshakes on one thread, one after the other.
async fn handshakes(
    machine: &Machine,
    evidence: Evidence,
    exchange: &'static dyn SupportedKxGroup,
    time: Duration,
) -> Result<f64, Failure> {
    let now = unix_now();
    let identity = match evidence {
        Evidence::Fake => TlsIdentity::attested(&FakeQuotes, now)?,
        _ => TlsIdentity::attested(machine, now)?,
    };
    let kept = match evidence {
        Evidence::Fake => Policy::FakeTdx(PolicyRules::default()),
        _ => machine.policy(),
    };
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < time {
        // Each side of an uncached handshake meets a quote that it has never seen.
        let (one, other) = match evidence {
            Evidence::Uncached => (machine.policy(), machine.policy()),
            _ => (kept.clone(), kept.clone()),
        };
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = accept(far, &identity, &one, 0);
        let client = client::connect(near, &identity, &other, exchange);
        let (a, b) = tokio::join!(client, server);
        let _both = (a?, b?);
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

fn rate(time: Duration, mut work: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < time {
        work()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// Verifications of genuine evidence a second, on one thread.
fn verifications(machine: &Machine, time: Duration) -> Result<Value, Failure> {
    let now = unix_now();
    let quote = machine.tdx.quote(&TdFields::default());
    let collateral = TdxCollateral::from_json(&machine.tdx.collateral())?;
    let root = TdxRoot::pinned(machine.tdx.root_sha256());
    let tdx = rate(time, || {
        tdx::verify(&quote, &collateral, now, root, false)?;
        Ok(())
    })?;
    let soft = SoftSnp::new(now);
    let [ark, ask, vek] = soft.chain();
    let chain = SnpChain {
        ark,
        ask,
        vek,
        crl: None,
    };
    let roots = SnpRoots::pinned(Generation::Genoa, soft.root_sha256());
    let report = soft.report(&SnpFields::default());
    let snp = rate(time, || {
        snp::verify(&report, &chain, now, &roots)?;
        Ok(())
    })?;
    let soft = SoftGpu::new(now);
    let (report, chain) = (soft.report(&[1; 32]), soft.chain());
    let root = GpuRoot::pinned(soft.root_sha256());
    let gpu = rate(time, || {
        gpu::verify(&report, chain.as_bytes(), &[], now, root)?;
        Ok(())
    })?;
    Ok(json!({"tdx": tdx, "sev_snp": snp, "nvidia_gpu": gpu}))
}

/// A number out of a file of /proc.
fn proc_number(file: &str, line: &str, word: usize) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find(|l| l.starts_with(line));
    found
        .and_then(|l| l.split_whitespace().nth(word))
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// Resident bytes of this process.
fn resident() -> u64 {
    proc_number("/proc/self/status", "VmRSS:", 1) * 1024
}

/// Memory of idle attested connections; both ends are in this process.
async fn idle(wanted: usize) -> Result<Value, Failure> {
    let files = proc_number("/proc/self/limits", "Max open files", 3) as usize;
    let count = wanted.min(files.saturating_sub(100) / 2);
    let identity = Arc::new(TlsIdentity::attested(&FakeQuotes, unix_now())?);
    let policy = Policy::FakeTdx(PolicyRules::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let before = resident();
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let near = TcpStream::connect(at).await?;
        let (far, _) = listener.accept().await?;
        let (a, b) = tokio::join!(
            connect(near, &identity, &policy, 0),
            accept(far, &identity, &policy, 0)
        );
        open.push((a?, b?));
    }
    let grown = resident().saturating_sub(before);
    let each = if count == 0 {
        0
    } else {
        grown / (2 * count as u64)
    };
    Ok(json!({
        "connections": count, "wanted": wanted, "open_files_limit": files,
        "bytes_both_ends": grown, "bytes_per_end": each,
    }))
}

/// Latency of good handshakes beside peers whose evidence is refused, on one server thread.
async fn flood(machine: &Machine, bad: usize, time: Duration) -> Result<Value, Failure> {
    let now = unix_now();
    let identity = Arc::new(TlsIdentity::attested(machine, now)?);
    let policy = machine.policy();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let server = {
        let (identity, policy) = (identity.clone(), policy.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (identity, policy) = (identity.clone(), policy.clone());
                tokio::spawn(async move {
                    let _ = accept(stream, &identity, &policy, 0).await;
                });
            }
        })
    };
    let stop = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicU64::new(0));
    let mut peers = Vec::new();
    for _ in 0..bad {
        let (stop, refused) = (stop.clone(), refused.clone());
        peers.push(tokio::spawn(async move {
            let Ok(fake) = TlsIdentity::generate(CertificateMode::FakeTdx, now) else {
                return;
            };
            while !stop.load(Ordering::Relaxed) {
                if let Ok(stream) = TcpStream::connect(at).await {
                    let mut buffer = [0; 1];
                    if let Ok((mut tls, _)) = connect(stream, &fake, &Policy::Any, 0).await {
                        // The refusal comes with the first read.
                        let _ = tokio::io::AsyncReadExt::read(&mut tls, &mut buffer).await;
                    }
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    let begun = Instant::now();
    let cpu = cpu_seconds();
    let mut times = Vec::new();
    while begun.elapsed() < time {
        let one = Instant::now();
        let stream = TcpStream::connect(at).await?;
        connect(stream, &identity, &policy, 0).await?;
        times.push(one.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let used = cpu_seconds() - cpu;
    stop.store(true, Ordering::Relaxed);
    for peer in peers {
        let _ = peer.await;
    }
    server.abort();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    Ok(json!({
        "bad_peers": bad, "good": times.len(), "good_p50_ms": at(0.5), "good_p99_ms": at(0.99),
        "refused_per_second": refused.load(Ordering::Relaxed) as f64 / seconds,
        "cpu_cores_both_sides": used / seconds,
    }))
}

/// Processor time of this process.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let words: Vec<&str> = text.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |at: usize| {
        words
            .get(at)
            .and_then(|w| w.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn main() -> Result<(), Failure> {
    let (mut seconds, mut connections, mut write) = (3.0, 10_000, true);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--seconds" => seconds = value()?.parse()?,
            "--connections" => connections = value()?.parse()?,
            "--no-write" => write = false,
            _ => return Err(format!("{arg} is not known; see bench/README.md").into()),
        }
    }
    let time = Duration::from_secs_f64(seconds);
    let machine = Machine::new(unix_now())?;
    let one = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut table = serde_json::Map::new();
    for (name, evidence) in [
        ("fake", Evidence::Fake),
        ("tdx_cached", Evidence::Cached),
        ("tdx_uncached", Evidence::Uncached),
    ] {
        for (name_of_exchange, exchange) in [("x25519", X25519), ("x25519mlkem768", X25519MLKEM768)]
        {
            let figure = one.block_on(handshakes(&machine, evidence, exchange, time))?;
            println!("{name:13} {name_of_exchange:15} {figure:8.0} handshakes/s");
            table.insert(format!("{name}_{name_of_exchange}"), json!(figure));
        }
    }
    let verified = verifications(&machine, time)?;
    println!("verifications/s: {verified}");
    let memory = one.block_on(idle(connections))?;
    println!("idle: {memory}");
    let two = tokio::runtime::Runtime::new()?;
    let quiet = two.block_on(flood(&machine, 0, time))?;
    let flooded = two.block_on(flood(&machine, 64, time))?;
    println!("without a flood: {quiet}\nwith a flood:    {flooded}");
    let results = json!({
        "seconds_each": seconds,
        "processors": std::thread::available_parallelism()?.get(),
        "release": !cfg!(debug_assertions),
        "handshakes_per_second_one_core_both_sides": table,
        "verifications_per_second_one_core": verified,
        "idle_connections": memory,
        "flood": [quiet, flooded],
    });
    if write {
        let path = format!(
            "{}/results/attest-{}.json",
            env!("CARGO_MANIFEST_DIR"),
            unix_now()
        );
        std::fs::write(&path, serde_json::to_string_pretty(&results)? + "\n")?;
        println!("{path}");
    }
    Ok(())
}
