//! GPU evidence in claims.

use std::sync::atomic::{AtomicBool, Ordering};

use cocoon_softtee::SoftGpu;

use super::*;
use crate::claims::gpu::{self, GpuFailure};
use crate::evidence::gpu::GpuRoot;
use crate::evidence::gpu_policy::GpuPolicy;
use crate::evidence::rim::Rim;

struct Machine {
    gpus: Vec<SoftGpu>,
    /// Answers every challenge with the report for this nonce.
    recorded: Option<[u8; 32]>,
    asked: AtomicBool,
}

impl GpuSource for Machine {
    fn evidence(&self, nonce: &[u8; 32]) -> Result<Vec<GpuDevice>, GpuSourceError> {
        self.asked.store(true, Ordering::Relaxed);
        let nonce = self.recorded.as_ref().unwrap_or(nonce);
        let device = |gpu: &SoftGpu| GpuDevice {
            report: gpu.report(nonce),
            chain: gpu.chain().into_bytes(),
        };
        Ok(self.gpus.iter().map(device).collect())
    }
}

fn machine(gpus: Vec<SoftGpu>) -> Machine {
    Machine {
        gpus,
        recorded: None,
        asked: AtomicBool::new(false),
    }
}

fn demand(gpu: &SoftGpu, required: bool) -> GpuDemand {
    let rims: Vec<Rim> = gpu
        .manifests()
        .iter()
        .map(|text| Rim::parse(text).unwrap())
        .collect();
    GpuDemand {
        policy: Arc::new(GpuPolicy {
            rim_sha256: rims.iter().map(|rim| rim.sha256).collect(),
            ..GpuPolicy::default()
        }),
        root: GpuRoot::pinned(gpu.root_sha256()),
        rims: rims.into(),
        lists: Arc::new([]),
        required,
    }
}

async fn meet_gpus(machine: Option<Machine>, demand: Option<GpuDemand>) -> (Outcome, Option<bool>) {
    let (mut worker, mut proxy) = (worker(), proxy());
    let machine = machine.map(Arc::new);
    worker.own.gpu = machine.clone().map(|machine| machine as Arc<dyn GpuSource>);
    proxy.expected.gpu = demand;
    let (_, server) = meet(Some(&worker), Some(&proxy)).await;
    let asked = machine.map(|machine| machine.asked.load(Ordering::Relaxed));
    (server, asked)
}

fn gpu_failure(outcome: Outcome) -> GpuFailure {
    match claims_error(outcome) {
        ClaimsError::Gpu(failure) => failure,
        other => panic!("another error: {other}"),
    }
}

#[tokio::test]
async fn a_gpu_is_judged_with_a_report_made_for_this_connection() {
    let gpu = SoftGpu::new(unix_now());
    let demand = demand(&gpu, true);
    let (server, asked) = meet_gpus(Some(machine(vec![gpu])), Some(demand)).await;
    let claims = server.unwrap().1.claims.unwrap();
    assert_eq!((claims.gpus.len(), asked), (1, Some(true)));
    assert!(claims.gpu_digest.is_some());
    assert_eq!(claims.gpus[0].report.driver_version, "999.1");
}

#[tokio::test]
async fn a_gpu_is_required_with_confidential_computing_on() {
    let gpu = SoftGpu::new(unix_now());
    let (server, _) = meet_gpus(None, Some(demand(&gpu, true))).await;
    assert_eq!(gpu_failure(server), GpuFailure::Missing);
    // Not required, and none shown.
    let (server, _) = meet_gpus(None, Some(demand(&gpu, false))).await;
    assert!(server.unwrap().1.claims.unwrap().gpus.is_empty());
    // Links in clear.
    let mut open = SoftGpu::new(unix_now());
    open.feature_flag = 2;
    let asks = demand(&open, false);
    let (server, _) = meet_gpus(Some(machine(vec![open])), Some(asks)).await;
    let GpuFailure::Refused { index: 0, reason } = gpu_failure(server) else {
        panic!("another failure");
    };
    assert!(reason.contains("GPU mode"), "{reason}");
    // Another maker's root.
    let (server, _) = meet_gpus(
        Some(machine(vec![SoftGpu::new(unix_now())])),
        Some(demand(&gpu, false)),
    )
    .await;
    assert!(matches!(gpu_failure(server), GpuFailure::Refused { .. }));
}

