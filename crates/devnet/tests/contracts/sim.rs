//! One life of a network: its parties, what they send, and the checks after every transaction.

use std::collections::BTreeMap;

use cocoon_devnet::config::Prices;
use cocoon_ton::abi::{
    ClientState, ContractStatus, ProxyState, RootState, StateInit, WalletState, WorkerState, op,
};
use cocoon_ton::{Address, Cell};
use ed25519_dalek::SigningKey;

use crate::books::Books;
use crate::checker::Checker;
use crate::codes::Codes;
use crate::exits::Tally;
use crate::model::State;
use crate::net::{Net, Terms, person};
use crate::rng::Rng;
use crate::world::{Send, TON, Tx, World};

/// A contract with its owner.
#[derive(Clone, Debug)]
pub struct Party {
    /// Who owns it.
    pub owner: Address,
    /// The contract.
    pub init: StateInit,
}

/// The network and everything known of it.
#[derive(Clone)]
pub struct Sim {
    /// Keys, params and addresses.
    pub net: Net,
    /// The chain.
    pub world: World,
    /// The model beside it.
    pub checker: Checker,
    /// What everybody is owed, counted from the transactions.
    pub books: Books,
    /// Client contracts.
    pub clients: Vec<Party>,
    /// Worker contracts.
    pub workers: Vec<Party>,
    /// Node wallets.
    pub wallets: Vec<Party>,
    /// Key of the wallets.
    pub hot_key: SigningKey,
    /// What was sent, to be sent again.
    pub history: Vec<Send>,
    /// External messages, to be sent again.
    pub externals: Vec<(Address, Cell)>,
    /// Signed messages and externals that did their work: sending them again must change nothing.
    pub spent: Vec<Spent>,
    /// How often which contract ended which operation with which exit code.
    pub seen: BTreeMap<(&'static str, String, i32), usize>,
    /// What the exits came to.
    pub exits: Tally,
    /// What happened, in words.
    pub trace: Vec<String>,
}

/// A message that had its effect.
#[derive(Clone, Debug)]
pub enum Spent {
    /// A signed one: anybody may send it.
    Signed(Send),
    /// For a wallet.
    External(Address, Cell),
}

/// People without contracts.
pub fn people() -> [Address; 4] {
    [person(0x31), person(0x32), masterchain(0x33), nowhere()]
}

fn masterchain(number: u8) -> Address {
    Address {
        workchain: -1,
        hash: [number; 32],
    }
}

/// An address in a workchain that does not exist: nothing can be sent there.
pub fn nowhere() -> Address {
    Address {
        workchain: 5,
        hash: [0x35; 32],
    }
}

impl Sim {
    /// A network whose terms and parties follow from the seed.
    pub fn new(codes: &Codes, rng: &mut Rng) -> Self {
        let price = *rng.pick(&[0, 1, 2, 20, 1_000, 1_000_000]);
        let terms = Terms {
            price,
            fee: rng.coins(price),
            proxy_delay: *rng.pick(&[1, 600, 86_400]),
            client_delay: *rng.pick(&[1, 300, 86_400]),
            min_proxy_stake: *rng.pick(&[1, TON]),
            min_client_stake: *rng.pick(&[1, TON, 3 * TON]),
        };
        let net = Net::new(codes, terms);
        let hot_key = SigningKey::from_bytes(&[0x77; 32]);
        let wallets: Vec<Party> = [person(0x41), net.proxy_owner]
            .into_iter()
            .map(|owner| Party {
                owner,
                init: net.wallet(&hot_key, owner),
            })
            .collect();
        let mut owners = vec![
            person(0x11),
            person(0x12),
            wallets[0].init.address,
            masterchain(0x13),
        ];
        if rng.percent(20) {
            owners.push(nowhere());
        }
        let clients: Vec<Party> = pick_some(rng, &owners, 3)
            .into_iter()
            .map(|owner| Party {
                owner,
                init: net.client(owner),
            })
            .collect();
        let owners = [person(0x21), person(0x22), masterchain(0x23), nowhere()];
        let workers: Vec<Party> = pick_some(rng, &owners, 2)
            .into_iter()
            .map(|owner| Party {
                owner,
                init: net.worker(owner),
            })
            .collect();
        let books = Books::new(&net, &clients, &workers);
        // Contracts live through price changes; gas was six times dearer before 2026.
        let prices = if rng.percent(25) {
            Prices::mainnet_before_2026()
        } else {
            Prices::mainnet()
        };
        let mut sim = Self {
            world: World::with_prices(prices),
            checker: Checker::default(),
            books,
            clients,
            workers,
            wallets,
            hot_key,
            history: Vec::new(),
            externals: Vec::new(),
            spent: Vec::new(),
            seen: BTreeMap::new(),
            exits: Tally::default(),
            trace: vec![format!("{terms:?}")],
            net,
        };
        sim.learn();
        sim.settle(rng);
        sim
    }

