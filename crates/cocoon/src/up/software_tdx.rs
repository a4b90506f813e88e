//! The whole network once with real evidence: quotes of a software TDX, taken through the guest's side from an imitation
//! of the kernel, judged by the unmodified verifier under policy `tdx` with that root named.
//!
//! Compiled for tests only, like everything that knows a root of trust beside the makers' own
//! (`tests/no_test_root.rs` looks for it in the program).

#[path = "../../../attest/tests/support/soft_kernel.rs"]
mod soft_kernel;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_attest::evidence::TdxVerifier;
use cocoon_attest::evidence::collateral::{CollateralStore, TdxCollateral};
use cocoon_attest::evidence::tdx::TdxRoot;
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_attest::guest::Kernel;
use cocoon_attest::guest::registers::Registers;
use cocoon_attest::quote_source::TdxGuest;
use cocoon_attest::{Policy, PolicyRules, unix_now};
use cocoon_softtee::{Machine, SoftKernel, SoftTdx, TdFields};
use cocoon_ton::abi::{ClientState, RootMessage, WorkerState};
use cocoon_ton::wallet::InternalMessage;
use cocoon_ton::{Address, Cell};
use http::Method;
use serde_json::{Value, json};

use self::soft_kernel::Soft;
use super::progress::Progress;
use super::running::Running;
use super::settings::Settings;
use super::start::start;
use super::trust::{Shown, Trust};
use crate::cli::UpArgs;
use crate::datadir::{DataDir, Layout};
use crate::http::{Answer, Http};
use crate::nodes::start::Proof;

/// For anything that has to happen at all.
const PATIENCE: Duration = Duration::from_secs(180);
/// For a node whose image left the list.
const EXPULSION: Duration = Duration::from_secs(60);
/// Attached to a message to the root; what is left comes back.
const GOVERNANCE_COINS: u128 = 50_000_000;

/// A confidential machine of its own, told from others by what was measured first.
fn machine(platform: &Arc<SoftTdx>, measured: u8) -> (Shown, Arc<SoftKernel>) {
    let mut fields = TdFields::default();
    fields.registers[0] = [measured; 48];
    let soft = Arc::new(SoftKernel::new(Machine::Tdx(platform.clone(), fields)));
    let kernel: Arc<dyn Kernel> = Arc::new(Soft(soft.clone()));
    let registers = Registers::open(kernel.clone()).unwrap();
    // What the boot of a guest image leaves in RTMR3 before any certificate is made (spec 6.4).
    registers.extend_text(3, "cocoon:tdx_inited", None).unwrap();
    let shown = Shown {
        image_hash: registers.measurements().unwrap().image_hash(),
        proof: Proof::Quote(Arc::new(TdxGuest::on(kernel))),
    };
    (shown, soft)
}

fn policy(platform: &SoftTdx) -> Policy {
    let root = TdxRoot::pinned(platform.root_sha256());
    let store = CollateralStore::under(root);
    let collateral = TdxCollateral::from_json(&platform.collateral()).unwrap();
    store.insert(collateral).unwrap();
    let verifier = TdxVerifier::with(Arc::new(store), TdxPolicy::default(), root, unix_now);
    let rules = PolicyRules {
        allowed_collateral_root_hashes: vec![platform.root_hash()],
        ..PolicyRules::default()
    };
    Policy::Tdx(rules).with_verifier(Arc::new(verifier))
}

async fn until<F: Future<Output = bool>>(what: &str, limit: Duration, check: impl Fn() -> F) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(limit, wait).await;
    assert!(done.is_ok(), "not within {} s: {what}", limit.as_secs());
}

async fn ask(running: &Running) -> Answer {
    let url = format!(
        "{}/chat/completions",
        running.network.client.openai_base_url
    );
    let body = json!({
        "model": running.network.model, "max_tokens": 12,
        "messages": [{"role": "user", "content": "What is 7 + 8?"}],
    });
    Http::default()
        .call(Method::POST, &url, Some(&body))
        .await
        .unwrap()
}

async fn state(running: &Running, contract: Address) -> Option<Cell> {
    running.chain().account(&contract).await.unwrap().data
}

