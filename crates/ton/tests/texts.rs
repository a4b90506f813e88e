//! Addresses, amounts and mnemonics: known values, and errors that say what is wrong.

use cocoon_ton::amount::{AmountError, MAX_NANO, format_ton, parse_ton};
use cocoon_ton::mnemonic::{Mnemonic, MnemonicError};
use cocoon_ton::{Address, AddressError};
use serde_json::Value;

#[test]
fn address_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/addresses.json")).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let decoded = &vector["decoded"];
        let text = decoded["text"].as_str().unwrap();
        let parsed = Address::parse(text).unwrap();
        assert_eq!(
            hex::encode(parsed.address.hash),
            decoded["hash"].as_str().unwrap()
        );
        assert_eq!(
            i64::from(parsed.address.workchain),
            decoded["workchain"].as_i64().unwrap()
        );
        assert_eq!(parsed.bounceable, decoded["bounceable"].as_bool().unwrap());
        assert_eq!(parsed.testnet, decoded["testnet"].as_bool().unwrap());
        assert_eq!(
            parsed.address.to_text(parsed.bounceable, parsed.testnet),
            text
        );
        let raw = Address::parse(&parsed.address.to_string()).unwrap();
        assert_eq!(
            (raw.address, raw.bounceable, raw.testnet),
            (parsed.address, true, false)
        );
    }
}

#[test]
fn the_address_of_the_official_network_reads_in_both_alphabets() {
    // From contracts.md 6.3; a text with '-' or '_' is made by flipping the flags.
    let text = "EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k";
    let address = Address::parse(text).unwrap().address;
    for (bounceable, testnet) in [(true, true), (true, false), (false, true), (false, false)] {
        let url = address.to_text(bounceable, testnet);
        let old = url.replace('-', "+").replace('_', "/");
        assert_eq!(Address::parse(&url), Address::parse(&old));
    }
    let masterchain = Address {
        workchain: -1,
        hash: [0xfb; 32],
    };
    let text = masterchain.to_text(true, false);
    assert_eq!(Address::parse(&text).unwrap().address, masterchain);
    assert_eq!(
        masterchain.to_string().parse::<Address>().unwrap(),
        masterchain
    );
}

#[test]
fn address_errors_say_what_was_expected() {
    let error = |text: &str| Address::parse(text).unwrap_err();
    let good = "EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k";
    assert_eq!(error(""), AddressError::Length { found: 0 });
    assert_eq!(error(&good[1..]), AddressError::Length { found: 47 });
    assert!(error(&good[1..]).to_string().contains("48 characters"));
    let typo = error(&good.replacen("EQCns", "EQCnS", 1)).to_string();
    assert!(typo.contains("the address has a typo"), "{typo}");
    assert_eq!(
        error(&good.replacen('Q', " ", 1)),
        AddressError::Alphabet {
            character: ' ',
            position: 2
        }
    );
    let mixed = format!("-{}+", &good[1..47]);
    assert_eq!(error(&mixed), AddressError::MixedAlphabets);
    let digits = "ab".repeat(32);
    assert_eq!(
        error(&format!("1:{digits}")),
        AddressError::Workchain { found: "1".into() }
    );
    assert_eq!(
        error(&format!("0:{}", &digits[1..])),
        AddressError::RawLength { found: 63 }
    );
    assert_eq!(
        error(&format!("0:x{}", &digits[1..])),
        AddressError::RawDigit {
            character: 'x',
            position: 3
        }
    );
    let foreign = Address {
        workchain: 5,
        hash: [0; 32],
    }
    .to_text(true, false);
    assert_eq!(
        error(&foreign),
        AddressError::Workchain { found: "5".into() }
    );
}

#[test]
fn amounts() {
    let cases = [
        ("1.5 TON", 1_500_000_000),
        ("1.5", 1_500_000_000),
        ("0.000000001 ton", 1),
        (".5", 500_000_000),
        ("2.", 2_000_000_000),
        ("1500000000 nanoTON", 1_500_000_000),
        (" 7TON ", 7_000_000_000),
    ];
    for (text, nano) in cases {
        assert_eq!(parse_ton(text), Ok(nano), "{text:?}");
    }
    assert_eq!(format_ton(1_500_000_000), "1.5 TON");
    assert_eq!(format_ton(0), "0 TON");
    assert_eq!(format_ton(1), "0.000000001 TON");
    assert_eq!(parse_ton(&format_ton(MAX_NANO)), Ok(MAX_NANO));
    let too_large = format!("{} nanoTON", MAX_NANO + 1);
    let errors = [
        ("", AmountError::Empty),
        ("TON", AmountError::Empty),
        ("-1", AmountError::Signed),
        ("1,5", AmountError::Character { character: ',' }),
        ("1.2.3", AmountError::Character { character: '.' }),
        ("1 BTC", AmountError::Unit { unit: "BTC".into() }),
        ("0.0000000001", AmountError::TooPrecise),
        ("1.5 nanoTON", AmountError::FractionOfNano),
        (too_large.as_str(), AmountError::TooLarge),
    ];
    for (text, error) in errors {
        assert_eq!(parse_ton(text), Err(error), "{text:?}");
    }
}

