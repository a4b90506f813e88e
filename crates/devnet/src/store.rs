//! The chain on disk: one redb file with accounts, transactions, messages in flight and blocks.
//!
//! Every block is one durable redb transaction, so after kill -9 at any point the file holds the chain as it was
//! after some block, never half of one. Nothing in a file that cannot be understood is ever changed.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use cocoon_ton::{Address, Cell};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tycho_types::boc::Boc;
use tycho_types::cell::{HashBytes, Lazy};
use tycho_types::models::{OptionalAccount, ShardAccount};

use crate::block::{Block, address_from_key, address_key};
use crate::error::DevnetError;

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "chain.redb";
/// Format of this program. Raise it with every change of the tables below.
pub const FORMAT: u32 = 1;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("cocoon_devnet_meta");
const ACCOUNTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("accounts");
const TRANSACTIONS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("transactions");
const QUEUE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("queue");
const BLOCKS: TableDefinition<u32, &[u8]> = TableDefinition::new("blocks");

const META_FORMAT: &str = "format";
const META_GLOBAL_ID: &str = "global_id";
const META_VALIDATOR_SEED: &str = "validator_seed";
const META_GENESIS_TIME: &str = "genesis_time";

/// Memory that redb may use for its cache. The whole state is in memory anyway; old transactions are read rarely.
const CACHE_BYTES: usize = 16 << 20;

/// Key of a message in flight: logical time of creation, then hash, which is TON's delivery order.
pub type MessageKey = (u64, [u8; 32]);

/// What stays the same over the life of a chain.
#[derive(Clone)]
pub struct Identity {
    /// Global id of the network.
    pub global_id: i32,
    /// Seed of the validator's Ed25519 key.
    pub validator_seed: [u8; 32],
    /// Unix time of the genesis.
    pub genesis_time: u32,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("global_id", &self.global_id)
            .field("validator_seed", &"(secret)")
            .field("genesis_time", &self.genesis_time)
            .finish()
    }
}

/// Everything that is needed to go on.
#[derive(Debug)]
pub struct Loaded {
    /// What never changes.
    pub identity: Identity,
    /// The newest block.
    pub head: Block,
    /// All accounts.
    pub accounts: HashMap<Address, ShardAccount>,
    /// All messages in flight.
    pub queue: BTreeMap<MessageKey, Cell>,
}

/// One block with all its effects.
#[derive(Debug, Default)]
pub struct Changes {
    /// Accounts with new states; `None` for deleted ones.
    pub accounts: HashMap<Address, Option<ShardAccount>>,
    /// New transactions.
    pub transactions: Vec<(Address, u64, Cell)>,
    /// Messages that came into flight and are still there after the block.
    pub queue_added: Vec<(MessageKey, Cell)>,
    /// Messages that were in flight before the block and are not after it.
    pub queue_removed: Vec<MessageKey>,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Empty after [`Store::close`].
    database: RwLock<Option<Database>>,
}

