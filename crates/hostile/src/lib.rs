//! Every parser that reads bytes of strangers, as one function each.
//!
//! Fuzzers call these functions (`fuzz/`), and so does a test that runs in CI on stable (`tests/corpus.rs`). Each is a
//! call of the ordinary API with fixed arguments; what must hold for every input stands there as an assertion.

use std::time::Duration;

use cocoon_attest::certificate::{Presenter, verify};
use cocoon_attest::evidence::event_log::{EventLog, MAX_EVENTS};
use cocoon_attest::evidence::gpu_report::GpuReport;
use cocoon_attest::evidence::rim::Rim;
use cocoon_attest::evidence::snp_report::SnpReport;
use cocoon_attest::evidence::{PolicyFile, chain, tdx};
use cocoon_attest::frame::PeerInfo;
use cocoon_attest::pow::{self, Challenge};
use cocoon_attest::sealing::TdReport;
use cocoon_attest::sealing::message::{GetPersistentKey, PersistentKey};
use cocoon_ledger::usage::{Mode, UsageCounter};
use cocoon_ton::boc;
use cocoon_wire::conn::{Conn, Role};
use cocoon_wire::msg::catalogue;

/// A parser under its name.
pub struct Target {
    /// Name of the fuzz target and of its corpus.
    pub name: &'static str,
    /// Reads any bytes; returns whether they were accepted.
    pub run: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("tdx_quote", tdx_quote),
    target("snp_report", snp_report),
    target("gpu_report", gpu_report),
    target("certificate", certificate),
    target("certificate_chain", certificate_chain),
    target("pow", pow),
    target("attestation_frame", attestation_frame),
    target("event_log", event_log),
    target("socks5", socks5),
    target("policy_file", policy_file),
    target("router_file", router_file),
    target("rim", rim),
    target("collateral", collateral),
    target("sealing", sealing),
    target("wire_message", wire_message),
    target("wire_stream", wire_stream),
    target("boc", boc),
    target("http_request", http_request),
    target("usage", usage),
];

const fn target(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, run }
}

/// The time of all certificates and collateral in the corpora.
pub const NOW: u64 = 1_790_000_000;

/// A TDX quote: outer form, body, and what it says about its platform.
pub fn tdx_quote(data: &[u8]) -> bool {
    let form = tdx::unverified_body(data).is_ok();
    let platform = tdx::platform(data).is_ok();
    assert!(form || !platform);
    form
}

/// An SEV-SNP report.
pub fn snp_report(data: &[u8]) -> bool {
    SnpReport::parse(data).is_ok()
}

/// A report of an NVIDIA GPU.
pub fn gpu_report(data: &[u8]) -> bool {
    GpuReport::parse(data).is_ok()
}

/// A peer's certificate with all its extensions.
pub fn certificate(data: &[u8]) -> bool {
    let server = verify(data, Presenter::Server, NOW).is_ok();
    verify(data, Presenter::Client, NOW).is_ok() || server
}

/// Certificates of hardware makers, in PEM: a chain and what it is asked for.
pub fn certificate_chain(data: &[u8]) -> bool {
    let chains =
        cocoon_attest::evidence::snp::SnpChain::from_service(&String::from_utf8_lossy(data), data);
    chain::parse("the certificate", data).is_ok() || chains.is_ok()
}

/// Challenge and response of the proof of work.
pub fn pow(data: &[u8]) -> bool {
    let challenge = data.first_chunk().map(Challenge::from_bytes);
    let response = data
        .last_chunk()
        .and_then(|bytes| pow::response_from_bytes(bytes).ok());
    match (challenge, response) {
        (Some(Ok(challenge)), Some(nonce)) => {
            let _ = challenge.verify(nonce);
            challenge
                .check_difficulty(pow::MAX_CLIENT_DIFFICULTY)
                .is_ok()
        }
        _ => false,
    }
}

/// The router's word about a peer; what is read is written as it was.
pub fn attestation_frame(data: &[u8]) -> bool {
    match PeerInfo::decode_body(data) {
        Ok(info) => {
            let again = PeerInfo::decode_body(&info.encode()[4..]);
            assert!(again.is_ok_and(|again| again == info));
            true
        }
        Err(_) => false,
    }
}

/// A firmware's event log, replayed.
pub fn event_log(data: &[u8]) -> bool {
    match EventLog::parse(data) {
        Ok(log) => {
            assert!(log.events.len() <= MAX_EVENTS);
            let _ = log.replay();
            true
        }
        Err(_) => false,
    }
}

