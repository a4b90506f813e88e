use super::*;
use crate::claims::Claims;

fn claims(signed: u64, max: u64) -> Claims {
    Claims::raised(
        AdjustedTokens(signed),
        AdjustedTokens(signed),
        AdjustedTokens(max),
    )
}

fn client() -> ClientView {
    ClientView {
        status: ContractStatus::Open,
        outdated_for_s: None,
        unlock_in_s: 0,
        request_outstanding: false,
        secret_matches: true,
        price: NanoTon(20),
        balance: NanoTon::from_ton(1),
        stake: NanoTon(1_000_000_010),
        used: AdjustedTokens(1000),
        claims: claims(1000, 1000),
    }
}

#[test]
fn client_steps_come_in_order() {
    let settings = ClientSettings::default();
    let review = |view: &ClientView| review_client(&settings, view);
    assert_eq!(review(&client()), ClientAction::None);
    // 50 million stake tokens: half of them plus one are used.
    let busy = ClientView {
        claims: claims(1001, 25_001_001),
        ..client()
    };
    assert_eq!(review(&busy), ClientAction::Charge(AdjustedTokens(1001)));
    let unsigned = ClientView {
        claims: claims(1000, 25_001_001),
        ..client()
    };
    assert_eq!(review(&unsigned), ClientAction::None);
    let poor = ClientView {
        balance: NanoTon(499_999_999),
        ..busy
    };
    assert_eq!(review(&poor), ClientAction::TopUp(NanoTon(1_000_000_000)));
    let free = ClientView {
        price: NanoTon(0),
        ..poor
    };
    assert_eq!(review(&free), ClientAction::None);
    let secret = ClientView {
        secret_matches: false,
        ..free
    };
    assert_eq!(review(&secret), ClientAction::ChangeSecret);
    let outdated = ClientView {
        outdated_for_s: Some(43_200),
        ..secret
    };
    assert_eq!(review(&outdated), ClientAction::None);
    let outdated = ClientView {
        outdated_for_s: Some(43_201),
        ..secret
    };
    assert_eq!(review(&outdated), ClientAction::Close);
    let closing = ClientView {
        status: ContractStatus::Closing,
        unlock_in_s: 1,
        ..outdated
    };
    assert_eq!(review(&closing), ClientAction::None);
    let unlocked = ClientView {
        unlock_in_s: 0,
        ..closing
    };
    assert_eq!(review(&unlocked), ClientAction::Close);
    let closed = ClientView {
        status: ContractStatus::Closed,
        ..unlocked
    };
    assert_eq!(review(&closed), ClientAction::Forget);
    let waiting = ClientView {
        request_outstanding: true,
        ..closed
    };
    assert_eq!(review(&waiting), ClientAction::None);
}

fn account() -> ClientAccountView {
    ClientAccountView {
        status: ContractStatus::Open,
        claims: claims(50_000_000, 90_000_000),
        expected_on_chain: AdjustedTokens(0),
        price: NanoTon(20),
        running: 0,
        message_pending: false,
        activity: Activity::QuietFor(0),
    }
}

#[test]
fn proxy_charges_the_signed_amount_only() {
    let settings = ProxySettings::default();
    let charge = |view: &ClientAccountView| charge_client(&settings, view).unwrap();
    assert_eq!(charge(&account()), Some(AdjustedTokens(50_000_000)));
    let little = ClientAccountView {
        expected_on_chain: AdjustedTokens(1),
        ..account()
    };
    assert_eq!(charge(&little), None);
    let pending = ClientAccountView {
        message_pending: true,
        ..account()
    };
    assert_eq!(charge(&pending), None);
    let ahead = ClientAccountView {
        expected_on_chain: AdjustedTokens(60_000_000),
        ..account()
    };
    assert_eq!(charge(&ahead), None);
    let absurd = ClientAccountView {
        price: NanoTon(u128::MAX),
        ..account()
    };
    assert!(charge_client(&settings, &absurd).is_err());
}

