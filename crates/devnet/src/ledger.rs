//! The chain's state in memory and how one block changes it: without disk or threads, and with time as an
//! argument (only the limit on a block's computing time looks at a clock).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use cocoon_ton::{Address, Cell};
use tycho_types::cell::{HashBytes, Load};
use tycho_types::models::{BlockId, MsgInfo, ShardAccount, ShardIdent};

use crate::block::{Block, BlockTransaction, Supply};
use crate::config::ChainConfig;
use crate::error::DevnetError;
use crate::executor::{
    Context, ExecuteError, Executed, Libraries, execute, message_destination, nonexistent,
};
use crate::store::{Changes, MessageKey};

/// Transactions in one block. More messages wait for the next block, so that a loop of messages cannot keep a
/// block open for ever.
pub const MAX_BLOCK_TRANSACTIONS: usize = 5_000;

/// Computing time of one block; keeps the time to the next block, and so the latency, bounded.
pub const MAX_BLOCK_COMPUTING: Duration = Duration::from_millis(300);

/// Logical time of a block starts at a multiple of this, as in TON.
const LT_STEP: u64 = 1_000_000;

/// The state after the newest block.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) head: Block,
    pub(crate) head_hash: [u8; 32],
    pub(crate) accounts: HashMap<Address, ShardAccount>,
    pub(crate) queue: BTreeMap<MessageKey, Cell>,
    /// Messages whose execution failed inside the executor. They stay in the queue, so that no coin is lost,
    /// and are tried again after a restart.
    pub(crate) stuck: HashSet<MessageKey>,
}

/// An external message that was checked and waits for a block.
#[derive(Clone, Debug)]
pub(crate) struct External {
    pub(crate) address: Address,
    pub(crate) message: Cell,
}

/// A block ready to be committed.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) block: Block,
    pub(crate) changes: Changes,
    queue: BTreeMap<MessageKey, Cell>,
    stuck: HashSet<MessageKey>,
}

impl State {
    pub(crate) fn new(
        head: Block,
        accounts: HashMap<Address, ShardAccount>,
        queue: BTreeMap<MessageKey, Cell>,
    ) -> Self {
        Self {
            head_hash: head.hash(),
            head,
            accounts,
            queue,
            stuck: HashSet::new(),
        }
    }

    /// Whether messages wait that can be executed.
    pub(crate) fn has_work(&self) -> bool {
        self.queue.len() > self.stuck.len()
    }

    pub(crate) fn account(&self, address: &Address) -> ShardAccount {
        self.accounts
            .get(address)
            .cloned()
            .unwrap_or_else(nonexistent)
    }

    /// Coins on accounts and in messages, counted anew; for a check when a store is opened.
    pub(crate) fn count_coins(&self) -> Option<(u128, u128)> {
        let mut accounts = 0u128;
        for account in self.accounts.values() {
            accounts = accounts.checked_add(balance(account)?)?;
        }
        let mut queue = 0u128;
        for message in self.queue.values() {
            let (value, fee) = message_coins(message)?;
            queue = queue.checked_add(value)?.checked_add(fee)?;
        }
        Some((accounts, queue))
    }

    /// The context of the block after the head.
    pub(crate) fn next_context<'a>(&self, config: &'a ChainConfig, now: u32) -> Context<'a> {
        let utime = now.max(self.head.utime);
        let start_lt = self.next_lt();
        Context {
            config,
            now: utime,
            block_lt: start_lt,
            min_lt: start_lt,
            rand_seed: Block::rand_seed(&self.head_hash, self.head.seqno + 1, utime),
            libraries: Libraries::new(),
            previous_block: Some(BlockId {
                shard: ShardIdent::MASTERCHAIN,
                seqno: self.head.seqno,
                root_hash: HashBytes(self.head_hash),
                file_hash: HashBytes(self.head_hash),
            }),
        }
    }

    fn next_lt(&self) -> u64 {
        (self.head.end_lt / LT_STEP + 1) * LT_STEP
    }

    /// Whether the contract would accept an external message in the next block.
    pub(crate) fn check_external(
        &self,
        config: &ChainConfig,
        now: u32,
        external: &External,
    ) -> Result<(), ExecuteError> {
        let context = self.next_context(config, now);
        let account = self.account(&external.address);
        guarded(|| execute(&account, &external.address, &external.message, &context)).map(drop)
    }

    /// Makes the next block out of external messages and what is in flight. Changes nothing in `self`.
    pub(crate) fn produce(
        &self,
        config: &ChainConfig,
        now: u32,
        externals: Vec<External>,
    ) -> Result<Draft, DevnetError> {
        let mut builder = Builder {
            base: self,
            context: self.next_context(config, now),
            accounts: HashMap::new(),
            queue: self.queue.clone(),
            stuck: self.stuck.clone(),
            supply: self.head.supply,
            transactions: Vec::new(),
            listed: Vec::new(),
            end_lt: self.next_lt(),
        };
        let started = Instant::now();
        for external in externals {
            builder.run_external(&external);
        }
        while builder.listed.len() < MAX_BLOCK_TRANSACTIONS
            && started.elapsed() < MAX_BLOCK_COMPUTING
        {
            let Some(key) = builder
                .queue
                .keys()
                .find(|key| !builder.stuck.contains(*key))
                .copied()
            else {
                break;
            };
            builder.run_internal(key);
        }
        builder.finish()
    }

    /// Takes over a block that is safe on disk.
    pub(crate) fn apply(&mut self, draft: Draft) {
        for (address, account) in draft.changes.accounts {
            match account {
                Some(account) => self.accounts.insert(address, account),
                None => self.accounts.remove(&address),
            };
        }
        self.queue = draft.queue;
        self.stuck = draft.stuck;
        self.head_hash = draft.block.hash();
        self.head = draft.block;
    }
}