/// A dialogue with a local application.
pub fn socks5(data: &[u8]) -> bool {
    use cocoon_router::socks5::{Choice, Dialogue, MAX_DIALOGUE_LEN, Step};
    let choice = Choice::Among(["tdx".to_owned(), "any".to_owned()].into());
    let mut dialogue = Dialogue::new(&choice);
    let (mut rest, mut read) = (data, 0);
    loop {
        let needs = dialogue.needs();
        assert!(needs > 0);
        let Some((piece, later)) = rest.split_at_checked(needs) else {
            return false;
        };
        (rest, read) = (later, read + needs);
        assert!(read <= MAX_DIALOGUE_LEN);
        match dialogue.feed(piece) {
            Err(_) => return false,
            Ok(Step::Done(_)) => return true,
            Ok(_) => {}
        }
    }
}

/// A file of policies on evidence.
pub fn policy_file(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|text| PolicyFile::from_json(text).is_ok())
}

/// A router's configuration file.
pub fn router_file(data: &[u8]) -> bool {
    cocoon_router::FileConfig::parse(data).is_ok()
}

/// Reference values of NVIDIA's drivers and firmware: XML.
pub fn rim(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|text| Rim::parse(text).is_ok())
}

/// Intel's collateral as a file.
pub fn collateral(data: &[u8]) -> bool {
    use cocoon_attest::evidence::collateral::TdxCollateral;
    match std::str::from_utf8(data).map(TdxCollateral::from_json) {
        Ok(Ok(collateral)) => {
            let _ = collateral.verify_signatures(tdx::TdxRoot::INTEL);
            true
        }
        _ => false,
    }
}

/// Messages of the sealing protocol, the report inside, the quote of a helper.
pub fn sealing(data: &[u8]) -> bool {
    let request = GetPersistentKey::decode(data).is_ok();
    request || PersistentKey::decode(data).is_ok() || TdReport::parse(data).is_ok()
}

/// Any object of the scheme; what is read is written as it was.
pub fn wire_message(data: &[u8]) -> bool {
    let _ = catalogue::describe(data);
    let entry = data
        .first_chunk()
        .and_then(|id| catalogue::find(u32::from_le_bytes(*id)));
    match entry.map(|entry| (entry.rewrite)(data).map(|again| (entry, again))) {
        Some(Ok((entry, again))) => {
            let twice = (entry.rewrite)(&again);
            assert!(twice.is_ok_and(|twice| twice == again));
            true
        }
        _ => false,
    }
}

/// A connection that receives these bytes in pieces.
pub fn wire_stream(data: &[u8]) -> bool {
    let now = Duration::ZERO;
    let mut conn = Conn::new(Role::Acceptor, 1, now);
    for piece in data.chunks(97) {
        conn.receive(now, piece);
        while conn.poll_event().is_some() {}
        while conn.poll_outcome().is_some() {}
        let written = conn.take_output().len();
        conn.wrote(written);
    }
    conn.is_ready() && conn.closed().is_none()
}

/// A bag of cells within the limits of an account and of a signed message.
pub fn boc(data: &[u8]) -> bool {
    let state = boc::decode(data, boc::STATE);
    let envelope = boc::decode(data, boc::ENVELOPE).is_ok();
    match state {
        Ok(cell) => {
            let again = boc::decode(&boc::encode(&cell), boc::STATE);
            assert!(again.is_ok_and(|again| again == cell));
            true
        }
        Err(_) => {
            assert!(!envelope);
            false
        }
    }
}

/// A caller's JSON at the endpoint.
pub fn http_request(data: &[u8]) -> bool {
    let chat = cocoon_node::client::request::parse("/v1/chat/completions", data).is_ok();
    cocoon_node::client::request::parse("/v1/completions", data).is_ok() || chat
}

/// An answer's body in pieces, whose usage is counted; a JSON body or an event stream.
pub fn usage(data: &[u8]) -> bool {
    use cocoon_ledger::{Coefficient, Multiplier};
    use cocoon_ledger::{Multipliers, NanoTon, Prices};
    let one = Multiplier::ONE;
    let prices = Prices {
        multipliers: Multipliers {
            prompt: one,
            cached: one,
            completion: one,
            reasoning: one,
        },
        price_per_token: NanoTon(20),
        coefficient: Coefficient::ONE,
    };
    for mode in [Mode::Streaming, Mode::Reference] {
        let mut counter = UsageCounter::new(mode, prices);
        let mut sent = 0;
        for piece in data.chunks(61) {
            sent += counter.push(piece).len();
        }
        sent += counter.finish().len();
        // Cost members are added, nothing else grows.
        assert!(sent <= 64 * data.len() + 4096, "{sent} of {}", data.len());
        let _ = counter.usage();
    }
    true
}
