//! The pure SOCKS5 dialogue: vectors, and arbitrary bytes.

use std::net::SocketAddr;

use cocoon_router::Host;
use cocoon_router::socks5::{
    Choice, Dialogue, DialogueError, MAX_DIALOGUE_LEN, Request, Step, success,
};
use proptest::prelude::*;

/// Feeds a whole stream; returns what was sent, what was asked for, and how many bytes were taken.
fn talk(choice: &Choice, bytes: &[u8]) -> (Vec<u8>, Result<Option<Request>, DialogueError>, usize) {
    let (mut sent, mut at) = (Vec::new(), 0);
    let mut dialogue = Dialogue::new(choice);
    loop {
        let needs = dialogue.needs();
        assert!(needs > 0, "a dialogue that needs nothing would never end");
        let Some(piece) = bytes.get(at..at + needs) else {
            return (sent, Ok(None), at);
        };
        at += needs;
        match dialogue.feed(piece) {
            Ok(Step::Read) => {}
            Ok(Step::Send(answer)) => sent.extend(answer),
            Ok(Step::Done(request)) => return (sent, Ok(Some(request)), at),
            Err(error) => return (sent, Err(error), at),
        }
    }
}

fn names() -> Choice {
    Choice::Among(["strict".to_owned(), "tdx".to_owned()].into())
}

/// The vectors of the specification.
#[test]
fn vectors() {
    let (sent, request, taken) = talk(
        &Choice::Fixed,
        &hex::decode("05010005010001cb0071092af9ffff").unwrap(),
    );
    let request = request.unwrap().unwrap();
    assert_eq!(hex::encode(sent), "0500");
    assert_eq!(request.target.to_string(), "203.0.113.9:11001");
    assert_eq!(
        (request.policy, taken),
        (None, 13),
        "what follows is the target's"
    );
    let local: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    assert_eq!(hex::encode(success(local)), "050000017f0000019c40");

    let named = "05020002010673747269637404706173730501aa01c6336405 2b67".replace(' ', "");
    let (sent, request, _) = talk(&names(), &hex::decode(&named).unwrap());
    let request = request.unwrap().unwrap();
    assert_eq!(hex::encode(sent), "05020100");
    assert_eq!(request.policy.as_deref(), Some("strict"));
    assert_eq!(request.target.to_string(), "198.51.100.5:11111");
    // A port that takes no names chooses 00 although 02 is offered.
    let (sent, request, _) = talk(
        &Choice::Fixed,
        &hex::decode("0502000205010001cb0071092af9").unwrap(),
    );
    assert_eq!(hex::encode(sent), "0500");
    assert_eq!(request.unwrap().unwrap().policy, None);
}

/// 5.2: the reserved byte, the password, and what stands behind the request mean nothing to the dialogue.
#[test]
fn what_is_ignored() {
    let plain = talk(
        &names(),
        &hex::decode("05010005010001cb0071092af9").unwrap(),
    );
    let odd = talk(
        &names(),
        &hex::decode("050100050177 01cb0071092af9ffff".replace(' ', "")).unwrap(),
    );
    assert_eq!(plain.1.unwrap(), odd.1.unwrap());
    assert_eq!((plain.2, odd.2), (13, 13));
    for password in ["00", "0161", "03ffffff"] {
        let text = format!("05010201067374726963 74{password}05010001cb0071092af9");
        let (sent, request, _) = talk(&names(), &hex::decode(text.replace(' ', "")).unwrap());
        assert_eq!(sent, [5, 2, 1, 0]);
        assert_eq!(request.unwrap().unwrap().policy.as_deref(), Some("strict"));
    }
}

