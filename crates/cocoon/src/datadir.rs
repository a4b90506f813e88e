//! The data directory: where everything is, who holds it, and which version wrote it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cocoon_ton::Address;
use serde::{Deserialize, Serialize};

use crate::error::{CliError, Result};
use crate::fs::{PUBLIC_MODE, io_error, read_small, write_atomic};

/// Layout of the directory. Raise it when an older program could misread a newer directory or the other way round.
pub const FORMAT: u64 = 1;
/// Names that may be there before the first start.
const HARMLESS: [&str; 4] = ["cocoon.toml", "lock", "logs", ".data.json.new"];
/// Another command may look at the lock for a moment; only who keeps it holds the directory.
const LOCK_TRIES: u32 = 5;
/// Between tries.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Paths inside a data directory. Nothing is opened or created by making one.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The directory asked for, or the default in the user's data home.
    pub fn locate(asked: Option<&Path>) -> Result<Self> {
        Self::locate_or(asked, "cocoon")
    }

    /// The directory asked for, or `default` in the user's data home.
    pub fn locate_or(asked: Option<&Path>, default: &str) -> Result<Self> {
        if let Some(path) = asked {
            return Ok(Self {
                root: path.to_owned(),
            });
        }
        let home = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let data = home("XDG_DATA_HOME").or_else(|| home("HOME").map(|h| h.join(".local/share")));
        data.map(|data| Self {
            root: data.join(default),
        })
        .ok_or_else(|| {
            CliError::usage("cannot tell where the data should be")
                .expected("an absolute path in $XDG_DATA_HOME or $HOME")
                .hint("name the directory with --data-dir DIR")
        })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Optional configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("cocoon.toml")
    }

    /// What the directory is; see [`DataFile`].
    pub fn data_file(&self) -> PathBuf {
        self.root.join("data.json")
    }

    /// Held by the running network.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Secrets.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The chain's store.
    pub fn chain(&self) -> PathBuf {
        self.root.join("chain")
    }

    /// The nodes' stores.
    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    /// Where the shipped model is unpacked.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Logs of this start and the one before.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Addresses and ports of the running network; there only while it runs.
    pub fn network_file(&self) -> PathBuf {
        self.root.join("network.json")
    }

    /// Address of the running chain, if it runs alone; there only while it runs.
    pub fn chain_file(&self) -> PathBuf {
        self.root.join("chain.json")
    }

    /// Where the single node that runs here can be reached; there only while it runs.
    pub fn node_file(&self) -> PathBuf {
        self.root.join("node.json")
    }

    /// Whether a process holds the directory, and which.
    pub fn holder(&self) -> Option<String> {
        let file = File::open(self.lock()).ok()?;
        match file.try_lock_shared() {
            Ok(()) => None,
            Err(_) => Some(read_holder(&self.lock())),
        }
    }

    /// Reads [`DataFile`]; `None` if the directory was never used.
    pub fn read_data_file(&self) -> Result<Option<DataFile>> {
        let path = self.data_file();
        let Some(bytes) = read_small(&path)? else {
            return Ok(None);
        };
        let damaged = |found: String| {
            CliError::new(format!(
                "{} cannot be understood; nothing was changed",
                path.display()
            ))
            .expected(format!("a JSON object with \"format\": {FORMAT}"))
            .found(found)
            .hint("restore the file from a copy, or choose another directory with --data-dir")
        };
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        match value["format"].as_u64() {
            Some(FORMAT) => {}
            Some(found) => {
                let by = value["created_by"].as_str().unwrap_or("an unknown version");
                return Err(CliError::new(format!(
                    "the data directory {} has another format; nothing was changed",
                    self.root.display()
                ))
                .expected(format!(
                    "format {FORMAT}, which cocoon {} reads and writes",
                    env!("CARGO_PKG_VERSION")
                ))
                .found(format!("format {found}, written by cocoon {by}"))
                .hint("start it with the version that wrote it, or choose another directory with --data-dir"));
            }
            None => return Err(damaged("no format number".to_owned())),
        }
        serde_json::from_value(value)
            .map(Some)
            .map_err(|e| damaged(e.to_string()))
    }
}

