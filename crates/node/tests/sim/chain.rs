//! A model of the chain: accounts, coins and the money rules of contracts.md 7–9, with real cells and signatures.

use std::collections::BTreeMap;

use cocoon_node::root::RootView;
use cocoon_ton::abi::{
    ClientLedger, ClientMessage, ClientRequestPayload, ClientState, ContractStatus, Envelope,
    OwnerMessage, ProxyMessage, ProxyState, SignedOp, SignedPayload, StateInit, WorkerMessage,
    WorkerRequestPayload, WorkerState,
};
use cocoon_ton::{AccountState, AccountStatus, Address, Cell, MsgInfo, TxInfo};

/// Burned by every transaction that carries coins.
const FEE: u128 = 3_000_000;
/// Least value of a message that wants something (contracts.md 8.4).
const MIN_VALUE: u128 = 100_000_000;

/// What lives at an address.
pub enum Kind {
    /// Nothing yet.
    Absent,
    /// A wallet or a person.
    Plain,
    Proxy(ProxyState),
    Client(ClientState),
    Worker(WorkerState),
}

/// One account.
pub struct Account {
    pub balance: u128,
    pub kind: Kind,
    pub last_lt: u64,
    pub txs: Vec<TxInfo>,
}

/// An internal message.
pub struct Msg {
    pub src: Address,
    pub dst: Address,
    pub value: u128,
    pub bounce: bool,
    pub bounced: bool,
    pub init: Option<Cell>,
    pub body: Option<Cell>,
}

/// All accounts, and every coin.
pub struct Chain {
    pub accounts: BTreeMap<Address, Account>,
    pub root: RootView,
    lt: u64,
    in_flight: u128,
    burned: u128,
    genesis: u128,
    /// Laws of money that were broken.
    pub broken: Vec<String>,
    /// Signed totals that contracts accepted, for figures.
    pub settlements: u64,
    pub top_ups: u64,
    pub withdrawals: u64,
    pub commits: u64,
}

fn plain(src: Address, dst: Address, value: u128, body: Option<Cell>) -> Msg {
    let (bounce, bounced, init) = (false, false, None);
    Msg {
        src,
        dst,
        value,
        bounce,
        bounced,
        init,
        body,
    }
}

impl Chain {
    pub fn new(root: RootView) -> Self {
        Chain {
            accounts: BTreeMap::new(),
            root,
            lt: 1000,
            in_flight: 0,
            burned: 0,
            genesis: 0,
            broken: Vec::new(),
            settlements: 0,
            top_ups: 0,
            withdrawals: 0,
            commits: 0,
        }
    }

    pub fn found(&mut self, address: Address, balance: u128, kind: Kind) {
        self.genesis += balance;
        let (last_lt, txs) = (1, Vec::new());
        let account = Account {
            balance,
            kind,
            last_lt,
            txs,
        };
        self.accounts.insert(address, account);
    }

    /// Coins before equal coins after plus fees.
    pub fn check_coins(&self) -> Result<(), String> {
        let held: u128 = self.accounts.values().map(|a| a.balance).sum();
        let now = held + self.in_flight + self.burned;
        if now == self.genesis {
            return Ok(());
        }
        Err(format!(
            "coins: {held} held + {} on their way + {} burned are not the {} of the genesis",
            self.in_flight, self.burned, self.genesis
        ))
    }

    /// Tokens a client contract was charged for.
    pub fn charged(&self, contract: Address) -> u64 {
        match self.accounts.get(&contract).map(|a| &a.kind) {
            Some(Kind::Client(s)) => s.tokens_used,
            _ => 0,
        }
    }

    /// Tokens a worker contract was paid for.
    pub fn paid(&self, contract: Address) -> u64 {
        match self.accounts.get(&contract).map(|a| &a.kind) {
            Some(Kind::Worker(s)) => s.tokens_paid,
            _ => 0,
        }
    }