#[test]
fn the_other_kinds_of_addresses() {
    let mut v6 = vec![5, 1, 0, 5, 1, 0, 4];
    v6.extend([
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80,
    ]);
    let request = talk(&Choice::Fixed, &v6).1.unwrap().unwrap();
    assert_eq!(request.target.to_string(), "[2001:db8::1]:80");
    let mut name = vec![5, 1, 0, 5, 1, 0, 3, 11];
    name.extend(b"example.net\x00\x50");
    let request = talk(&Choice::Fixed, &name).1.unwrap().unwrap();
    assert_eq!(request.target.host, Host::Name("example.net".into()));
    // An address as a name is an address, and needs no resolver.
    let mut text = vec![5, 1, 0, 5, 1, 0, 3, 7];
    text.extend(b"10.0.0.1\x00\x50");
    text[7] = 8;
    let request = talk(&Choice::Fixed, &text).1.unwrap().unwrap();
    assert_eq!(request.target.host, Host::Ip([10, 0, 0, 1].into()));
    assert_eq!(
        hex::encode(success("[::1]:1".parse().unwrap())).len(),
        2 * (4 + 16 + 2)
    );
}

#[test]
fn huge_and_strange_names_are_refused() {
    for name in [
        vec![b'a'; 255],
        vec![b'.'; 20],
        b"a..b".to_vec(),
        b"-\x00.example".to_vec(),
        b"caf\xc3\xa9".to_vec(),
        vec![0xff; 9],
        b"a b".to_vec(),
        b"[::1".to_vec(),
        [&[b'a'; 64][..], b".example"].concat(),
    ] {
        let mut bytes = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
        bytes.extend(&name);
        bytes.extend([0, 80]);
        let error = talk(&Choice::Fixed, &bytes).1.unwrap_err();
        assert!(
            matches!(error, DialogueError::Target(_)),
            "{name:?}: {error}"
        );
    }
}

#[test]
fn an_unknown_policy_ends_it_before_the_reply() {
    for name in [&b"any"[..], b"", b"strict ", b"\xff\xfe", &[b'x'; 255]] {
        let mut bytes = vec![5, 1, 2, 1, name.len() as u8];
        bytes.extend(name);
        bytes.extend([0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 80]);
        let (sent, result, _) = talk(&names(), &bytes);
        assert_eq!(sent, [5, 2]);
        let error = result.unwrap_err();
        assert!(matches!(error, DialogueError::Policy { .. }), "{error}");
        assert!(error.to_string().len() < 400);
    }
}

#[test]
fn errors_are_for_people() {
    let error = |bytes: &[u8]| talk(&Choice::Fixed, bytes).1.unwrap_err().to_string();
    assert!(error(b"GET / HTTP/1.1").contains("looks like HTTP"));
    assert!(error(&[0x16, 3]).contains("looks like TLS"));
    assert!(error(&[4, 1]).contains("SOCKS4"));
    assert!(error(&[5, 1, 2]).contains("does not take a policy"));
    assert!(error(&[5, 1, 0, 5, 2, 0, 1]).contains("CONNECT"));
    let mut dialogue = Dialogue::new(&Choice::Fixed);
    assert!(matches!(
        dialogue.feed(&[5]),
        Err(DialogueError::Length { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..1_200), with_names: bool) {
        let choice = if with_names { names() } else { Choice::Fixed };
        let (_, _, taken) = talk(&choice, &bytes);
        prop_assert!(taken <= MAX_DIALOGUE_LEN);
    }

    /// Random bytes rarely get past the greeting; this grows a plausible start.
    #[test]
    fn plausible_bytes(method in 0u8..3, policy in prop::sample::select(vec!["strict", "tdx", "any"]),
                       command in 0u8..3, kind in 0u8..6, tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![5, 1, method];
        if method == 2 {
            bytes.extend([1, policy.len() as u8]);
            bytes.extend(policy.as_bytes());
            bytes.extend([1, b'x']);
        }
        bytes.extend([5, command, 0, kind]);
        bytes.extend(tail);
        let (sent, result, taken) = talk(&names(), &bytes);
        prop_assert!(taken <= MAX_DIALOGUE_LEN);
        if let Ok(Some(request)) = result {
            prop_assert!(command == 1 && request.target.port != 0);
            prop_assert_eq!(request.policy.is_some(), method == 2);
            prop_assert_eq!(sent.len(), if method == 2 { 4 } else { 2 });
        }
    }
}