#[test]
fn refunds_wait_for_the_books() {
    let closing = ClientAccountView {
        status: ContractStatus::Closing,
        ..account()
    };
    assert_eq!(refund_client(&closing), None);
    let settled = ClientAccountView {
        claims: claims(7, 7),
        ..closing
    };
    assert_eq!(refund_client(&settled), Some(AdjustedTokens(7)));
    assert_eq!(
        refund_client(&ClientAccountView {
            running: 1,
            ..settled
        }),
        None
    );
    assert_eq!(
        refund_client(&ClientAccountView {
            status: ContractStatus::Open,
            ..settled
        }),
        None
    );
}

#[test]
fn proxy_pays_workers_in_money() {
    let settings = ProxySettings::default();
    let view = WorkerAccountView {
        closed: false,
        claims: claims(1_000_000_000, 1_000_000_000),
        expected_on_chain: AdjustedTokens(0),
        fee: NanoTon(10),
        message_pending: false,
        activity: Activity::QuietFor(0),
    };
    assert_eq!(
        pay_worker(&settings, &view),
        Ok(Some(AdjustedTokens(1_000_000_000)))
    );
    let cheap = WorkerAccountView {
        fee: NanoTon(9),
        ..view
    };
    assert_eq!(pay_worker(&settings, &cheap), Ok(None));
    let idle = WorkerAccountView {
        activity: Activity::QuietFor(3600),
        ..cheap
    };
    assert_eq!(
        pay_worker(&settings, &idle),
        Ok(Some(AdjustedTokens(1_000_000_000)))
    );
}

#[test]
fn commission_is_withdrawn_when_it_is_worth_it_and_covered() {
    let settings = ProxySettings::default();
    let ton = NanoTon::from_ton;
    let view = CommissionView {
        ready: ton(10),
        coins: ton(16),
        stake: ton(1),
        owed_to_clients: ton(5),
        message_pending: false,
    };
    assert!(withdraw_commission(&settings, &view));
    let small = CommissionView {
        ready: NanoTon(9_999_999_999),
        ..view
    };
    assert!(!withdraw_commission(&settings, &small));
    let pending = CommissionView {
        message_pending: true,
        ..view
    };
    assert!(!withdraw_commission(&settings, &pending));
    // A payout was booked whose tokens no client has been charged for: one nanoTON of the commission is a deposit.
    let uncharged = CommissionView {
        coins: NanoTon(15_999_999_999),
        ..view
    };
    assert!(!withdraw_commission(&settings, &uncharged));
    let absurd = CommissionView {
        owed_to_clients: NanoTon(u128::MAX),
        ..view
    };
    assert!(!withdraw_commission(&settings, &absurd));
}

#[test]
fn worker_thresholds_are_money() {
    let settings = WorkerSettings::default();
    let view = WorkerView {
        closed: false,
        outdated_for_s: None,
        request_outstanding: false,
        signed: AdjustedTokens(20_000_000),
        on_chain: AdjustedTokens(0),
        last_payout: AdjustedTokens(0),
        fee: NanoTon(10),
        quiet_for_s: 0,
    };
    let review = |view: &WorkerView| review_worker(&settings, view).unwrap();
    // 0.2 TON: enough when idle, not when busy.
    assert_eq!(review(&view), WorkerAction::None);
    let idle = WorkerView {
        quiet_for_s: 3600,
        ..view
    };
    assert_eq!(
        review(&idle),
        WorkerAction::Payout(AdjustedTokens(20_000_000))
    );
    assert_eq!(
        review(&WorkerView {
            last_payout: AdjustedTokens(1),
            ..idle
        }),
        WorkerAction::None
    );
    let outdated = WorkerView {
        outdated_for_s: Some(43_199),
        ..view
    };
    assert_eq!(review(&outdated), WorkerAction::None);
    let outdated = WorkerView {
        outdated_for_s: Some(43_200),
        ..view
    };
    assert_eq!(
        review(&outdated),
        WorkerAction::Payout(AdjustedTokens(20_000_000))
    );
    let empty = WorkerView {
        on_chain: AdjustedTokens(20_000_000),
        ..outdated
    };
    assert_eq!(review(&empty), WorkerAction::Forget);
    assert_eq!(
        review(&WorkerView {
            closed: true,
            ..view
        }),
        WorkerAction::Forget
    );
    assert_eq!(
        review(&WorkerView {
            fee: NanoTon(0),
            ..idle
        }),
        WorkerAction::None
    );
}
