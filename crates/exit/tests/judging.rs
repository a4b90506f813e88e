//! Deposits and stakes judged before they are made, and the judgement compared with what really happens.

mod bed;

use bed::{Bed, CLIENT_STAKE, PURSE, TON};
use cocoon_exit::{Action, Plan, Verdict, Way, judge, prove};
use cocoon_ton::abi::{Envelope, SignedOp, SignedPayload};
use cocoon_ton::wallet::InternalMessage;

async fn verdict(bed: &Bed, plan: Plan) -> Verdict {
    judge(&bed.chain, &bed.owners[0].client.address, plan)
        .await
        .unwrap()
}

/// Makes the deposit and takes the worst way out for real; nobody else is there.
async fn really(bed: &Bed, plan: Plan) -> u128 {
    match plan {
        Plan::TopUp { coins } => bed.act(0, &Action::TopUp { coins }).await,
        Plan::IncreaseStake { new_stake } => {
            bed.act(0, &Action::IncreaseStake { new_stake }).await;
        }
        Plan::Nothing | Plan::Force => {}
    }
    let report = prove(
        &bed.chain,
        &bed.owners[0].client.address,
        Default::default(),
    )
    .await
    .unwrap();
    let outcome = report.way(Way::Forced).unwrap().outcome.clone().unwrap();
    bed.take(&outcome).await;
    outcome.lost
}

#[tokio::test]
async fn a_proxy_without_a_stake() {
    let bed = Bed::new(0).await;
    let plan = Plan::TopUp { coins: TON };
    let verdict = verdict(&bed, plan).await;
    assert!(!verdict.is_safe());
    assert_eq!(
        verdict.objection.as_deref(),
        Some(
            "the proxy's stake is 0 TON: if the proxy dies, a forced refund would return 0 TON of 1 TON"
        )
    );
    assert_eq!(really(&bed, plan).await, TON, "the whole deposit");
}

#[tokio::test]
async fn a_proxy_with_enough_stake() {
    // The half TON of its deployment counts as somebody else's claim.
    let bed = Bed::new(21 * TON).await;
    let plan = Plan::TopUp { coins: 20 * TON };
    let safe = verdict(&bed, plan).await;
    assert!(safe.is_safe(), "{safe:?}");
    assert_eq!(safe.at_stake, 20 * TON);
    assert_eq!(safe.worst.unwrap().lost, 0);
    // What exceeds the client's own stake comes back with the first step, whatever the proxy's stake is.
    assert!(
        verdict(&bed, Plan::TopUp { coins: 500 * TON })
            .await
            .is_safe()
    );
    assert_eq!(really(&bed, plan).await, 0);
}

#[tokio::test]
async fn a_stake_that_is_too_small() {
    let bed = Bed::new(10 * TON).await;
    let refused = verdict(&bed, Plan::TopUp { coins: 20 * TON }).await;
    let objection = refused.objection.unwrap();
    for part in [
        "stake is 10 TON",
        "may be other clients' claims",
        "of 20 TON",
    ] {
        assert!(objection.contains(part), "{objection}");
    }
    assert!(
        verdict(&bed, Plan::TopUp { coins: 9 * TON })
            .await
            .is_safe()
    );
    // One nanoTON above what is left for this client is refused, too: the bound is exact.
    let bound = 10 * TON - verdict(&bed, Plan::Nothing).await.facts.others;
    assert!(verdict(&bed, Plan::TopUp { coins: bound }).await.is_safe());
    assert!(
        !verdict(&bed, Plan::TopUp { coins: bound + 1 })
            .await
            .is_safe()
    );
}

/// A higher stake turns money that could be withdrawn at once into money that only the proxy's stake covers.
#[tokio::test]
async fn raising_the_own_stake() {
    let bed = Bed::new(25 * TON).await;
    bed.act(0, &Action::TopUp { coins: 40 * TON }).await;
    bed.pass(10).await;
    let safe = Plan::IncreaseStake {
        new_stake: CLIENT_STAKE + 4 * TON,
    };
    assert!(verdict(&bed, safe).await.is_safe());
    let plan = Plan::IncreaseStake {
        new_stake: 40 * TON,
    };
    let refused = verdict(&bed, plan).await;
    assert!(refused.objection.is_some());
    assert_eq!(really(&bed, plan).await, 15 * TON);
}

/// The stake is shared: a second client is refused where the first was not.
#[tokio::test]
async fn the_second_client() {
    let bed = Bed::new(30 * TON).await;
    let plan = Plan::TopUp { coins: 20 * TON };
    assert!(verdict(&bed, plan).await.is_safe());
    bed.act(1, &Action::TopUp { coins: 20 * TON }).await;
    bed.pass(1).await;
    let refused = verdict(&bed, plan).await;
    assert!(refused.objection.unwrap().contains("other clients' claims"));
    assert!(
        verdict(&bed, Plan::TopUp { coins: 9 * TON })
            .await
            .is_safe()
    );
}

#[tokio::test]
async fn nothing_goes_into_what_closes() {
    let bed = Bed::new(100 * TON).await;
    bed.act(0, &Action::RequestRefund).await;
    let refused = verdict(&bed, Plan::TopUp { coins: TON }).await;
    assert!(
        refused
            .objection
            .unwrap()
            .contains("the account is closing")
    );

    let bed = Bed::new(100 * TON).await;
    let payload = SignedPayload {
        op: SignedOp::ProxyClose,
        query_id: 4,
        tokens: 0,
        target: bed.proxy.address,
    };
    let body = Envelope::sign(payload, &bed.proxy_key, bed.owners[1].wallet.address)
        .unwrap()
        .encode()
        .unwrap();
    bed.send(1, InternalMessage::call(bed.proxy.address, TON, body))
        .await;
    let refused = verdict(&bed, Plan::TopUp { coins: TON }).await;
    assert!(
        refused
            .objection
            .unwrap()
            .contains("the proxy contract is closing")
    );
}

/// A wallet that cannot pay for a message now is no reason to refuse: it pays when it has the coins.
#[tokio::test]
async fn an_empty_wallet_is_not_a_bad_exit() {
    let bed = Bed::new(5000 * TON).await;
    assert!(
        verdict(&bed, Plan::TopUp { coins: 900 * TON })
            .await
            .is_safe()
    );
    bed.send(
        0,
        InternalMessage::call(
            bed.owners[1].wallet.address,
            PURSE - 10 * TON,
            Default::default(),
        ),
    )
    .await;
    let verdict = verdict(&bed, Plan::TopUp { coins: 50 * TON }).await;
    assert!(verdict.is_safe(), "{verdict:?}");
}

/// Before a refund is forced only the stake as it is now counts; where it is too small, it is not forced unasked.
#[tokio::test]
async fn forcing_is_judged_as_it_would_happen() {
    for (stake, safe) in [(20, true), (19, false), (0, false)] {
        let bed = Bed::new(stake * TON).await;
        bed.act(0, &Action::TopUp { coins: 20 * TON }).await;
        bed.act(0, &Action::RequestRefund).await;
        bed.pass(bed::CLIENT_DELAY + 1).await;
        let judged = verdict(&bed, Plan::Force).await;
        assert_eq!(judged.is_safe(), safe, "stake {stake}: {judged:?}");
        if let Some(objection) = judged.objection {
            assert!(
                objection.contains("now, a forced refund would return"),
                "{objection}"
            );
        }
        assert_eq!(really(&bed, Plan::Force).await, (20 - stake) * TON);
    }
}
