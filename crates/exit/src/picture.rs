//! The accounts that matter, read from a chain at one moment.

use std::time::Duration;

use cocoon_devnet::emulate::Snapshot;
use cocoon_ton::abi::{ClientState, ContractStatus, ProxyMessage, ProxyState, WalletState};
use cocoon_ton::{AccountState, AccountStatus, Address, Chain, ChainError, TxInfo};

use crate::ExitError;

/// A proxy whose contract has had no commit of its node for this long counts as silent. Nodes commit every 30 to 60
/// seconds (contracts.md 14.6).
pub const SILENT_AFTER_S: u32 = 600;
/// Newest transactions of the proxy contract looked through for a commit; others may lie between.
const LOOK_BACK: usize = 24;
/// Attempts to read accounts that belong together.
const ATTEMPTS: usize = 12;
/// Between attempts. A message needs a block or two, on a public network some seconds.
const PAUSE: Duration = Duration::from_millis(500);

/// What a client contract says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Normal, closing or closed.
    pub status: ContractStatus,
    /// Deposit not yet charged, in nanoTON.
    pub balance: u128,
    /// The client's stake in nanoTON: what a withdrawal leaves.
    pub stake: u128,
    /// Tokens charged since the contract's birth.
    pub tokens_used: u64,
    /// Unix time after which a refund can be forced; 0 unless closing.
    pub unlock_time: u32,
}

impl From<&ClientState> for Ledger {
    fn from(state: &ClientState) -> Self {
        Self {
            status: state.status,
            balance: state.balance,
            stake: state.stake,
            tokens_used: state.tokens_used,
            unlock_time: state.unlock_time,
        }
    }
}

/// What the proxy contract has, in nanoTON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyFacts {
    /// Normal, closing or closed.
    pub status: ContractStatus,
    /// All coins of the account.
    pub coins: u128,
    /// The stake, shared by all clients.
    pub stake: u128,
    /// What the proxy's owner can take.
    pub revenue: u128,
    /// What may belong to other clients: everything that is not stake, revenue or this client's deposit.
    pub others: u128,
    /// Coins that are missing to cover stake, revenue and this client's deposit alone.
    pub shortfall: u128,
    /// Unix time of the proxy node's last commit, if there was one lately.
    pub seen: Option<u32>,
}

/// The accounts at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Unix time of the chain.
    pub now: u32,
    /// Client contract.
    pub client: Snapshot,
    /// Proxy contract.
    pub proxy: Snapshot,
    /// Owner of the client contract: a node's wallet.
    pub owner: Snapshot,
    /// Decoded data of the client contract.
    pub client_state: ClientState,
    /// Decoded data of the proxy contract.
    pub proxy_state: ProxyState,
    /// Unix time of the proxy node's last commit, if there was one lately.
    pub seen: Option<u32>,
}

impl Picture {
    /// Reads the accounts; nothing of them changes while they are read.
    pub async fn read(chain: &dyn Chain, client: &Address) -> Result<Self, ExitError> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let first = chain.account(client).await?;
            let client_state = client_state(client, &first)?;
            let proxy = chain.account(&client_state.proxy).await?;
            let owner = chain.account(&client_state.owner).await?;
            let proxy_state = proxy_state(&client_state.proxy, &proxy)?;
            check_owner(&client_state.owner, &owner)?;
            // A commit of the proxy's node changes its contract every few seconds, but no figure in it.
            let again = chain.account(client).await?;
            let owner_again = chain.account(&client_state.owner).await?;
            let last = last_transaction(chain, client, &first).await?;
            let moved = again.last_lt != first.last_lt || owner_again.last_lt != owner.last_lt;
            if moved || is_under_way(last.as_ref(), &client_state.proxy, &proxy) {
                continue;
            }
            let now = chain.network().await?.utime;
            let seen = last_commit(chain, &client_state.proxy, proxy.last_lt, now).await?;
            return Ok(Self {
                client: snapshot(chain, *client, first, now).await?,
                proxy: snapshot(chain, client_state.proxy, proxy, now).await?,
                owner: snapshot(chain, client_state.owner, owner, now).await?,
                now,
                client_state,
                proxy_state,
                seen,
            });
        }
        Err(ExitError::Restless(ATTEMPTS))
    }

    /// The client's ledger.
    pub fn ledger(&self) -> Ledger {
        Ledger::from(&self.client_state)
    }

    /// The proxy's figures.
    pub fn proxy_facts(&self) -> ProxyFacts {
        let state = &self.proxy_state;
        let known = state
            .stake
            .saturating_add(state.balance)
            .saturating_add(self.client_state.balance);
        let coins = self.proxy.state.balance;
        ProxyFacts {
            status: state.status,
            coins,
            stake: state.stake,
            revenue: state.balance,
            others: coins.saturating_sub(known),
            shortfall: known.saturating_sub(coins),
            seen: self.seen,
        }
    }

    /// The same with part of the proxy's stake gone, as if other clients had forced it out.
    pub fn with_less_stake(&self, gone: u128) -> Result<Self, ExitError> {
        let mut changed = self.clone();
        let gone = gone.min(self.proxy_state.stake);
        changed.proxy_state.stake -= gone;
        changed.proxy.state.balance = self.proxy.state.balance.saturating_sub(gone);
        changed.proxy.state.data = Some(changed.proxy_state.encode()?);
        Ok(changed)
    }
}

