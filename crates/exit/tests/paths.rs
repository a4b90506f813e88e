//! Every way out, predicted and then really taken on the embedded chain: equal to the nanoTON.

mod bed;

use bed::{Bed, CLIENT_DELAY, CLIENT_STAKE, PRICE, TON};
use cocoon_exit::{Action, Known, Report, Way, WayOut, prove};
use cocoon_ton::Address;
use cocoon_ton::abi::{
    ContractStatus, Envelope, Payload, ProxyMessage, SaveState, SignedOp, SignedPayload,
};
use cocoon_ton::wallet::InternalMessage;

async fn report(bed: &Bed) -> Report {
    known(bed, Known::default()).await
}

async fn known(bed: &Bed, known: Known) -> Report {
    prove(&bed.chain, &bed.owners[0].client.address, known)
        .await
        .unwrap()
}

fn way(report: &Report, way: Way) -> &WayOut {
    report.way(way).unwrap()
}

async fn deposit(bed: &Bed, owner: usize, coins: u128) {
    bed.act(owner, &Action::TopUp { coins }).await;
    bed.pass(3600).await;
}

/// A commit of the proxy's node.
async fn commit(bed: &Bed) {
    let body = ProxyMessage::SaveState(SaveState {
        query_id: 5,
        seqno: 1,
        session_hash: [1; 32],
    })
    .encode()
    .unwrap();
    bed.send(1, InternalMessage::call(bed.proxy.address, 1, body))
        .await;
}

fn grant(bed: &Bed, tokens: u64) -> Envelope {
    let payload = SignedPayload {
        op: SignedOp::ClientGrantRefund,
        query_id: 99,
        tokens,
        target: bed.owners[0].client.address,
    };
    assert!(payload.encode().is_ok());
    // A relayer's address: the prover and the owner put their own in its place.
    Envelope::sign(payload, &bed.proxy_key, Address::basechain([1; 32])).unwrap()
}

#[tokio::test]
async fn withdraw_above_the_stake() {
    let bed = Bed::new(0).await;
    deposit(&bed, 0, 31 * TON).await;
    let report = report(&bed).await;
    let outcome = way(&report, Way::Withdraw).outcome.clone().unwrap();
    assert_eq!(outcome.returned, 11 * TON);
    assert_eq!(outcome.ledger.balance, CLIENT_STAKE);
    assert_eq!((outcome.lost, outcome.wait_s), (0, Some(0)));
    bed.take(&outcome).await;
    // Nothing is left above the stake now, and the prover says which code the contract answers with.
    bed.pass(10).await;
    let again = self::report(&bed).await;
    let blocked = way(&again, Way::Withdraw).outcome.clone().unwrap_err();
    assert!(blocked.reason.contains("1001"), "{blocked}");
}

/// Both steps, without the proxy: with a stake that is large enough, too small, and zero; below and above the
/// client's own stake.
#[tokio::test]
async fn forced_refund() {
    let cases = [
        // proxy stake, deposit, returned, lost
        (40, 20, 20, 0),
        (40, 31, 31, 0),
        (5, 20, 5, 15),
        (5, 31, 16, 15),
        (0, 20, 0, 20),
        (0, 31, 11, 20),
        (0, 1, 0, 1),
    ];
    for (stake, coins, returned, lost) in cases {
        let bed = Bed::new(stake * TON).await;
        deposit(&bed, 0, coins * TON).await;
        let report = report(&bed).await;
        let outcome = way(&report, Way::Forced).outcome.clone().unwrap();
        let case = format!("stake {stake}, deposit {coins}");
        assert_eq!(outcome.returned, returned * TON, "{case}");
        assert_eq!(outcome.lost, lost * TON, "{case}");
        assert_eq!(outcome.wait_s, Some(CLIENT_DELAY + 1), "{case}");
        assert_eq!(outcome.ledger.status, ContractStatus::Closed, "{case}");
        // Refund, refund, and the contract's own 0.8 TON but for the rent.
        assert_eq!(outcome.steps.len(), 3, "{case}");
        assert!(outcome.left_in_contract <= TON / 100, "{case}");
        // The stake is gone in this case whatever it is today.
        let none = way(&report, Way::ForcedWithoutStake)
            .outcome
            .clone()
            .unwrap();
        assert_eq!(none.lost, coins.min(20) * TON, "{case}");
        // Nobody is told to lose money; waiting costs nothing.
        let expected = if lost == 0 {
            Way::Forced
        } else {
            Way::AskProxy
        };
        assert_eq!(report.recommended, Some(expected), "{case}");
        bed.take(&outcome).await;
        assert_eq!(
            bed.proxy().await.stake,
            (stake - returned.min(stake).min(coins.min(20))) * TON
        );
    }
}

