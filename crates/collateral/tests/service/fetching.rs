//! What a service may answer, and what becomes of it.

use std::time::Duration;

use cocoon_attest::evidence::collateral::{CollateralError, CollateralStore};
use cocoon_attest::evidence::lists::Bytes;
use cocoon_attest::evidence::tdx::{Platform, TdxRoot};
use cocoon_collateral::fetch::{Fault, Fetcher};
use cocoon_collateral::service::Service;
use cocoon_collateral::web::{SecretHeader, Web, WebError};
use zeroize::Zeroizing;

use crate::pcs::{DAY, Intel, NOW, QUICK, Reply, Way, deadlines, tamper};

const TCB: &str = "/tdx/certification/v4/tcb";
const QE: &str = "/tdx/certification/v4/qe";
const PCK: &str = "/sgx/certification/v4/pckcrl";
const ROOT: &str = "/sgx/certification/v4/rootcacrl";

#[tokio::test]
async fn collateral_is_fetched_as_the_service_gives_it() {
    let intel = Intel::start().await;
    let fetched = intel.fetcher().tdx(&intel.platform(), NOW).await.unwrap();
    // Signatures are random, so texts are compared, not bytes.
    let edition = fetched.edition().unwrap();
    assert_eq!(edition, intel.collateral(NOW - DAY).edition().unwrap());
    assert_eq!(
        (edition.issued, edition.expires),
        (NOW - DAY, NOW + 29 * DAY)
    );
    let store = CollateralStore::under(intel.root());
    store.insert(fetched).unwrap();
    let asked: Vec<String> = intel
        .server
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|head| head.lines().next().unwrap().to_owned())
        .collect();
    assert_eq!(
        asked,
        [
            "GET /tdx/certification/v4/tcb?fmspc=c0c00a000001 HTTP/1.1",
            "GET /sgx/certification/v4/pckcrl?ca=platform&encoding=der HTTP/1.1",
            "GET /tdx/certification/v4/qe/identity HTTP/1.1",
            "GET /sgx/certification/v4/rootcacrl HTTP/1.1",
        ]
    );
}

/// Every wrong answer ends the fetch with its reason and its address, and nothing of it gets anywhere.
#[tokio::test]
async fn wrong_answers_are_refused_and_named() {
    type Edit = fn(&mut Reply);
    let cases: &[(&str, Edit, &str)] = &[
        (TCB, |r| r.status = 404, "does not have it"),
        (TCB, |r| r.status = 500, "status 500"),
        (QE, |r| r.status = 429, "status 429"),
        (PCK, |r| r.status = 403, "refuses us (status 403)"),
        (ROOT, |r| r.status = 302, "points elsewhere (status 302)"),
        (TCB, |r| r.status = 204, "status 204"),
        (TCB, |r| r.way = Way::Cut, "broke off"),
        (PCK, |r| r.way = Way::Silent, "broke off"),
        (QE, |r| r.way = Way::Endless, "more than 262144 bytes"),
        (
            ROOT,
            |r| r.body = vec![b'a'; 300 << 10],
            "more than 262144 bytes",
        ),
        (
            PCK,
            |r| r.body = vec![0x30; 5 << 20],
            "more than 4194304 bytes",
        ),
        (TCB, |r| r.body = b"<html>".to_vec(), "cannot be read"),
        (TCB, |r| r.body = vec![0xff; 9], "is not text"),
        (
            ROOT,
            |r| r.body = b"not hexadecimal".to_vec(),
            "is not text",
        ),
        (
            PCK,
            |r| r.body = vec![0x30, 3, 1, 2, 0xff],
            "the platforms' revocation list",
        ),
        (
            TCB,
            |r| r.body = tamper(&r.body, "\"UpToDate\"", "\"OutOfDate\""),
            "not signed by",
        ),
        (
            QE,
            |r| r.body = tamper(&r.body, "\"isvprodid\":2", "\"isvprodid\":3"),
            "not signed by",
        ),
        (
            PCK,
            |r| {
                let end = r.body.len() - 1;
                r.body[end] ^= 1;
            },
            "not signed by",
        ),
        (
            ROOT,
            |r| {
                let end = r.body.len() - 1;
                r.body[end] ^= 1;
            },
            "not signed by",
        ),
        (
            TCB,
            |r| r.headers.clear(),
            "0 headers TCB-Info-Issuer-Chain",
        ),
        (
            PCK,
            |r| r.headers = [r.headers.clone(), r.headers.clone()].concat(),
            "2 headers SGX-PCK-CRL",
        ),
        (QE, |r| r.headers[0].1 = "%".into(), "ends after a %"),
        (QE, |r| r.headers[0].1 = "x".repeat(200 << 10), "broke off"),
        (PCK, |r| r.headers[0].1 = "none".into(), "(unknown issuer)"),
        (
            QE,
            |r| r.headers[0].1 = "none".into(),
            "a certificate and the root are expected",
        ),
        (
            TCB,
            |r| r.body = tamper(&r.body, "c0c00a000001", "c0c00a000002"),
            "is about platform family c0c00a000002",
        ),
    ];
    for (path, edit, reason) in cases {
        let intel = Intel::start().await;
        intel.server.edit(path, edit);
        let Err(error) = intel.fetcher().tdx(&intel.platform(), NOW).await else {
            panic!("{path}: {reason}: it was taken");
        };
        let text = error.to_string();
        assert!(text.contains(reason), "{path}: {reason}: {text}");
        assert!(text.contains(&intel.server.url()), "{text}");
    }
}