fn wrong(role: &'static str, address: &Address, reason: impl Into<String>) -> ExitError {
    ExitError::Account {
        role,
        address: *address,
        reason: reason.into(),
    }
}

fn client_state(address: &Address, account: &AccountState) -> Result<ClientState, ExitError> {
    match (account.status, &account.data) {
        (AccountStatus::Active, Some(data)) => ClientState::decode(data)
            .map_err(|e| wrong("client contract", address, format!("its data: {e}"))),
        (AccountStatus::Frozen, _) => Err(wrong(
            "client contract",
            address,
            "it is frozen for storage debt",
        )),
        _ => Err(ExitError::NoClient(*address)),
    }
}

fn proxy_state(address: &Address, account: &AccountState) -> Result<ProxyState, ExitError> {
    match (account.status, &account.data) {
        (AccountStatus::Active, Some(data)) => ProxyState::decode(data)
            .map_err(|e| wrong("proxy contract", address, format!("its data: {e}"))),
        (status, _) => Err(wrong(
            "proxy contract",
            address,
            format!("the account is {status:?}, nothing can be paid out of it"),
        )),
    }
}

/// The owner must be a wallet that can be told what to send: the layout of contracts.md 10.1, whatever the code.
fn check_owner(address: &Address, account: &AccountState) -> Result<(), ExitError> {
    let data = account.data.as_ref();
    let decoded = data.map(WalletState::decode).transpose();
    match decoded {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(wrong(
            "owner wallet",
            address,
            format!(
                "the account is {:?}, expected a wallet contract",
                account.status
            ),
        )),
        Err(e) => Err(wrong(
            "owner wallet",
            address,
            format!(
                "it is not a node's wallet ({e}); its owner has to be asked how it sends messages"
            ),
        )),
    }
}

/// The last transaction of an account.
async fn last_transaction(
    chain: &dyn Chain,
    address: &Address,
    state: &AccountState,
) -> Result<Option<TxInfo>, ChainError> {
    if state.last_lt == 0 {
        return Ok(None);
    }
    let found = chain.transactions(address, state.last_lt - 1, 1).await?;
    Ok(found.into_iter().next())
}

/// Whether what the client contract sent last has not arrived at the proxy contract yet: a deposit in flight stands in
/// the one's ledger, but is not among the other's coins.
fn is_under_way(last: Option<&TxInfo>, proxy: &Address, state: &AccountState) -> bool {
    last.is_some_and(|tx| {
        let mut sent = tx.out_msgs.iter().filter(|m| m.dst == Some(*proxy));
        sent.any(|m| m.created_lt >= state.last_lt)
    })
}

/// Storage is paid up to the account's last transaction. Without one, from the genesis on: taken as paid.
async fn snapshot(
    chain: &dyn Chain,
    address: Address,
    state: AccountState,
    now: u32,
) -> Result<Snapshot, ChainError> {
    let last = last_transaction(chain, &address, &state).await?;
    let last_paid = last.map_or(now, |tx| tx.utime);
    Ok(Snapshot {
        address,
        state,
        last_paid,
    })
}

/// When the proxy's node committed last, if it did within [`SILENT_AFTER_S`].
///
/// Anybody can send such a message, so it is a hint that waiting may help, and no more.
async fn last_commit(
    chain: &dyn Chain,
    proxy: &Address,
    mut lt: u64,
    now: u32,
) -> Result<Option<u32>, ChainError> {
    for _ in 0..LOOK_BACK {
        if lt == 0 {
            break;
        }
        let newest = chain.transactions(proxy, lt - 1, 1).await?;
        let Some(tx) = newest.first() else { break };
        if now.saturating_sub(tx.utime) > SILENT_AFTER_S {
            break;
        }
        let body = tx.in_msg.as_ref().map(|m| ProxyMessage::decode(&m.body));
        if let Some(Ok(ProxyMessage::SaveState(_))) = body {
            return Ok(Some(tx.utime));
        }
        lt = tx.prev_lt;
    }
    Ok(None)
}