struct Builder<'a> {
    base: &'a State,
    context: Context<'a>,
    accounts: HashMap<Address, Option<ShardAccount>>,
    queue: BTreeMap<MessageKey, Cell>,
    stuck: HashSet<MessageKey>,
    supply: Supply,
    transactions: Vec<(Address, u64, Cell)>,
    listed: Vec<BlockTransaction>,
    end_lt: u64,
}

impl Builder<'_> {
    fn account(&self, address: &Address) -> ShardAccount {
        match self.accounts.get(address) {
            Some(Some(account)) => account.clone(),
            Some(None) => nonexistent(),
            None => self.base.account(address),
        }
    }

    fn run_external(&mut self, external: &External) {
        let account = self.account(&external.address);
        let result = guarded(|| {
            execute(
                &account,
                &external.address,
                &external.message,
                &self.context,
            )
        });
        match result {
            Ok(executed) => {
                if let Err(reason) = self.take_over(&external.address, &account, 0, 0, executed) {
                    tracing::error!(address = %external.address, %reason, "dropped an external message");
                }
            }
            // Accepted when it came, but another message of this block overtook it (same seqno, for example).
            Err(error) => tracing::info!(
                address = %external.address,
                hash = hex::encode(external.message.repr_hash()),
                %error,
                "dropped an external message"
            ),
        }
    }

    fn run_internal(&mut self, key: MessageKey) {
        let Some(message) = self.queue.get(&key).cloned() else {
            return;
        };
        if let Err(reason) = self.try_internal(&key, &message) {
            tracing::error!(
                message = hex::encode(key.1),
                %reason,
                "a message cannot be executed and stays in the queue"
            );
            self.stuck.insert(key);
        }
    }

    fn try_internal(&mut self, key: &MessageKey, message: &Cell) -> Result<(), String> {
        let (address, _) = message_destination(message).map_err(|e| e.to_string())?;
        let (value, fee) = message_coins(message).ok_or("its value cannot be read")?;
        let account = self.account(&address);
        let executed = guarded(|| execute(&account, &address, message, &self.context))
            .map_err(|e| e.to_string())?;
        self.take_over(&address, &account, value, fee, executed)?;
        self.queue.remove(key);
        Ok(())
    }

    /// Books a transaction; on an error nothing was booked.
    ///
    /// `value` and `import_fee` are what the inbound message carried: the value went to the account, the rest
    /// of the forward fee is burned where the message arrives.
    fn take_over(
        &mut self,
        address: &Address,
        before: &ShardAccount,
        value: u128,
        import_fee: u128,
        executed: Executed,
    ) -> Result<(), String> {
        let overflow = || "amounts overflow".to_owned();
        let mut messages = Vec::new();
        let mut sent = 0u128;
        for message in &executed.out_messages {
            // Messages that leave the chain carry no coins.
            if let Some((value, fee)) = message_coins(message) {
                let created_lt = created_lt(message).ok_or("an outgoing message is malformed")?;
                message_destination(message).map_err(|e| e.to_string())?;
                sent = sent
                    .checked_add(value)
                    .and_then(|sum| sum.checked_add(fee))
                    .ok_or_else(overflow)?;
                messages.push(((created_lt, message.repr_hash().0), message.clone()));
            }
        }
        let old_balance = balance(before).ok_or("the account before cannot be read")?;
        let arrived = value.checked_add(import_fee).ok_or_else(overflow)?;
        let burned = executed
            .total_fees
            .checked_add(executed.burned)
            .and_then(|sum| sum.checked_add(import_fee))
            .ok_or_else(overflow)?;
        let supply = Supply {
            accounts: self
                .supply
                .accounts
                .checked_sub(old_balance)
                .and_then(|rest| rest.checked_add(executed.balance))
                .ok_or_else(overflow)?,
            in_queues: self
                .supply
                .in_queues
                .checked_sub(arrived)
                .and_then(|rest| rest.checked_add(sent))
                .ok_or_else(overflow)?,
            burned_fees: self
                .supply
                .burned_fees
                .checked_add(burned)
                .ok_or_else(overflow)?,
            genesis: self.supply.genesis,
        };
        if supply.total() != self.supply.total() {
            // The block check would stop the chain; name the transaction and keep it out instead.
            return Err(format!(
                "coins are not conserved: balance {old_balance} + inbound {arrived} became balance {} + sent \
                 {sent} + burned {burned}",
                executed.balance
            ));
        }

        self.supply = supply;
        self.end_lt = self.end_lt.max(executed.end_lt);
        self.listed.push(BlockTransaction {
            account: *address,
            lt: executed.lt,
            hash: executed.transaction.repr_hash().0,
        });
        self.transactions
            .push((*address, executed.lt, executed.transaction));
        let exists = executed
            .account
            .load_account()
            .is_ok_and(|account| account.is_some());
        self.accounts
            .insert(*address, exists.then_some(executed.account));
        self.queue.extend(messages);
        Ok(())
    }

    fn finish(self) -> Result<Draft, DevnetError> {
        let block = Block {
            seqno: self.base.head.seqno + 1,
            prev_hash: self.base.head_hash,
            utime: self.context.now,
            start_lt: self.context.block_lt,
            end_lt: self.end_lt,
            supply: self.supply,
            transactions: self.listed,
        };
        if !block.supply.is_conserved() || block.supply.genesis != self.base.head.supply.genesis {
            return Err(DevnetError::Conservation {
                seqno: block.seqno,
                accounts: block.supply.accounts,
                in_queues: block.supply.in_queues,
                burned: block.supply.burned_fees,
                total: block.supply.total().unwrap_or(u128::MAX),
                genesis: block.supply.genesis,
            });
        }
        let old = &self.base.queue;
        let changes = Changes {
            accounts: self.accounts,
            transactions: self.transactions,
            queue_added: self
                .queue
                .iter()
                .filter(|(key, _)| !old.contains_key(*key))
                .map(|(key, cell)| (*key, cell.clone()))
                .collect(),
            queue_removed: old
                .keys()
                .filter(|key| !self.queue.contains_key(*key))
                .copied()
                .collect(),
        };
        Ok(Draft {
            block,
            changes,
            queue: self.queue,
            stuck: self.stuck,
        })
    }
}