impl Store {
    /// Opens the store in a directory, creating file and directory where there are none.
    ///
    /// `None` means a new and empty store, to be filled with [`Store::create`].
    pub fn open(directory: &Path) -> Result<(Self, Option<Loaded>), DevnetError> {
        std::fs::create_dir_all(directory).map_err(|source| DevnetError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        let path = directory.join(FILE_NAME);
        let existed = std::fs::metadata(&path).is_ok_and(|meta| meta.len() > 0);
        // redb panics on some damaged files; a panic here must become a message.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES);
            if !existed {
                // Made beside and moved here: a process that is killed meanwhile must not leave half a file, which
                // could not be told from a damaged one.
                let fresh = directory.join(format!("{FILE_NAME}.new"));
                match std::fs::remove_file(&fresh) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
                    _ => {}
                }
                drop(builder.create(&fresh)?);
                std::fs::rename(&fresh, &path)?;
            }
            builder.open(&path)
        }));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => return Err(open_error(path, error)),
            Err(_) => {
                return Err(DevnetError::Corrupted {
                    path,
                    what: "the database pages contradict each other".to_owned(),
                });
            }
        };
        let store = Self {
            path: path.clone(),
            database: RwLock::new(Some(database)),
        };
        if !existed {
            return Ok((store, None));
        }
        let loaded = catch_unwind(AssertUnwindSafe(|| store.load())).unwrap_or_else(|_| {
            Err(DevnetError::Corrupted {
                path,
                what: "the database pages contradict each other".to_owned(),
            })
        })?;
        Ok((store, loaded))
    }

    fn with<T>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, DevnetError>,
    ) -> Result<T, DevnetError> {
        let guard = self.database.read().unwrap_or_else(|e| e.into_inner());
        run(guard.as_ref().ok_or(DevnetError::Stopped)?)
    }

    /// Closes the file; every later call answers [`DevnetError::Stopped`].
    pub fn close(&self) {
        let mut guard = self.database.write().unwrap_or_else(|e| e.into_inner());
        *guard = None;
    }

    fn corrupted(&self, what: impl Into<String>) -> DevnetError {
        DevnetError::Corrupted {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// Reads everything back. `None` if the store was created but its genesis never committed.
    fn load(&self) -> Result<Option<Loaded>, DevnetError> {
        self.with(|database| {
            let read = database.begin_read().map_err(storage)?;
            let meta = match read.open_table(META) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => {
                    let tables = read.list_tables().map_err(storage)?.count();
                    if tables == 0 {
                        return Ok(None);
                    }
                    return Err(DevnetError::Foreign {
                        path: self.path.clone(),
                        found: format!("a redb database of another program with {tables} tables"),
                    });
                }
                Err(error) => return Err(self.table_error(error)),
            };
            let field = |name: &str| -> Result<Vec<u8>, DevnetError> {
                meta.get(name)
                    .map_err(storage)?
                    .map(|value| value.value().to_vec())
                    .ok_or_else(|| self.corrupted(format!("the field {name:?} is missing")))
            };
            let fixed = |name: &str, bytes: Vec<u8>| -> Result<[u8; 4], DevnetError> {
                bytes.try_into().map_err(|bytes: Vec<u8>| {
                    self.corrupted(format!("{name:?} has {} bytes, expected 4", bytes.len()))
                })
            };
            let format = u32::from_be_bytes(fixed(META_FORMAT, field(META_FORMAT)?)?);
            if format != FORMAT {
                return Err(DevnetError::Version {
                    path: self.path.clone(),
                    found: format,
                    expected: FORMAT,
                });
            }
            let identity = Identity {
                global_id: i32::from_be_bytes(fixed(META_GLOBAL_ID, field(META_GLOBAL_ID)?)?),
                genesis_time: u32::from_be_bytes(fixed(
                    META_GENESIS_TIME,
                    field(META_GENESIS_TIME)?,
                )?),
                validator_seed: field(META_VALIDATOR_SEED)?
                    .try_into()
                    .map_err(|_| self.corrupted("the validator key has a wrong length"))?,
            };
            let blocks = read.open_table(BLOCKS).map_err(|e| self.table_error(e))?;
            let (number, bytes) = blocks
                .last()
                .map_err(storage)?
                .ok_or_else(|| self.corrupted("it holds no block"))?;
            let head = Block::decode(bytes.value()).map_err(|e| self.corrupted(e.to_string()))?;
            if head.seqno != number.value() {
                return Err(self.corrupted(format!(
                    "block {} is stored under number {}",
                    head.seqno,
                    number.value()
                )));
            }

            let mut accounts = HashMap::new();
            let table = read.open_table(ACCOUNTS).map_err(|e| self.table_error(e))?;
            for entry in table.iter().map_err(storage)? {
                let (key, value) = entry.map_err(storage)?;
                let key: [u8; 33] = key
                    .value()
                    .try_into()
                    .map_err(|_| self.corrupted("an account key has a wrong length"))?;
                let address = address_from_key(&key);
                let account = decode_account(value.value())
                    .ok_or_else(|| self.corrupted(format!("account {address} cannot be read")))?;
                accounts.insert(address, account);
            }

            let mut queue = BTreeMap::new();
            let table = read.open_table(QUEUE).map_err(|e| self.table_error(e))?;
            for entry in table.iter().map_err(storage)? {
                let (key, value) = entry.map_err(storage)?;
                let key = decode_message_key(key.value())
                    .ok_or_else(|| self.corrupted("a message key has a wrong length"))?;
                let cell = Boc::decode(value.value())
                    .ok()
                    .filter(|cell| cell.repr_hash().0 == key.1)
                    .ok_or_else(|| {
                        self.corrupted(format!("message {} cannot be read", hex::encode(key.1)))
                    })?;
                queue.insert(key, cell);
            }
            Ok(Some(Loaded {
                identity,
                head,
                accounts,
                queue,
            }))
        })
    }

    fn table_error(&self, error: TableError) -> DevnetError {
        match error {
            TableError::Storage(error) => storage(error),
            other => self.corrupted(other.to_string()),
        }
    }

    /// Writes identity and genesis into an empty store.
    pub fn create(
        &self,
        identity: &Identity,
        genesis: &Block,
        changes: &Changes,
    ) -> Result<(), DevnetError> {
        self.write(genesis, changes, Some(identity))
    }

    /// Commits a block with all its effects; returns when it is safe on disk.
    pub fn commit(&self, block: &Block, changes: &Changes) -> Result<(), DevnetError> {
        self.write(block, changes, None)
    }

    fn write(
        &self,
        block: &Block,
        changes: &Changes,
        identity: Option<&Identity>,
    ) -> Result<(), DevnetError> {
        self.with(|database| {
            let write = database.begin_write().map_err(storage)?;
            {
                if let Some(identity) = identity {
                    let mut meta = write.open_table(META).map_err(storage)?;
                    let fields: [(&str, Vec<u8>); 4] = [
                        (META_FORMAT, FORMAT.to_be_bytes().into()),
                        (META_GLOBAL_ID, identity.global_id.to_be_bytes().into()),
                        (
                            META_GENESIS_TIME,
                            identity.genesis_time.to_be_bytes().into(),
                        ),
                        (META_VALIDATOR_SEED, identity.validator_seed.into()),
                    ];
                    for (name, value) in fields {
                        meta.insert(name, value.as_slice()).map_err(storage)?;
                    }
                }
                let mut accounts = write.open_table(ACCOUNTS).map_err(storage)?;
                for (address, account) in &changes.accounts {
                    let key = address_key(address);
                    match account {
                        Some(account) => {
                            let value = encode_account(account);
                            accounts
                                .insert(key.as_slice(), value.as_slice())
                                .map_err(storage)?;
                        }
                        None => {
                            accounts.remove(key.as_slice()).map_err(storage)?;
                        }
                    }
                }
                let mut transactions = write.open_table(TRANSACTIONS).map_err(storage)?;
                for (address, lt, cell) in &changes.transactions {
                    let key = transaction_key(address, *lt);
                    transactions
                        .insert(key.as_slice(), Boc::encode(cell).as_slice())
                        .map_err(storage)?;
                }
                let mut queue = write.open_table(QUEUE).map_err(storage)?;
                for key in &changes.queue_removed {
                    queue
                        .remove(encode_message_key(key).as_slice())
                        .map_err(storage)?;
                }
                for (key, cell) in &changes.queue_added {
                    queue
                        .insert(
                            encode_message_key(key).as_slice(),
                            Boc::encode(cell).as_slice(),
                        )
                        .map_err(storage)?;
                }
                let mut blocks = write.open_table(BLOCKS).map_err(storage)?;
                blocks
                    .insert(block.seqno, block.encode().as_slice())
                    .map_err(storage)?;
            }
            write.commit().map_err(storage)
        })
    }

    /// Transactions of an account with `after < lt`, oldest first.
    pub fn transactions_after(
        &self,
        address: &Address,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Cell>, DevnetError> {
        let Some(first) = after.checked_add(1) else {
            return Ok(Vec::new());
        };
        self.transactions(address, first, u64::MAX, limit, false)
    }

    /// Transactions of an account with `from <= lt <= to`, newest first.
    pub fn transactions_before(
        &self,
        address: &Address,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Cell>, DevnetError> {
        self.transactions(address, from, to, limit, true)
    }

    fn transactions(
        &self,
        address: &Address,
        from: u64,
        to: u64,
        limit: usize,
        newest_first: bool,
    ) -> Result<Vec<Cell>, DevnetError> {
        if from > to {
            return Ok(Vec::new());
        }
        self.with(|database| {
            let read = database.begin_read().map_err(storage)?;
            let table = read
                .open_table(TRANSACTIONS)
                .map_err(|e| self.table_error(e))?;
            let (first, last) = (transaction_key(address, from), transaction_key(address, to));
            let mut range = table
                .range::<&[u8]>(first.as_slice()..=last.as_slice())
                .map_err(storage)?;
            let mut found = Vec::new();
            while found.len() < limit {
                let next = if newest_first {
                    range.next_back()
                } else {
                    range.next()
                };
                let Some(entry) = next else { break };
                let (_, value) = entry.map_err(storage)?;
                found.push(
                    Boc::decode(value.value()).map_err(|e| {
                        self.corrupted(format!("a transaction cannot be read: {e}"))
                    })?,
                );
            }
            Ok(found)
        })
    }

    /// A block by its number.
    pub fn block(&self, seqno: u32) -> Result<Option<Block>, DevnetError> {
        self.with(|database| {
            let read = database.begin_read().map_err(storage)?;
            let table = read.open_table(BLOCKS).map_err(|e| self.table_error(e))?;
            table
                .get(seqno)
                .map_err(storage)?
                .map(|bytes| {
                    Block::decode(bytes.value()).map_err(|e| self.corrupted(e.to_string()))
                })
                .transpose()
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn storage(error: impl std::fmt::Display) -> DevnetError {
    DevnetError::Storage(error.to_string())
}

fn open_error(path: PathBuf, error: DatabaseError) -> DevnetError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => DevnetError::InUse { path },
        DatabaseError::UpgradeRequired(version) => DevnetError::Foreign {
            path,
            found: format!("a redb database of the old file format {version}"),
        },
        DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != std::io::ErrorKind::InvalidData
                && source.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            DevnetError::Directory { path, source }
        }
        DatabaseError::Storage(redb::StorageError::Io(source)) => DevnetError::Foreign {
            path,
            found: source.to_string(),
        },
        other => DevnetError::Corrupted {
            path,
            what: other.to_string(),
        },
    }
}

fn transaction_key(address: &Address, lt: u64) -> [u8; 41] {
    let mut key = [0; 41];
    key[..33].copy_from_slice(&address_key(address));
    key[33..].copy_from_slice(&lt.to_be_bytes());
    key
}

fn encode_message_key(key: &MessageKey) -> [u8; 40] {
    let mut out = [0; 40];
    out[..8].copy_from_slice(&key.0.to_be_bytes());
    out[8..].copy_from_slice(&key.1);
    out
}

fn decode_message_key(bytes: &[u8]) -> Option<MessageKey> {
    let (lt, hash) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*lt), hash.try_into().ok()?))
}

/// Hash of the account cell, hash and logical time of the last transaction, then the account cell.
fn encode_account(account: &ShardAccount) -> Vec<u8> {
    let cell = account.account.inner();
    let mut out = Vec::new();
    out.extend_from_slice(cell.repr_hash().as_slice());
    out.extend_from_slice(account.last_trans_hash.as_slice());
    out.extend_from_slice(&account.last_trans_lt.to_be_bytes());
    out.extend_from_slice(&Boc::encode(cell));
    out
}

fn decode_account(bytes: &[u8]) -> Option<ShardAccount> {
    let (hash, rest) = bytes.split_first_chunk::<32>()?;
    let (last_hash, rest) = rest.split_first_chunk::<32>()?;
    let (lt, boc) = rest.split_first_chunk::<8>()?;
    let cell = Boc::decode(boc).ok()?;
    if &cell.repr_hash().0 != hash {
        return None;
    }
    let account = Lazy::<OptionalAccount>::from_raw(cell).ok()?;
    account.load().ok()?;
    Some(ShardAccount {
        account,
        last_trans_hash: HashBytes(*last_hash),
        last_trans_lt: u64::from_be_bytes(*lt),
    })
}