    /// As a node would read it.
    pub fn state(&self, address: Address) -> AccountState {
        let Some(a) = self.accounts.get(&address) else {
            return AccountState::NONEXISTENT;
        };
        let data = match &a.kind {
            Kind::Absent => {
                return AccountState {
                    status: AccountStatus::Uninit,
                    balance: a.balance,
                    last_lt: a.last_lt,
                    ..AccountState::NONEXISTENT
                };
            }
            Kind::Plain => Cell::default(),
            Kind::Proxy(s) => s.encode().unwrap(),
            Kind::Client(s) => s.encode().unwrap(),
            Kind::Worker(s) => s.encode().unwrap(),
        };
        AccountState {
            status: AccountStatus::Active,
            balance: a.balance,
            code: Some(Cell::default()),
            data: Some(data),
            last_lt: a.last_lt,
            last_hash: [0; 32],
        }
    }

    /// Takes the coins of a message out of a wallet; `None` if it is too poor.
    pub fn send_from_wallet(&mut self, msg: Msg) -> Option<Msg> {
        let a = self.accounts.get_mut(&msg.src)?;
        a.balance = a.balance.checked_sub(msg.value)?;
        self.in_flight += msg.value;
        Some(msg)
    }

    /// One transaction; returns what it sends.
    pub fn execute(&mut self, msg: Msg, now_ms: u64) -> Vec<Msg> {
        self.lt += 10;
        let lt = self.lt;
        self.in_flight -= msg.value;
        let mut account = self.accounts.remove(&msg.dst).unwrap_or(Account {
            balance: 0,
            kind: Kind::Absent,
            last_lt: 0,
            txs: Vec::new(),
        });
        if matches!(account.kind, Kind::Absent)
            && let Some(kind) = msg.init.as_ref().and_then(|i| self.deployed(msg.dst, i))
        {
            account.kind = kind;
        }
        let fee = if msg.value > FEE { FEE } else { 0 };
        self.burned += fee;
        let value = msg.value - fee;
        let result = self.run(&mut account, &msg, value);
        let aborted = result.is_err();
        let exit = result.as_ref().err().copied();
        let out = result.unwrap_or_else(|_| {
            let back = Msg {
                bounced: true,
                ..plain(msg.dst, msg.src, value, msg.body.clone())
            };
            if msg.bounce { vec![back] } else { Vec::new() }
        });
        let sent: u128 = out.iter().map(|m| m.value).sum();
        match (account.balance + value).checked_sub(sent) {
            Some(rest) => account.balance = rest,
            None => self
                .broken
                .push(format!("{} cannot pay {sent} nanoTON", msg.dst)),
        }
        self.in_flight += sent;
        let prev_lt = account.last_lt;
        account.last_lt = lt;
        if matches!(account.kind, Kind::Proxy(_)) {
            account.txs.push(TxInfo {
                account: msg.dst,
                lt,
                hash: [0; 32],
                prev_lt,
                prev_hash: [0; 32],
                utime: (now_ms / 1000) as u32,
                total_fees: fee,
                aborted,
                compute_exit_code: exit,
                action_result_code: None,
                in_msg: Some(MsgInfo {
                    src: Some(msg.src),
                    dst: Some(msg.dst),
                    value: msg.value,
                    bounce: msg.bounce,
                    bounced: msg.bounced,
                    fwd_fee: 0,
                    ihr_fee: 0,
                    created_lt: lt - 1,
                    body: msg.body.unwrap_or_default(),
                    hash: [0; 32],
                    init: msg.init.is_some(),
                }),
                out_msgs: Vec::new(),
                boc: Cell::default(),
            });
        }
        self.accounts.insert(msg.dst, account);
        out
    }

    fn deployed(&self, address: Address, init: &Cell) -> Option<Kind> {
        let init = StateInit::decode(init).ok()?;
        (init.address == address).then_some(())?;
        if let Ok(s) = ClientState::decode(&init.data) {
            return Some(Kind::Client(s));
        }
        WorkerState::decode(&init.data).ok().map(Kind::Worker)
    }

