//! Primitive encodings: examples of the specification, error texts, and properties over arbitrary bytes.

use cocoon_tl::{
    Constructor, Flags, Reader, TlError, constructor_id, crc32, from_bare, from_boxed, peek_id,
    to_bare, to_boxed,
};
use proptest::prelude::*;

cocoon_tl::tl_objects! {
    /// A leaf.
    #[derive(Eq)]
    "demo.leaf secret:string = demo.Tree",
    pub struct Leaf {
        /// Not for logs.
        @hidden secret: String,
    }

    /// Nothing.
    #[derive(Eq, Default)]
    "demo.nothing = demo.Tree",
    pub struct Nothing {}

    /// Two fields under one bit.
    #[derive(Eq, Copy)]
    pub struct Pair {
        /// First.
        first: i32,
        /// Second.
        second: i64,
    }

    /// Conditional fields.
    "demo.branch#0badcafe flags:# names:(vector string) flag:flags.0?Bool first:flags.4?int second:flags.4?long tree:demo.Tree = demo.Branch",
    pub struct Branch {
        /// Unknown bits.
        flags: Flags,
        /// Names.
        names: Vec<String>,
        /// Bit 0.
        flag(flags.0): bool,
        /// Bit 4.
        pair(flags.4): Pair,
        /// A boxed field.
        tree: Tree,
    }
}

cocoon_tl::tl_union! {
    /// Alternatives.
    #[derive(Eq)]
    pub enum Tree {
        /// A leaf.
        Leaf(Leaf),
        /// Nothing.
        Nothing(Nothing),
    }
}

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

#[test]
fn ids_follow_the_declaration() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(constructor_id("tcp.ping id:long = tcp.Packet"), 0xbbe9_627c);
    let spaced = "  tcp.ping\n\tid:long  = (tcp.Packet) ; ";
    assert_eq!(constructor_id(spaced), 0xbbe9_627c);
    let explicit = "client.params#40fdca64 flags:# = client.Params";
    assert_eq!(constructor_id(explicit), 0x40fd_ca64);
    assert_eq!(Branch::ID, 0x0bad_cafe);
    assert_eq!(Branch::NAME, "demo.branch");
    assert_eq!(Branch::FIELDS, ["flags", "names", "flag", "pair", "tree"]);
    assert_eq!(Nothing::NAME, "demo.nothing");
}

#[test]
fn strings_use_the_shortest_header_and_read_any() {
    for (data, header) in [
        (vec![], "00"),
        (vec![b'a'; 253], "fd"),
        (vec![b'b'; 254], "fefe0000"),
        (vec![b'c'; 65536], "fe000001"),
        (vec![b'd'; 1 << 24], "ff00000001000000"),
    ] {
        let encoded = to_bare(&data);
        assert_eq!(encoded.len() % 4, 0);
        assert!(encoded.starts_with(&hex(header)), "{header}");
        assert!(encoded.len() - data.len() - header.len() / 2 < 4);
        assert_eq!(from_bare::<Vec<u8>>(&encoded).unwrap(), data);
    }
    // Not minimal, and with padding that is not zero.
    assert_eq!(from_bare(&hex("fe010000 61ffffff")), Ok(String::from("a")));
    let long = hex("ff01000000000000 61000000");
    assert_eq!(from_bare(&long), Ok(String::from("a")));
}

#[test]
fn error_texts_are_those_of_the_reference() {
    let text = |error: TlError| error.to_string();
    assert_eq!(
        text(from_bare::<i32>(&[1, 2, 3]).unwrap_err()),
        "Not enough data to read at 0"
    );
    // The data is there, its padding is not.
    assert_eq!(
        text(from_bare::<Vec<u8>>(&[1, 2]).unwrap_err()),
        "Not enough data to read at 2"
    );
    assert_eq!(
        text(from_bare::<i32>(&[0; 5]).unwrap_err()),
        "Too much data to fetch at 4"
    );
    assert_eq!(
        text(from_boxed::<Leaf>(&[0; 8]).unwrap_err()),
        "Wrong constructor found at 4"
    );
    assert_eq!(
        text(from_bare::<Tree>(&hex("01020304")).unwrap_err()),
        "Unknown constructor found 0x04030201 at 4"
    );
    assert_eq!(
        text(from_bare::<bool>(&[0; 4]).unwrap_err()),
        "Bool expected at 4"
    );
    assert_eq!(
        text(from_bare::<Vec<i32>>(&hex("05000000 00000000")).unwrap_err()),
        "Wrong vector length at 4"
    );
    assert_eq!(
        text(from_bare::<Vec<u8>>(&hex("ff00000000010000")).unwrap_err()),
        "Too big string found at 8"
    );
    assert_eq!(
        text(from_bare::<Branch>(&hex("000000ff")).unwrap_err()),
        "Variable of type # can't be negative at 4"
    );
    assert_eq!(
        text(from_bare::<String>(&hex("01ff0000")).unwrap_err()),
        "String is not valid UTF-8 at 4"
    );
    assert_eq!(from_bare::<bool>(&[0; 4]).unwrap_err().offset(), 4);
}