/// Foreign code runs in the VM; if it finds a way to panic it, one message fails and not the chain.
fn guarded(run: impl FnOnce() -> Result<Executed, ExecuteError>) -> Result<Executed, ExecuteError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(ExecuteError::Invalid(
            "the executor panicked on this message".to_owned(),
        ))
    })
}

/// Balance of an account in nanoTON.
pub(crate) fn balance(account: &ShardAccount) -> Option<u128> {
    let loaded = account.load_account().ok()?;
    Some(loaded.map_or(0, |account| account.balance.tokens.into_inner()))
}

/// Value and remaining forward fee of an internal message; `None` for other messages.
fn message_coins(message: &Cell) -> Option<(u128, u128)> {
    match header(message)? {
        MsgInfo::Int(info) => Some((info.value.tokens.into_inner(), info.fwd_fee.into_inner())),
        MsgInfo::ExtIn(_) | MsgInfo::ExtOut(_) => None,
    }
}

fn created_lt(message: &Cell) -> Option<u64> {
    match header(message)? {
        MsgInfo::Int(info) => Some(info.created_lt),
        MsgInfo::ExtOut(info) => Some(info.created_lt),
        MsgInfo::ExtIn(_) => None,
    }
}

fn header(message: &Cell) -> Option<MsgInfo> {
    MsgInfo::load_from(&mut message.as_slice().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tycho_types::cell::CellBuilder;

    use super::*;
    use crate::config::ConfigOptions;
    use crate::genesis::{GenesisAccount, genesis};
    use crate::message::{InternalMessage, external_message, state_init};

    const START: u32 = 1_790_000_000;
    const WALLETS: u8 = 4;
    const COINS: u128 = 3_000_000_000;

    fn code(bytes: &[u8]) -> Cell {
        let mut builder = CellBuilder::new();
        builder.store_raw(bytes, bytes.len() as u16 * 8).unwrap();
        builder.build().unwrap()
    }

    /// Four open wallets, a contract that throws and one that was never deployed.
    fn start() -> State {
        let wallet = code(&[0xdd, 0xf8, 0x00, 0xd3, 0x07, 0xd4, 0x30, 0x01, 0xfb, 0x00]);
        let thrower = code(&[0xf2, 0x2a]);
        let accounts: Vec<_> = (0..=WALLETS)
            .map(|index| GenesisAccount {
                address: Address::basechain([index; 32]),
                balance: COINS,
                state_init: Some(
                    state_init(
                        if index < WALLETS {
                            wallet.clone()
                        } else {
                            thrower.clone()
                        },
                        Cell::default(),
                    )
                    .unwrap(),
                ),
            })
            .collect();
        genesis(&accounts, START).unwrap().0
    }

    fn order(from: u8, to: u8, value: u128, mode: u8, bounce: bool, unique: u64) -> External {
        let address = Address::basechain([from; 32]);
        let message = InternalMessage {
            bounce,
            ..InternalMessage::new(
                address,
                Address::basechain([to; 32]),
                value,
                Cell::default(),
            )
        };
        let mut body = CellBuilder::new();
        body.store_u8(mode).unwrap();
        body.store_u64(unique).unwrap();
        body.store_reference(message.build().unwrap()).unwrap();
        External {
            address,
            message: external_message(&address, None, body.build().unwrap()).unwrap(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whatever is sent with whatever mode, over years: no coin appears or vanishes, and what is counted
        /// block by block equals what is counted anew.
        #[test]
        fn coins_are_conserved(
            orders in proptest::collection::vec(
                (
                    0..WALLETS,
                    0..WALLETS + 3,
                    prop_oneof![Just(0), Just(1), 0..2 * COINS],
                    prop_oneof![
                        Just(0u8), Just(1), Just(2), Just(3), Just(64), Just(65), Just(128), Just(130),
                        Just(160), Just(162), Just(16), any::<u8>(),
                    ],
                    any::<bool>(),
                    0u32..40_000_000,
                ),
                1..24,
            ),
            group in 1usize..5,
        ) {
            let config = ChainConfig::new(&ConfigOptions::new(-217, [1; 32], START)).unwrap();
            let mut state = start();
            let genesis = state.head.supply.genesis;
            let mut now = START;
            for (number, orders) in orders.chunks(group).enumerate() {
                let externals = orders
                    .iter()
                    .enumerate()
                    .map(|(index, (from, to, value, mode, bounce, wait))| {
                        now = now.saturating_add(*wait);
                        order(*from, *to, *value, *mode, *bounce, (number * 100 + index) as u64)
                    })
                    .collect();
                let draft = state.produce(&config, now, externals).unwrap();
                state.apply(draft);
                prop_assert!(state.stuck.is_empty());
                prop_assert!(state.queue.is_empty());
                let supply = state.head.supply;
                prop_assert_eq!(state.count_coins(), Some((supply.accounts, supply.in_queues)));
                prop_assert_eq!(supply.total(), Some(genesis));
            }
        }
    }

    #[test]
    fn producing_changes_nothing_until_applied() {
        let config = ChainConfig::new(&ConfigOptions::new(-217, [1; 32], START)).unwrap();
        let state = start();
        let first = state
            .produce(&config, START, vec![order(0, 1, 5, 1, true, 0)])
            .unwrap();
        let second = state
            .produce(&config, START, vec![order(0, 1, 5, 1, true, 0)])
            .unwrap();
        assert_eq!(
            first.block, second.block,
            "the same input makes the same block"
        );
        assert_eq!(first.block.transactions.len(), 2);
        assert_eq!(state.head.seqno, 0);
    }

    #[test]
    fn invented_coins_stop_the_chain() {
        let config = ChainConfig::new(&ConfigOptions::new(-217, [1; 32], START)).unwrap();
        let mut state = start();
        state.head.supply.accounts += 1;
        let error = state.produce(&config, START, Vec::new()).unwrap_err();
        assert!(matches!(error, DevnetError::Conservation { .. }), "{error}");
    }
}