    fn run(&mut self, account: &mut Account, msg: &Msg, value: u128) -> Result<Vec<Msg>, i32> {
        if msg.bounced {
            return Ok(Vec::new());
        }
        match &mut account.kind {
            Kind::Absent if msg.bounce => Err(-1),
            Kind::Absent | Kind::Plain => Ok(Vec::new()),
            Kind::Client(s) => {
                let mut next = s.clone();
                let out = self.client(&mut next, msg, value)?;
                *s = next;
                Ok(out)
            }
            Kind::Worker(s) => {
                let mut next = s.clone();
                let out = self.worker(&mut next, msg, value)?;
                *s = next;
                Ok(out)
            }
            Kind::Proxy(s) => {
                let balance = account.balance;
                let mut next = s.clone();
                let out = self.proxy(&mut next, msg, value, balance)?;
                *s = next;
                Ok(out)
            }
        }
    }

    fn client(&mut self, s: &mut ClientState, msg: &Msg, value: u128) -> Result<Vec<Msg>, i32> {
        let Some(body) = &msg.body else {
            return Ok(Vec::new());
        };
        let message = ClientMessage::decode(body).map_err(|_| 9)?;
        let query_id = message.query_id();
        if s.status == ContractStatus::Closed {
            return Err(1006);
        }
        let extra = match &message {
            ClientMessage::TopUp { coins, .. } => *coins,
            _ => 0,
        };
        if extra + MIN_VALUE > msg.value {
            return Err(1003);
        }
        let owned = || (msg.src == s.owner).then_some(()).ok_or(1010);
        let (excess_to, payload) = match message {
            ClientMessage::TopUp {
                coins, excess_to, ..
            } => {
                s.balance += coins;
                self.top_ups += 1;
                (
                    excess_to,
                    Some(ClientRequestPayload::TopUp { coins, excess_to }),
                )
            }
            ClientMessage::Register {
                nonce, excess_to, ..
            } => {
                owned()?;
                (excess_to, Some(ClientRequestPayload::Register { nonce }))
            }
            ClientMessage::ChangeSecretHash {
                secret_hash,
                excess_to,
                ..
            } => {
                owned()?;
                s.secret_hash = secret_hash;
                (excess_to, None)
            }
            ClientMessage::Signed(envelope) => {
                self.charge(s, msg.dst, &envelope)?;
                (envelope.excess_to, None)
            }
            _ => return Err(1012),
        };
        let carries = matches!(payload, Some(ClientRequestPayload::TopUp { .. }));
        let ledger = ClientLedger {
            status: s.status,
            balance: s.balance,
            stake: s.stake,
            tokens_used: s.tokens_used,
            secret_hash: s.secret_hash,
        };
        let notice = ProxyMessage::ClientRequest {
            query_id,
            owner: s.owner,
            ledger,
            payload,
        };
        Ok(self.notify(msg.dst, s.proxy, excess_to, notice, carries, value))
    }

    fn charge(&mut self, s: &mut ClientState, own: Address, e: &Envelope) -> Result<(), i32> {
        let total = signed_total(e, SignedOp::ClientCharge, own, &s.public_key)?;
        if total <= s.tokens_used {
            return Err(1000);
        }
        let cost = u128::from(total - s.tokens_used) * s.params.price_per_token;
        if cost > s.balance {
            self.broken.push(format!(
                "client {} is charged {cost} nanoTON with a deposit of {}",
                s.owner, s.balance
            ));
        }
        s.tokens_used = total;
        s.balance = s.balance.saturating_sub(cost);
        self.settlements += 1;
        Ok(())
    }

    /// A notice of 1 nanoTON and the rest as excess, or everything to the proxy (8.3).
    fn notify(
        &self,
        own: Address,
        proxy: Address,
        excess_to: Address,
        notice: ProxyMessage,
        carry: bool,
        value: u128,
    ) -> Vec<Msg> {
        let query_id = notice.query_id();
        let body = notice.encode().ok();
        if carry {
            let bounce = true;
            return vec![Msg {
                bounce,
                ..plain(own, proxy, value, body)
            }];
        }
        vec![
            plain(own, proxy, 1, body),
            excess(own, excess_to, value - 1, query_id),
        ]
    }