/// Workers that the proxy would give work.
async fn serving(running: &Running) -> Vec<Value> {
    let stats = running.proxy.stats().await;
    let workers = stats["worker_connections"].as_array().cloned();
    let mut workers = workers.unwrap_or_default();
    workers.retain(|worker| worker["enabled"] == true && worker["listed"] == true);
    workers
}

async fn govern(running: &Running, message: RootMessage) {
    let body = message.encode().unwrap();
    let call = InternalMessage::call(running.network.chain.root, GOVERNANCE_COINS, body);
    let faucet = running.wallets.last().unwrap();
    faucet.send(call.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_on_software_tdx_serves_settles_and_expels() {
    let platform = Arc::new(SoftTdx::new(unix_now()));
    let (proxy, proxy_kernel) = machine(&platform, 0x11);
    let (worker, worker_kernel) = machine(&platform, 0x22);
    let image = worker.image_hash;
    assert_ne!(image, proxy.image_hash);
    let trust = Trust {
        policy: policy(&platform),
        proxy,
        worker,
    };
    let dir = tempfile::tempdir().unwrap();
    let mut data = DataDir::open(Layout::locate(Some(dir.path())).unwrap()).unwrap();
    let args = UpArgs {
        client_port: Some(0),
        proxy_port: Some(0),
        worker_rpc_port: Some(0),
        client_rpc_port: Some(0),
        worker_port: Some(0),
        chain_port: Some(0),
        pow_difficulty: Some(4),
        ..UpArgs::default()
    };
    let settings = Settings::resolve(&args).unwrap();
    let progress = Progress::new(true);
    let running = start(&mut data, &settings, &trust, &progress, Instant::now());
    let running = running.await.unwrap();
    assert_eq!(running.network.attestation, "tdx");

    // Each of the two asked its own machine for a quote, and no request stayed behind in the kernel.
    for kernel in [&proxy_kernel, &worker_kernel] {
        let (left, made) = kernel.requests();
        assert!(left == 0 && !made.is_empty(), "{left} left of {made:?}");
    }
    until("a worker serves", PATIENCE, || async {
        !serving(&running).await.is_empty()
    })
    .await;
    let seen = serving(&running).await;
    assert_eq!(seen[0]["fake_attestation"], false);
    assert_eq!(seen[0]["worker_hash"], hex::encode_upper(image));

    let answer = ask(&running).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    let text = answer.json["choices"][0]["message"]["content"].as_str();
    assert!(text.is_some_and(|text| !text.is_empty()), "{}", answer.json);
    let used = answer.json["usage"]["total_tokens"].as_u64().unwrap();
    assert!(used > 0);

    // Both sides of the bill arrive on the chain.
    let (client, pay) = (
        running.network.client.contract,
        running.network.worker.contract,
    );
    until("the client is charged", PATIENCE, || async {
        let state = state(&running, client).await;
        state.is_some_and(|cell| ClientState::decode(&cell).unwrap().tokens_used >= used)
    })
    .await;
    until("the worker is paid", PATIENCE, || async {
        let state = state(&running, pay).await;
        state.is_some_and(|cell| WorkerState::decode(&cell).unwrap().tokens_paid >= used)
    })
    .await;

    // The root contract no longer lists the worker's image: within a minute nobody gives it work.
    let remove = RootMessage::DeleteWorkerHash {
        query_id: 1 << 40,
        hash: image,
    };
    govern(&running, remove).await;
    until("the worker is expelled", EXPULSION, || async {
        serving(&running).await.is_empty()
    })
    .await;
    let refused = ask(&running).await;
    assert!(refused.status >= 400, "{}", refused.json);
    assert!(refused.json["choices"].is_null(), "{}", refused.json);
    assert!(running.client.ready(), "the proxy's image is still listed");

    // It was the list and nothing else: listed again, it serves again.
    let list = RootMessage::AddWorkerHash {
        query_id: (1 << 40) + 1,
        hash: image,
    };
    govern(&running, list).await;
    until("the worker serves again", PATIENCE, || async {
        !serving(&running).await.is_empty()
    })
    .await;
    until("the model is asked again", PATIENCE, || async {
        ask(&running).await.status == 200
    })
    .await;
    running.stop().await;
}
