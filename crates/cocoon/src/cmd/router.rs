//! `cocoon router`: the reference's router with its flags and its configuration file.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_collateral::CollateralConfig;
use cocoon_node::metrics::Page;
use cocoon_node::metrics::page::CONTENT_TYPE;
use cocoon_router::{
    CertificateMode, CertificateSource, FileConfig, Handle, Limits, Options, PortInfo, Router,
    RouterError, Settings, example, metrics,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Global;
use crate::error::{CliError, Result};
use crate::evidence::{self, Evidence};
use crate::logging;

const EXAMPLES: &str = "\
Examples:
  cocoon router -S 8116@tdx --serialize-info                                  a client's or worker's machine
  cocoon router -R 11001:127.0.0.1:11101@tdx -R 11002:127.0.0.1:11102@any \\
                --serialize-info -C /etc/cocoon/node                          a proxy's machine
  cocoon router -F 9000:192.0.2.7:11002@tdx:04b3...7436                       one peer, one image
  cocoon router -c router.json --json                                         everything from a file
  cocoon router -g > router.json                                              a file to start from
  cocoon router --cert-mode fake_tdx -S 8116@fake_tdx                         tests: proves nothing

Policies: any (checks nothing), tdx (a genuine TDX quote), fake_tdx (test networks only), or a name defined with -P or
in the file. Hashes behind a built-in name allow only those images: -S 8116@tdx:HASH,HASH.

A tdx policy verifies quotes with --collateral or --collateral-service; without them every peer is refused.

SOCKS5 and forward ports listen on 127.0.0.1, reverse ports on every interface. A refused peer shows as a connection
that closes; --log info says why. Ctrl-C lets living connections finish (--drain), a second one closes them. SIGHUP
reads the file's policies, the policy on evidence and the collateral again, and connections whose peers they refuse are
closed.";

/// Options of `cocoon router`: the reference's letters and names, and some of ours.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct RouterArgs {
    /// JSON configuration file; ports given here replace the file's
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Define a policy: type is any, fake_tdx or tdx, hashes are image hashes of 64 hex digits
    #[arg(short = 'P', long = "policy", value_name = "NAME:TYPE[:HASH,...]")]
    pub policies: Vec<String>,
    /// SOCKS5 port on 127.0.0.1
    #[arg(short = 'S', long, value_name = "PORT@POLICY[:HASH,...]")]
    pub socks5: Vec<String>,
    /// Forward port: from 127.0.0.1 to one attested peer
    #[arg(short = 'F', long = "fwd", value_name = "PORT:HOST:PORT@POLICY")]
    pub forward: Vec<String>,
    /// Reverse port: from attested peers to one local application
    #[arg(short = 'R', long = "rev", value_name = "PORT:HOST:PORT@POLICY")]
    pub reverse: Vec<String>,
    /// Old form of the three: socks5, forward or reverse
    #[arg(
        short = 'p',
        long = "port",
        value_name = "PORT:TYPE[:POLICY[:HOST:PORT]]"
    )]
    pub ports: Vec<String>,
    /// Tell applications who the peer is: a frame before the first byte, on ports that do not say themselves
    #[arg(short = 's', long)]
    pub serialize_info: bool,
    /// Roots that tdx policies trust unless they name their own, 96 hex digits each [default: Intel's]
    #[arg(long, value_name = "HASH,...")]
    pub collateral_hash: Option<String>,
    /// Intel's collateral, without which every peer is refused by tdx policies: a directory of JSON files, read again
    /// on SIGHUP
    #[arg(long, value_name = "DIR")]
    pub collateral: Option<PathBuf>,
    /// Where collateral is fetched from: Intel's service (https://api.trustedservices.intel.com) or a PCCS
    #[arg(long, value_name = "URL")]
    pub collateral_service: Option<String>,
    /// File with one policy on evidence, whose demands count for every tdx policy; read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub evidence_policy: Option<PathBuf>,
    /// Certificate and key in NAME_cert.pem and NAME_key.pem; read again when they change [default: made in memory]
    #[arg(short = 'C', long, value_name = "NAME")]
    pub cert: Option<PathBuf>,
    /// What a certificate made in memory carries; it is renewed in time and its key is never written
    #[arg(long, value_enum, value_name = "MODE")]
    pub cert_mode: Option<CertMode>,
    /// Threads; 0 is one for each core [default: 0]
    #[arg(short = 't', long, value_name = "N")]
    pub threads: Option<usize>,
    /// Proof of work asked of peers at reverse ports, in bits [default: 20]
    #[arg(short = 'd', long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=64))]
    pub pow_difficulty: Option<u8>,
    /// Most proof of work done for a peer, in bits [default: 28]
    #[arg(short = 'm', long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=64))]
    pub max_pow_difficulty: Option<u8>,
    /// Print an example configuration and exit
    #[arg(short = 'g', long)]
    pub generate_config: bool,
    /// The reference's log levels: 1 errors, 2 warnings, 3 everything refused, 4 every connection
    #[arg(short = 'v', long, value_name = "N")]
    pub verbosity: Option<u8>,
    /// This router serves a test network: a user name may choose fake_tdx, which proves nothing
    #[arg(long)]
    pub test_network: bool,
    /// Address on which reverse ports listen
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub listen: std::net::IpAddr,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    pub max_connections: usize,
    /// Close connections on which nothing moved for so many seconds; 0 keeps them
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub idle_timeout: u64,
    /// Seconds that living connections get to finish after Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub drain: u64,
    /// Serve counters on http://127.0.0.1:PORT/metrics; 0 picks a free port
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,
    /// Print one line of JSON on standard output when ready
    #[arg(long)]
    pub json: bool,
}

