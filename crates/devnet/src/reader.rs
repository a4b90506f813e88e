//! The devnet behind the `Chain` trait: what nodes see of it.

use std::sync::Arc;

use async_trait::async_trait;
use cocoon_ton::{
    AccountState, AccountStatus, Address, Chain, ChainError, GetResult, NetworkInfo, StackValue,
    TxInfo,
};
use tycho_types::models::{AccountState as RawState, ShardAccount};

use crate::chain::{Devnet, Inner, SendError};
use crate::error::DevnetError;
use crate::executor::{Context, ExecuteError};
use crate::getter::{method_id, run_get_method};
use cocoon_ton::transaction::parse_transaction_of;

/// Transactions in one answer; a reader goes on from the last one.
pub const MAX_TRANSACTIONS: usize = 1_000;

#[async_trait]
impl Chain for Devnet {
    async fn network(&self) -> Result<NetworkInfo, ChainError> {
        let state = self.inner.read();
        Ok(NetworkInfo {
            global_id: self.inner.identity.global_id,
            seqno: state.head.seqno,
            utime: state.head.utime,
        })
    }

    async fn account(&self, address: &Address) -> Result<AccountState, ChainError> {
        let account = self.inner.read().accounts.get(address).cloned();
        match account {
            Some(account) => account_state(&account),
            None => Ok(AccountState::NONEXISTENT),
        }
    }

    async fn transactions(
        &self,
        address: &Address,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TxInfo>, ChainError> {
        let address = *address;
        self.blocking(move |inner| {
            let cells =
                inner
                    .store
                    .transactions_after(&address, after_lt, limit.min(MAX_TRANSACTIONS))?;
            cells
                .iter()
                .map(|cell| {
                    parse_transaction_of(address.workchain, cell)
                        .map_err(|e| DevnetError::Storage(format!("a transaction: {e}")))
                })
                .collect::<Result<_, _>>()
        })
        .await?
        .map_err(chain_error)
    }

    async fn run_get_method(
        &self,
        address: &Address,
        name: &str,
        args: Vec<StackValue>,
    ) -> Result<GetResult, ChainError> {
        self.run_method(*address, method_id(name), args).await
    }

    async fn send(&self, external_boc: Vec<u8>) -> Result<[u8; 32], ChainError> {
        self.blocking(move |inner| inner.send_external(&external_boc))
            .await?
            .map_err(|error| match error {
                SendError::Malformed(_) => ChainError::BadRequest(error.to_string()),
                SendError::Refused(ExecuteError::NotAccepted { reason, exit_code }) => {
                    ChainError::Rejected { reason, exit_code }
                }
                SendError::Refused(ExecuteError::Invalid(reason)) => ChainError::Rejected {
                    reason,
                    exit_code: None,
                },
                SendError::Busy => ChainError::RateLimited(error.to_string()),
                SendError::Halted(_) => ChainError::Unavailable(error.to_string()),
            })
    }
}

impl Devnet {
    /// Runs work that computes or reads the disk away from the async threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Inner>) -> T + Send + 'static,
    ) -> Result<T, ChainError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(inner))
            .await
            .map_err(|e| ChainError::Internal(format!("a task of the chain failed: {e}")))
    }

    /// Runs a get-method by its number, on the state after the newest block and at the present time.
    pub async fn run_method(
        &self,
        address: Address,
        method: u32,
        args: Vec<StackValue>,
    ) -> Result<GetResult, ChainError> {
        self.blocking(move |inner| {
            let (account, head) = {
                let state = inner.read();
                (
                    state.account(&address),
                    state.next_context(&inner.config, inner.clock.now()),
                )
            };
            let context = Context {
                min_lt: account.last_trans_lt,
                ..head
            };
            run_get_method(&account, &address, method, &args, &context)
                .map_err(|e| ChainError::BadRequest(e.to_string()))
        })
        .await?
    }
}

/// An account in the terms of the trait.
pub(crate) fn account_state(account: &ShardAccount) -> Result<AccountState, ChainError> {
    let loaded = account
        .load_account()
        .map_err(|e| ChainError::Internal(format!("an account cannot be read: {e}")))?;
    let Some(loaded) = loaded else {
        return Ok(AccountState::NONEXISTENT);
    };
    let (status, code, data) = match loaded.state {
        RawState::Active(state) => (AccountStatus::Active, state.code, state.data),
        RawState::Uninit => (AccountStatus::Uninit, None, None),
        RawState::Frozen(_) => (AccountStatus::Frozen, None, None),
    };
    Ok(AccountState {
        status,
        balance: loaded.balance.tokens.into_inner(),
        code,
        data,
        last_lt: account.last_trans_lt,
        last_hash: account.last_trans_hash.0,
    })
}

pub(crate) fn chain_error(error: DevnetError) -> ChainError {
    match error {
        DevnetError::Stopped => ChainError::Unavailable(error.to_string()),
        other => ChainError::Internal(other.to_string()),
    }
}
