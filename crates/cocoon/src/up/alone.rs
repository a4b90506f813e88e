//! `cocoon chain`: the embedded chain and its root contract alone, for a network put together from single nodes.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_ton::Chain;
use serde_json::json;

use super::chain::{GLOBAL_ID, empty_queue, guard, open_chain, serve_chain};
use super::founding::{self, Founder, Registry};
use super::identity::{identity, public};
use super::nodes;
use super::ports;
use super::progress::Progress;
use super::settings::Settings;
use crate::cli::{ChainArgs, Global, UpArgs};
use crate::contracts::Contracts;
use crate::datadir::{DataDir, Layout};
use crate::error::{CliError, Result};
use crate::fs::{PUBLIC_MODE, write_atomic};
use crate::network::ChainInfo;
use crate::nodes::start::fake_image_hash;
use crate::signals::Signals;
use crate::{logging, model};

/// Runs the command until it is told to stop.
pub async fn run(args: &ChainArgs, global: &Global) -> Result<ExitCode> {
    let began = Instant::now();
    let settings = Settings::resolve(&UpArgs {
        price: args.price,
        worker_fee: args.worker_fee,
        ..UpArgs::default()
    })?;
    logging::check(global.log.as_deref())?;
    let mut signals = Signals::new()?;
    let mut data = DataDir::open(Layout::locate(global.data_dir.as_deref())?)?;
    let layout = data.layout().clone();
    logging::init(
        global.log.as_deref(),
        Some(&layout.logs()),
        global.log_format,
    )?;
    // What killed processes left behind speaks of nobody.
    for file in [layout.network_file(), layout.chain_file()] {
        let _ = std::fs::remove_file(file);
    }
    let port = args.chain_port.unwrap_or(8081);
    let listener = ports::listen(port, ("the chain's HTTP interface", "--chain-port"))?;
    let progress = Progress::new(args.quiet);
    let started = start(&mut data, &settings, args, &progress, listener);
    let running = tokio::select! {
        started = started => started?,
        () = signals.next() => {
            progress.finish();
            eprintln!("stopped before it was ready; the next start goes on from here");
            return Ok(ExitCode::SUCCESS);
        }
    };
    progress.finish();
    let info = &running.info;
    let text = serde_json::to_vec_pretty(info)
        .map_err(|e| CliError::new(format!("cannot write JSON: {e}")))?;
    write_atomic(&layout.chain_file(), &text, PUBLIC_MODE)?;
    let root = info.root.to_string();
    if args.json {
        let ready = json!({
            "role": "chain", "pid": std::process::id(), "data_dir": layout.path().display().to_string(),
            "port": info.port, "url": info.url, "global_id": info.global_id, "root": root,
            "faucet": info.faucet.to_string(), "model_full_name": running.model,
            "startup_ms": began.elapsed().as_millis() as u64,
        });
        println!("{ready}");
    } else if !args.quiet {
        println!(
            "\nThe chain is ready after {:.1} s.\n\n  Nodes      --chain toncenter:{}\n  Root       {root}   (root_contract_address; is_test and is_testnet are true)\n  Model      {}\n  Coins      cocoon wallet send --data-dir {} --faucet --to ADDRESS --amount 100",
            began.elapsed().as_secs_f64(),
            info.url,
            running.model,
            layout.path().display(),
        );
    }
    signals.next().await;
    let _ = std::fs::remove_file(layout.chain_file());
    running.server.abort();
    let _ = tokio::time::timeout(Duration::from_secs(3), running.faucet.close()).await;
    let devnet = running.devnet;
    let _ = tokio::task::spawn_blocking(move || devnet.shutdown()).await;
    if !args.quiet {
        eprintln!("stopped; the data is in {}", layout.path().display());
    }
    Ok(ExitCode::SUCCESS)
}

struct Alone {
    info: ChainInfo,
    model: String,
    devnet: cocoon_devnet::Devnet,
    faucet: cocoon_node::wallet::WalletHandle,
    server: tokio::task::JoinHandle<()>,
}

/// The first steps of `cocoon up`, and an entry for the proxy that will come.
async fn start(
    data: &mut DataDir,
    settings: &Settings,
    args: &ChainArgs,
    progress: &Progress,
    listener: std::net::TcpListener,
) -> Result<Alone> {
    let layout = data.layout().clone();
    let mut contracts = Contracts::load()?;
    if let Some(founding) = data.founding() {
        contracts = contracts.of_network(&founding.wallet_code)?;
    }
    progress.step("reading the keys");
    let (keys, founding, root_init) = identity(data, settings, &contracts).await?;
    let faucet = contracts.wallet(public(&keys.faucet), None)?;
    progress.step("opening the chain");
    let devnet = open_chain(&layout, &faucet, data.founding().is_some()).await?;
    if data.founding().is_none() {
        data.set_founding(founding)?;
    }
    empty_queue(&devnet).await;
    let failed = |e: std::io::Error| CliError::new("cannot listen").found(e.to_string());
    let port = listener.local_addr().map_err(failed)?.port();
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let server = serve_chain(&devnet, listener);
    let chain: Arc<dyn Chain> = Arc::new(devnet.clone());
    let founder = Founder {
        chain: chain.clone(),
        faucet: nodes::wallet(&chain, &keys.faucet, &faucet),
        progress: progress.clone(),
    };
    let root = founder.root(&root_init).await?;
    founding::check_prices(settings, &root)?;
    guard(chain.as_ref(), &root).await?;
    let model = match &args.model_full_name {
        Some(name) => {
            model::check_name(cocoon_node::root::base_model(name))?;
            name.clone()
        }
        None => model::full_name(
            model::SHIPPED_NAME,
            &model::unpack_shipped(&layout.models())?,
        )?,
    };
    let registry = Registry {
        model_full_name: model.clone(),
        worker_image: fake_image_hash(),
        proxy_image: fake_image_hash(),
        worker_rpc_port: args.workers_rpc_port.unwrap_or(11_001),
        client_rpc_port: args.client_rpc_port.unwrap_or(11_002),
    };
    let root = founder.register(root.address, &registry).await?;
    Ok(Alone {
        info: ChainInfo {
            port,
            url: format!("http://127.0.0.1:{port}"),
            global_id: GLOBAL_ID,
            root: root.address,
            faucet: faucet.address,
        },
        model,
        devnet,
        faucet: founder.faucet,
        server,
    })
}
