//! The client's core asks before money goes in, and before a refund is forced.

use cocoon_ton::abi::{ClientState, ContractStatus, Params, client_init, params};
use cocoon_ton::{AccountState, AccountStatus, Cell};

use super::*;
use crate::client::{ClientConfig, ClientEvent, ClientSettings};
use crate::root::RootView;

const PLAN: Plan = Plan::TopUp { coins: 5 };

#[test]
fn a_plan_passes_once_and_only_as_it_was_judged() {
    let mut check = ExitCheck::default();
    assert_eq!(check.gate(PLAN, 1, 0), Gate::Ask);
    check.asked = Some((7, PLAN));
    assert_eq!(check.gate(PLAN, 1, 0), Gate::Wait);
    let judged = ExitCheck {
        safe: Some((PLAN, 1)),
        ..ExitCheck::default()
    };
    let mut check = judged.clone();
    assert_eq!(check.gate(PLAN, 1, 0), Gate::Go);
    assert_eq!(check.gate(PLAN, 1, 0), Gate::Ask, "only once");
    // The contract changed since, or it is another plan.
    assert_eq!(judged.clone().gate(PLAN, 2, 0), Gate::Ask);
    assert_eq!(judged.clone().gate(Plan::Force, 1, 0), Gate::Ask);
    assert_eq!(
        judged.clone().gate(Plan::TopUp { coins: 6 }, 1, 0),
        Gate::Ask
    );
}

#[test]
fn a_refusal_holds_for_a_while() {
    let mut check = ExitCheck {
        refused: Some(("no stake".to_owned(), 100)),
        ..ExitCheck::default()
    };
    assert_eq!(check.gate(PLAN, 1, 99), Gate::Wait);
    assert_eq!(check.refusal(), Some("no stake"));
    assert_eq!(check.gate(PLAN, 1, 100), Gate::Ask);
    let mut check = ExitCheck {
        unknown_until: 100,
        ..ExitCheck::default()
    };
    assert_eq!(check.gate(PLAN, 1, 99), Gate::Wait);
    assert_eq!(check.gate(PLAN, 1, 100), Gate::Ask);
}

#[test]
fn a_connected_proxy_gets_its_time() {
    let unlocked = 1000;
    assert!(left_to_proxy(true, unlocked, 1_001_000));
    assert!(!left_to_proxy(false, unlocked, 1_001_000));
    let late = (unlocked + GRANT_PATIENCE_S) * 1000;
    assert!(left_to_proxy(true, unlocked, late - 1));
    assert!(!left_to_proxy(true, unlocked, late));
}

const TON: u128 = 1_000_000_000;
const KEY: [u8; 32] = [4; 32];
/// Some moment, in milliseconds.
const NOW: u64 = 1_790_000_000_000;

fn proxy_sc() -> Address {
    Address::basechain([2; 32])
}

fn root() -> RootView {
    RootView {
        owner: None,
        last_proxy_seqno: 1,
        address: Address::basechain([1; 32]),
        version: 1,
        params: Params {
            struct_version: params::STRUCT_VERSION,
            params_version: 1,
            unique_id: 7,
            is_test: true,
            price_per_token: 1000,
            worker_fee_per_token: 900,
            prompt_multiplier: 10_000,
            cached_multiplier: 10_000,
            completion_multiplier: 10_000,
            reasoning_multiplier: 10_000,
            proxy_delay: 600,
            client_delay: 300,
            min_proxy_stake: TON,
            min_client_stake: 20 * TON,
            proxy_code: Some(Cell::default()),
            worker_code: Some(Cell::default()),
            client_code: Some(Cell::default()),
        },
        proxy_hashes: BTreeSet::new(),
        worker_hashes: BTreeSet::new(),
        model_hashes: BTreeSet::new(),
        proxies: Vec::new(),
    }
}

/// A client that knows one proxy from its store, and is not connected to it.
struct Bed {
    core: ClientCore,
    contract: Address,
    lt: u64,
}

impl Bed {
    fn new(accept_exit_risk: bool) -> Self {
        let wallet = Address::basechain([3; 32]);
        let contract = client_init(&root().params, proxy_sc(), KEY, wallet)
            .unwrap()
            .address;
        let record = serde_json::json!({
            "public_key": hex::encode(KEY),
            "owner": Address::basechain([5; 32]).to_string(),
            "client_sc": contract.to_string(),
            "params_version": 1,
            "claims": cocoon_ledger::Claims::default(),
            "payment": null,
        });
        let records = vec![(
            format!("proxy_{}", proxy_sc()),
            serde_json::to_vec(&record).unwrap(),
        )];
        let cfg = ClientConfig {
            wallet,
            secret: b"a secret of some length".to_vec(),
            contracts: crate::ChainMode::Live,
            is_test: true,
            testnet: true,
            check_hashes: false,
            entropy: [1; 32],
            settings: ClientSettings {
                accept_exit_risk,
                ..ClientSettings::default()
            },
        };
        let core = ClientCore::new(cfg, root(), records, NOW).unwrap();
        Self {
            core,
            contract,
            lt: 10,
        }
    }