/// The owner closed already; only the second step is left, and it waits for the rest of the delay.
#[tokio::test]
async fn forced_refund_of_a_closing_account() {
    let bed = Bed::new(40 * TON).await;
    deposit(&bed, 0, 20 * TON).await;
    bed.act(0, &Action::RequestRefund).await;
    bed.pass(100).await;
    let report = report(&bed).await;
    let outcome = way(&report, Way::Forced).outcome.clone().unwrap();
    assert_eq!(outcome.wait_s, Some(CLIENT_DELAY + 1 - 100));
    assert_eq!(outcome.steps[0].action, Action::ForceRefund);
    assert_eq!(outcome.returned, 20 * TON);
    bed.take(&outcome).await;
}

/// W10: the contract takes a deposit while it closes. It comes out by force only, as far as the stake goes.
#[tokio::test]
async fn deposit_into_a_closing_account() {
    for (stake, returned) in [(40u128, 25u128), (10, 10)] {
        let bed = Bed::new(stake * TON).await;
        deposit(&bed, 0, 20 * TON).await;
        bed.act(0, &Action::RequestRefund).await;
        bed.act(0, &Action::TopUp { coins: 5 * TON }).await;
        assert_eq!(bed.client(0).await.balance, 25 * TON);
        bed.pass(20).await;
        let report = report(&bed).await;
        let blocked = way(&report, Way::Withdraw).outcome.clone().unwrap_err();
        assert!(blocked.reason.contains("1006"), "{blocked}");
        let outcome = way(&report, Way::Forced).outcome.clone().unwrap();
        assert_eq!(outcome.returned, returned * TON);
        assert_eq!(outcome.lost, (25 - returned) * TON);
        bed.take(&outcome).await;
    }
}

/// A refund that the proxy has signed needs neither its stake nor any delay, and charges what was used.
#[tokio::test]
async fn granted_refund() {
    for (tokens, charged) in [(0u64, 0u128), (1_000_000, TON), (u64::MAX, 20 * TON)] {
        let bed = Bed::new(0).await;
        deposit(&bed, 0, 20 * TON).await;
        let grant = grant(&bed, tokens);
        let report = known(
            &bed,
            Known {
                grant: Some(grant),
                used_total: None,
            },
        )
        .await;
        assert_eq!(report.recommended, Some(Way::Granted));
        assert_eq!(report.better_than_forced(), Some(Way::Granted));
        let outcome = way(&report, Way::Granted).outcome.clone().unwrap();
        assert_eq!(outcome.charged, charged);
        assert_eq!(charged, (u128::from(tokens) * PRICE).min(20 * TON));
        assert_eq!(outcome.returned, 20 * TON - charged);
        assert_eq!((outcome.lost, outcome.wait_s), (0, Some(0)));
        bed.take(&outcome).await;
    }
}

/// A refund signed with another key, or for somebody else, is recognised before anything is sent.
#[tokio::test]
async fn a_worthless_grant() {
    let bed = Bed::new(0).await;
    deposit(&bed, 0, 20 * TON).await;
    let right = grant(&bed, 3);
    let foreign = Envelope {
        signature: [7; 64],
        ..right
    };
    let other = SignedPayload {
        target: bed.owners[1].client.address,
        ..right.payload
    };
    let other = Envelope::sign(other, &bed.proxy_key, right.excess_to).unwrap();
    for (envelope, code) in [(foreign, "1007"), (other, "1015")] {
        let report = known(
            &bed,
            Known {
                grant: Some(envelope),
                used_total: None,
            },
        )
        .await;
        let blocked = way(&report, Way::Granted).outcome.clone().unwrap_err();
        assert!(blocked.reason.contains(code), "{blocked}");
        assert_eq!(report.recommended, Some(Way::AskProxy));
    }
}

/// The first step really taken, and then the proxy's signature: what the prover computes for it is what comes.
#[tokio::test]
async fn asking_the_proxy() {
    let bed = Bed::new(40 * TON).await;
    deposit(&bed, 0, 31 * TON).await;
    commit(&bed).await;
    let used = 500_000;
    let report = known(
        &bed,
        Known {
            grant: None,
            used_total: Some(used),
        },
    )
    .await;
    // It lives, so it is asked, although forcing would lose nothing either.
    assert_eq!(report.recommended, Some(Way::AskProxy));
    assert_eq!(report.better_than_forced(), Some(Way::AskProxy));
    let outcome = way(&report, Way::AskProxy).outcome.clone().unwrap();
    assert!(!outcome.exact && outcome.wait_s.is_none());
    assert_eq!(outcome.charged, TON / 2);
    assert_eq!(outcome.returned, 31 * TON - TON / 2);
    bed.act(0, &outcome.steps[0].action).await;
    let [before, _] = bed.coins().await;
    // The proxy's own wallet would send this; its fees are not the owner's.
    let body = grant(&bed, used)
        .with_receiver(bed.owners[1].wallet.address)
        .encode()
        .unwrap();
    bed.send(
        1,
        InternalMessage::call(bed.owners[0].client.address, TON, body),
    )
    .await;
    let state = bed.client(0).await;
    assert_eq!((state.status, state.balance), (ContractStatus::Closed, 0));
    let [after, _] = bed.coins().await;
    let rest = 20 * TON - TON / 2;
    // Receiving costs the wallet its gas.
    assert!(after - before <= rest && after - before > rest - TON / 100);
    // Ten minutes of silence, and the recommendation changes.
    let bed = Bed::new(40 * TON).await;
    deposit(&bed, 0, 31 * TON).await;
    commit(&bed).await;
    bed.pass(cocoon_exit::SILENT_AFTER_S + 1).await;
    assert_eq!(self::report(&bed).await.recommended, Some(Way::Forced));
}