    fn learn(&mut self) {
        let know = |checker: &mut Checker, init: &StateInit, state: State| {
            checker.know(init, state).expect("initial data");
        };
        let checker = &mut self.checker;
        let root = RootState::decode(&self.net.root.data).unwrap();
        know(checker, &self.net.root, State::Root(Box::new(root)));
        let proxy = ProxyState::decode(&self.net.proxy.data).unwrap();
        know(checker, &self.net.proxy, State::Proxy(Box::new(proxy)));
        for party in &self.clients {
            let state = ClientState::decode(&party.init.data).unwrap();
            know(checker, &party.init, State::Client(Box::new(state)));
        }
        for party in &self.workers {
            let state = WorkerState::decode(&party.init.data).unwrap();
            know(checker, &party.init, State::Worker(Box::new(state)));
        }
        for party in &self.wallets {
            let state = WalletState::decode(&party.init.data).unwrap();
            know(checker, &party.init, State::Wallet(Box::new(state)));
        }
    }

    /// Puts most contracts on the chain; some are missing or poor.
    fn settle(&mut self, rng: &mut Rng) {
        self.world.install(&self.net.root, TON / 10);
        if rng.percent(88) {
            let coins = *rng.pick(&[TON / 100, TON / 3, 2 * TON, 60 * TON]);
            self.world.install(&self.net.proxy, coins);
        } else {
            self.trace.push("the proxy contract is missing".to_owned());
        }
        for party in &self.clients {
            if rng.percent(90) {
                let coins = *rng.pick(&[8 * TON / 10, TON / 5, TON / 100, 1]);
                self.world.install(&party.init, coins);
            }
        }
        for party in &self.workers {
            if rng.percent(95) {
                let coins = *rng.pick(&[3 * TON / 10, TON / 9, TON / 100, 1]);
                self.world.install(&party.init, coins);
            }
        }
        for party in &self.wallets {
            let coins = *rng.pick(&[50 * TON, 5 * TON, 2 * TON, TON]);
            self.world.install(&party.init, coins);
        }
    }

    /// All contracts of the network.
    pub fn contracts(&self) -> Vec<Address> {
        let parties = self
            .clients
            .iter()
            .chain(&self.workers)
            .chain(&self.wallets);
        let mut all: Vec<Address> = parties.map(|party| party.init.address).collect();
        all.push(self.net.proxy.address);
        all.push(self.net.root.address);
        all
    }

    /// The model's state of the proxy; none if the contract is missing.
    pub fn proxy(&self) -> Option<&ProxyState> {
        self.world.data(&self.net.proxy.address)?;
        match self.checker.state(&self.net.proxy.address) {
            Some(State::Proxy(state)) => Some(state),
            _ => None,
        }
    }

    /// The model's state of the root.
    pub fn root(&self) -> &RootState {
        match self.checker.state(&self.net.root.address) {
            Some(State::Root(state)) => state,
            other => panic!("{other:?}"),
        }
    }

    /// The model's state of a client.
    pub fn client(&self, address: &Address) -> &ClientState {
        match self.checker.state(address) {
            Some(State::Client(state)) => state,
            other => panic!("{other:?}"),
        }
    }

    /// The model's state of a worker.
    pub fn worker(&self, address: &Address) -> &WorkerState {
        match self.checker.state(address) {
            Some(State::Worker(state)) => state,
            other => panic!("{other:?}"),
        }
    }

    /// The model's state of a wallet.
    pub fn wallet(&self, address: &Address) -> &WalletState {
        match self.checker.state(address) {
            Some(State::Wallet(state)) => state,
            other => panic!("{other:?}"),
        }
    }

    /// Delivers one message, checked. False if there was none.
    pub fn step(&mut self, pick: usize) -> Result<bool, String> {
        let Some(tx) = self.world.step(pick) else {
            return Ok(false);
        };
        let tx = tx.clone();
        self.look_at(&tx)?;
        Ok(true)
    }

    fn look_at(&mut self, tx: &Tx) -> Result<(), String> {
        self.trace.push(self.tell(tx));
        self.checker.check(tx).map_err(|e| {
            let name = self.name(&tx.account);
            format!("{name}: {e}")
        })?;
        self.books.note(tx)?;
        if let (Some(kind), Some(exit)) = (self.kind(&tx.account), tx.exit_code) {
            let op = if tx.message.src.is_none() {
                "external".to_owned()
            } else if tx.message.bounced {
                "bounce".to_owned()
            } else {
                op_name(&tx.message.body)
            };
            *self.seen.entry((kind, op, exit)).or_default() += 1;
        }
        Ok(())
    }