#[test]
fn flags_follow_the_optional_fields() {
    let tree = Tree::from(Nothing {});
    let mut branch = Branch {
        flags: Flags(1 << 31 | 1 << 7 | 1),
        names: vec!["n".into()],
        flag: None,
        pair: Some(Pair {
            first: 1,
            second: 2,
        }),
        tree: tree.clone(),
    };
    let encoded = to_bare(&branch);
    assert_eq!(encoded[..4], 0x90_u32.to_le_bytes());
    let back: Branch = from_bare(&encoded).unwrap();
    assert_eq!(back.flags, Flags(1 << 7));
    assert_eq!((back.flag, back.pair), (None, branch.pair));
    assert_eq!(to_bare(&back), encoded);
    branch.pair = None;
    branch.flag = Some(false);
    assert_eq!(
        to_bare(&branch),
        [
            0x81_u32.to_le_bytes().to_vec(),
            hex("01000000 016e0000 379779bc"),
            to_boxed(&tree),
        ]
        .concat()
    );
}

#[test]
fn hidden_fields_are_not_shown() {
    let leaf = Leaf {
        secret: "swordfish".into(),
    };
    assert_eq!(
        format!("{:?}", Tree::from(leaf)),
        "Leaf(Leaf { secret: <hidden> })"
    );
}

#[test]
fn unions_and_structs_share_the_boxed_form() {
    let leaf = Leaf { secret: "x".into() };
    let boxed = to_boxed(&leaf);
    assert_eq!(peek_id(&boxed), Some(Leaf::ID));
    assert_eq!(peek_id(&boxed[..3]), None);
    let tree: Tree = from_boxed(&boxed).unwrap();
    assert_eq!(tree.constructor_name(), "demo.leaf");
    assert_eq!(tree, Tree::Leaf(leaf));
    assert_eq!(to_boxed(&tree), boxed);
}

fn any_tree() -> impl Strategy<Value = Tree> {
    prop_oneof![
        Just(Tree::from(Nothing {})),
        any::<String>().prop_map(|secret| Leaf { secret }.into()),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = from_bare::<Branch>(&data);
        let _ = from_bare::<Tree>(&data);
        let _ = from_bare::<Vec<Vec<u8>>>(&data);
        let _ = from_bare::<Vec<f64>>(&data);
        let _ = from_bare::<Vec<Nothing>>(&data);
        let mut reader = Reader::new(&data);
        while reader.bytes().is_ok() && reader.remaining() > 0 {}
        prop_assert!(reader.offset() <= data.len());
    }

    #[test]
    fn what_is_written_is_read(
        unknown in any::<u32>(),
        names in proptest::collection::vec(any::<String>(), 0..5),
        flag in any::<Option<bool>>(),
        pair in any::<Option<(i32, i64)>>(),
        tree in any_tree(),
    ) {
        let branch = Branch {
            flags: Flags(unknown & 0x7fff_ffee),
            names,
            flag,
            pair: pair.map(|(first, second)| Pair { first, second }),
            tree,
        };
        let encoded = to_boxed(&branch);
        prop_assert_eq!(encoded.len() % 4, 0);
        prop_assert_eq!(from_boxed::<Branch>(&encoded).unwrap(), branch);
        // Every proper prefix is an error.
        prop_assert!(from_boxed::<Branch>(&encoded[..encoded.len() - 1]).is_err());
    }

    #[test]
    fn bytes_of_any_length_round_trip(data in proptest::collection::vec(any::<u8>(), 0..700)) {
        let encoded = to_bare(&data);
        prop_assert_eq!(from_bare::<Vec<u8>>(&encoded).unwrap(), data);
    }
}