    fn worker(&mut self, s: &mut WorkerState, msg: &Msg, value: u128) -> Result<Vec<Msg>, i32> {
        let Some(body) = &msg.body else {
            return Ok(Vec::new());
        };
        let WorkerMessage::Signed(e) = WorkerMessage::decode(body).map_err(|_| 9)? else {
            return Err(1012);
        };
        let total = signed_total(&e, SignedOp::WorkerPayout, msg.dst, &s.public_key)?;
        if msg.value <= MIN_VALUE {
            return Err(1003);
        }
        if total <= s.tokens_paid {
            return Err(1000);
        }
        let tokens = u128::from(total - s.tokens_paid);
        let (price, fee) = (s.params.price_per_token, s.params.worker_fee_per_token);
        s.tokens_paid = total;
        self.settlements += 1;
        let payload = WorkerRequestPayload::Payout {
            worker_part: tokens * fee,
            proxy_part: tokens * (price - fee),
            excess_to: e.excess_to,
        };
        let notice = ProxyMessage::WorkerRequest {
            query_id: e.payload.query_id,
            owner: s.owner,
            status: s.status,
            tokens: total,
            payload: Some(payload),
        };
        Ok(self.notify(msg.dst, s.proxy, e.excess_to, notice, true, value))
    }

    fn proxy(
        &mut self,
        s: &mut ProxyState,
        msg: &Msg,
        value: u128,
        balance: u128,
    ) -> Result<Vec<Msg>, i32> {
        let Some(body) = &msg.body else {
            return Ok(Vec::new());
        };
        let own = msg.dst;
        let message = ProxyMessage::decode(body).map_err(|_| 9)?;
        let query_id = message.query_id();
        match message {
            ProxyMessage::SaveState(_) => {
                self.commits += 1;
                Ok(Vec::new())
            }
            ProxyMessage::ClientRequest {
                owner,
                payload: Some(ClientRequestPayload::TopUp { coins, excess_to }),
                ..
            } => {
                let init = self.root.client_contract(own, s.public_key, owner);
                if init.map(|i| i.address).ok() != Some(msg.src) {
                    return Err(1014);
                }
                let rest = value.checked_sub(coins).ok_or(5)?;
                Ok(vec![excess(own, excess_to, rest, query_id)])
            }
            ProxyMessage::WorkerRequest {
                owner,
                payload:
                    Some(WorkerRequestPayload::Payout {
                        worker_part,
                        proxy_part,
                        excess_to,
                    }),
                ..
            } => {
                let init = self.root.worker_contract(own, s.public_key, owner);
                if init.map(|i| i.address).ok() != Some(msg.src) {
                    return Err(1014);
                }
                if balance < worker_part + s.balance + proxy_part {
                    self.broken
                        .push(format!("proxy {own} cannot pay worker {owner}"));
                    return Err(5);
                }
                s.balance += proxy_part;
                let payout = OwnerMessage::Payout { query_id }.encode().ok();
                Ok(vec![
                    plain(own, owner, worker_part, payout),
                    excess(own, excess_to, value, query_id),
                ])
            }
            ProxyMessage::PayRevenue { excess_to, .. } => {
                let revenue = std::mem::take(&mut s.balance);
                self.withdrawals += u64::from(revenue > 0);
                let payout = OwnerMessage::Payout { query_id }.encode().ok();
                Ok(vec![
                    plain(own, s.owner, revenue, payout),
                    excess(own, excess_to, value, query_id),
                ])
            }
            ProxyMessage::ClientRequest { .. } | ProxyMessage::WorkerRequest { .. } => {
                Ok(Vec::new())
            }
            _ => Err(1012),
        }
    }
}

fn excess(own: Address, to: Address, value: u128, query_id: u64) -> Msg {
    plain(
        own,
        to,
        value,
        OwnerMessage::Excesses { query_id }.encode().ok(),
    )
}

fn signed_total(
    e: &Envelope<SignedPayload>,
    op: SignedOp,
    own: Address,
    key: &[u8; 32],
) -> Result<u64, i32> {
    e.verify(key).map_err(|_| 1007)?;
    if e.payload.op != op {
        return Err(1012);
    }
    if e.payload.target != own {
        return Err(1015);
    }
    Ok(e.payload.tokens)
}
