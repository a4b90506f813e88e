//! No decoder panics, what is written reads back, and nothing forged is accepted.

use cocoon_ton::abi::*;
use cocoon_ton::amount::{MAX_NANO, format_ton, parse_ton};
use cocoon_ton::mnemonic::Mnemonic;
use cocoon_ton::transaction::{parse_message, parse_transaction};
use cocoon_ton::wallet::{External, InternalMessage, SignedTransfer, mode_for};
use cocoon_ton::{Address, Cell, CellBuilder, boc};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

/// Ops that some decoder knows, so that random cells get past the first field.
fn op() -> impl Strategy<Value = u32> {
    (0..op::NAMES.len()).prop_map(|index| op::NAMES[index].0)
}

/// Trees of ordinary cells, often beginning with a known op.
fn cells() -> impl Strategy<Value = Cell> {
    let data = || {
        (
            prop::option::of(op()),
            prop::collection::vec(any::<u8>(), 0..124),
            0u16..8,
        )
    };
    let leaf = data().prop_map(|parts| build(parts, vec![]));
    leaf.prop_recursive(4, 24, 4, move |inner| {
        (data(), prop::collection::vec(inner, 0..=4)).prop_map(|(parts, refs)| build(parts, refs))
    })
}

fn build((op, data, cut): (Option<u32>, Vec<u8>, u16), refs: Vec<Cell>) -> Cell {
    let mut builder = CellBuilder::new();
    if let Some(op) = op {
        builder.store_u32(op).unwrap();
    }
    let bits = (data.len() as u16 * 8).saturating_sub(cut);
    builder.store_raw(&data, bits).unwrap();
    for cell in refs {
        builder.store_reference(cell).unwrap();
    }
    builder.build().unwrap()
}

/// Runs every decoder; what is understood must be rebuilt to something that reads the same.
fn decode_all(cell: &Cell) {
    macro_rules! each {
        ($($ty:ty),*) => {$(
            if let Ok(value) = <$ty>::decode(cell) {
                let again = value.encode().unwrap_or_else(|e| panic!("{value:?}: {e}"));
                assert_eq!(<$ty>::decode(&again).unwrap(), value);
            }
        )*};
    }
    each!(
        RootMessage,
        ProxyMessage,
        WorkerMessage,
        ClientMessage,
        WalletMessage,
        OwnerMessage
    );
    each!(ProxyState, WorkerState, ClientState, WalletState, Params);
    each!(
        SignedPayload,
        KeyPayload,
        Envelope<SignedPayload>,
        Envelope<KeyPayload>
    );
    each!(InternalMessage, SignedTransfer);
    if let Ok(external) = External::decode(cell) {
        assert_eq!(External::from_boc(&external.to_boc()).unwrap(), external);
    }
    let _ = RootState::decode(cell);
    let _ = StateInit::decode(cell);
    let _ = parse_message(cell);
    let _ = parse_transaction(cell);
}

fn address() -> impl Strategy<Value = Address> {
    (prop_oneof![Just(0i8), Just(-1)], any::<[u8; 32]>())
        .prop_map(|(workchain, hash)| Address { workchain, hash })
}

fn coins() -> impl Strategy<Value = u128> {
    prop_oneof![Just(0), Just(MAX_NANO), 0..=MAX_NANO, 0u128..1_000_000]
}

fn payload() -> impl Strategy<Value = SignedPayload> {
    (0..6usize, any::<u64>(), any::<u64>(), address()).prop_map(|(op, query_id, tokens, target)| {
        let op = SignedOp::ALL[op];
        let tokens = if op.has_tokens() { tokens } else { 0 };
        SignedPayload {
            op,
            query_id,
            tokens,
            target,
        }
    })
}