/// Two clients, one stake: who comes last gets what is left, and the prover says so before.
#[tokio::test]
async fn a_shared_stake() {
    let bed = Bed::new(25 * TON).await;
    deposit(&bed, 1, 20 * TON).await;
    deposit(&bed, 0, 20 * TON).await;
    let first = report(&bed).await;
    assert!(first.facts.others >= 20 * TON && first.facts.others < 21 * TON);
    let alone = way(&first, Way::Forced).outcome.clone().unwrap();
    assert_eq!(alone.lost, 0, "as the stake stands today");
    let last = first.worst().unwrap().outcome.clone().unwrap();
    // The other's 20 TON, and the half TON that the proxy contract was deployed with, which nobody can tell apart.
    assert!(
        last.returned <= 5 * TON && last.returned > 4 * TON,
        "{}",
        last.returned
    );
    // The other really goes first.
    bed.act(1, &Action::RequestRefund).await;
    bed.pass(CLIENT_DELAY + 1).await;
    bed.act(1, &Action::ForceRefund).await;
    bed.pass(1).await;
    let after = report(&bed).await;
    let outcome = way(&after, Way::Forced).outcome.clone().unwrap();
    assert_eq!(outcome.returned, 5 * TON);
    assert!(outcome.returned >= last.returned, "the bound holds");
    bed.take(&outcome).await;
}

/// Proving changes nothing on the chain, however often it is done.
#[tokio::test]
async fn proving_changes_nothing() {
    let bed = Bed::new(40 * TON).await;
    deposit(&bed, 0, 20 * TON).await;
    let before = (
        bed.chain.total_coins(),
        bed.coins().await,
        bed.client(0).await,
    );
    let first = report(&bed).await;
    let second = report(&bed).await;
    assert_eq!(first.ways, second.ways);
    let after = (
        bed.chain.total_coins(),
        bed.coins().await,
        bed.client(0).await,
    );
    assert_eq!(before, after);
    // The copied wallet obeys another key; the real one does not.
    let error = prove(&bed.chain, &Address::basechain([5; 32]), Known::default())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("nothing was ever deposited"),
        "{error}"
    );
}

/// W6: payouts that no client was charged for have emptied the proxy contract. A refund that it cannot pay comes back
/// into the ledger, and the prover has said so; once the coins are there, it is paid.
#[tokio::test]
async fn a_proxy_contract_without_coins() {
    let bed = Bed::new(0).await;
    deposit(&bed, 0, 31 * TON).await;
    bed.pay_a_worker(25 * TON).await;
    let report = report(&bed).await;
    assert!(report.facts.shortfall > 20 * TON);
    assert!(report.notes.iter().any(|note| note.contains("lacks")));
    let outcome = way(&report, Way::Withdraw).outcome.clone().unwrap();
    assert_eq!((outcome.returned, outcome.lost), (0, 0));
    assert_eq!(outcome.ledger.balance, 31 * TON, "the claim stays");
    bed.take(&outcome).await;
    // Neither the first step goes through; the account is as before it.
    bed.pass(10).await;
    let stuck = self::report(&bed).await;
    for blocked in [Way::AskProxy, Way::Forced] {
        let blocked = way(&stuck, blocked).outcome.clone().unwrap_err();
        assert!(blocked.reason.contains("comes back"), "{blocked}");
    }
    bed.act(0, &Action::RequestRefund).await;
    let state = bed.client(0).await;
    assert_eq!(
        (state.status, state.balance),
        (ContractStatus::Normal, 31 * TON)
    );
    let grant = grant(&bed, 0);
    let signed = Known {
        grant: Some(grant),
        used_total: None,
    };
    let report = known(&bed, signed).await;
    let granted = way(&report, Way::Granted).outcome.clone().unwrap();
    assert_eq!((granted.missing(), granted.lost), (31 * TON, 0));
    assert_ne!(
        report.recommended,
        Some(Way::Granted),
        "it would come back unpaid"
    );
    bed.take(&granted).await;
    // Once the coins are there, everything comes out.
    bed.stake(40 * TON).await;
    let paid = self::report(&bed).await;
    let outcome = way(&paid, Way::Forced).outcome.clone().unwrap();
    assert_eq!((outcome.returned, outcome.missing()), (31 * TON, 0));
    bed.take(&outcome).await;
}
