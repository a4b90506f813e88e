//! A role's records on disk: one redb file, versioned, every value signed together with its key.
//!
//! Protocol.md 11.1 #13: signatures that cover only the value let whoever can write the file swap
//! records, so ours cover domain, key and value.

use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");
/// Raised whenever the meaning of a record changes.
const FORMAT: u32 = 1;
const SIGNATURE_LEN: usize = 64;

/// Why a store cannot be used. Nothing is ever deleted or rewritten on such an error.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file cannot be opened as a redb database.
    #[error(
        "{path}: cannot open the store: {source}; if another cocoon uses this data directory stop it first, otherwise the file is damaged: restore it from a copy or start with another --data-dir"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// redb's reason.
        source: Box<redb::Error>,
    },
    /// Written by another version of this program.
    #[error(
        "{path}: store format {found}, this program reads format {FORMAT}; use the cocoon version that wrote it, or another --data-dir"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
    },
    /// The file belongs to another role or node.
    #[error("{path}: the store belongs to \"{found}\", expected \"{expected}\"; check --data-dir")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Role expected.
        expected: String,
        /// Role found.
        found: String,
    },
    /// A record's signature does not fit.
    #[error(
        "{path}: record \"{key}\" is damaged or was written with another key; restore the file from a copy, nothing was changed"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// The record.
        key: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// redb's reason.
        source: Box<redb::Error>,
    },
}

/// One change of a batch: a new value, or `None` to remove the record.
pub type Change = (String, Option<Vec<u8>>);

/// Keys and verified values.
pub type Records = Vec<(String, Vec<u8>)>;

/// Signed key-value records of one role.
pub struct RoleStore {
    db: Database,
    path: PathBuf,
    role: String,
    key: SigningKey,
}