/// What a certificate carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum CertMode {
    /// Nothing: clients, which nobody attests
    None,
    /// A fake quote: test networks only
    FakeTdx,
    /// A quote of the TDX guest that this runs in
    Tdx,
}

impl From<CertMode> for CertificateMode {
    fn from(mode: CertMode) -> Self {
        match mode {
            CertMode::None => CertificateMode::None,
            CertMode::FakeTdx => CertificateMode::FakeTdx,
            CertMode::Tdx => CertificateMode::Tdx,
        }
    }
}

impl RouterArgs {
    fn options(&self) -> Options {
        Options {
            policies: self.policies.clone(),
            socks5: self.socks5.clone(),
            forward: self.forward.clone(),
            reverse: self.reverse.clone(),
            ports: self.ports.clone(),
            serialize_info: self.serialize_info,
            collateral_hash: self.collateral_hash.clone(),
            cert: self.cert.clone(),
            cert_mode: self.cert_mode.map(CertificateMode::from),
            threads: self.threads,
            pow_difficulty: self.pow_difficulty,
            max_pow_difficulty: self.max_pow_difficulty,
            listen: Some(self.listen),
            test_network: self.test_network,
            limits: Limits {
                connections: self.max_connections,
                idle: (self.idle_timeout > 0).then(|| Duration::from_secs(self.idle_timeout)),
                ..Limits::default()
            },
        }
    }

    fn file(&self) -> Result<Option<FileConfig>> {
        let Some(path) = &self.config else {
            return Ok(None);
        };
        FileConfig::load(path).map(Some).map_err(|e| {
            CliError::usage("cannot read the router's configuration")
                .found(e.to_string())
                .hint("'cocoon router -g' prints an example")
        })
    }

    /// Command line and file together, but for evidence.
    fn settings(&self, file: Option<&FileConfig>) -> Result<Settings> {
        Settings::assemble(&self.options(), file).map_err(|e| {
            CliError::usage("cannot configure the router")
                .found(e.to_string())
                .hint("'cocoon router --help' shows the forms")
        })
    }

    /// Where collateral comes from: the file's settings, with those of the command line in their place.
    fn collateral(&self, file: Option<&FileConfig>) -> Option<CollateralConfig> {
        let of_file = file.and_then(|file| file.collateral.clone());
        if self.collateral.is_none() && self.collateral_service.is_none() {
            return of_file;
        }
        let mut config = of_file.unwrap_or_default();
        config.directory = self.collateral.clone().or(config.directory);
        config.service = self.collateral_service.clone().or(config.service);
        Some(config)
    }

    fn demands(&self, file: Option<&FileConfig>) -> Result<TdxPolicy> {
        let of_file = file.and_then(|file| file.evidence_policy.clone());
        let path = self.evidence_policy.clone().or(of_file);
        if path.is_some() && self.collateral(file).is_none() {
            return Err(CliError::usage("cannot use the policy on evidence")
                .expected("collateral beside it (--collateral, --collateral-service)")
                .found("none, so that no evidence is verified"));
        }
        evidence::demands(path.as_deref())
    }

