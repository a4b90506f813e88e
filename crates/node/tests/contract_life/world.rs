//! A proxy with its disk, and the money rules of contracts.md 7 to 9 as far as its end of life needs them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cocoon_node::ChainMode;
use cocoon_node::proxy::{ProxyConfig, ProxyCore, ProxyEffect, ProxyEvent, ProxySettings};
use cocoon_node::root::RootView;
use cocoon_ton::abi::{
    ClientLedger, ClientMessage, ClientRequestPayload, ContractStatus, Params, ProxyMessage,
    ProxyState, SignedOp, WorkerMessage,
};
use cocoon_ton::{AccountState, AccountStatus, Address, Cell, MsgInfo, TxInfo};
use ed25519_dalek::SigningKey;

pub const TON: u128 = 1_000_000_000;
pub const DEPOSIT: u128 = 5 * TON;
pub const REVENUE: u128 = TON;
pub const DELAY: u32 = 600;
pub const USED: u64 = 100;

pub fn address(n: u8) -> Address {
    Address::basechain([n; 32])
}

pub fn root(params_version: u32) -> RootView {
    RootView {
        address: address(1),
        version: params_version,
        params: Params {
            struct_version: 3,
            params_version,
            unique_id: 17,
            is_test: true,
            price_per_token: 20,
            worker_fee_per_token: 19,
            prompt_multiplier: 10_000,
            cached_multiplier: 10_000,
            completion_multiplier: 10_000,
            reasoning_multiplier: 10_000,
            proxy_delay: DELAY,
            client_delay: 300,
            min_proxy_stake: TON,
            min_client_stake: TON,
            proxy_code: Some(Cell::default()),
            worker_code: Some(Cell::default()),
            client_code: Some(Cell::default()),
        },
        proxy_hashes: BTreeSet::new(),
        worker_hashes: BTreeSet::new(),
        model_hashes: BTreeSet::new(),
        proxies: Vec::new(),
        last_proxy_seqno: 0,
        owner: None,
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn config(session: u8) -> ProxyConfig {
    ProxyConfig {
        key: key(),
        owner: address(2),
        wallet: address(3),
        contracts: ChainMode::Live,
        is_test: true,
        testnet: true,
        check_hashes: false,
        entropy: [session; 32],
        settings: ProxySettings::default(),
    }
}

/// What a client's contract holds.
#[derive(Clone, Copy)]
pub struct Client {
    status: ContractStatus,
    balance: u128,
    used: u64,
}

/// A proxy, its disk and its chain. Messages wait in a queue, and each is one step.
pub struct World {
    pub core: ProxyCore,
    pub disk: BTreeMap<String, Vec<u8>>,
    pub now: u64,
    pub root: RootView,
    pub proxies: BTreeMap<Address, (ProxyState, u64)>,
    txs: BTreeMap<Address, Vec<TxInfo>>,
    /// By proxy contract and owner.
    clients: BTreeMap<(Address, Address), Client>,
    /// Paid tokens, and whether it is closed.
    workers: BTreeMap<(Address, Address), (u64, bool)>,
    pub queue: VecDeque<(u64, Address, Option<Cell>, Option<Cell>)>,
    lt: u64,
    session: u8,
    /// What happened on chain.
    pub log: Vec<String>,
    pub alarms: Vec<String>,
    pub wallet: u128,
}

impl World {
    pub fn new() -> Self {
        let (client, worker) = (address(9), address(8));
        let mut disk = BTreeMap::new();
        let record = serde_json::json!({"status": 0, "balance": DEPOSIT, "stake": TON, "sc_used": 40, "used": USED, "secret_hash": ""});
        disk.insert(format!("client_{client}"), record.to_string().into_bytes());
        let record = serde_json::json!({"sc_tokens": 40, "tokens": USED});
        disk.insert(format!("worker_{worker}"), record.to_string().into_bytes());
        let core = ProxyCore::new(config(1), root(1), records(&disk), 1_000_000).unwrap();
        let sc = core.contract();
        let mut world = World {
            core,
            disk,
            now: 1_000_000,
            root: root(1),
            proxies: BTreeMap::new(),
            txs: BTreeMap::new(),
            clients: BTreeMap::from([(
                (sc, client),
                Client {
                    status: ContractStatus::Normal,
                    balance: DEPOSIT,
                    used: 40,
                },
            )]),
            workers: BTreeMap::from([((sc, worker), (40, false))]),
            queue: VecDeque::new(),
            lt: 10,
            session: 1,
            log: Vec::new(),
            alarms: Vec::new(),
            wallet: 1000 * TON,
        };
        world.deploy(sc);
        if let Some((state, _)) = world.proxies.get_mut(&sc) {
            (state.stake, state.balance) = (2 * TON, REVENUE);
        }
        let fx = world.core.take_effects();
        world.apply(fx);
        world.tell();
        world
    }

    /// kill -9, and a new process with what is on disk. Messages that are with the network stay there.
    pub fn restart(&mut self) {
        self.session += 1;
        let (root, records) = (self.root.clone(), records(&self.disk));
        self.core = ProxyCore::new(config(self.session), root, records, self.now).unwrap();
        let fx = self.core.take_effects();
        self.apply(fx);
        self.tell();
    }

    fn deploy(&mut self, sc: Address) {
        let init = [1, 2, 3].map(|v| {
            root(v)
                .proxy_contract(address(2), key().verifying_key().to_bytes())
                .unwrap()
        });
        let init = init.iter().find(|i| i.address == sc).unwrap();
        let state = ProxyState::decode(&init.data).unwrap();
        self.proxies.entry(sc).or_insert((state, 0));
    }

    pub fn handle(&mut self, event: ProxyEvent) {
        let fx = self.core.handle(self.now, event);
        self.apply(fx);
    }

    fn apply(&mut self, fx: Vec<ProxyEffect>) {
        for effect in fx {
            match effect {
                ProxyEffect::Save { number, batch } => {
                    for (name, value) in batch {
                        match value {
                            Some(value) => self.disk.insert(name, value),
                            None => self.disk.remove(&name),
                        };
                    }
                    self.handle(ProxyEvent::Saved(number));
                }
                ProxyEffect::Transact {
                    ticket,
                    to,
                    init,
                    body,
                    ..
                } => {
                    self.queue.push_back((ticket, to, init, body));
                }
                ProxyEffect::Halt(reason) => panic!("halted: {reason}"),
                ProxyEffect::Alarm(text) => self.alarms.push(text),
                _ => {}
            }
        }
    }

    /// Everything the watchers would report.
    pub fn tell(&mut self) {
        self.handle(ProxyEvent::Wallet(self.wallet));
        self.handle(ProxyEvent::ChainTime(
            u32::try_from(self.now / 1000).unwrap(),
        ));
        for (_, txs) in self.txs.clone() {
            self.handle(ProxyEvent::Transactions(txs));
        }
        let current = root(self.root.params.params_version);
        let next = current
            .proxy_contract(address(2), key().verifying_key().to_bytes())
            .unwrap()
            .address;
        let known: BTreeSet<Address> = self.proxies.keys().copied().chain([next]).collect();
        for contract in known {
            let state = Box::new(match self.proxies.get(&contract) {
                None => AccountState::NONEXISTENT,
                Some((state, last_lt)) => AccountState {
                    status: AccountStatus::Active,
                    balance: 100 * TON,
                    data: Some(state.encode().unwrap()),
                    last_lt: *last_lt,
                    ..AccountState::NONEXISTENT
                },
            });
            self.handle(ProxyEvent::OtherContract { contract, state });
        }
        self.now += 1000;
        self.handle(ProxyEvent::Tick);
    }

    /// One message of the wallet is carried out; false if there is none.
    pub fn step(&mut self) -> bool {
        let Some((ticket, to, init, body)) = self.queue.pop_front() else {
            return false;
        };
        if init.is_some() && body.is_none() {
            self.deploy(to);
            self.log.push("deploy".into());
        } else if self.proxies.contains_key(&to) {
            self.proxy_message(to, &body.unwrap());
        } else {
            self.account_message(to, &body.unwrap());
        }
        self.handle(ProxyEvent::Transacted { ticket, ok: true });
        self.tell();
        true
    }

    pub fn transaction(&mut self, sc: Address, src: Address, message: &ProxyMessage, ok: bool) {
        self.lt += 10;
        let txs = self.txs.entry(sc).or_default();
        let prev_lt = txs.last().map_or(0, |t| t.lt);
        txs.push(TxInfo {
            account: sc,
            lt: self.lt,
            hash: [0; 32],
            prev_lt,
            prev_hash: [0; 32],
            utime: 0,
            total_fees: 0,
            aborted: !ok,
            compute_exit_code: Some(if ok { 0 } else { 1006 }),
            action_result_code: None,
            in_msg: Some(MsgInfo {
                src: Some(src),
                dst: Some(sc),
                value: 1,
                bounce: true,
                bounced: false,
                body: message.encode().unwrap(),
                fwd_fee: 0,
                ihr_fee: 0,
                created_lt: self.lt,
                hash: [0; 32],
                init: false,
            }),
            out_msgs: Vec::new(),
            boc: Cell::default(),
        });
        self.proxies.get_mut(&sc).unwrap().1 = self.lt;
    }

    fn proxy_message(&mut self, sc: Address, body: &Cell) {
        let message = ProxyMessage::decode(body).unwrap();
        let now = u32::try_from(self.now / 1000).unwrap();
        let (state, _) = self.proxies.get_mut(&sc).unwrap();
        let ok = match &message {
            ProxyMessage::IncreaseStake { coins, .. } => {
                state.stake += coins;
                self.log.push("stake".into());
                true
            }
            ProxyMessage::PayRevenue { .. } => {
                self.log.push(format!("revenue {}", state.balance));
                state.balance = 0;
                true
            }
            ProxyMessage::Signed(e) if e.payload.op == SignedOp::ProxyClose => {
                assert!(e.verify(&key().verifying_key().to_bytes()).is_ok());
                let ok = state.status == ContractStatus::Normal;
                if ok {
                    state.status = ContractStatus::Closing;
                    state.unlock_time = now + DELAY;
                    self.log.push("close".into());
                }
                ok
            }
            ProxyMessage::Signed(e) => {
                assert_eq!(e.payload.op, SignedOp::ProxyCloseComplete);
                let ok = state.status == ContractStatus::Closing;
                if ok {
                    assert!(now >= state.unlock_time, "completed before its time");
                    state.status = ContractStatus::Closed;
                    self.log.push("complete".into());
                }
                ok
            }
            _ => true,
        };
        self.transaction(sc, address(3), &message, ok);
    }

    /// A message to a client or worker contract, which tells its proxy contract.
    fn account_message(&mut self, to: Address, body: &Cell) {
        let key = key().verifying_key().to_bytes();
        let view = |sc: &Address| {
            [root(1), root(2), root(3)]
                .into_iter()
                .find(|r| r.proxy_contract(address(2), key).unwrap().address == *sc)
                .unwrap()
        };
        let client = self
            .clients
            .keys()
            .copied()
            .find(|(sc, o)| view(sc).client_contract(*sc, key, *o).unwrap().address == to);
        if let Some((sc, owner)) = client {
            let ClientMessage::Signed(e) = ClientMessage::decode(body).unwrap() else {
                panic!("a client contract gets signed messages only");
            };
            let c = self.clients.get_mut(&(sc, owner)).unwrap();
            if c.status == ContractStatus::Closed {
                return;
            }
            assert_eq!(e.payload.op, SignedOp::ClientGrantRefund);
            let cost = u128::from(e.payload.tokens - c.used) * 20;
            let refund = c.balance - cost;
            *c = Client {
                status: ContractStatus::Closed,
                balance: 0,
                used: e.payload.tokens,
            };
            self.log
                .push(format!("refund {refund} at {}", e.payload.tokens));
            self.client_notice(sc, owner, None);
            return;
        }
        let worker = self
            .workers
            .keys()
            .copied()
            .find(|(sc, o)| view(sc).worker_contract(*sc, key, *o).unwrap().address == to);
        let (sc, owner) = worker.expect("a message to a contract of ours");
        let WorkerMessage::Signed(e) = WorkerMessage::decode(body).unwrap() else {
            panic!("a worker contract gets signed messages only");
        };
        let w = self.workers.get_mut(&(sc, owner)).unwrap();
        if w.1 {
            return;
        }
        assert_eq!(e.payload.op, SignedOp::WorkerLastPayout);
        self.log.push(format!("payout {}", e.payload.tokens - w.0));
        *w = (e.payload.tokens, true);
        let notice = ProxyMessage::WorkerRequest {
            query_id: 1,
            owner,
            status: ContractStatus::Closed,
            tokens: e.payload.tokens,
            payload: None,
        };
        self.transaction(sc, to, &notice, true);
    }

    fn client_notice(
        &mut self,
        sc: Address,
        owner: Address,
        payload: Option<ClientRequestPayload>,
    ) {
        let key = key().verifying_key().to_bytes();
        let version = self.proxies[&sc].0.params.params_version;
        let src = root(version)
            .client_contract(sc, key, owner)
            .unwrap()
            .address;
        let c = self.clients[&(sc, owner)];
        let notice = ProxyMessage::ClientRequest {
            query_id: 1,
            owner,
            ledger: ClientLedger {
                status: c.status,
                balance: c.balance,
                stake: TON,
                tokens_used: c.used,
                secret_hash: [0; 32],
            },
            payload,
        };
        self.transaction(sc, src, &notice, true);
    }

    /// A client pays into a contract.
    pub fn top_up(&mut self, sc: Address, owner: Address, coins: u128) {
        let fresh = Client {
            status: ContractStatus::Normal,
            balance: 0,
            used: 0,
        };
        self.clients.entry((sc, owner)).or_insert(fresh).balance += coins;
        let payload = ClientRequestPayload::TopUp {
            coins,
            excess_to: owner,
        };
        self.client_notice(sc, owner, Some(payload));
        self.tell();
    }

    pub fn move_root(&mut self, version: u32) {
        self.root = root(version);
        self.handle(ProxyEvent::Root(Box::new(self.root.clone())));
        self.tell();
    }

    /// Lets everything happen that can; what waits for time gets it.
    pub fn settle(&mut self) {
        for _ in 0..400 {
            if !self.step() {
                self.tell();
            }
            if self.queue.is_empty() {
                self.now += 60_000;
            }
        }
    }

    pub fn count(&self, what: &str) -> usize {
        self.log.iter().filter(|l| l.starts_with(what)).count()
    }

    pub fn place(&self, what: &str) -> usize {
        let at = self.log.iter().position(|l| l.starts_with(what));
        at.unwrap_or_else(|| panic!("no {what} in {:?}", self.log))
    }
}

fn records(disk: &BTreeMap<String, Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    disk.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}