/// `data.json`: what must stay the same over the life of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// [`FORMAT`].
    pub format: u64,
    /// Version of the program that made the directory.
    pub created_by: String,
    /// Set before the first message to the chain; from then on no key may be made anew.
    pub founding: Option<Founding>,
    /// The one node that lives here, if it is not a whole network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// The identity of the network in this directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// Address of the root contract.
    pub root: Address,
    /// Its StateInit as a BOC in hex. Kept so that a newer program with other contract code still founds the same
    /// network if the first start was cut short.
    pub root_init: String,
    /// Code of the wallets as a BOC in hex: a newer program with another wallet must still find these.
    pub wallet_code: String,
    /// Owner of the proxy contract and of the proxy's wallet.
    pub proxy_owner: Address,
    /// Owner of the worker's wallet; gets the pay unless `--worker-owner` says otherwise.
    pub worker_owner: Address,
    /// Owner of the client's wallet.
    pub client_owner: Address,
}

/// A data directory held by this process.
#[derive(Debug)]
pub struct DataDir {
    layout: Layout,
    data: DataFile,
    // Releases the directory when dropped, and when the process dies in any way.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if needed, takes it, and checks its version.
    pub fn open(layout: Layout) -> Result<Self> {
        Self::open_as(layout, None)
    }

    /// The same for a single node: a directory of another node, or of a network, is refused.
    pub fn open_as(layout: Layout, role: Option<&str>) -> Result<Self> {
        let root = layout.path();
        std::fs::create_dir_all(root)
            .map_err(|e| io_error("create the data directory", root, &e))?;
        let found = layout.read_data_file()?;
        if found.is_none() {
            refuse_foreign(&layout)?;
        }
        let lock = take_lock(&layout)?;
        let data = match found {
            Some(data) if data.role.as_deref() != role => {
                let of = |role: Option<&str>| match role {
                    Some(role) => format!("a {role} alone"),
                    None => "a network of 'cocoon up'".to_owned(),
                };
                return Err(CliError::usage(format!(
                    "the data directory {} belongs to another node; nothing was changed",
                    root.display()
                ))
                .expected(format!("a new directory, or one of {}", of(role)))
                .found(format!("one of {}", of(data.role.as_deref())))
                .hint("choose another directory with --data-dir"));
            }
            Some(data) => data,
            None => {
                let data = DataFile {
                    format: FORMAT,
                    created_by: env!("CARGO_PKG_VERSION").to_owned(),
                    founding: None,
                    role: role.map(str::to_owned),
                };
                write_data_file(&layout, &data)?;
                data
            }
        };
        Ok(Self {
            layout,
            data,
            _lock: lock,
        })
    }

    /// Paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The network's identity, if it was ever started.
    pub fn founding(&self) -> Option<&Founding> {
        self.data.founding.as_ref()
    }

    /// Writes the network's identity, before anything on the chain depends on it.
    pub fn set_founding(&mut self, founding: Founding) -> Result<()> {
        self.data.founding = Some(founding);
        write_data_file(&self.layout, &self.data)
    }
}

fn write_data_file(layout: &Layout, data: &DataFile) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(data)
        .map_err(|e| CliError::new(format!("cannot write data.json: {e}")))?;
    text.push(b'\n');
    write_atomic(&layout.data_file(), &text, PUBLIC_MODE)
}

/// A directory with other things in it is somebody's home, not ours.
fn refuse_foreign(layout: &Layout) -> Result<()> {
    let root = layout.path();
    let entries = std::fs::read_dir(root).map_err(|e| io_error("read", root, &e))?;
    for entry in entries {
        let entry = entry.map_err(|e| io_error("read", root, &e))?;
        let name = entry.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            return Err(CliError::new(format!(
                "{} is not a data directory of cocoon; nothing was changed",
                root.display()
            ))
            .expected("an empty directory, or one with a data.json")
            .found(format!("no data.json, but {:?}", name.to_string_lossy()))
            .hint("choose another directory with --data-dir; if data.json was lost, restore it from a copy"));
        }
    }
    Ok(())
}

fn take_lock(layout: &Layout) -> Result<File> {
    let path = layout.lock();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| io_error("open", &path, &e))?;
    let mut locked = file.try_lock();
    for _ in 1..LOCK_TRIES {
        if !matches!(locked, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(CliError::new(format!(
                "the data directory {} is in use",
                layout.path().display()
            ))
            .expected("no other cocoon on this directory")
            .found(format!("process {}", read_holder(&path)))
            .hint("see what it does with 'cocoon status', stop it with Ctrl-C, or choose another --data-dir"));
        }
        Err(TryLockError::Error(e)) => return Err(io_error("lock", &path, &e)),
    }
    let note = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(note.as_bytes()))
        .map_err(|e| io_error("write", &path, &e))?;
    Ok(file)
}

fn read_holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(32).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