/// Made once with the npm package `@ton/crypto` 3.3.0: words, public key, secret seed.
const PAIRS: [[&str; 3]; 3] = [
    [
        "play black stand adapt peasant answer raven more soldier peanut side wagon nest outer gorilla obscure album brand silent cave foil antique want employ",
        "9ada8e22f2202c67725c976902bfc5a7884cf36dbcb6f27f0d5a272fb47224f6",
        "831b8838e40718cd6cd3a01c6352c95fde6b520390f37e61d1fb8c436ac39b3d",
    ],
    [
        "hole aerobic addict lounge arrow indicate seminar left ice exchange polar problem slam left ridge hammer universe gloom library wrist pipe hurry taste scene",
        "5728b3888b5c553200671da09b116ee64159388886ef58d4837f27acbdfc7712",
        "052770542fe3039dfa68c6bd7112430f55a8d6e257e4c704094bb5ee0b0089ab",
    ],
    [
        "donkey spring wreck radio ripple borrow audit matter pumpkin supply host twist jealous deputy balance crumble denial tennis ivory riot fall grunt bleak tray",
        "fb681a1f17265c99ebee6803a211b30b398af337b28260a23a352cfb93ae8457",
        "3a07dd936f6bfb00ea7c8cec5179cc496e7dea234d31e0f4bf524db2c780e626",
    ],
];

#[test]
fn known_mnemonics_give_known_keys() {
    for [words, public_key, seed] in PAIRS {
        let mnemonic = Mnemonic::parse(words).unwrap();
        let key = mnemonic.to_keypair();
        assert_eq!(hex::encode(key.verifying_key().to_bytes()), public_key);
        assert_eq!(hex::encode(key.to_bytes()), seed);
        assert_eq!(*mnemonic.phrase(), words);
    }
}

#[test]
fn mnemonic_errors_name_the_word() {
    let good = PAIRS[0][0];
    let spaced = format!("\n {} ", good.to_uppercase().replace(' ', "  \t"));
    assert_eq!(Mnemonic::parse(&spaced), Mnemonic::parse(good));
    let typo = good.replacen("peasant", "peasent", 1);
    assert_eq!(
        Mnemonic::parse(&typo),
        Err(MnemonicError::UnknownWord {
            word: "peasent".into(),
            position: 5,
            nearest: "peasant"
        })
    );
    let swapped = good.replacen("brand", "barnd", 1);
    let error = Mnemonic::parse(&swapped).unwrap_err().to_string();
    assert!(
        error.contains("\"brand\"") && error.contains("18"),
        "{error}"
    );
    assert_eq!(
        Mnemonic::parse("play black"),
        Err(MnemonicError::Count { found: 2 })
    );
    // Two words exchanged: all known, wrong order.
    let order = good.replacen("play black", "black play", 1);
    assert_eq!(Mnemonic::parse(&order), Err(MnemonicError::Checksum));
    // Made with @ton/crypto and a password.
    let protected = "okay wide review position sample poverty stereo theory slice parent material neglect patch burst someone advance speed goat human surge firm scale virus mail";
    assert_eq!(
        Mnemonic::parse(protected),
        Err(MnemonicError::PasswordProtected)
    );
    assert_eq!(
        Mnemonic::parse(&"a ".repeat(4000)),
        Err(MnemonicError::TooLong)
    );
}

#[test]
fn new_mnemonics_are_valid_reproducible_and_redacted() {
    let one = Mnemonic::new(&[7; 32]);
    assert_eq!(Mnemonic::new(&[7; 32]), one);
    assert_ne!(Mnemonic::new(&[8; 32]), one);
    assert_eq!(Mnemonic::parse(&one.phrase()).unwrap(), one);
    assert_eq!(format!("{one:?}"), "Mnemonic(<redacted>)");
}

#[test]
fn the_word_list_is_whole_and_sorted() {
    let words: Vec<&str> = include_str!("../data/bip39-english.txt").lines().collect();
    assert_eq!(words.len(), 2048);
    assert!(words.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!((words[0], words[2047]), ("abandon", "zoo"));
}