/// A report of another connection, or of another machine behind the same key.
#[tokio::test]
async fn a_gpu_report_of_before_is_refused() {
    let gpu = SoftGpu::new(unix_now());
    let demand = demand(&gpu, true);
    let machine = Machine {
        recorded: Some([8; 32]),
        ..machine(vec![gpu])
    };
    let (server, _) = meet_gpus(Some(machine), Some(demand)).await;
    let GpuFailure::Refused { reason, .. } = gpu_failure(server) else {
        panic!("another failure");
    };
    assert!(reason.contains("GPU nonce"), "{reason}");
}

#[tokio::test]
async fn one_gpu_counts_once_and_nobody_asks_for_nothing() {
    let gpu = SoftGpu::new(unix_now());
    let asks = demand(&gpu, true);
    struct Twice(Machine);
    impl GpuSource for Twice {
        fn evidence(&self, nonce: &[u8; 32]) -> Result<Vec<GpuDevice>, GpuSourceError> {
            let one = self.0.evidence(nonce)?;
            Ok([&one[..], &one].concat())
        }
    }
    let (mut worker, mut proxy) = (worker(), proxy());
    worker.own.gpu = Some(Arc::new(Twice(machine(vec![gpu]))));
    proxy.expected.gpu = Some(asks);
    let (_, server) = meet(Some(&worker), Some(&proxy)).await;
    assert!(matches!(gpu_failure(server), GpuFailure::Twice(_)));
    // Without a demand no GPU is asked, and the statement speaks of none.
    let (server, asked) = meet_gpus(Some(machine(vec![SoftGpu::new(unix_now())])), None).await;
    assert_eq!(asked, Some(false));
    assert_eq!(server.unwrap().1.claims.unwrap().gpu_digest, None);
    let digest = verdict_on_statement(|s| s.gpu_digest = Some([1; 32])).await;
    assert_eq!(digest, ClaimsError::Gpu(GpuFailure::Digest));
}

#[test]
fn evidence_is_read_whole_or_not_at_all() {
    let device = GpuDevice {
        report: vec![1; 300],
        chain: vec![2; 500],
    };
    let bytes = gpu::encode(&[device.clone(), device.clone()]).unwrap();
    assert_eq!(
        gpu::decode(&bytes).unwrap(),
        [device.clone(), device.clone()]
    );
    for cut in 1..bytes.len() {
        assert!(gpu::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(gpu::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(gpu::decode(&[0, 0]).is_err());
    assert!(gpu::decode(&[17, 0]).is_err());
    assert!(gpu::encode(&vec![device.clone(); 17]).is_err());
    let huge = GpuDevice {
        report: vec![0; 20_000],
        ..device
    };
    assert!(gpu::encode(&[huge]).is_err());
}

/// Whatever of the three differs, the report is another one.
#[test]
fn a_gpus_nonce_belongs_to_key_connection_and_challenge() {
    let session = Session {
        side: Side::Dialler,
        key: [1; 32],
        peer_key: [2; 32],
        binding: [3; 32],
        nonce: [4; 32],
    };
    let mut seen = vec![gpu::nonce_for_session(&session)];
    for edit in [
        (|s| s.key[0] ^= 1) as fn(&mut Session),
        |s| s.binding[0] ^= 1,
        |s| s.nonce[0] ^= 1,
    ] {
        let mut other = session;
        edit(&mut other);
        let nonce = gpu::nonce_for_session(&other);
        assert!(!seen.contains(&nonce));
        seen.push(nonce);
    }
}