/// A PCK list under a foreign authority would say nothing about the platform's certificate.
#[tokio::test]
async fn lists_of_another_authority_and_other_roots_are_refused() {
    let (intel, other) = (Intel::start().await, Intel::start().await);
    let fetcher = |root: TdxRoot| {
        let service = Service::at(&intel.server.url(), false).unwrap();
        let web = Web::native(deadlines(Duration::from_secs(60)));
        Fetcher::new(service, web, None, root).retrying(QUICK)
    };
    for root in [other.root(), TdxRoot::INTEL] {
        let error = fetcher(root).tdx(&intel.platform(), NOW).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("not the root that is trusted"), "{text}");
    }
    // Another family or authority than the server's, and one that Intel does not have.
    let ask = |fmspc: u8, issuer: &str| Platform {
        fmspc: Bytes([fmspc; 6]),
        issuer: Some(issuer.to_owned()),
    };
    let error = intel
        .fetcher()
        .tdx(&ask(9, "Intel SGX PCK Platform CA"), NOW)
        .await;
    assert!(matches!(error.unwrap_err().fault, Fault::Unknown));
    let error = intel.fetcher().tdx(&ask(9, "Intel SGX Root CA"), NOW).await;
    let text = error.unwrap_err().to_string();
    assert!(text.contains("neither Intel's platform nor"), "{text}");
}

#[tokio::test]
async fn dates_are_compared_with_the_clock() {
    let intel = Intel::start().await;
    let at = async |now: u64| intel.fetcher().tdx(&intel.platform(), now).await;
    let end = NOW + 29 * DAY;
    for good in [NOW - DAY, NOW - DAY - 300, NOW, end - 1] {
        at(good).await.unwrap();
    }
    for bad in [NOW - DAY - 301, end, end + DAY, 0] {
        let error = at(bad).await.unwrap_err();
        let of_now = matches!(
            error.fault,
            Fault::Content(CollateralError::NotOfNow { .. })
        );
        assert!(of_now, "{bad}: {error}");
    }
}