    /// What verifies evidence, if there is anything to verify with.
    fn evidence(&self, file: Option<&FileConfig>) -> Result<Option<Evidence>> {
        let demands = self.demands(file)?;
        let config = self.collateral(file);
        config.map(|c| Evidence::open(&c, demands)).transpose()
    }

    fn log_level(&self, global: &Global) -> Option<String> {
        let of_verbosity = |n| match n {
            0 | 1 => "error",
            2 => "warn",
            3 => "info",
            _ => "debug",
        };
        let chosen = global.log.clone();
        chosen.or_else(|| self.verbosity.map(|n| of_verbosity(n).to_owned()))
    }
}

/// Runs the router until it is told to stop.
pub fn run(args: &RouterArgs, global: &Global) -> Result<ExitCode> {
    if args.generate_config {
        super::print_json(&json!(example::config()));
        return Ok(ExitCode::SUCCESS);
    }
    logging::init(args.log_level(global).as_deref(), None, global.log_format)?;
    let file = args.file()?;
    let mut settings = args.settings(file.as_ref())?;
    let evidence = args.evidence(file.as_ref())?;
    arm(&mut settings, evidence.as_ref());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if settings.threads > 0 {
        runtime.worker_threads(settings.threads);
    }
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|e| CliError::new("cannot start the runtime").found(e.to_string()))?;
    let result = runtime.block_on(serve(args, settings, evidence));
    // A proof of work that is still being searched must not keep the process alive.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// Gives the policies what they verify with, or warns that they cannot.
fn arm(settings: &mut Settings, evidence: Option<&Evidence>) {
    if let Some(evidence) = evidence {
        settings.verify_with(evidence.verifier());
        return;
    }
    let ports = settings
        .ports
        .iter()
        .filter(|port| settings.demands_tdx(port));
    let numbers: Vec<String> = ports.map(|port| port.listen.to_string()).collect();
    if !numbers.is_empty() {
        settings.warnings.push(format!(
            "without --collateral nothing can be verified: every peer of port {} will be refused",
            numbers.join(", ")
        ));
    }
}

async fn serve(
    args: &RouterArgs,
    settings: Settings,
    mut evidence: Option<Evidence>,
) -> Result<()> {
    let mut signals = Signals::new()?;
    let _supplier = evidence.as_mut().and_then(Evidence::start);
    let (warnings, source) = (settings.warnings.clone(), settings.certificate.clone());
    let policies: Vec<String> = settings.policies.keys().cloned().collect();
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    let router = Router::bind(settings).await.map_err(|e| cannot_start(&e))?;
    let handle = router.handle();
    let metrics = match args.metrics_port {
        Some(port) => Some(serve_metrics(port, handle.clone()).await?),
        None => None,
    };
    let running = tokio::spawn(router.run());
    let status = status(&handle, &source, &policies, &warnings, metrics);
    if args.json {
        println!("{status}");
    } else {
        print!("{}", screen(&handle, &status));
    }
    let _ = std::io::stdout().flush();
    tokio::pin!(running);
    let mut stops = 0;
    loop {
        tokio::select! {
            ended = &mut running => {
                return ended.map_err(|e| CliError::new("the router ended by a bug").found(e.to_string()));
            }
            signal = signals.next() => match signal {
                Order::Reload => reload(args, &handle, &mut evidence),
                Order::Stop => {
                    stops += 1;
                    let drain = if stops == 1 { args.drain } else { 0 };
                    if stops == 1 && drain > 0 {
                        eprintln!("stopping: living connections get {drain} s; Ctrl-C again closes them");
                    }
                    handle.stop(Duration::from_secs(drain));
                }
            },
        }
    }
}

/// Takes over the policies of the file, the demands on evidence and the collateral as they are now; everything else
/// needs a restart.
fn reload(args: &RouterArgs, handle: &Handle, evidence: &mut Option<Evidence>) {
    match read_again(args, evidence) {
        Ok(settings) => {
            let count = settings.policies.len();
            handle.set_policies(settings.policies);
            eprintln!(
                "the policies were read again, there are {count}; ports change at a restart only"
            );
        }
        Err(error) => eprintln!("nothing was changed\n{error}"),
    }
}

