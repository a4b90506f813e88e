//! `cocoon key-manager`: from flags and file to a running key manager. It has no wallet and no contract.

mod pages;

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_node::Timing;
use cocoon_node::key_manager::{self as node, KeyManagerHandle, KeyManagerOptions};
use cocoon_node::peers::Door;
use cocoon_node::proxy::Entrance;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::base::{self, ConfigFile, listen};
use super::chain;
use super::config::{self, KeyManagerFile};
use super::evidence::{self, Armed, Attestation};
use super::keyring::{Keyring, TOKEN_FILE};
use super::pages::Operator;
use super::start;
use crate::cli::{Global, KeyManagerArgs};
use crate::datadir::{DataDir, Layout};
use crate::error::{CliError, Result};
use crate::logging;
use crate::signals::Signals;

/// Between looks at the root configuration.
const ROOT_POLL: Duration = Duration::from_secs(2);
const ROLE: &str = "key-manager";

/// Runs `cocoon key-manager`.
pub async fn key_manager(args: &KeyManagerArgs, global: &Global) -> Result<ExitCode> {
    let file = ConfigFile::read(global, ROLE)?;
    let (mut conf, unread) = config::key_manager(file.text()).map_err(|e| file.wrong(&e))?;
    conf.direct |= args.direct;
    conf.rpc_port = args.rpc_port.unwrap_or(conf.rpc_port);
    conf.shared.check_hashes |= args.node.check_hashes;
    conf.shared.http_port = args.node.http_port.unwrap_or(conf.shared.http_port);
    if conf.rpc_port == 0 {
        return Err(
            CliError::usage("a key manager that nobody reaches gives no keys")
                .expected("'rpc_port' in the configuration, or --rpc-port, such as 14001"),
        );
    }
    let ip = args.listen.or(conf.listen).unwrap_or(Ipv4Addr::LOCALHOST);
    if !conf.direct && ip != Ipv4Addr::LOCALHOST {
        return Err(
            CliError::usage("a key manager behind a router listens on 127.0.0.1 only")
                .expected("no 'listen', or 'direct' (--direct) to attest peers in this process")
                .found(format!(
                    "listen on {ip}: whoever reaches that port could claim any identity, and get the keys"
                )),
        );
    }
    let pow = start::difficulty(args.pow_difficulty, conf.pow_difficulty)?;
    let mut signals = Signals::new()?;
    let start = begin(args, global, &file, conf, unread, ip, pow);
    let started = tokio::select! {
        started = start => started?,
        () = signals.next() => {
            eprintln!("stopped before it was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    if args.node.json {
        println!("{}", started.ready);
    } else if !args.node.quiet {
        print!("{}", started.screen);
    }
    let halted = tokio::select! {
        reason = started.handle.stopped() => Some(reason),
        () = signals.next() => None,
    };
    tokio::select! {
        () = started.handle.drain() => {}
        () = signals.next() => {}
    }
    if let Some(pages) = &started.pages {
        pages.abort();
    }
    match halted {
        Some(reason) => Err(CliError::new(
            "the key manager has stopped by itself; nothing was deleted",
        )
        .found(reason)
        .hint(format!(
            "the log is {}",
            started.data.layout().logs().join("cocoon.log").display()
        ))),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// A running key manager and what it holds.
struct Started {
    handle: Arc<KeyManagerHandle>,
    pages: Option<JoinHandle<()>>,
    ready: Value,
    screen: String,
    data: DataDir,
    /// Keeps collateral and demands for direct links.
    _armed: Option<Armed>,
}

async fn begin(
    args: &KeyManagerArgs,
    global: &Global,
    file: &ConfigFile,
    conf: KeyManagerFile,
    unread: Vec<String>,
    ip: Ipv4Addr,
    pow: u8,
) -> Result<Started> {
    let began = Instant::now();
    let shared = &conf.shared;
    let source = base::source(&args.node, shared, file)?;
    let level = base::log_level(&args.node, global);
    logging::check(level.as_deref())?;
    let asked = global
        .data_dir
        .clone()
        .or(conf.db_path.clone().map(Into::into));
    let layout = Layout::locate_or(asked.as_deref(), &format!("cocoon-{ROLE}"))?;
    let data = DataDir::open_as(layout, Some(ROLE))?;
    logging::init(
        level.as_deref(),
        Some(&data.layout().logs()),
        global.log_format,
    )?;
    file.after_log(conf.store_key.is_some(), &unread);
    let keyring = Keyring::open(data.layout(), ROLE)?;
    let dir = data.layout().path().to_owned();
    let mut armed = None;
    let door = if conf.direct {
        let policy = match evidence::attestation(shared)? {
            Attestation::Fake => {
                evidence::nothing_to_verify(shared).map(|()| start::fake_policy())?
            }
            Attestation::Tdx => armed.insert(evidence::tdx_policy(shared)?).policy.clone(),
        };
        let proof = evidence::proof(shared, false)?;
        // Hardware may take its time, and nothing else runs yet.
        let identity = tokio::task::block_in_place(|| start::identity(proof))?;
        start::direct_door(identity, policy, pow)
    } else {
        Door::Router {
            allow_fake: shared.is_test,
            user: shared.router_uid,
        }
    };
    let listener = listen(ip, conf.rpc_port, "rpc_port")?;
    let http_ip = args.node.http_listen.unwrap_or(Ipv4Addr::LOCALHOST);
    let http = match shared.http_port {
        0 => None,
        port => Some((port, listen(http_ip, port, "http_port")?)),
    };
    let options = KeyManagerOptions {
        root: chain::root_source(&source, shared.root).await?,
        store_key: keyring.key(conf.store_key.as_ref(), "store.key")?,
        store: start::store(&dir, ROLE)?,
        askers: Some(Entrance { listener, door }),
        is_test: shared.is_test,
        check_hashes: shared.check_hashes,
        timing: Timing {
            root_poll: ROOT_POLL,
            ..Timing::default()
        },
    };
    let handle = node::start(options)
        .await
        .map_err(|e| start::node_error(ROLE, &e, &dir))?;
    let handle = Arc::new(handle);
    let seconds = began.elapsed().as_secs_f64();
    let mut screen = format!("\nThe {ROLE} is ready after {seconds:.1} s.\n\n");
    let how = if conf.direct {
        "attested here"
    } else {
        "behind a router"
    };
    let _ = writeln!(screen, "  Network    {}", source.text());
    let _ = writeln!(screen, "  Askers     {ip}:{} ({how})", conf.rpc_port);
    if !shared.check_hashes {
        screen.push_str(
            "  Attention  images are not compared: whoever reaches the port gets the keys\n",
        );
    }
    let pages = match http {
        None => None,
        Some((port, listener)) => {
            let configured = shared.http_token.is_some();
            let operator = Operator {
                token: keyring.token(shared.http_token.clone())?,
                guard_reading: configured || !http_ip.is_loopback(),
            };
            let token = if configured {
                "http_access_hash".to_owned()
            } else {
                let path = data.layout().keys().join(TOKEN_FILE);
                path.display().to_string()
            };
            let _ = writeln!(
                screen,
                "  Status     http://{http_ip}:{port}/stats   (changes need the token: {token})"
            );
            let facts = facts(&conf);
            Some(pages::serve(listener, handle.clone(), facts, operator))
        }
    };
    let ready = json!({
        "role": ROLE,
        "pid": std::process::id(),
        "data_dir": dir.display().to_string(),
        "startup_ms": began.elapsed().as_millis() as u64,
        "http_port": shared.http_port,
        "rpc_port": conf.rpc_port,
    });
    Ok(Started {
        handle,
        pages,
        ready,
        screen,
        data,
        _armed: armed,
    })
}

/// What the file says, for the figures (protocol.md 8.5).
fn facts(conf: &KeyManagerFile) -> Value {
    json!({
        "root_address": conf.shared.root.to_text(true, conf.shared.testnet),
        "check_hashes": conf.shared.check_hashes,
        "is_test": conf.shared.is_test,
        "actual_image_hash": conf.image_hash.map(hex::encode_upper),
    })
}