/// What stands between us and the service may show old editions of any part.
#[tokio::test]
async fn no_part_goes_back_to_an_older_edition() {
    let mut intel = Intel::start().await;
    let store = CollateralStore::under(intel.root());
    let fetch = async |intel: &Intel| {
        let fetched = intel.fetcher().tdx(&intel.platform(), NOW).await.unwrap();
        store.insert(fetched)
    };
    (intel.tdx.evaluation_number, intel.tdx.crl_number) = (21, 5);
    intel.publish(NOW - DAY);
    fetch(&intel).await.unwrap();
    fetch(&intel).await.unwrap();
    for (evaluation, number, issued, part) in [
        (20, 5, NOW - DAY, "the TCB info"),
        (21, 4, NOW - DAY, "the platforms' revocation list"),
        (21, 5, NOW - 2 * DAY, "the TCB info"),
    ] {
        (intel.tdx.evaluation_number, intel.tdx.crl_number) = (evaluation, number);
        intel.publish(issued);
        let error = fetch(&intel).await.unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("older"), "{error}");
    }
    let held = store.edition(&intel.platform()).unwrap();
    assert_eq!((held.tcb_info.evaluation, held.issued), (21, NOW - DAY));
    (intel.tdx.evaluation_number, intel.tdx.crl_number) = (21, 6);
    intel.publish(NOW - 10);
    fetch(&intel).await.unwrap();
    assert_eq!(store.edition(&intel.platform()).unwrap().issued, NOW - 10);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    let intel = Intel::start().await;
    let path = format!("{TCB}?fmspc=c0c00a000001");
    let busy = Reply::status(503);
    let good = intel.server.reply(&path);
    intel.server.set(&path, vec![busy, good.clone()]);
    intel.fetcher().tdx(&intel.platform(), NOW).await.unwrap();
    assert_eq!(intel.server.requests(), 5, "one was asked for twice");
    let before = intel.server.requests();
    intel.server.set(&path, vec![Reply::status(404), good]);
    let error = intel.fetcher().tdx(&intel.platform(), NOW).await;
    assert!(matches!(error.unwrap_err().fault, Fault::Unknown));
    assert_eq!(intel.server.requests(), before + 1);
}

#[tokio::test]
async fn a_service_that_stalls_is_left_at_the_deadline() {
    let intel = Intel::start().await;
    intel.server.edit(TCB, |r| r.way = Way::Stalled);
    let fetcher = intel.fetcher_within(Duration::from_millis(200));
    let error = fetcher.tdx(&intel.platform(), NOW).await.unwrap_err();
    assert!(
        matches!(
            error.fault,
            Fault::Web(WebError::Timeout(_) | WebError::ConnectTimeout(_))
        ),
        "{error}"
    );
    // Nobody listens.
    let closed = Service::at("http://127.0.0.1:1", false).unwrap();
    let web = Web::native(deadlines(Duration::from_secs(60)));
    let fetcher = Fetcher::new(closed, web, None, intel.root()).retrying(QUICK);
    let error = fetcher.tdx(&intel.platform(), NOW).await.unwrap_err();
    assert!(
        matches!(error.fault, Fault::Web(WebError::Connect(_))),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_goes_into_its_header_and_nowhere_else() {
    let intel = Intel::start().await;
    let key = Zeroizing::new("hunter2\n".to_owned());
    let key = SecretHeader::new("Ocp-Apim-Subscription-Key", key).unwrap();
    let service = Service::at(&intel.server.url(), false).unwrap();
    let web = Web::native(deadlines(Duration::from_secs(60)));
    let fetcher = Fetcher::new(service, web, Some(key), intel.root()).retrying(QUICK);
    fetcher.tdx(&intel.platform(), NOW).await.unwrap();
    let seen = intel.server.seen.lock().unwrap().clone();
    for head in &seen {
        assert!(
            head.contains("ocp-apim-subscription-key: hunter2\r\n"),
            "{head}"
        );
    }
    intel.break_with(&Reply::status(401));
    let error = fetcher.tdx(&intel.platform(), NOW).await.unwrap_err();
    let texts = format!("{error} {error:?}");
    assert!(
        texts.contains("api_key_file") && !texts.contains("hunter2"),
        "{texts}"
    );
}
