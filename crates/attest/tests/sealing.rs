//! A whole exchange of the sealing protocol with a software enclave, and helpers that must not be believed (rows G39 to
//! G44 of THREATS.md).

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use cocoon_attest::evidence::collateral::TdxCollateral;
use cocoon_attest::evidence::lists::Bytes;
use cocoon_attest::evidence::sgx::{self, HelperPolicy, HelperRefusal, SgxError};
use cocoon_attest::evidence::tdx::{TcbStatus, TdxRoot};
use cocoon_attest::keys::KeyError;
use cocoon_attest::sealing::client::ReportSource;
use cocoon_attest::sealing::derive::{
    ExchangeKey, answer_report_data, persistent_key, request_report_data,
};
use cocoon_attest::sealing::enclave::{self, EnclaveError};
use cocoon_attest::sealing::message::{GetPersistentKey, PersistentKey, read_frame, write_frame};
use cocoon_attest::sealing::{
    self, HelperAddress, SealedKeys, SealingClient, SealingError, TdReport,
};
use cocoon_attest::{KeyName, KeySource, SecretKey, unix_now};
use cocoon_softtee::{EnclaveFields, SoftTdx};
use zeroize::Zeroizing;

/// A report of nobody's machine: type, hashes and report data.
fn raw_report(report_data: &[u8; 64]) -> Vec<u8> {
    let mut report = vec![0; 1024];
    report[0] = 0x81;
    report[32..80].fill(0x7c);
    report[80..128].fill(0x71);
    report[128..192].copy_from_slice(report_data);
    report
}

/// Reports with the version and service domain that a test wants.
struct Reports {
    version: u8,
    about: Option<[u8; 64]>,
}

impl ReportSource for Reports {
    fn report(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, SealingError> {
        let mut report = raw_report(self.about.as_ref().unwrap_or(report_data));
        report[2] = self.version;
        report[912] = self.version;
        Ok(report)
    }
}

const ENCLAVE: [u8; 32] = [0xe1; 32];

struct Scene {
    platform: SoftTdx,
    client: SealingClient,
    now: u64,
}

/// A platform, and a client that believes its helper and no other.
fn scene(change: impl FnOnce(&mut SoftTdx)) -> Scene {
    let now = unix_now();
    let mut platform = SoftTdx::new(now);
    change(&mut platform);
    let collateral = TdxCollateral::from_json(&platform.enclave_collateral()).unwrap();
    let client = SealingClient {
        reports: Arc::new(Reports {
            version: 0,
            about: None,
        }),
        collateral: Arc::new(collateral),
        root: TdxRoot::pinned(platform.root_sha256()),
        policy: HelperPolicy::new(vec![Bytes(ENCLAVE)]),
        service_domains: false,
        is_test: false,
    };
    Scene {
        platform,
        client,
        now,
    }
}

/// What the helper does with its answer before it goes out.
struct Helper<'a> {
    enclave: EnclaveFields,
    sealing_key: [u8; 16],
    spoil: &'a dyn Fn(&mut PersistentKey),
}

impl Default for Helper<'_> {
    fn default() -> Self {
        Helper {
            enclave: EnclaveFields::default(),
            sealing_key: [7; 16],
            spoil: &|_| {},
        }
    }
}

impl Helper<'_> {
    fn serve(&self, platform: &SoftTdx, stream: &mut (impl Read + Write)) {
        let Ok(payload) = read_frame(stream) else {
            return;
        };
        let request = GetPersistentKey::decode(&payload).unwrap();
        let exchange = ExchangeKey::generate().unwrap();
        let sealing_key = Zeroizing::new(self.sealing_key);
        let answer = enclave::answer(&request, &sealing_key, &exchange, true).unwrap();
        let mut fields = self.enclave.clone();
        fields.report_data = answer.report_data;
        let mut message = PersistentKey {
            sgx_quote: platform.enclave_quote(&fields),
            encrypted: answer.encrypted,
        };
        (self.spoil)(&mut message);
        write_frame(stream, &message.encode()).unwrap();
    }
}

