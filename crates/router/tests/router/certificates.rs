//! Our own certificate: kept in memory and renewed there, or read from files that somebody else renews.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cocoon_attest::{
    CertificateMode as Mode, QuoteSource, QuoteSourceError, TlsIdentity, unix_now,
};
use cocoon_router::certificate::{Certificate, Refresh, SharedQuotes};
use cocoon_router::{CertificateMode, CertificateSource, Router, RouterError, Settings};

use crate::scene::*;

const HOUR: u64 = 3_600;

#[test]
fn in_memory_it_is_renewed_before_it_ends() {
    for mode in [CertificateMode::None, CertificateMode::FakeTdx] {
        let now = unix_now();
        let certificate = Certificate::open(in_memory(mode), now).unwrap();
        let first = certificate.get();
        assert_eq!(
            certificate.refresh(now + 17 * HOUR).unwrap(),
            Refresh::Unchanged
        );
        assert_eq!(
            certificate.refresh(now + 19 * HOUR).unwrap(),
            Refresh::Replaced
        );
        let second = certificate.get();
        assert_ne!(first.public_key(), second.public_key(), "a new key as well");
        assert_eq!(second.not_before().0 as u64, now + 19 * HOUR);
        let is_fake = |id: &TlsIdentity| id.certificate_der().len() > 600;
        assert_eq!(is_fake(&first), mode == CertificateMode::FakeTdx);
        assert_eq!(is_fake(&second), is_fake(&first));
    }
}

#[test]
fn files_are_read_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("node");
    let now = unix_now();
    let save = || {
        let identity = TlsIdentity::generate(Mode::None, now).unwrap();
        identity.save(&base).unwrap();
        identity.public_key()
    };
    let missing = Certificate::open(CertificateSource::Files(base.clone()), now);
    assert!(missing.err().unwrap().to_string().contains("node_cert.pem"));
    let first = save();
    let certificate = Certificate::open(CertificateSource::Files(base.clone()), now).unwrap();
    assert_eq!(certificate.refresh(now).unwrap(), Refresh::Unchanged);
    // The key of the next pair is there, its certificate is not: the old pair stays in use, and it is said.
    let other = TlsIdentity::generate(Mode::None, now).unwrap();
    let key = dir.path().join("node_key.pem");
    write_later(&key, &other.key_pem());
    assert!(
        certificate
            .refresh(now)
            .unwrap_err()
            .to_string()
            .contains("belongs to")
    );
    assert_eq!(certificate.get().public_key(), first);
    write_later(&dir.path().join("node_cert.pem"), &other.certificate_pem());
    assert_eq!(certificate.refresh(now).unwrap(), Refresh::Replaced);
    assert_eq!(certificate.get().public_key(), other.public_key());
    assert_eq!(certificate.refresh(now).unwrap(), Refresh::Unchanged);
    std::fs::remove_file(&key).unwrap();
    assert_eq!(certificate.refresh(now).unwrap(), Refresh::Unchanged);
}

/// Writes with another time of change, whatever the clock of the file system can tell apart.
fn write_later(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(60);
    file.set_modified(later).unwrap();
}

/// A machine whose quotes stop: the old certificate stays in use, and every look tries again.
#[test]
fn quotes_that_fail_leave_the_old_certificate() {
    struct Once(AtomicU32);
    impl QuoteSource for Once {
        fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, QuoteSourceError> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                1 => Err(std::io::Error::other("the quoting service is gone").into()),
                _ => Ok(report_data.to_vec()),
            }
        }
    }
    let now = unix_now();
    let source = CertificateSource::Attested(SharedQuotes(Arc::new(Once(AtomicU32::new(0)))));
    let certificate = Certificate::open(source, now).unwrap();
    let first = certificate.get().public_key();
    let error = certificate.refresh(now + 20 * HOUR).unwrap_err();
    assert!(error.to_string().contains("the quoting service is gone"));
    assert_eq!(certificate.get().public_key(), first);
    assert_eq!(
        certificate.refresh(now + 20 * HOUR).unwrap(),
        Refresh::Replaced
    );
    assert_ne!(certificate.get().public_key(), first);
}

/// New connections get the new certificate, living ones go on.
#[tokio::test]
async fn a_running_router_takes_the_new_files() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("node");
    let old = fake();
    old.save(&base).unwrap();
    let backend = echo(false).await;
    let server = reverse(backend.address, "any", |o| {
        (o.cert, o.cert_mode) = (Some(base.clone()), None);
        o.limits.certificate_poll = Duration::from_millis(20);
    })
    .await;
    let (mut living, seen) = server.peer_of().await;
    assert_eq!(seen.public_key, old.public_key());
    let new = fake();
    write_later(&dir.path().join("node_key.pem"), &new.key_pem());
    write_later(&dir.path().join("node_cert.pem"), &new.certificate_pem());
    let renewed = async {
        while server.handle.identity().public_key() != new.public_key() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.unwrap();
    let (_, seen) = server.peer_of().await;
    assert_eq!(seen.public_key, new.public_key());
    ping(&mut living, b"goes on").await;
}

/// No machine that runs these tests is a TDX guest with a quote provider that this build could use.
#[tokio::test]
async fn genuine_quotes_say_what_is_missing() {
    let settings = Settings::assemble(
        &options(|o| {
            o.socks5 = vec!["0@any".into()];
            o.cert_mode = Some(CertificateMode::Tdx);
        }),
        None,
    )
    .unwrap();
    let error = Router::bind(settings).await.err().unwrap();
    assert!(matches!(error, RouterError::Certificate(_)));
    assert!(error.to_string().contains("TDX guest"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (address, _listener) = open_backend().await;
    let settings = Settings::assemble(
        &options(|o| o.socks5 = vec![format!("{}@any", address.port())]),
        None,
    )
    .unwrap();
    let error = Router::bind(settings).await.err().unwrap().to_string();
    assert!(
        error.contains(&address.to_string()) && error.contains("socks5"),
        "{error}"
    );
}
