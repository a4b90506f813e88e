//! Two nodes that show each other quotes in the real format, verified inside the handshake by the unmodified verifier.

use std::sync::Arc;

use cocoon_attest::evidence::TdxVerifier;
use cocoon_attest::evidence::collateral::{CollateralStore, TdxCollateral};
use cocoon_attest::evidence::tdx::TdxRoot;
use cocoon_attest::evidence::tdx_policy::TdxPolicy;
use cocoon_attest::profile::{CertificateParams, report_data};
use cocoon_attest::{
    AttestError, PeerIdentity, Policy, PolicyRefusal, PolicyRules, TlsIdentity, accept, connect,
    pow, unix_now,
};
use cocoon_softtee::{SoftTdx, TdFields};
use ed25519_dalek::SigningKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

struct Network {
    tdx: SoftTdx,
    verifier: Arc<TdxVerifier>,
}

fn network() -> Network {
    let tdx = SoftTdx::new(unix_now());
    let root = TdxRoot::pinned(tdx.root_sha256());
    let store = Arc::new(CollateralStore::under(root));
    store
        .insert(TdxCollateral::from_json(&tdx.collateral()).unwrap())
        .unwrap();
    let verifier = Arc::new(TdxVerifier::with(
        store,
        TdxPolicy::default(),
        root,
        unix_now,
    ));
    Network { tdx, verifier }
}

/// A domain whose first register holds `image`.
fn domain(image: u8) -> TdFields {
    let mut fields = TdFields::default();
    fields.registers[0] = [image; 48];
    fields
}

impl Network {
    fn identity(&self, seed: u8, fields: TdFields) -> TlsIdentity {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let report_data = report_data(key.verifying_key().as_bytes());
        let quote = self.tdx.quote(&TdFields {
            report_data,
            ..fields
        });
        let params = CertificateParams {
            key: &key,
            serial: [seed; 16],
            not_before: unix_now(),
            validity: 3_600,
            quote: Some(&quote),
        };
        let der = params.to_der();
        TlsIdentity::from_parts(key, der).unwrap()
    }

    /// Policy tdx, with images as the root contract would list them.
    fn policy(&self, images: &[[u8; 32]]) -> Policy {
        Policy::Tdx(PolicyRules {
            allowed_image_hashes: images.to_vec(),
            allowed_collateral_root_hashes: vec![self.tdx.root_hash()],
            ..PolicyRules::default()
        })
        .with_verifier(self.verifier.clone())
    }
}

type Outcome = Result<PeerIdentity, AttestError>;

/// A handshake and, if both sides agree, a few bytes each way.
async fn meet(
    client: (&TlsIdentity, &Policy),
    server: (&TlsIdentity, &Policy),
) -> (Outcome, Outcome) {
    let (near, far) = duplex(64 * 1024);
    let dial = async {
        let (mut stream, peer) =
            connect(near, client.0, client.1, pow::MAX_CLIENT_DIFFICULTY).await?;
        let refused = |_| AttestError::RefusedByPeer {
            alert: "after the handshake".to_owned(),
        };
        stream.write_all(b"ping").await.map_err(refused)?;
        stream.flush().await.map_err(refused)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.map_err(refused)?;
        assert_eq!(&answer, b"pong");
        Ok(peer)
    };
    let serve = async {
        let (mut stream, peer) = accept(far, server.0, server.1, 1).await?;
        let mut question = [0; 4];
        stream.read_exact(&mut question).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        stream.flush().await.unwrap();
        Ok(peer)
    };
    tokio::join!(dial, serve)
}

#[tokio::test]
async fn attested_nodes_meet_and_know_each_other() {
    let network = network();
    let (worker, proxy) = (
        network.identity(1, domain(1)),
        network.identity(2, domain(2)),
    );
    let policy = network.policy(&[]);
    let (client, server) = meet((&worker, &policy), (&proxy, &policy)).await;
    let (seen_proxy, seen_worker) = (client.unwrap(), server.unwrap());
    assert_eq!(seen_proxy.public_key, proxy.public_key());
    assert_eq!(seen_worker.public_key, worker.public_key());
    assert!(!seen_proxy.fake && seen_proxy.image_hash != seen_worker.image_hash);
    assert_eq!(seen_proxy.collateral_root_hash, network.tdx.root_hash());
    // The image is expelled: the same machine is refused from then on.
    let listed = network.policy(&[seen_proxy.image_hash]);
    meet((&worker, &listed), (&proxy, &policy)).await.0.unwrap();
    let expelled = network.policy(&[seen_worker.image_hash]);
    let error = meet((&worker, &expelled), (&proxy, &policy))
        .await
        .0
        .unwrap_err();
    assert!(
        matches!(error, AttestError::Policy(PolicyRefusal::ImageHash { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_readable_or_stolen_domain_gets_nowhere() {
    let network = network();
    let policy = network.policy(&[]);
    let good = network.identity(1, domain(1));
    let debug = network.identity(
        2,
        TdFields {
            td_attributes: (1 << 28) | 1,
            ..domain(1)
        },
    );
    let (client, _) = meet((&good, &policy), (&debug, &policy)).await;
    let text = client.unwrap_err().to_string();
    assert!(
        text.contains("DEBUG") && text.contains("TD attributes"),
        "{text}"
    );
    let (client, server) = meet((&debug, &policy), (&good, &policy)).await;
    assert!(client.is_err());
    assert!(matches!(
        server.unwrap_err(),
        AttestError::Policy(PolicyRefusal::Evidence(_))
    ));
    // The quote of one node in the certificate of another.
    let key = SigningKey::from_bytes(&[3; 32]);
    let other = SigningKey::from_bytes(&[4; 32]);
    let quote = network.tdx.quote(&TdFields {
        report_data: report_data(other.verifying_key().as_bytes()),
        ..domain(1)
    });
    let params = CertificateParams {
        key: &key,
        serial: [3; 16],
        not_before: unix_now(),
        validity: 3_600,
        quote: Some(&quote),
    };
    let der = params.to_der();
    let thief = TlsIdentity::from_parts(key, der).unwrap();
    let (client, _) = meet((&good, &policy), (&thief, &policy)).await;
    assert!(matches!(
        client.unwrap_err(),
        AttestError::Policy(PolicyRefusal::ReportData)
    ));
    // A machine of another network, whose maker we do not trust.
    let stranger = self::network();
    let foreign = stranger.identity(5, domain(1));
    let (client, _) = meet((&good, &policy), (&foreign, &stranger.policy(&[]))).await;
    assert!(matches!(
        client.unwrap_err(),
        AttestError::Policy(PolicyRefusal::Evidence(_))
    ));
    // And one that is as good as ours, seen with a fake policy's eyes.
    let (client, _) = meet(
        (&good, &Policy::FakeTdx(PolicyRules::default())),
        (&good, &policy),
    )
    .await;
    assert!(matches!(
        client.unwrap_err(),
        AttestError::Policy(PolicyRefusal::NotAFakeQuote { .. })
    ));
}