fn params() -> impl Strategy<Value = Params> {
    let numbers = (any::<[u32; 8]>(), any::<bool>(), 3u8..=4);
    let money = (coins(), coins(), coins(), coins());
    (numbers, money, any::<[bool; 3]>()).prop_map(|((n, is_test, struct_version), m, codes)| {
        let code = |index: usize| codes[index].then(Cell::default);
        Params {
            struct_version,
            params_version: n[0],
            unique_id: n[1],
            is_test,
            price_per_token: m.0,
            worker_fee_per_token: m.1,
            prompt_multiplier: n[2],
            cached_multiplier: n[3],
            completion_multiplier: n[4],
            reasoning_multiplier: n[5],
            proxy_delay: n[6],
            client_delay: n[7],
            min_proxy_stake: m.2,
            min_client_stake: m.3,
            proxy_code: code(0),
            worker_code: code(1),
            client_code: code(2),
        }
    })
}

fn root() -> impl Strategy<Value = RootState> {
    let hashes = || prop::collection::btree_set(any::<[u8; 32]>(), 0..12);
    let proxies = prop::collection::btree_map(any::<u32>(), "[ -~]{0,114}", 0..8);
    let keys = prop::collection::btree_map(any::<[u8; 32]>(), any::<(u8, u32)>(), 0..6);
    let sets = (hashes(), hashes(), hashes());
    (
        address(),
        any::<(u32, u32)>(),
        sets,
        proxies,
        params(),
        keys,
    )
        .prop_map(
            |(owner, (version, last_proxy_seqno), sets, proxies, params, keys)| {
                let net = |text: &str| NetAddress::new(text).unwrap();
                let entry = |(key_type, expire_at)| KeyEntry {
                    key_type,
                    expire_at,
                };
                let registry = KeyRegistry {
                    keys: keys.into_iter().map(|(key, e)| (key, entry(e))).collect(),
                    manager_public_key: [9; 32],
                    manager_address: net("km.example:1"),
                };
                RootState {
                    version,
                    last_proxy_seqno,
                    proxy_hashes: sets.0,
                    worker_hashes: sets.1,
                    model_hashes: sets.2,
                    proxies: proxies
                        .iter()
                        .map(|(seqno, text)| (*seqno, net(text)))
                        .collect(),
                    keys: (params.struct_version == 4).then_some(registry),
                    ..RootState::empty(owner, params)
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_cells_never_panic(cell in cells()) {
        decode_all(&cell);
        let bytes = boc::encode(&cell);
        prop_assert_eq!(boc::decode(&bytes, boc::STATE).unwrap(), cell);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = boc::decode(&bytes, boc::STATE);
        let _ = External::from_boc(&bytes);
        let _ = Envelope::<SignedPayload>::from_boc(&bytes);
    }

    #[test]
    fn damaged_bags_never_panic(cell in cells(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = boc::encode(&cell);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        if let Ok(cell) = boc::decode(&bytes, boc::STATE) {
            decode_all(&cell);
        }
    }

    #[test]
    fn arbitrary_texts_never_panic(text in "\\PC{0,120}", words in "([a-z]{1,9} ){23}[a-z]{1,9}") {
        let _ = Address::parse(&text);
        let _ = parse_ton(&text);
        let _ = Mnemonic::parse(&text);
        let _ = Mnemonic::parse(&words);
        if let Ok(net) = NetAddress::new(&text) {
            let _ = net.endpoints();
        }
    }

    #[test]
    fn address_texts_round_trip(address in address(), bounceable: bool, testnet: bool) {
        let parsed = Address::parse(&address.to_text(bounceable, testnet)).unwrap();
        prop_assert_eq!((parsed.address, parsed.bounceable, parsed.testnet), (address, bounceable, testnet));
        prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
    }

    #[test]
    fn a_flipped_character_is_refused(address in address(), at in 0usize..48, with in "[A-Za-z0-9_-]") {
        let text = address.to_text(true, false);
        let with = with.as_bytes()[0];
        prop_assume!(text.as_bytes()[at] != with);
        let mut bytes = text.into_bytes();
        bytes[at] = with;
        let flipped = String::from_utf8(bytes).unwrap();
        prop_assert!(Address::parse(&flipped).is_err(), "{}", flipped);
    }

    #[test]
    fn amounts_round_trip(nano in coins()) {
        prop_assert_eq!(parse_ton(&format_ton(nano)), Ok(nano));
    }

    #[test]
    fn messages_round_trip(to in address(), value in coins(), body in cells(), query_id: u64) {
        let message = InternalMessage::call(to, value, body.clone());
        let cell = message.encode().unwrap();
        prop_assert_eq!(InternalMessage::decode(&cell).unwrap(), message);
        let seen = parse_message(&cell).unwrap();
        prop_assert_eq!((seen.dst, seen.value, seen.bounce, seen.body), (Some(to), value, true, body));
        prop_assert_eq!(mode_for(value), u8::from(value <= 1));
        let top_up = ClientMessage::TopUp { query_id, coins: value, excess_to: to };
        prop_assert_eq!(ClientMessage::decode(&top_up.encode().unwrap()).unwrap(), top_up);
    }

    #[test]
    fn roots_round_trip(state in root()) {
        let cell = state.encode().unwrap();
        prop_assert_eq!(RootState::decode(&cell).unwrap(), state.clone());
        let bare = state.params.bare_form();
        prop_assert_eq!(Params::decode(&bare.encode().unwrap()).unwrap(), bare);
    }

    #[test]
    fn a_flipped_bit_never_verifies(payload in payload(), seed: [u8; 32], to in address(), bit in any::<prop::sample::Index>()) {
        let key = SigningKey::from_bytes(&seed);
        let public = key.verifying_key().to_bytes();
        let envelope = Envelope::sign(payload, &key, to).unwrap();
        prop_assert!(envelope.verify(&public).is_ok());
        // In the signature.
        let mut broken = envelope;
        let at = bit.index(512);
        broken.signature[at / 8] ^= 1 << (at % 8);
        prop_assert!(broken.verify(&public).is_err());
        // In the payload: wherever the result is still a payload, its signature is wrong.
        let cell = payload.encode().unwrap();
        let flipped = flip(&cell, bit.index(usize::from(cell.bit_len())));
        if let Ok(payload) = SignedPayload::decode(&flipped) {
            let forged = Envelope { payload, ..envelope };
            prop_assert!(forged.verify(&public).is_err());
        }
        // In the key.
        let mut other = public;
        other[at / 8 % 32] ^= 1 << (at % 8);
        prop_assert!(envelope.verify(&other).is_err());
    }
}

fn flip(cell: &Cell, bit: usize) -> Cell {
    let mut data = cell.data().to_vec();
    data[bit / 8] ^= 0x80 >> (bit % 8);
    let mut builder = CellBuilder::new();
    builder.store_raw(&data, cell.bit_len()).unwrap();
    builder.build().unwrap()
}

#[test]
fn dictionaries_that_refer_to_themselves_end() {
    // 256 forks whose two branches are the same cell would unfold to 2^256 entries.
    let mut label_empty_fork = CellBuilder::new();
    label_empty_fork.store_zeros(2).unwrap();
    let mut cell = label_empty_fork.build().unwrap();
    for _ in 0..256 {
        let mut fork = CellBuilder::new();
        fork.store_zeros(2).unwrap();
        fork.store_reference(cell.clone()).unwrap();
        fork.store_reference(cell).unwrap();
        cell = fork.build().unwrap();
    }
    let params = Params {
        struct_version: 3,
        params_version: 0,
        unique_id: 0,
        is_test: true,
        price_per_token: 2,
        worker_fee_per_token: 1,
        prompt_multiplier: 10_000,
        cached_multiplier: 10_000,
        completion_multiplier: 10_000,
        reasoning_multiplier: 10_000,
        proxy_delay: 1,
        client_delay: 1,
        min_proxy_stake: 1,
        min_client_stake: 1,
        proxy_code: None,
        worker_code: None,
        client_code: None,
    };
    let mut registry = CellBuilder::new();
    registry.store_bit_one().unwrap();
    registry.store_reference(cell).unwrap();
    registry.store_zeros(1 + 32 + 2).unwrap();
    let empty = RootState::empty(Address::default(), params.clone())
        .encode()
        .unwrap();
    let mut root = CellBuilder::new();
    root.store_raw(empty.data(), empty.bit_len()).unwrap();
    root.store_reference(registry.build().unwrap()).unwrap();
    root.store_reference(params.encode().unwrap()).unwrap();
    let error = RootState::decode(&root.build().unwrap()).unwrap_err();
    assert!(matches!(error, AbiError::TooManyEntries { .. }), "{error}");
}