    /// The contract is seen; what the client wants then.
    fn sees(&mut self, status: ContractStatus, balance: u128) -> Vec<ClientEffect> {
        self.lt += 1;
        let state = ClientState {
            owner: self.core.cfg.wallet,
            proxy: proxy_sc(),
            public_key: KEY,
            status,
            balance,
            stake: 20 * TON,
            tokens_used: 0,
            // Over since an hour ago.
            unlock_time: (NOW / 1000 - 3600) as u32,
            secret_hash: crate::payment::secret_hash(&self.core.cfg.secret),
            params: root().params.bare_form(),
        };
        let state = AccountState {
            status: AccountStatus::Active,
            balance: TON,
            data: Some(state.encode().unwrap()),
            last_lt: self.lt,
            ..AccountState::NONEXISTENT
        };
        let event = ClientEvent::Contract {
            proxy_sc: proxy_sc(),
            state: Box::new(state),
        };
        self.core.handle(NOW, event)
    }

    fn judged(&mut self, ticket: u64, judgement: Judgement) -> Vec<ClientEffect> {
        self.core
            .handle(NOW, ClientEvent::Judged { ticket, judgement })
    }

    fn tick(&mut self, after_ms: u64) -> Vec<ClientEffect> {
        self.core.handle(NOW + after_ms, ClientEvent::Tick)
    }
}

fn asks(effects: &[ClientEffect]) -> Vec<(u64, Address, Plan)> {
    let ask = |effect: &ClientEffect| match effect {
        ClientEffect::Judge {
            ticket,
            contract,
            plan,
        } => Some((*ticket, *contract, *plan)),
        _ => None,
    };
    effects.iter().filter_map(ask).collect()
}

fn sent(effects: &[ClientEffect]) -> Vec<u128> {
    let value = |effect: &ClientEffect| match effect {
        ClientEffect::Transact { value, .. } => Some(*value),
        _ => None,
    };
    effects.iter().filter_map(value).collect()
}

fn alarms(effects: &[ClientEffect]) -> Vec<&str> {
    let mut texts = Vec::new();
    for effect in effects {
        if let ClientEffect::Alarm(text) = effect {
            texts.push(text.as_str());
        }
    }
    texts
}

#[test]
fn a_deposit_is_judged_before_it_is_sent() {
    let mut bed = Bed::new(false);
    let effects = bed.sees(ContractStatus::Normal, 0);
    assert!(sent(&effects).is_empty());
    let plan = Plan::TopUp { coins: 20 * TON };
    let (ticket, contract, asked) = asks(&effects)[0];
    assert_eq!((contract, asked), (bed.contract, plan));
    // It is asked once, and a stranger's ticket answers nothing.
    assert!(asks(&bed.tick(10)).is_empty());
    assert!(sent(&bed.judged(ticket + 1, Judgement::Safe)).is_empty());
    let effects = bed.judged(ticket, Judgement::Safe);
    assert_eq!(sent(&effects), [20 * TON + 7 * TON / 10]);
    assert_eq!(bed.core.deposit_refused(), None);
}

#[test]
fn a_refused_deposit_is_not_sent_and_judged_again_later() {
    let mut bed = Bed::new(false);
    let (ticket, _, _) = asks(&bed.sees(ContractStatus::Normal, 0))[0];
    let reason = "the proxy's stake is 0 TON".to_owned();
    let effects = bed.judged(ticket, Judgement::Refused(reason.clone()));
    assert!(sent(&effects).is_empty() && asks(&effects).is_empty());
    let text = alarms(&effects)[0];
    assert!(
        text.contains(&reason) && text.contains("accept_exit_risk"),
        "{text}"
    );
    assert_eq!(bed.core.deposit_refused(), Some(reason.as_str()));
    assert!(bed.core.stats()["deposit_refused"] == reason.as_str());
    assert!(asks(&bed.tick(REFUSED_MS - 1)).is_empty());
    let (ticket, _, _) = asks(&bed.tick(REFUSED_MS))[0];
    // The same refusal is said once; with a stake that covers it, the deposit goes.
    assert!(alarms(&bed.judged(ticket, Judgement::Refused(reason))).is_empty());
    let (ticket, _, _) = asks(&bed.tick(3 * REFUSED_MS))[0];
    assert_eq!(sent(&bed.judged(ticket, Judgement::Safe)).len(), 1);
    assert_eq!(bed.core.deposit_refused(), None);
}