fn read_again(args: &RouterArgs, evidence: &mut Option<Evidence>) -> Result<Settings> {
    let file = args.file()?;
    let mut settings = args.settings(file.as_ref())?;
    match (args.collateral(file.as_ref()), &mut *evidence) {
        (Some(config), Some(evidence)) => {
            evidence.reload(&config, args.demands(file.as_ref())?)?;
        }
        (None, None) => {}
        // A service begins and ends with the program; files may come and go.
        (Some(config), None) if config.service.is_none() => {
            *evidence = args.evidence(file.as_ref())?;
        }
        _ => {
            return Err(
                CliError::usage("'collateral' cannot be changed while the program runs")
                    .hint("start the router again"),
            );
        }
    }
    arm(&mut settings, evidence.as_ref());
    Ok(settings)
}

fn cannot_start(error: &RouterError) -> CliError {
    let failure = CliError::new("cannot start the router").found(error.to_string());
    match error {
        RouterError::Bind { address, source, .. } => match source.kind() {
            std::io::ErrorKind::AddrInUse => failure.hint(format!(
                "another program listens there ('ss -ltnp sport = :{}' names it), or choose another port",
                address.port()
            )),
            std::io::ErrorKind::PermissionDenied => {
                failure.hint("ports below 1024 are for the administrator; choose a higher one")
            }
            _ => failure,
        },
        RouterError::Certificate(_) => {
            failure.hint("-C names certificate and key files, --cert-mode makes them in memory")
        }
        RouterError::Runtime => failure,
    }
}

fn status(
    handle: &Handle,
    source: &CertificateSource,
    policies: &[String],
    warnings: &[String],
    metrics: Option<String>,
) -> Value {
    let identity = handle.identity();
    let source = match source {
        CertificateSource::Files(base) => json!({"files": base}),
        CertificateSource::Memory(mode) => json!({"memory": mode}),
        CertificateSource::Attested(_) => json!({"memory": "attested"}),
    };
    json!({
        "ready": true,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "ports": handle.ports(),
        "policies": policies,
        "certificate": {
            "public_key": hex::encode(identity.public_key()),
            "not_after": identity.not_after().to_string(),
            "source": source,
        },
        "metrics": metrics,
        "warnings": warnings,
    })
}

fn screen(handle: &Handle, status: &Value) -> String {
    let line = |port: &PortInfo| {
        let to = port.destination.as_deref().unwrap_or("any target");
        let frame = if port.serialize_info {
            "with"
        } else {
            "without"
        };
        let (kind, listen, policy, bits) =
            (port.kind, port.listen, &port.policy, port.pow_difficulty);
        format!(
            "  {kind:<8} {listen} -> {to}, policy {policy}, {bits} bits of work, {frame} peer information\n"
        )
    };
    let ports: String = handle.ports().iter().map(line).collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let certificate = &status["certificate"];
    let (key, until) = (
        text(&certificate["public_key"]),
        text(&certificate["not_after"]),
    );
    let metrics = match &status["metrics"] {
        Value::String(url) => format!("  counters {url}\n"),
        _ => String::new(),
    };
    format!(
        "cocoon router is ready; Ctrl-C stops it\n{ports}{metrics}  own key  {key}, certificate until {until}\n"
    )
}

/// Counters for Prometheus, for this machine only.
async fn serve_metrics(port: u16, handle: Handle) -> Result<String> {
    let failed = |e: std::io::Error| {
        CliError::new("cannot serve the counters (--metrics-port)")
            .found(format!("127.0.0.1:{port}: {e}"))
            .hint("choose another port, or 0 for any free one")
    };
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let read = move || async move {
        let mut page = Page::new("router");
        crate::nodes::expose_process(&mut page);
        let text = page.text() + &metrics::to_prometheus(&handle.counters());
        ([(axum::http::header::CONTENT_TYPE, CONTENT_TYPE)], text)
    };
    let pages = axum::Router::new().route("/metrics", axum::routing::get(read));
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, pages).await {
            tracing::warn!("the page of counters ended: {e}");
        }
    });
    Ok(format!("http://{address}/metrics"))
}

/// What the operator wants.
enum Order {
    Stop,
    Reload,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let take = |kind| {
            signal(kind)
                .map_err(|e| CliError::new("cannot listen for signals").found(e.to_string()))
        };
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            hangup: take(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.terminate.recv() => Order::Stop,
            _ = self.hangup.recv() => Order::Reload,
        }
    }
}