impl RoleStore {
    /// Opens or creates `path` for `role`, and returns every record in it, verified.
    pub fn open(path: &Path, role: &str, key: &SigningKey) -> Result<(Self, Records), StoreError> {
        let io = |source: redb::Error| StoreError::Io {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let db = open_or_create(path).map_err(|e| StoreError::Open {
            path: path.to_owned(),
            source: Box::new(e),
        })?;
        let tx = db.begin_write().map_err(|e| io(e.into()))?;
        {
            let mut meta = tx.open_table(META).map_err(|e| io(e.into()))?;
            let read =
                |m: &redb::Table<&str, &[u8]>, k: &str| -> Result<Option<String>, StoreError> {
                    Ok(m.get(k)
                        .map_err(|e| io(e.into()))?
                        .map(|v| String::from_utf8_lossy(v.value()).into_owned()))
                };
            match read(&meta, "format")? {
                None => {
                    meta.insert("format", FORMAT.to_string().as_bytes())
                        .map_err(|e| io(e.into()))?;
                    meta.insert("role", role.as_bytes())
                        .map_err(|e| io(e.into()))?;
                }
                Some(found) if found != FORMAT.to_string() => {
                    return Err(StoreError::Format {
                        path: path.to_owned(),
                        found,
                    });
                }
                Some(_) => {
                    let found = read(&meta, "role")?.unwrap_or_default();
                    if found != role {
                        return Err(StoreError::Foreign {
                            path: path.to_owned(),
                            expected: role.to_owned(),
                            found,
                        });
                    }
                }
            }
            tx.open_table(RECORDS).map_err(|e| io(e.into()))?;
        }
        tx.commit().map_err(|e| io(e.into()))?;
        let store = RoleStore {
            db,
            path: path.to_owned(),
            role: role.to_owned(),
            key: key.clone(),
        };
        let records = store.load()?;
        Ok((store, records))
    }

    fn load(&self) -> Result<Records, StoreError> {
        let io = |source: redb::Error| StoreError::Io {
            path: self.path.clone(),
            source: Box::new(source),
        };
        let tx = self.db.begin_read().map_err(|e| io(e.into()))?;
        let table = tx.open_table(RECORDS).map_err(|e| io(e.into()))?;
        let mut out = Vec::new();
        for row in table.iter().map_err(|e| io(e.into()))? {
            let (k, v) = row.map_err(|e| io(e.into()))?;
            let (key, raw) = (k.value().to_owned(), v.value());
            let bad = || StoreError::Record {
                path: self.path.clone(),
                key: key.clone(),
            };
            let cut = raw.len().checked_sub(SIGNATURE_LEN).ok_or_else(bad)?;
            let (value, sig) = raw.split_at(cut);
            let sig = Signature::from_slice(sig).map_err(|_| bad())?;
            self.key
                .verifying_key()
                .verify(&self.signed_bytes(&key, value), &sig)
                .map_err(|_| bad())?;
            out.push((key, value.to_vec()));
        }
        Ok(out)
    }

    /// Applies a batch in one durable transaction: after `Ok` it survives a power cut.
    pub fn write(&self, batch: &[Change]) -> Result<(), StoreError> {
        let io = |source: redb::Error| StoreError::Io {
            path: self.path.clone(),
            source: Box::new(source),
        };
        let tx = self.db.begin_write().map_err(|e| io(e.into()))?;
        {
            let mut table = tx.open_table(RECORDS).map_err(|e| io(e.into()))?;
            for (key, value) in batch {
                match value {
                    Some(value) => {
                        let mut raw = value.clone();
                        raw.extend_from_slice(
                            &self.key.sign(&self.signed_bytes(key, value)).to_bytes(),
                        );
                        table
                            .insert(key.as_str(), raw.as_slice())
                            .map_err(|e| io(e.into()))?;
                    }
                    None => {
                        table.remove(key.as_str()).map_err(|e| io(e.into()))?;
                    }
                }
            }
        }
        tx.commit().map_err(|e| io(e.into()))
    }

    fn signed_bytes(&self, key: &str, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(value.len() + key.len() + 64);
        for part in [
            "cocoon-store-v1".as_bytes(),
            self.role.as_bytes(),
            key.as_bytes(),
            value,
        ] {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

/// Opens the file, or makes it elsewhere and moves it here: a process that is killed meanwhile must not leave half a
/// file, which could not be told from a damaged one.
fn open_or_create(path: &Path) -> Result<Database, redb::Error> {
    if !path.exists() {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        match std::fs::remove_file(&fresh) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        drop(Database::create(&fresh)?);
        std::fs::rename(&fresh, path)?;
    }
    Ok(Database::create(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    #[test]
    fn records_come_back_and_wrong_owners_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.redb");
        {
            let (s, r) = RoleStore::open(&path, "proxy", &key(1)).unwrap();
            assert!(r.is_empty());
            s.write(&[
                ("a".into(), Some(b"1".to_vec())),
                ("b".into(), Some(b"2".to_vec())),
            ])
            .unwrap();
            s.write(&[("a".into(), None)]).unwrap();
        }
        let (s, r) = RoleStore::open(&path, "proxy", &key(1)).unwrap();
        assert_eq!(r, vec![("b".to_owned(), b"2".to_vec())]);
        drop(s);
        assert!(matches!(
            RoleStore::open(&path, "worker", &key(1)),
            Err(StoreError::Foreign { .. })
        ));
        assert!(matches!(
            RoleStore::open(&path, "proxy", &key(2)),
            Err(StoreError::Record { .. })
        ));
    }

    #[test]
    fn swapped_records_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.redb");
        let (s, _) = RoleStore::open(&path, "proxy", &key(1)).unwrap();
        s.write(&[
            ("a".into(), Some(b"1".to_vec())),
            ("b".into(), Some(b"2".to_vec())),
        ])
        .unwrap();
        let tx = s.db.begin_write().unwrap();
        {
            let mut t = tx.open_table(RECORDS).unwrap();
            let a = t.get("a").unwrap().unwrap().value().to_vec();
            t.insert("b", a.as_slice()).unwrap();
        }
        tx.commit().unwrap();
        drop(s);
        assert!(
            matches!(RoleStore::open(&path, "proxy", &key(1)), Err(StoreError::Record { key, .. }) if key == "b")
        );
    }

    #[test]
    fn another_format_or_a_damaged_file_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.redb");
        let (s, _) = RoleStore::open(&path, "proxy", &key(1)).unwrap();
        let tx = s.db.begin_write().unwrap();
        tx.open_table(META)
            .unwrap()
            .insert("format", b"99".as_slice())
            .unwrap();
        tx.commit().unwrap();
        drop(s);
        assert!(
            matches!(RoleStore::open(&path, "proxy", &key(1)), Err(StoreError::Format { found, .. }) if found == "99")
        );
        std::fs::write(&path, b"not a database at all").unwrap();
        assert!(matches!(
            RoleStore::open(&path, "proxy", &key(1)),
            Err(StoreError::Open { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"not a database at all");
    }

    #[test]
    fn what_a_cut_creation_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.redb");
        let half = dir.path().join("worker.redb.new");
        std::fs::write(&half, b"half a database").unwrap();
        drop(RoleStore::open(&path, "worker", &key(1)).unwrap());
        assert!(path.exists() && !half.exists());
        drop(RoleStore::open(&path, "worker", &key(1)).unwrap());
    }
}