#[test]
fn nothing_is_sent_while_nothing_is_known() {
    let mut bed = Bed::new(false);
    let (ticket, _, _) = asks(&bed.sees(ContractStatus::Normal, 0))[0];
    let effects = bed.judged(ticket, Judgement::Unknown("no answer".to_owned()));
    assert!(sent(&effects).is_empty() && alarms(&effects).len() == 1);
    let (ticket, _, _) = asks(&bed.tick(UNKNOWN_MS))[0];
    let effects = bed.judged(ticket, Judgement::Unknown("no answer".to_owned()));
    assert!(sent(&effects).is_empty() && alarms(&effects).is_empty());
}

#[test]
fn whoever_accepts_the_risk_is_not_asked() {
    let mut bed = Bed::new(true);
    let effects = bed.sees(ContractStatus::Normal, 0);
    assert!(asks(&effects).is_empty());
    assert_eq!(sent(&effects).len(), 1);
}

/// Nobody asked for it, so a refund is forced only where that loses nothing, accepted risk or not.
#[test]
fn force_is_judged_as_well() {
    for accept in [false, true] {
        let mut bed = Bed::new(accept);
        let effects = bed.sees(ContractStatus::Closing, 20 * TON);
        let (ticket, _, plan) = asks(&effects)[0];
        assert_eq!(plan, Plan::Force);
        assert!(sent(&effects).is_empty());
        let effects = bed.judged(ticket, Judgement::Refused("the stake is gone".to_owned()));
        assert!(sent(&effects).is_empty());
        assert!(alarms(&effects)[0].contains("is not forced"));
        let (ticket, _, _) = asks(&bed.tick(REFUSED_MS))[0];
        assert_eq!(sent(&bed.judged(ticket, Judgement::Safe)), [7 * TON / 10]);
    }
}

/// The proxy's contract is seen; what the client wants then.
fn proxy_seen(bed: &mut Bed, status: Option<ContractStatus>) -> Vec<ClientEffect> {
    let data = status.map(|status| {
        let state = cocoon_ton::abi::ProxyState {
            owner: Address::basechain([8; 32]),
            public_key: KEY,
            root: root().address,
            status,
            balance: 0,
            stake: 40 * TON,
            unlock_time: 0,
            params: root().params.proxy_form(),
        };
        state.encode().unwrap()
    });
    let state = AccountState {
        status: data
            .as_ref()
            .map_or(AccountStatus::Nonexistent, |_| AccountStatus::Active),
        data,
        ..AccountState::NONEXISTENT
    };
    let event = ClientEvent::ProxyContract {
        proxy_sc: proxy_sc(),
        state: Box::new(state),
    };
    bed.core.handle(NOW, event)
}

/// At the end of a close everything in the proxy contract is its owner's (W7), so the client does not wait for it.
#[test]
fn a_client_leaves_a_proxy_that_is_closing() {
    let mut bed = Bed::new(true);
    assert!(sent(&bed.sees(ContractStatus::Normal, 20 * TON)).is_empty());
    assert!(sent(&proxy_seen(&mut bed, Some(ContractStatus::Normal))).is_empty());
    let effects = proxy_seen(&mut bed, Some(ContractStatus::Closing));
    let body = effects.iter().find_map(|effect| match effect {
        ClientEffect::Transact { body, .. } => body.clone(),
        _ => None,
    });
    let message = cocoon_ton::abi::message::ClientMessage::decode(&body.unwrap()).unwrap();
    assert!(
        matches!(
            message,
            cocoon_ton::abi::message::ClientMessage::RequestRefund { .. }
        ),
        "{message:?}"
    );
    assert!(alarms(&effects)[0].contains("is closing"));
}

/// Without a proxy contract a deposit comes back, again and again, at the price of its fees (W8).
#[test]
fn nothing_is_paid_to_a_proxy_that_is_not_there() {
    let mut bed = Bed::new(true);
    proxy_seen(&mut bed, None);
    assert!(sent(&bed.sees(ContractStatus::Normal, 0)).is_empty());
    let effects = proxy_seen(&mut bed, Some(ContractStatus::Normal));
    assert_eq!(sent(&effects), [20 * TON + 7 * TON / 10]);
}