impl Scene {
    fn ask(&self, helper: &Helper<'_>, name: &KeyName) -> Result<SecretKey, SealingError> {
        let (mut domain, mut host) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            let asked =
                scope.spawn(move || self.client.key_over(&mut domain, "test", name, self.now));
            helper.serve(&self.platform, &mut host);
            asked.join().unwrap()
        })
    }

    #[track_caller]
    fn refused(&self, helper: &Helper<'_>) -> SealingError {
        self.ask(helper, &KeyName::app()).unwrap_err()
    }
}

#[test]
fn a_helper_gives_the_same_key_every_time() {
    let scene = scene(|_| {});
    let first = scene.ask(&Helper::default(), &KeyName::app()).unwrap();
    let again = scene.ask(&Helper::default(), &KeyName::app()).unwrap();
    assert_eq!(first.expose(), again.expose());
    let report = TdReport::parse(&raw_report(&[0; 64])).unwrap();
    let expected = persistent_key(&Zeroizing::new([7; 16]), &report, &KeyName::app());
    assert_eq!(first.expose(), expected.expose());
    let other = scene.ask(&Helper::default(), &KeyName::disk_encryption());
    assert_ne!(other.unwrap().expose(), first.expose());
}

/// G39. The measurement is the same: only the attributes tell that the host reads along.
#[test]
fn a_helper_in_debug_mode_is_refused() {
    let scene = scene(|_| {});
    let mut helper = Helper::default();
    helper.enclave.attributes[0] |= 2;
    // Already the arithmetic refuses it,
    assert!(matches!(scene.refused(&helper), SealingError::Evidence(_)));
    // and so does our own policy, if some verifier should ever let it pass.
    let quote = scene.platform.enclave_quote(&EnclaveFields::default());
    let mut claims = sgx::verify(
        &quote,
        &scene.client.collateral,
        scene.now,
        scene.client.root,
    )
    .unwrap();
    assert_eq!(scene.client.policy.judge(&claims, &[0; 64]), Ok(()));
    claims.attributes |= sgx::DEBUG;
    assert_eq!(
        scene.client.policy.judge(&claims, &[0; 64]),
        Err(HelperRefusal::Debug)
    );
}

/// G39, the rest: each demand can refuse.
#[test]
fn every_demand_on_a_helper_can_refuse() {
    let scene = scene(|_| {});
    type Change = fn(&mut EnclaveFields);
    let cases: [(Change, &str); 10] = [
        (|f| f.attributes[0] &= !1, "INIT"),
        (|f| f.attributes[0] &= !4, "64-bit"),
        (|f| f.attributes[0] |= 0x10, "platform's own keys"),
        (|f| f.attributes[0] |= 0x20, "platform's own keys"),
        (|f| f.attributes[0] |= 0x40, "nothing else"),
        (|f| f.attributes[5] = 1, "nothing else"),
        (|f| f.mr_enclave = [1; 32], "MRENCLAVE"),
        (|f| f.isv_prod_id = 2, "product"),
        (|f| f.isv_svn = 0, "security version"),
        (|_| {}, "accepted"),
    ];
    for (change, word) in cases {
        let mut helper = Helper::default();
        change(&mut helper.enclave);
        match scene.ask(&helper, &KeyName::app()) {
            Ok(_) => assert_eq!(word, "accepted"),
            Err(error) => assert!(error.to_string().contains(word), "{word}: {error}"),
        }
    }
    let mut strict = scene;
    strict.client.policy.mr_signers = Some(vec![Bytes([9; 32])]);
    assert!(
        strict
            .refused(&Helper::default())
            .to_string()
            .contains("MRSIGNER")
    );
    strict.client.policy.mr_signers = None;
    strict.client.policy.min_evaluation_number = 21;
    assert!(
        strict
            .refused(&Helper::default())
            .to_string()
            .contains("edition 20")
    );
    strict.client.policy.min_evaluation_number = 20;
    assert!(strict.ask(&Helper::default(), &KeyName::app()).is_ok());
    // Nobody was named: nobody is believed.
    strict.client.policy.mr_enclaves.clear();
    assert!(matches!(
        strict.refused(&Helper::default()),
        SealingError::Refused(HelperRefusal::MrEnclave { .. })
    ));
}