    /// Delivers everything, then looks at the sums.
    pub fn run(&mut self) -> Result<(), String> {
        while self.step(0)? {}
        self.world.check_conserved()?;
        self.books.balance(&self.world)
    }

    /// Puts a message on its way and remembers it.
    pub fn push(&mut self, send: Send) {
        self.trace.push(format!(
            "{} -> {}: {} with {} nanoTON{}{}",
            self.name(&send.from),
            self.name(&send.to),
            op_name(&send.body),
            send.value,
            if send.bounce { "" } else { ", no bounce" },
            if send.bounced { ", as if bounced" } else { "" },
        ));
        self.history.push(send.clone());
        self.world.push(send);
    }

    /// Sends a message and runs until all is quiet.
    pub fn send(&mut self, send: Send) -> Result<(), String> {
        self.push(send);
        self.run()
    }

    /// Sends an external message.
    pub fn external(&mut self, to: Address, body: Cell) -> Result<bool, String> {
        self.trace.push(format!("external -> {}", self.name(&to)));
        self.externals.push((to, body.clone()));
        let before = self.world.account(&to);
        match self.world.external(to, None, body.clone()) {
            Ok(tx) => {
                let tx = tx.clone();
                self.look_at(&tx)?;
                Ok(true)
            }
            Err(exit) => {
                self.trace.push(format!("  not accepted: {exit:?}"));
                if let Some(exit) = exit {
                    let key = ("wallet", "external".to_owned(), exit);
                    *self.seen.entry(key).or_default() += 1;
                }
                let now = self.world.now();
                self.checker.check_refused(&to, &before, now, &body, exit)?;
                Ok(false)
            }
        }
    }

    /// Which of the five contracts this is.
    fn kind(&self, address: &Address) -> Option<&'static str> {
        Some(match self.checker.state(address)? {
            State::Root(_) => "root",
            State::Proxy(_) => "proxy",
            State::Client(_) => "client",
            State::Worker(_) => "worker",
            State::Wallet(_) => "wallet",
        })
    }

    /// A name for traces.
    pub fn name(&self, address: &Address) -> String {
        let place = |parties: &[Party]| parties.iter().position(|p| p.init.address == *address);
        if *address == self.net.proxy.address {
            return "proxy".to_owned();
        }
        if *address == self.net.root.address {
            return "root".to_owned();
        }
        for (kind, parties) in [
            ("client", &self.clients),
            ("worker", &self.workers),
            ("wallet", &self.wallets),
        ] {
            if let Some(index) = place(parties) {
                return format!("{kind} {index}");
            }
        }
        let owner = |parties: &[Party]| parties.iter().position(|p| p.owner == *address);
        if let Some(index) = owner(&self.clients) {
            return format!("owner of client {index}");
        }
        if let Some(index) = owner(&self.workers) {
            return format!("owner of worker {index}");
        }
        if *address == self.net.proxy_owner {
            return "owner of proxy".to_owned();
        }
        format!("{}:{:02x}..", address.workchain, address.hash[0])
    }

    fn tell(&self, tx: &Tx) -> String {
        let result = match (tx.exit_code, tx.action_result) {
            (Some(0), Some(0)) => "ok".to_owned(),
            (None, _) => format!("{:?}", tx.skipped),
            (Some(exit), action) => format!("exit {exit}, action {action:?}"),
        };
        let out: Vec<String> = tx
            .out
            .iter()
            .map(|m| {
                let to = m.dst.map_or_else(String::new, |to| self.name(&to));
                let kind = if m.bounced {
                    "bounce"
                } else {
                    &op_name(&m.body)
                };
                format!("{kind} {} to {to}", m.value)
            })
            .collect();
        format!(
            "  {}{} {} at {}: {result}, {} nanoTON left [{}]",
            if tx.message.bounced { "bounced " } else { "" },
            op_name(&tx.message.body),
            tx.message.value,
            self.name(&tx.account),
            tx.after.balance,
            out.join(", ")
        )
    }

    /// Whether the proxy contract is there and not closed.
    pub fn proxy_works(&self) -> bool {
        self.proxy()
            .is_some_and(|proxy| proxy.status != ContractStatus::Closed)
    }
}

fn op_name(body: &Cell) -> String {
    match crate::world::op(body) {
        None => "nothing".to_owned(),
        Some(crate::model::SWEEP) => "SWEEP".to_owned(),
        Some(code) => op::name(code).map_or_else(|| format!("{code:08x}"), str::to_owned),
    }
}

fn pick_some(rng: &mut Rng, from: &[Address], most: u64) -> Vec<Address> {
    let mut rest = from.to_vec();
    let count = 1 + rng.below(most);
    let mut picked = Vec::new();
    for _ in 0..count {
        let index = rng.below(rest.len() as u64) as usize;
        picked.push(rest.swap_remove(index));
    }
    picked
}
