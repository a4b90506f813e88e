//! The encoding: one form for one meaning, and everything signed.

use proptest::prelude::*;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn statement() -> Statement {
    let session = Session {
        side: Side::Acceptor,
        key: key().verifying_key().to_bytes(),
        peer_key: [2; 32],
        binding: [3; 32],
        nonce: [4; 32],
    };
    Statement {
        session,
        time: 1_800_000_000,
        role: Role::Proxy,
        network: Network {
            global_id: -3,
            is_test: true,
        },
        root: RootContract {
            workchain: -1,
            hash: [5; 32],
        },
        protocol: ProtocolRange { min: 0, max: 3 },
        encryption: Some(hybrid_kem::SecretKey::generate().unwrap().public().clone()),
        payment_key: Some(PaymentKey::prove(
            &SigningKey::from_bytes(&[8; 32]),
            &session,
        )),
        gpu_digest: Some([6; 32]),
    }
}

/// Signs any bytes as a statement.
fn signed(fields: &[u8]) -> Vec<u8> {
    let signature = key().sign(&[CONTEXT, fields].concat()).to_bytes();
    [fields, &signature].concat()
}

fn with_field(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = Fields(statement().encode());
    out.put(kind, &[value]);
    signed(&out.0)
}

#[test]
fn what_is_written_is_read() {
    let full = statement();
    assert_eq!(Statement::open(&full.sign(&key())), Ok(full.clone()));
    for role in [Role::Client, Role::Proxy, Role::Worker, Role::KeyManager] {
        let short = Statement {
            role,
            session: Session {
                side: Side::Dialler,
                ..full.session
            },
            encryption: None,
            payment_key: None,
            gpu_digest: None,
            ..full.clone()
        };
        let bytes = short.sign(&key());
        assert_eq!(Statement::open(&bytes), Ok(short));
        assert_eq!(bytes.len(), 293);
    }
}

/// The layout itself, so that another edition of this code cannot read it differently by accident.
#[test]
fn the_layout_is_fixed() {
    let mut short = statement();
    (short.encryption, short.payment_key, short.gpu_digest) = (None, None, None);
    let text = hex::encode(short.encode());
    let expected = [
        "0100",
        "01000100",
        "01",
        "02002000",
        &hex::encode(short.session.key),
        "03002000",
        &"02".repeat(32),
        "04002000",
        &"03".repeat(32),
        "05002000",
        &"04".repeat(32),
        "06000800",
        "00d2496b00000000",
        "07000100",
        "02",
        "08000500",
        "fdffffff01",
        "09002400",
        "ffffffff",
        &"05".repeat(32),
        "0a000800",
        "0000000003000000",
    ];
    assert_eq!(text, expected.concat());
}

#[test]
fn every_changed_byte_is_noticed() {
    let bytes = statement().sign(&key());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(Statement::open(&changed).is_err(), "byte {at}");
        assert!(Statement::open(&bytes[..at]).is_err(), "cut at {at}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(Statement::open(&longer).is_err());
}

#[test]
fn what_must_be_understood_and_is_not_refuses() {
    assert_eq!(
        Statement::open(&with_field(14, b"new")),
        Err(StatementError::UnknownCritical(14))
    );
    assert_eq!(
        Statement::open(&with_field(OPTIONAL - 1, b"")),
        Err(StatementError::UnknownCritical(OPTIONAL - 1))
    );
    Statement::open(&with_field(OPTIONAL, b"cocoon 9.9")).unwrap();
    assert_eq!(
        Statement::open(&with_field(13, &[6; 32])),
        Err(StatementError::Order {
            found: 13,
            before: 13
        })
    );
    let mut newer = statement().encode();
    newer[0] = 2;
    assert_eq!(
        Statement::open(&signed(&newer)),
        Err(StatementError::Version(2))
    );
}

#[test]
fn values_that_cannot_be_are_refused() {
    let good = statement().encode();
    let edited = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Statement::open(&signed(&bytes)).unwrap_err()
    };
    // After the version: side at 6, role at 167, network's flag at 176.
    assert_eq!(edited(6, 2), StatementError::Field(field::SIDE));
    assert_eq!(edited(167, 0), StatementError::Field(field::ROLE));
    assert_eq!(edited(167, 5), StatementError::Field(field::ROLE));
    assert_eq!(edited(176, 2), StatementError::Field(field::NETWORK));
    let upside_down = Statement {
        protocol: ProtocolRange { min: 3, max: 2 },
        ..statement()
    };
    assert_eq!(
        Statement::open(&upside_down.sign(&key())),
        Err(StatementError::Field(field::PROTOCOL))
    );
    // Without its last mandatory field.
    let mut short = statement();
    (short.encryption, short.payment_key, short.gpu_digest) = (None, None, None);
    let short = short.encode();
    assert_eq!(
        Statement::open(&signed(&short[..short.len() - 12])),
        Err(StatementError::Missing(field::PROTOCOL))
    );
    assert_eq!(
        Statement::open(&[0; MAX_STATEMENT_LEN + 1]),
        Err(StatementError::Size(MAX_STATEMENT_LEN + 1))
    );
}

#[test]
fn encryption_keys_of_other_suites_are_passed_over() {
    let own = hybrid_kem::SecretKey::generate().unwrap();
    let entry = |suite: u16, key: &[u8]| {
        let mut out = suite.to_le_bytes().to_vec();
        out.extend((key.len() as u16).to_le_bytes());
        out.extend(key);
        out
    };
    let known = entry(hybrid_kem::SUITE, own.public().as_bytes());
    let other = entry(0x20, &[1; 32]);
    let newer = entry(0x7000, &[2; 99]);
    assert_eq!(
        keys(&[&other[..], &known, &newer].concat()),
        Ok(Some(own.public().clone()))
    );
    assert_eq!(keys(&other), Ok(None));
    let refused = Err(StatementError::Field(field::ENCRYPTION));
    assert_eq!(keys(&[]), refused);
    assert_eq!(keys(&known[..known.len() - 1]), refused);
    assert_eq!(keys(&[&known[..], &known].concat()), refused);
    assert_eq!(keys(&[&known[..], &other].concat()), refused);
    let many: Vec<u8> = (1..=5).flat_map(|suite| entry(suite, &[])).collect();
    assert_eq!(keys(&many), refused);
    assert!(matches!(
        keys(&entry(hybrid_kem::SUITE, &[1; 32])),
        Err(StatementError::Key(_))
    ));
}

/// A signature under one heading is none under another.
#[test]
fn a_signature_for_something_else_is_no_statement() {
    let fields = statement().encode();
    let bare = key().sign(&fields).to_bytes();
    assert_eq!(
        Statement::open(&[&fields[..], &bare].concat()),
        Err(StatementError::Signature)
    );
}

proptest! {
    #[test]
    fn strangers_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Statement::open(&bytes).is_err());
        let _ = Statement::decode(&bytes);
        let _ = keys(&bytes);
        let _ = crate::claims::gpu::decode(&bytes);
    }

    /// Whatever can be read is written again with the same bytes, up to what was passed over.
    #[test]
    fn one_form_for_one_meaning(at in 2usize..1_600, byte: u8) {
        let mut bytes = statement().encode();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(read) = Statement::decode(&bytes)
            && read.encryption.is_some()
            && read.gpu_digest.is_some()
        {
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}