/// G12 and G40: the root is pinned, a platform that is not patched gives no keys.
#[test]
fn a_helper_on_a_foreign_or_unpatched_platform_is_refused() {
    let own = scene(|_| {});
    let foreign = SoftTdx::new(own.now);
    let (mut domain, mut host) = UnixStream::pair().unwrap();
    let error = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            own.client
                .key_over(&mut domain, "test", &KeyName::app(), own.now)
        });
        Helper::default().serve(&foreign, &mut host);
        asked.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, SealingError::Evidence(_)), "{error}");

    for status in ["OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded"] {
        let mut old = scene(|p| p.tcb_status = status.to_owned());
        let error = old.refused(&Helper::default()).to_string();
        assert!(error.contains(status), "{error}");
        old.client.policy.tcb_statuses = vec![
            TcbStatus::OutOfDate,
            TcbStatus::SwHardeningNeeded,
            TcbStatus::ConfigurationNeeded,
        ];
        assert!(old.ask(&Helper::default(), &KeyName::app()).is_ok());
    }
    for change in [
        (|p: &mut SoftTdx| p.revoked = true) as fn(&mut SoftTdx),
        |p| p.tcb_status = "Revoked".to_owned(),
    ] {
        let mut revoked = scene(change);
        revoked
            .client
            .policy
            .tcb_statuses
            .push(TcbStatus::OutOfDate);
        let error = revoked.refused(&Helper::default());
        assert!(matches!(error, SealingError::Evidence(_)), "{error}");
    }
    let mut late = scene(|_| {});
    late.now += 31 * 86_400;
    assert!(matches!(
        late.refused(&Helper::default()),
        SealingError::Evidence(_)
    ));
    let mut early = scene(|_| {});
    early.now -= 2 * 86_400;
    assert!(matches!(
        early.refused(&Helper::default()),
        SealingError::Evidence(_)
    ));
}

/// An old answer, another's key, a spoilt secret: the quote is about exactly one exchange.
#[test]
fn an_answer_to_another_exchange_is_refused() {
    let scene = scene(|_| {});
    for (spoil, about) in [
        (
            (&|m: &mut PersistentKey| m.encrypted[95] ^= 1) as &dyn Fn(&mut PersistentKey),
            "exchange",
        ),
        (&|m| m.encrypted[..64].fill(9), "exchange"),
    ] {
        let helper = Helper {
            spoil,
            ..Helper::default()
        };
        let error = scene.refused(&helper).to_string();
        assert!(error.contains(about), "{error}");
    }
    let exchange = ExchangeKey::generate().unwrap();
    let sealed = exchange.seal(exchange.public(), &SecretKey::new(Zeroizing::new([1; 32])));
    let fields = EnclaveFields {
        report_data: answer_report_data(exchange.public(), &sealed.unwrap()),
        ..EnclaveFields::default()
    };
    let old = scene.platform.enclave_quote(&fields);
    let helper = Helper {
        spoil: &|m| m.sgx_quote = old.clone(),
        ..Helper::default()
    };
    assert!(matches!(
        scene.refused(&helper),
        SealingError::Refused(HelperRefusal::ReportData)
    ));
}

#[test]
fn every_changed_byte_of_a_helpers_quote_is_refused() {
    let scene = scene(|_| {});
    let quote = scene.platform.enclave_quote(&EnclaveFields::default());
    let verify = |quote: &[u8]| {
        sgx::verify(
            quote,
            &scene.client.collateral,
            scene.now,
            scene.client.root,
        )
    };
    verify(&quote).unwrap();
    // Signatures are slow here: every byte of what is short, some of the certificates' text.
    // The breaks between the lines of that text are nobody's: the certificates are the same.
    let breaks = |at: usize| at > 1052 && quote[at] == b'\n';
    for at in (0..quote.len()).filter(|at| !breaks(*at) && (*at < 1100 || at % 53 == 0)) {
        let mut changed = quote.clone();
        changed[at] ^= 1;
        assert!(verify(&changed).is_err(), "byte {at}");
    }
    let mut longer = quote.clone();
    longer.push(0);
    assert!(verify(&longer).is_ok(), "padding is zeros");
    longer.push(1);
    assert!(verify(&longer).is_err());
    let tdx = scene.platform.quote(&cocoon_softtee::TdFields::default());
    assert_eq!(verify(&tdx), Err(SgxError::NotAnEnclave));
}

