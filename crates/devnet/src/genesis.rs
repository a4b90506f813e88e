//! The first block: who owns which coins and contracts before anything happens.

use std::collections::{BTreeMap, HashMap};

use cocoon_ton::{Address, Cell};
use tycho_types::models::{AccountState, StateInit};

use crate::block::{Block, Supply};
use crate::error::DevnetError;
use crate::ledger::State;
use crate::sandbox::account_with_state;
use crate::store::Changes;

/// All coins of a genesis together; amounts above it could not be written in a coins field of 124 bits anyway,
/// and TON itself has about 5·10^18 nanoTON.
pub const MAX_GENESIS_COINS: u128 = 1 << 100;

/// An account that exists from the start.
#[derive(Clone, Debug)]
pub struct GenesisAccount {
    /// Where.
    pub address: Address,
    /// Balance in nanoTON.
    pub balance: u128,
    /// StateInit cell of a contract that is deployed from the start, `None` for coins alone.
    pub state_init: Option<Cell>,
}

/// Block number 0 and the state it makes.
pub(crate) fn genesis(
    accounts: &[GenesisAccount],
    time: u32,
) -> Result<(State, Changes), DevnetError> {
    let mut states = HashMap::new();
    let mut coins = 0u128;
    for account in accounts {
        let state = match &account.state_init {
            Some(cell) => AccountState::Active(cell.parse::<StateInit>().map_err(|e| {
                DevnetError::Genesis(format!(
                    "the StateInit of {} cannot be read: {e}",
                    account.address
                ))
            })?),
            None => AccountState::Uninit,
        };
        coins = coins
            .checked_add(account.balance)
            .filter(|sum| *sum <= MAX_GENESIS_COINS)
            .ok_or_else(|| {
                DevnetError::Genesis(format!(
                    "the balances add up to more than {MAX_GENESIS_COINS} nanoTON"
                ))
            })?;
        let shard_account = account_with_state(&account.address, account.balance, state, time)
            .map_err(|e| {
                DevnetError::Genesis(format!("{} cannot be built: {e}", account.address))
            })?;
        if states.insert(account.address, shard_account).is_some() {
            return Err(DevnetError::Genesis(format!(
                "{} is listed twice",
                account.address
            )));
        }
    }
    let block = Block {
        seqno: 0,
        prev_hash: [0; 32],
        utime: time,
        start_lt: 0,
        end_lt: 0,
        supply: Supply {
            accounts: coins,
            in_queues: 0,
            burned_fees: 0,
            genesis: coins,
        },
        transactions: Vec::new(),
    };
    let changes = Changes {
        accounts: states
            .iter()
            .map(|(address, account)| (*address, Some(account.clone())))
            .collect(),
        ..Changes::default()
    };
    Ok((State::new(block, states, BTreeMap::new()), changes))
}