/// G43: both sides say which versions of reports they take.
#[test]
fn a_service_domain_is_taken_by_an_explicit_rule_only() {
    let mut scene = scene(|_| {});
    let plain = scene.ask(&Helper::default(), &KeyName::app()).unwrap();
    scene.client.reports = Arc::new(Reports {
        version: 1,
        about: None,
    });
    let (mut domain, _host) = UnixStream::pair().unwrap();
    let refused = scene
        .client
        .key_over(&mut domain, "test", &KeyName::app(), scene.now);
    assert!(matches!(refused, Err(SealingError::ReportVersion)));
    scene.client.service_domains = true;
    let key = scene.ask(&Helper::default(), &KeyName::app()).unwrap();
    // The measured hash is the test's and the same; in hardware it covers the service domain.
    assert_eq!(key.expose(), plain.expose());

    let exchange = ExchangeKey::generate().unwrap();
    let report = Reports {
        version: 1,
        about: None,
    }
    .report(&request_report_data(exchange.public()))
    .unwrap();
    let mut request = GetPersistentKey {
        report: TdReport::parse(&report).unwrap(),
        public_key: *exchange.public(),
        name: KeyName::app(),
    };
    let key = Zeroizing::new([7; 16]);
    let refused = enclave::answer(&request, &key, &exchange, false);
    assert_eq!(refused, Err(EnclaveError::Version(1)));
    assert!(enclave::answer(&request, &key, &exchange, true).is_ok());
    request.public_key[0] ^= 1;
    let refused = enclave::answer(&request, &key, &exchange, true);
    assert_eq!(refused, Err(EnclaveError::ReportData));
}

/// G35: a debug image's key is known to everybody.
#[test]
fn the_constant_key_is_refused_outside_test_networks() {
    let mut scene = scene(|_| {});
    let exchange = ExchangeKey::generate().unwrap();
    let helper = ExchangeKey::generate().unwrap();
    for constant in [sealing::DEBUG_KEY, [0; 32]] {
        let key = SecretKey::new(Zeroizing::new(constant));
        let encrypted = helper.seal(exchange.public(), &key).unwrap();
        let fields = EnclaveFields {
            report_data: answer_report_data(exchange.public(), &encrypted),
            ..EnclaveFields::default()
        };
        let answer = PersistentKey {
            sgx_quote: scene.platform.enclave_quote(&fields),
            encrypted,
        };
        scene.client.is_test = false;
        let refused = scene.client.open(&exchange, &answer, scene.now);
        assert!(matches!(refused, Err(SealingError::DebugKey)));
        scene.client.is_test = true;
        assert!(scene.client.open(&exchange, &answer, scene.now).is_ok());
    }
}

#[tokio::test]
async fn keys_come_through_the_source_interface() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("helper");
    let listener = UnixListener::bind(&path).unwrap();
    let scene = scene(|_| {});
    let (platform, client) = (scene.platform, Arc::new(scene.client));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        Helper::default().serve(&platform, &mut stream);
        // The second one is closed without a word, as the reference does on any error.
        drop(listener.accept().unwrap());
    });
    let keys = SealedKeys {
        client: client.clone(),
        helper: HelperAddress::Unix(path),
    };
    let source: &dyn KeySource = &keys;
    assert_eq!(
        source.key(&KeyName::app()).await.unwrap().expose().len(),
        32
    );
    let error = source.key(&KeyName::app()).await.unwrap_err();
    assert!(
        matches!(&error, KeyError::Sealing(SealingError::Io { .. })),
        "{error}"
    );
    server.join().unwrap();
    // No helper at all: the error says where one was expected.
    let nowhere = SealedKeys {
        client,
        helper: HelperAddress::Unix(dir.path().join("nobody")),
    };
    let error = nowhere.key(&KeyName::app()).await.unwrap_err().to_string();
    assert!(error.contains("nobody"), "{error}");
}

#[test]
fn a_domain_with_a_wrong_report_does_not_ask() {
    let mut scene = scene(|_| {});
    scene.client.reports = Arc::new(Reports {
        version: 0,
        about: Some([1; 64]),
    });
    let (mut domain, _host) = UnixStream::pair().unwrap();
    let refused = scene
        .client
        .key_over(&mut domain, "test", &KeyName::app(), scene.now);
    assert!(matches!(refused, Err(SealingError::ReportData)));
}
